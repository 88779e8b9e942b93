//! Messages that lie, or are about nothing.

use hv_abi::vmbus::message::{
    GpadlCreated, GpadlHeader, MessageHeader, MessageType, OfferChannel, OpenChannelResult,
};
use hv_abi::vmbus::packet::GpaRangeHeader;
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

use super::{check_alive, connected};
use crate::vmbus::testing::{RAM_BYTES, open_request};

#[test]
fn messages_that_are_too_short() {
    let (guest, offers) = connected();
    let mut count = 0;
    for message_type in [5_u32, 7, 8, 9, 11, 13, 14, 22] {
        for length in [4, 7, 8, 10] {
            let bytes = [message_type.to_le_bytes(), [0; 4], [0; 4]].concat();
            guest.post_bytes(&bytes[..length]);
            count += 1;
        }
    }
    guest.post_bytes(&[]);
    guest.expect_errors("too-short", count + 1);
    check_alive(&guest, &offers);
}

#[test]
fn messages_of_types_that_there_are_not() {
    let (guest, offers) = connected();
    for message_type in [0_u32, 1, 2, 4, 6, 10, 12, 15, 17, 18, 19, 20, 23, 24, 25, 30, u32::MAX] {
        guest.post_bytes(&[message_type.as_bytes(), &[0xFF; 100]].concat());
    }
    guest.expect_errors("unknown-type", 17);
    check_alive(&guest, &offers);
}

#[test]
fn messages_about_channels_that_there_are_not() {
    let (guest, offers) = connected();
    for channel in [0, 3, 2047, 2048, u32::MAX] {
        guest.post_close(channel);
        guest.post_teardown(channel, 1);
        guest.post_bytes([13, 0, channel].as_bytes());
        guest.post_gpadl(channel, 5, &[0x200]);
        assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
        let nowhere = OfferChannel { child_relid: channel, ..offers[0] };
        guest.post(&open_request(&nowhere, 5, 1, 0));
        assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    }
    guest.expect_errors("no-such-channel", 25);
    check_alive(&guest, &offers);
}

#[test]
fn offers_requested_again_and_again() {
    let (guest, offers) = connected();
    for _ in 0..100 {
        guest.post_header(MessageType::REQUESTOFFERS);
    }
    guest.expect_errors("offers-sent", 100);
    guest.expect_silence();
    check_alive(&guest, &offers);
}

#[test]
fn gpadls_whose_lengths_lie() {
    let (guest, offers) = connected();
    let channel = offers[0].child_relid;
    let range = |byte_count, byte_offset| GpaRangeHeader { byte_count, byte_offset };
    let list = |range: GpaRangeHeader, pages: &[u64]| [range.as_bytes(), pages.as_bytes()].concat();
    let cases: [(u16, Vec<u8>); 9] = [
        (0, list(range(4096, 0), &[0x200])),
        (2, list(range(4096, 0), &[0x200])),
        (u16::MAX, list(range(4096, 0), &[0x200])),
        (1, list(range(8192, 0), &[0x200])),
        (1, list(range(u32::MAX, 4095), &[0x200])),
        (1, list(range(0, 0), &[0x200])),
        (1, list(range(4096, 4096), &[0x200, 0x201])),
        (1, list(range(4096, 0), &[u64::MAX])),
        (1, Vec::new()),
    ];
    for (number, (ranges, list)) in (1..).zip(cases) {
        guest.post_gpadl_list(channel, number, ranges, &list);
        assert_ne!(guest.take::<GpadlCreated>().creation_status, 0, "case {number}");
    }
    guest.expect_errors("gpadl-ranges", 9);
    check_alive(&guest, &offers);
}

#[test]
fn gpadls_outside_ram() {
    let (guest, offers) = connected();
    let last = (RAM_BYTES >> 12) - 1;
    for (number, page) in [last + 1, 1 << 40, u64::MAX >> 12].into_iter().enumerate() {
        guest.post_gpadl(1, number as u32 + 1, &[last, page]);
        assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    }
    assert_eq!(guest.errors("gpadl-memory"), 3);
    guest.lend(1, &[last]);
    check_alive(&guest, &offers);
}

#[test]
fn gpadls_that_overlap_themselves() {
    let (guest, offers) = connected();
    guest.post_gpadl(1, 1, &[0x200, 0x201, 0x200]);
    assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    guest.expect_errors("gpadl-overlaps", 1);
    check_alive(&guest, &offers);
}

#[test]
fn gpadls_with_numbers_in_use() {
    let (guest, offers) = connected();
    let gpadl = guest.lend(1, &[0x200]);
    for number in [gpadl, 0] {
        guest.post_gpadl(1, number, &[0x201]);
        assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    }
    // One that is not complete yet.
    guest.post_gpadl(1, 9, &[0x300; 30][..0]);
    assert_ne!(guest.take::<GpadlCreated>().creation_status, 0, "without pages");
    let header = GpadlHeader {
        header: MessageHeader::new(MessageType::GPADL_HEADER),
        child_relid: 1,
        gpadl: 9,
        range_buflen: 800,
        rangecount: 1,
    };
    guest.post(&header);
    guest.post(&header);
    assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    guest.expect_errors("gpadl-number", 3);
    // It can be taken back, and then used.
    guest.tear_down(1, 9);
    guest.post_gpadl(1, 9, &[0x201]);
    assert_eq!(guest.take::<GpadlCreated>().creation_status, 0);
    check_alive(&guest, &offers);
}

