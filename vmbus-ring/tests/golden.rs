//! Packets byte by byte, as Linux 6.1 lays them out: `include/linux/hyperv.h` for the structures, `drivers/hv/channel.c`
//! (`vmbus_sendpacket…`) for what is in them, `drivers/hv/ring_buffer.c` (`hv_ringbuffer_write`) for what surrounds them.

#![cfg(not(loom))]

use core::sync::atomic::Ordering;

use hv_abi::vmbus::packet::{PacketType, TransferPageRange};
use vmbus_ring::{
    Control, GpaRange, LocalMemory, OutgoingKind, OutgoingPacket, Packet, PacketError, RingMemory,
    RingReceiver, RingSender,
};

const ID: u64 = 0x1122_3344_5566_7788;
const ID_BYTES: [u8; 8] = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];

/// A `struct vmpacket_descriptor`: type, offset8, len8, flags, and always the same transaction.
fn descriptor(fields: [u8; 8]) -> Vec<u8> {
    [fields, ID_BYTES].concat()
}

/// What `packet` is in a ring in which another one of 32 bytes came before.
fn sent(packet: &OutgoingPacket<'_>) -> Vec<u8> {
    let memory = LocalMemory::new(4096).unwrap();
    let mut sender = RingSender::new(&memory).unwrap();
    let _ = sender.send(&OutgoingPacket::in_band(0, &[&[0xff; 8]])).unwrap();
    let _ = sender.send(packet).unwrap();
    let end = memory.control(Control::WriteIndex).load(Ordering::Relaxed);
    let mut bytes = vec![0; end as usize - 32];
    memory.read(32, &mut bytes);
    bytes
}

/// `hv_get_ring_bufferindices`: the write index in the upper half.
const TRAILER: [u8; 8] = [0, 0, 0, 0, 32, 0, 0, 0];

