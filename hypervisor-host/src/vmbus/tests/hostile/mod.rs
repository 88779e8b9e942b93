//! Guests that mean harm, each by a name. All of them are followed by a check that the bus still serves: a hostile guest
//! harms itself only.

mod floods;
mod messages;
mod rings;

use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;

use super::echo::Echo;
use crate::vmbus::testing::TestGuest;

/// Two echo devices, and their offers.
fn connected() -> (TestGuest, Vec<OfferChannel>) {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    guest.server.add(Echo::new(2)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    (guest, offers)
}

/// The second device works.
fn check_alive(guest: &TestGuest, offers: &[OfferChannel]) {
    let mut channel = guest.open(&offers[1], 2);
    channel.send(guest, &OutgoingPacket::in_band(77, &[b"still here"]));
    assert_eq!(channel.receive(guest).transaction_id, 77);
    channel.close(guest);
}