#[test]
fn gpadl_bodies_and_teardowns_of_nothing() {
    let (guest, offers) = connected();
    let gpadl = guest.lend(1, &[0x200]);
    for number in [0, 5, gpadl] {
        guest.post_bytes([9, 0, 1, number, 0, 0].as_bytes());
    }
    guest.post_teardown(1, 5);
    // Of the other channel.
    guest.post_teardown(2, gpadl);
    guest.expect_errors("no-such-gpadl", 5);
    guest.tear_down(1, gpadl);
    guest.post_teardown(1, gpadl);
    guest.expect_errors("no-such-gpadl", 6);
    check_alive(&guest, &offers);
}

#[test]
fn gpadls_without_end() {
    let (guest, offers) = connected();
    // Incomplete ones, as large as can be: the pages run out.
    let header = |gpadl| GpadlHeader {
        header: MessageHeader::new(MessageType::GPADL_HEADER),
        child_relid: 1,
        gpadl,
        range_buflen: 0xFFF8,
        rangecount: 1,
    };
    for gpadl in 1..=64 {
        guest.post(&header(gpadl));
    }
    guest.expect_silence();
    guest.post(&header(65));
    assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    guest.expect_errors("too-many-gpadls", 1);
    for gpadl in 1..=64 {
        guest.tear_down(1, gpadl);
    }
    // Small ones: the number is limited too.
    for gpadl in 1..=8192 {
        guest.post_gpadl(1, gpadl, &[0x200]);
        assert_eq!(guest.take::<GpadlCreated>().creation_status, 0);
    }
    guest.post_gpadl(1, 9000, &[0x200]);
    assert_ne!(guest.take::<GpadlCreated>().creation_status, 0);
    guest.tear_down(1, 1);
    check_alive(&guest, &offers);
    // All of it goes with the connection.
    let offers = guest.connect(VmbusVersion::V5_3);
    check_alive(&guest, &offers);
}

#[test]
fn channels_opened_with_what_are_no_rings() {
    let (guest, offers) = connected();
    let pages = guest.pages(4);
    let gpadl = guest.lend(1, &pages);
    let of_other = guest.lend(2, &guest.pages(4));
    // In parts of pages, and in two ranges.
    guest.post_gpadl_list(
        1,
        5,
        1,
        &[[0x3000, 0x800].as_bytes(), guest.pages(4).as_bytes()].concat(),
    );
    assert_eq!(guest.take::<GpadlCreated>().creation_status, 0);
    let range = [0x4000_u32, 0];
    let two = [range.as_bytes(), guest.pages(4).as_bytes()].concat();
    guest.post_gpadl_list(1, 6, 2, &[two.clone(), two].concat());
    assert_eq!(guest.take::<GpadlCreated>().creation_status, 0);
    let cases = [
        (0, 2),
        (99, 2),
        (of_other, 2),
        (5, 2),
        (6, 2),
        (gpadl, 0),
        (gpadl, 1),
        (gpadl, 3),
        (gpadl, 4),
        (gpadl, 5),
        (gpadl, u32::MAX),
    ];
    for (gpadl, offset) in cases {
        guest.post(&open_request(&offers[0], gpadl, offset, 0));
        assert_ne!(guest.take::<OpenChannelResult>().status, 0, "{gpadl:#x} {offset}");
    }
    // Indices that can't be.
    for (ring, offset, index) in [(0, 0, 0x1000), (0, 4, 4), (2, 0, u32::MAX), (2, 4, 0x1000)] {
        let at = GuestAddress((pages[ring] << 12) + offset);
        guest.memory.write_obj(index, at).unwrap();
        guest.post(&open_request(&offers[0], gpadl, 2, 0));
        assert_ne!(guest.take::<OpenChannelResult>().status, 0, "{ring} {offset} {index:#x}");
        guest.memory.write_obj(0_u32, at).unwrap();
    }
    for vp in [2, 64, u32::MAX - 1] {
        guest.post(&open_request(&offers[0], gpadl, 2, vp));
        assert_ne!(guest.take::<OpenChannelResult>().status, 0, "VP {vp}");
    }
    assert_eq!(guest.errors("no-such-vp"), 3);
    assert_eq!(guest.errors("no-such-gpadl"), 3);
    assert_eq!(guest.routes(), 1, "nothing is left of what failed");
    check_alive(&guest, &offers);
}

#[test]
fn a_channel_opened_twice_and_one_closed_twice() {
    let (guest, offers) = connected();
    let channel = guest.open(&offers[0], 2);
    let other = guest.lend(1, &guest.pages(4));
    guest.post(&open_request(&offers[0], other, 2, 0));
    assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    guest.expect_errors("channel-open", 1);
    channel.close(&guest);
    for _ in 0..2 {
        guest.post_close(1);
    }
    guest.expect_errors("channel-not-open", 2);
    check_alive(&guest, &offers);
}

#[test]
fn rings_that_two_channels_share() {
    let (guest, offers) = connected();
    let channel = guest.open(&offers[0], 2);
    let pages = [&guest.pages(3)[..], &channel.pages[3..]].concat();
    let gpadl = guest.lend(2, &pages);
    guest.post(&open_request(&offers[1], gpadl, 2, 0));
    assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    guest.expect_errors("rings-overlap", 1);
    channel.close(&guest);
    guest.post(&open_request(&offers[1], gpadl, 2, 0));
    assert_eq!(guest.take::<OpenChannelResult>().status, 0);
}