fn received<R>(bytes: &[u8], look: impl FnOnce(Packet<'_>) -> R) -> R {
    let memory = LocalMemory::new(4096).unwrap();
    memory.write(0, bytes);
    memory.control(Control::WriteIndex).store(bytes.len() as u32, Ordering::Release);
    let mut receiver = RingReceiver::new(&memory).unwrap();
    let mut buffer = [0xaa; 256];
    let result = look(receiver.receive(&mut buffer).unwrap().expect("a packet"));
    assert!(receiver.receive(&mut [0; 256]).unwrap().is_none());
    result
}

#[test]
fn in_band_data() {
    // `vmbus_sendpacket`: padded with zeros, the length rounded up.
    let bytes = [&descriptor([6, 0, 2, 0, 3, 0, 1, 0])[..], b"hello\0\0\0", &TRAILER].concat();
    let packet = OutgoingPacket::in_band(ID, &[b"he", b"", b"llo"]).with_completion();
    assert_eq!(sent(&packet), bytes);
    received(&bytes, |packet| {
        assert_eq!(packet.kind(), PacketType::DATA_INBAND);
        assert_eq!(packet.transaction_id(), ID);
        assert!(packet.completion_requested());
        assert_eq!(packet.payload(), b"hello\0\0\0");
        let other = PacketError::OtherKind(PacketType::DATA_INBAND);
        assert_eq!(packet.gpa_ranges().unwrap_err(), other);
        assert_eq!(packet.transfer_pages().unwrap_err(), other);
        assert_eq!(packet.gpadl().unwrap_err(), other);
    });
}

#[test]
fn completion() {
    let bytes = [&descriptor([11, 0, 2, 0, 3, 0, 0, 0])[..], &[1; 8], &TRAILER].concat();
    assert_eq!(sent(&OutgoingPacket::completion(ID, &[&[1; 8]])), bytes);
    received(&bytes, |packet| {
        assert_eq!((packet.kind(), packet.flags()), (PacketType::COMP, 0));
        assert!(!packet.completion_requested());
    });
}

#[test]
fn cancellation_without_payload() {
    let bytes = [&descriptor([10, 0, 2, 0, 2, 0, 0, 0])[..], &TRAILER].concat();
    assert_eq!(sent(&OutgoingPacket::new(OutgoingKind::Cancel, ID, &[])), bytes);
    received(&bytes, |packet| {
        assert_eq!((packet.kind(), packet.payload().len()), (PacketType::CANCEL_REQUEST, 0));
    });
}

/// Behind the descriptor: `reserved`, `rangecount`, then a `struct gpa_range` with two pages.
const GPA_DIRECT: [u8; 32] = [
    0, 0, 0, 0, 1, 0, 0, 0, // reserved, rangecount
    0x00, 0x18, 0, 0, 0x00, 0x02, 0, 0, // byte_count, byte_offset
    0x34, 0x12, 0, 0, 0, 0, 0, 0, // pfn_array[0]
    9, 0, 0, 0, 0, 0, 0, 0, // pfn_array[1]
];

#[test]
fn data_in_guest_memory() {
    // `vmbus_sendpacket_mpb_desc`
    let bytes =
        [&descriptor([9, 0, 6, 0, 7, 0, 1, 0])[..], &GPA_DIRECT, b"request.", &TRAILER].concat();
    let ranges = [GpaRange { byte_count: 0x1800, byte_offset: 0x200, pages: &[0x1234, 9] }];
    let packet = OutgoingPacket::gpa_direct(ID, &ranges, &[b"request."]).with_completion();
    assert_eq!(sent(&packet), bytes);
    received(&bytes, |packet| {
        assert_eq!(packet.payload(), b"request.");
        let ranges = packet.gpa_ranges().unwrap();
        let pieces: Vec<_> = ranges.iter().flat_map(|range| range.pieces()).collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!((pieces[0].address(), pieces[0].length), (0x123_4200, 0xe00));
        assert_eq!((pieces[1].address(), pieces[1].length), (0x9000, 0xa00));
    });
}

#[test]
fn data_in_guest_memory_with_room_for_more_pages() {
    // `storvsc_do_io` sends room for 32 page numbers whatever it needs: here, for one more.
    let room = [0xcc; 8];
    let bytes =
        [&descriptor([9, 0, 7, 0, 8, 0, 1, 0])[..], &GPA_DIRECT, &room, &[1; 8], &TRAILER].concat();
    received(&bytes, |packet| {
        assert_eq!(packet.payload(), [1; 8]);
        assert_eq!(packet.gpa_ranges().unwrap().byte_count(), 0x1800);
    });
}

#[test]
fn data_in_the_receivers_pages() {
    // `struct vmtransfer_page_packet_header`; 0xcafe is `NETVSC_RECEIVE_BUFFER_ID`.
    let header = [
        0xfe, 0xca, 1, 0, 2, 0, 0, 0, // xfer_pageset_id, sender_owns_set, reserved, range_cnt
        60, 0, 0, 0, 0, 0, 0, 0, // byte_count, byte_offset
        0xdc, 5, 0, 0, 0xa8, 6, 0, 0,
    ];
    let bytes = [&descriptor([7, 0, 5, 0, 6, 0, 1, 0])[..], &header, &[3; 8], &TRAILER].concat();
    let ranges = [
        TransferPageRange { byte_count: 60, byte_offset: 0 },
        TransferPageRange { byte_count: 1500, byte_offset: 1704 },
    ];
    let kind =
        OutgoingKind::TransferPages { set_id: 0xcafe, sender_owns_set: true, ranges: &ranges };
    assert_eq!(sent(&OutgoingPacket::new(kind, ID, &[&[3; 8]]).with_completion()), bytes);
    received(&bytes, |packet| {
        let pages = packet.transfer_pages().unwrap();
        assert_eq!((pages.set_id, pages.sender_owns_set), (0xcafe, true));
        assert!(pages.ranges().eq(ranges));
        assert_eq!(packet.payload(), [3; 8]);
    });
}

#[test]
fn data_in_a_gpadl() {
    // `struct vmgpadl_packet_header`
    let header = [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0];
    let bytes = [&descriptor([8, 0, 3, 0, 3, 0, 0, 0])[..], &header, &TRAILER].concat();
    assert_eq!(sent(&OutgoingPacket::new(OutgoingKind::Gpadl(0x1234_5678), ID, &[])), bytes);
    received(&bytes, |packet| assert_eq!(packet.gpadl(), Ok(0x1234_5678)));
}

#[test]
fn what_a_header_says_it_has_must_be_there() {
    let look = |fields, header: &[u8]| {
        let bytes = [&descriptor(fields)[..], header, &TRAILER].concat();
        received(&bytes, |packet| {
            (packet.gpa_ranges().err(), packet.transfer_pages().err(), packet.gpadl().err())
        })
    };
    let truncated = Some(PacketError::Truncated);
    // No header at all: it would be in the payload.
    assert_eq!(look([9, 0, 2, 0, 3, 0, 0, 0], &[1; 8]).0, truncated);
    assert_eq!(look([7, 0, 2, 0, 3, 0, 0, 0], &[0; 8]).1, truncated);
    assert_eq!(look([8, 0, 2, 0, 3, 0, 0, 0], &[1; 8]).2, truncated);
    // More ranges than there is room for.
    let ranges = [0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(look([7, 0, 4, 0, 4, 0, 0, 0], &ranges).1, truncated);
    let all = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(look([7, 0, 3, 0, 3, 0, 0, 0], &all).1, truncated);
    assert!(matches!(look([9, 0, 3, 0, 3, 0, 0, 0], &all).0, Some(PacketError::Ranges(_))));
}

#[test]
fn a_packet_wraps_around_the_end_at_every_place() {
    let header = [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0];
    let packet = OutgoingPacket::new(OutgoingKind::Gpadl(0x1234_5678), ID, &[b"abc", b"defgh"]);
    for start in (4096 - 64..4096).step_by(8) {
        let memory = LocalMemory::new(4096).unwrap();
        memory.control(Control::WriteIndex).store(start, Ordering::Relaxed);
        memory.control(Control::ReadIndex).store(start, Ordering::Relaxed);
        let mut receiver = RingReceiver::new(&memory).unwrap();
        let mut sender = RingSender::new(&memory).unwrap();
        assert!(sender.send(&packet).unwrap().needed());
        let mut twice = vec![0; 4096];
        memory.read(0, &mut twice);
        twice.extend_from_within(..);
        let trailer = [[0; 4], start.to_le_bytes()].concat();
        let expected =
            [&descriptor([8, 0, 3, 0, 4, 0, 0, 0])[..], &header, b"abcdefgh", &trailer].concat();
        assert_eq!(twice[start as usize..][..expected.len()], expected, "{start}");
        let mut buffer = [0; 64];
        let packet = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((packet.gpadl(), packet.payload()), (Ok(0x1234_5678), &b"abcdefgh"[..]));
        assert!(receiver.receive(&mut [0; 64]).unwrap().is_none());
    }
}
