//! Guests that break the rules.

use std::time::Duration;

use hv_abi::nvsp::NvspMessageType;
use hv_abi::vmbus::message::{GpadlTeardown, GpadlTorndown, MessageHeader, MessageType};
use proptest::prelude::*;
use vmbus_ring::{OutgoingKind, OutgoingPacket};

use super::driver::{Driver, V6_1, packet_message, words};
use crate::vmbus::testing::wait_for;

#[test]
fn messages_that_there_are_not_end_the_channel() {
    for message in [vec![], words(&[0]), words(&[2, 0, 0, 0]), words(&[108]), words(&[4711])] {
        let mut driver = Driver::ready(1);
        driver.channel.send(&driver.guest, &OutgoingPacket::in_band(1, &[&message]));
        driver.expect_end();
    }
}

#[test]
fn messages_cut_short_end_the_channel() {
    let mut driver = Driver::open(1);
    driver.channel.send(&driver.guest, &OutgoingPacket::in_band(1, &[&words(&[1, V6_1])]));
    driver.expect_end();
}

#[test]
fn messages_out_of_order_end_the_channel() {
    for number in [100, 101, 103, 104, 107, 125, 133] {
        let mut driver = Driver::open(1);
        driver.tell(&[number, 1, 1]);
        driver.expect_end();
    }
    let error = super::super::NetVspError::OutOfOrder(NvspMessageType(101)).to_string();
    assert_eq!(error, "message 101 does not belong there");
}

#[test]
fn packets_of_other_kinds_end_the_channel() {
    for kind in [OutgoingKind::Gpadl(1), OutgoingKind::Cancel] {
        let mut driver = Driver::ready(1);
        let message = words(&[107, 0, u32::MAX, 0]);
        driver.channel.send(&driver.guest, &OutgoingPacket::new(kind, 1, &[&message]));
        driver.expect_end();
    }
}

#[test]
fn sections_and_lengths_that_lie_are_answered_so() {
    let mut driver = Driver::ready(1);
    // 16 pages are ten sections.
    for (section, bytes) in [(10, 60), (u32::MAX - 1, 60), (0, 6145), (0, u32::MAX), (9, 6145)] {
        let transaction = driver.ask(&[107, 0, section, bytes]);
        driver.expect_completion(transaction, 5);
    }
    for (channel_type, message) in [
        (0, words(&[1, 7, 0, 0])),
        (0, words(&[1, 1000, 36, 60, 0, 0, 0, 0, 0, 0, 0])),
        (0, packet_message(&[0; 60])[..50].to_vec()),
        (0, words(&[2, 24, 1, 1, 0, 0x4000])),
        (1, packet_message(&[0; 60])),
        (1, words(&[4, 28, 1, 0x0001_0106, 100, 20, 0])),
        (2, packet_message(&[0; 60])),
        (u32::MAX, packet_message(&[0; 60])),
    ] {
        let transaction = driver.send_direct(channel_type, &message);
        driver.expect_completion(transaction, 5);
    }
    assert_eq!(driver.peer.receive(Duration::ZERO), None);
    assert_eq!(driver.card.counts().tx_invalid, 13);
    // More than the card takes at once.
    let transaction = driver.send_direct(0, &vec![0; (128 << 10) + 1]);
    driver.expect_completion(transaction, 5);
    // It still works.
    let sent = driver.send_direct(0, &packet_message(&[7; 60]));
    driver.expect_completion(sent, 1);
    assert_eq!(driver.peer.receive(Duration::from_secs(10)), Some(vec![7; 60]));
}

#[test]
fn completions_for_nothing_and_twice_are_counted() {
    let mut driver = Driver::ready(1);
    for transaction in [0, 1, u64::MAX, 1 << 32] {
        driver.complete(transaction);
    }
    driver.peer.send(&[0xFF; 60]).unwrap();
    let got = driver.next_packet();
    driver.complete(got.transaction);
    driver.complete(got.transaction);
    driver.complete(got.transaction ^ 1 << 63);
    wait_for("counts", || (driver.card.counts().bad_completions == 6).then_some(()));
    // No part became free that was not: the same number of frames as ever is under way at once.
    for _ in 0..300 {
        driver.peer.send(&[0xFF; 60]).unwrap();
    }
    let mut frames = 0;
    while frames < 143 {
        frames += driver.next_packet().ranges.len();
    }
    driver.expect_silence();
    assert_eq!(frames, 143);
}

