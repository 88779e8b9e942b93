//! Too much of everything, and guests that pull the carpet away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{OfferChannel, OpenChannelResult};
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::OutgoingPacket;
use zerocopy::IntoBytes;

use super::super::echo::Echo;
use super::super::versions;
use super::{check_alive, connected};
use crate::vmbus::testing::{TestChannel, TestGuest, open_request, wait_for};

#[test]
fn a_flood_of_messages_that_nobody_reads() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    guest.server.add(Echo::new(2)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let header = [8, 0, 1, 0, 0, 0, 0];
    // Each is answered; soon the host takes no more.
    let refused = (0..1000)
        .find(|_| guest.try_post(1, header.as_bytes()) == Err(HvError::INSUFFICIENT_BUFFERS));
    let refused = refused.expect("the host takes no end of messages");
    assert!(refused >= 32, "{refused}");
    // A reset is heard even so.
    let offers = {
        let request = guest.contact_request(VmbusVersion::V5_3);
        guest.post_by(4, request.as_bytes());
        while guest.take_bytes()[0] != 15 {}
        drop(offers);
        guest.request_offers()
    };
    check_alive(&guest, &offers);
}

#[test]
fn a_flood_of_contacts() {
    let (guest, _) = connected();
    for round in 0..500 {
        let version = VmbusVersion::ALL[round % VmbusVersion::ALL.len()];
        let mut request = guest.contact_request(version);
        request.target_vcpu = round as u32 % 2;
        // Some are lost, for a later one makes them void.
        let _ = guest.try_post(1, request.as_bytes());
    }
    let request = guest.contact_request(VmbusVersion::V5_3);
    guest.post_by(4, request.as_bytes());
    let requested = || guest.server.report().messages_received["INITIATE_CONTACT"];
    let mut last = 0;
    wait_for("quiet", || {
        std::thread::sleep(Duration::from_millis(50));
        let quiet = requested() == last;
        last = requested();
        while guest.try_take().is_some() {}
        quiet.then_some(())
    });
    let offers = guest.request_offers();
    check_alive(&guest, &offers);
}

#[test]
fn a_guest_that_disables_its_synic() {
    let (guest, offers) = connected();
    let mut channel = guest.open(&offers[0], 2);
    guest.enable_synic(false);
    for number in 0..20 {
        channel.send(&guest, &OutgoingPacket::in_band(number, &[b"12345678"]));
        channel.receive(&guest);
        guest.post_close(99);
    }
    guest.server.add(Echo::new(3)).unwrap();
    guest.expect_silence();
    guest.enable_synic(true);
    let offer: OfferChannel = guest.take();
    assert_eq!(offer.child_relid, 3);
    check_alive(&guest, &offers);
}

#[test]
fn signals_of_connections_that_there_are_not() {
    let (guest, offers) = connected();
    for connection in [0, 1, 2, 4, 0x2000, 0x2001, 0x2003, 0x00FF_FFFF] {
        assert_eq!(guest.signal(connection), Err(HvError::INVALID_CONNECTION_ID));
    }
    check_alive(&guest, &offers);
}

#[test]
fn old_guests_that_signal_what_there_is_not() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V0_13);
    let mut channel = guest.open(&offers[0], 2);
    for round in 0..10 {
        guest.memory.write_slice(&[0xFF; 2048], GuestAddress(0x2800)).unwrap();
        guest.signal(2).unwrap();
        channel.send(&guest, &OutgoingPacket::in_band(round, &[b"12345678"]));
        assert_eq!(channel.receive(&guest).transaction_id, round);
    }
    assert_eq!(echo.serving.load(Ordering::SeqCst), 1);
}

#[test]
fn a_guest_that_overwrites_its_rings_and_pages_before_the_end() {
    for version in versions() {
        let guest = TestGuest::new();
        guest.server.add(Echo::new(1)).unwrap();
        let offers = guest.connect(version);
        let channel = guest.open(&offers[0], 2);
        for page in &channel.pages {
            guest.memory.write_slice(&[0xA5; 4096], GuestAddress(page << 12)).unwrap();
        }
        for page in [0x2000, 0x3000, 0x4000] {
            guest.memory.write_slice(&[0xA5; 4096], GuestAddress(page)).unwrap();
        }
        let _ = channel.signal(&guest);
        std::thread::sleep(Duration::from_millis(5));
        let request = guest.contact_request(version);
        guest.post_by(if version < VmbusVersion::V5_0 { 1 } else { 4 }, request.as_bytes());
        while guest.take_bytes()[0] != 15 {}
        let offers = guest.request_offers();
        let pages = guest.pages(4);
        let gpadl = guest.lend(1, &pages);
        guest.post(&open_request(&offers[0], gpadl, 2, 0));
        assert_eq!(guest.take::<OpenChannelResult>().status, 0);
        let mut channel = TestChannel::map(&guest, &offers[0], gpadl, pages);
        channel.send(&guest, &OutgoingPacket::in_band(9, &[b"12345678"]));
        assert_eq!(channel.receive(&guest).transaction_id, 9);
    }
}
