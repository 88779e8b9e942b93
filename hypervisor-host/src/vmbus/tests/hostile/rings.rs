//! Rings and packets that lie, change, or are never emptied.

use std::time::{Duration, Instant};

use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::{OutgoingKind, OutgoingPacket};
use zerocopy::IntoBytes;

use super::{check_alive, connected};
use crate::vmbus::testing::{RAM_BYTES, wait_for};

/// Writes to the control page of a ring, signals, and waits for the end of the channel.
fn break_ring(ring: usize, offset: u64, value: u32) {
    let (guest, offers) = connected();
    let mut channel = guest.open(&offers[0], 2);
    channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
    channel.receive(&guest);
    let at = GuestAddress((channel.pages[ring * 2] << 12) + offset);
    guest.memory.write_obj(value, at).unwrap();
    if ring == 1 {
        // The host looks at the index when it believes the ring to be full.
        wait_for("the end", || {
            let _ = channel.sender.send(&OutgoingPacket::in_band(2, &[&[1; 500]]));
            let _ = channel.signal(&guest);
            (guest.errors("provider") == 1).then_some(())
        });
    } else {
        channel.signal(&guest).unwrap();
    }
    guest.expect_rescind(channel.id);
    assert_eq!(guest.errors("provider"), 1);
    guest.post_close(channel.id);
    guest.tear_down(channel.id, channel.gpadl);
    check_alive(&guest, &offers);
}

#[test]
fn a_write_index_outside_the_ring() {
    break_ring(0, 0, 0x1000);
}

#[test]
fn a_write_index_far_outside_the_ring() {
    break_ring(0, 0, u32::MAX);
}

#[test]
fn a_write_index_that_is_misaligned() {
    break_ring(0, 0, 0x44);
}

#[test]
fn a_read_index_outside_the_ring() {
    break_ring(1, 4, 0x1000);
}

#[test]
fn a_read_index_that_is_misaligned() {
    break_ring(1, 4, 0x804);
}

/// Puts a packet's descriptor, that lies, into the guest's ring.
fn lying_packet(offset8: u16, len8: u16) {
    let (guest, offers) = connected();
    let channel = guest.open(&offers[0], 2);
    let descriptor = [6, offset8, len8, 0, 1, 0, 0, 0];
    let data = GuestAddress(channel.pages[1] << 12);
    guest.memory.write_slice(descriptor.as_bytes(), data).unwrap();
    guest.memory.write_obj(0x40_u32, GuestAddress(channel.pages[0] << 12)).unwrap();
    channel.signal(&guest).unwrap();
    guest.expect_rescind(channel.id);
    check_alive(&guest, &offers);
}

#[test]
fn a_packet_longer_than_the_ring() {
    lying_packet(2, 0xFFFF);
}

#[test]
fn a_packet_longer_than_what_was_written() {
    lying_packet(2, 8);
}

#[test]
fn a_packet_shorter_than_its_descriptor() {
    lying_packet(2, 1);
}

#[test]
fn a_payload_behind_its_packet() {
    lying_packet(6, 5);
}

#[test]
fn a_payload_in_its_descriptor() {
    lying_packet(0, 5);
}

#[test]
fn packets_with_ranges_that_are_none() {
    let lies: [&[u64]; 6] = [
        // Reserved and number of ranges; length and offset; page.
        &[0, 4096, 0x200],
        &[1 << 32, 0, 0x200],
        &[1 << 32, 4096, RAM_BYTES >> 12],
        &[1 << 32, 1 << 20, 0x200],
        &[1 << 32, 16 | 4096 << 32, 0x200],
        &[u64::MAX, 4096, 0x200],
    ];
    for words in lies {
        let (guest, offers) = connected();
        let channel = guest.open(&offers[0], 2);
        let length = 2 + words.len() as u16;
        let descriptor = [9, length, length, 0, 1, 0, 0, 0];
        let bytes = [descriptor.as_bytes(), words.as_bytes(), &[0; 8]].concat();
        guest.memory.write_slice(&bytes, GuestAddress(channel.pages[1] << 12)).unwrap();
        let write_index = GuestAddress(channel.pages[0] << 12);
        guest.memory.write_obj(bytes.len() as u32, write_index).unwrap();
        channel.signal(&guest).unwrap();
        guest.expect_rescind(channel.id);
        assert_eq!(guest.errors("provider"), 1, "{words:?}");
        check_alive(&guest, &offers);
    }
}

#[test]
fn a_ring_that_changes_while_it_is_read() {
    let (guest, offers) = connected();
    let channel = guest.open(&offers[0], 2);
    let (control, data) =
        (GuestAddress(channel.pages[0] << 12), GuestAddress(channel.pages[1] << 12));
    let deadline = Instant::now() + Duration::from_millis(300);
    let mut value = 1_u32;
    // All that the guest can write, as fast as it can, while the host reads.
    while Instant::now() < deadline {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let descriptor = [6 | value as u16 & 3, 2, (value >> 8) as u16 & 0xFF, 0, 0, 0, 0, 0];
        guest.memory.write_slice(descriptor.as_bytes(), data).unwrap();
        guest.memory.write_obj(value >> 16 & 0xFF8, control).unwrap();
        let _ = channel.signal(&guest);
    }
    wait_for("the end", || (guest.errors("provider") == 1).then_some(()));
    guest.expect_rescind(channel.id);
    check_alive(&guest, &offers);
}

#[test]
fn a_channel_closed_in_the_middle_of_everything() {
    let (guest, offers) = connected();
    for round in 0..50 {
        let mut channel = guest.open(&offers[0], 4);
        for number in 0..round {
            channel.send(&guest, &OutgoingPacket::in_band(number, &[&[1; 100]]));
        }
        channel.close(&guest);
    }
    assert!(guest.server.report().errors.is_empty());
    check_alive(&guest, &offers);
}

#[test]
fn a_guest_that_never_takes_its_answers_out_of_the_ring() {
    let (guest, offers) = connected();
    let mut channel = guest.open(&offers[0], 2);
    // Both rings fill up; the provider waits, and hears of the end.
    while let Ok(signal) = channel.sender.send(&OutgoingPacket::in_band(1, &[&[1; 100]])) {
        if signal.needed() {
            channel.signal(&guest).unwrap();
        }
    }
    channel.close(&guest);
    check_alive(&guest, &offers);
}

#[test]
fn memory_lent_and_taken_back_while_it_is_used() {
    let (guest, offers) = connected();
    let mut channel = guest.open(&offers[0], 4);
    for number in 1..=100 {
        guest.post_gpadl(1, number, &[0x200, 0x201]);
        let _ = channel.sender.send(&OutgoingPacket::new(OutgoingKind::Gpadl(number), 1, &[b"x"]));
        let _ = channel.signal(&guest);
        guest.post_teardown(1, number);
        // Unless the teardown was faster than the packet, of which the provider complains.
        let answers = [guest.take_bytes()[0], guest.take_bytes()[0]];
        if answers.contains(&2) {
            break;
        }
        assert_eq!(answers, [10, 12]);
        while channel.try_receive(&guest).is_some() {}
    }
    let request = guest.contact_request(VmbusVersion::V5_3);
    guest.post_by(4, request.as_bytes());
    while guest.take_bytes()[0] != 15 {}
    let offers = guest.request_offers();
    check_alive(&guest, &offers);
}