#[test]
fn buffers_too_small_for_anything_are_refused() {
    let mut driver = Driver::open(1);
    let pages = driver.guest.pages(1);
    let small = driver.guest.lend(driver.offer.child_relid, &pages);
    driver.call(&[1, V6_1, V6_1]);
    driver.tell(&[125, 9014, 0, 0, 0]);
    for gpadl in [small, 0, 0xDEAD] {
        assert_eq!(driver.call(&[101, gpadl, 1]).word(1), 2);
        assert_eq!(driver.call(&[104, gpadl, 1]).word(1), 2);
    }
    // Without a buffer there is no answer, and no harm.
    let transaction = driver.send_direct(1, &words(&[2, 24, 1, 1, 0, 0x4000]));
    driver.expect_completion(transaction, 1);
    driver.expect_silence();
    let buffer = driver.receive_gpadl;
    assert_eq!(driver.call(&[101, buffer, 0xCAFE]).word(1), 1);
    let got = driver.next_packet();
    assert_eq!(driver.range(got.ranges[0])[..4], words(&[0x8000_0002]));
}

#[test]
fn questions_without_end_and_without_listening_are_refused_at_last() {
    let mut driver = Driver::ready(1);
    let buffer = [103, 0xCAFE];
    driver.tell(&buffer);
    let busy = (0..70).map(|number| {
        let transaction = driver.send_direct(1, &words(&[8, 12, number]));
        let got = driver.next_packet();
        assert_eq!(got.transaction, transaction);
        got.word(1)
    });
    let statuses: Vec<_> = busy.collect();
    assert_eq!(statuses[..64], [1; 64]);
    assert_eq!(statuses[64..], [6; 6]);
}

#[test]
fn a_receive_buffer_torn_down_in_use_comes_back_when_the_card_has_done_with_it() {
    let mut driver = Driver::ready(1);
    driver.peer.send(&[0xFF; 60]).unwrap();
    let got = driver.next_packet();
    let (child_relid, gpadl) = (driver.offer.child_relid, driver.receive_gpadl);
    let header = MessageHeader::new(MessageType::GPADL_TEARDOWN);
    driver.guest.post(&GpadlTeardown { header, child_relid, gpadl });
    // The card still uses it.
    driver.guest.expect_silence();
    driver.peer.send(&[0xFF; 61]).unwrap();
    assert_eq!(driver.frames(1).len(), 1);
    driver.tell(&[103, 0xCAFE]);
    let torndown: GpadlTorndown = driver.guest.take();
    assert_eq!(torndown.gpadl, gpadl);
    driver.complete(got.transaction);
    driver.peer.send(&[0xFF; 62]).unwrap();
    driver.expect_silence();
    wait_for("a count", || (driver.card.counts().bad_completions == 1).then_some(()));
}

#[test]
fn a_guest_that_never_reads_its_ring_stops_only_itself() {
    let mut driver = Driver::ready(1);
    // More answers than the ring of 7 pages holds: the card stops taking packets.
    let mut sent = 0;
    let message = words(&[107, 0, 99, 0]);
    let parts = [&message[..]];
    let mut idle = 0;
    while idle < 20 {
        let packet = OutgoingPacket::in_band(sent, &parts).with_completion();
        match driver.channel.sender.send(&packet) {
            Ok(signal) => {
                sent += 1;
                idle = 0;
                if signal.needed() {
                    driver.channel.signal(&driver.guest).unwrap();
                }
            }
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    // When it reads at last, all answers are there, in order.
    for transaction in 0..sent {
        assert_eq!(driver.next_packet().transaction, transaction);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn no_packets_make_the_card_panic_or_hang(
        packets in prop::collection::vec(
            (prop::sample::select(vec![1_u32, 100, 101, 103, 104, 106, 107, 125, 129, 131, 133, 135]),
             prop::collection::vec(prop_oneof![0_u32..4, Just(V6_1), Just(0xE1E11), any::<u32>()], 0..9),
             prop::collection::vec(any::<u8>(), 1..120),
             0_u8..4),
            0..30),
    ) {
        let mut driver = Driver::ready(2);
        for (number, rest, bytes, how) in packets {
            if driver.guest.errors("provider") != 0 {
                break;
            }
            match how {
                0 => { driver.send_direct(number % 2, &bytes); }
                1 => { driver.send_section(0, &bytes); }
                2 => { driver.ask(&[vec![number], rest.iter().copied().take(8).collect()].concat()); }
                _ => driver.complete(u64::from(number)),
            }
            while driver.try_packet().is_some() {}
        }
        // It ends when it is told to.
        prop_assert_eq!(driver.guest.server.stop(), Vec::<String>::new());
    }
}
