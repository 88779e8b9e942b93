//! Packets in channels.

use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;

use super::echo::Echo;
use crate::vmbus::testing::TestGuest;

#[test]
fn packets_come_back() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 4);
    channel.send(&guest, &OutgoingPacket::in_band(0x1234, &[b"hello", b", bus"]));
    let answer = channel.receive(&guest);
    assert_eq!((answer.kind, answer.transaction_id), (PacketType::COMP, 0x1234));
    assert_eq!(answer.payload, b"hello, bus\0\0\0\0\0\0");
    channel.close(&guest);
}
