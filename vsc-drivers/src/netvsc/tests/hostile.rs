//! Hosts that lie, flood, fall silent, or go away. The driver stays in one piece, and tells.

use std::vec;
use std::vec::Vec;

use hv_abi::nvsp::NVSP_RECEIVE_BUFFER_ID;
use hv_abi::vmbus::packet::TransferPageRange;
use vmbus_ring::{OutgoingKind, OutgoingPacket};

use super::card::{Card, message, words};
use super::*;

/// `NVSP_STAT_FAIL`.
const FAIL: u32 = 2;
const BUFFER_BYTES: u32 = 4 << 20;

fn range(byte_offset: u32, byte_count: u32) -> TransferPageRange {
    TransferPageRange { byte_count, byte_offset }
}

/// Sends ranges of set `set_id`; what the guest answers.
async fn send_ranges(card: &Card, set_id: u16, ranges: &[TransferPageRange]) -> u32 {
    let transaction = card.transaction();
    card.send_ranges(0, transaction, set_id, ranges);
    card.answer_to(transaction).await
}

/// Sends in-band bytes, and waits until the guest has read them.
async fn in_band(card: &Card, net: &NetVsc<FakeHal>, bytes: &[u8]) {
    card.end(0).send(&OutgoingPacket::in_band(0, &[bytes]));
    works(card, net).await;
}

#[test]
fn ranges_outside_the_receive_buffer_are_refused() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        for (offset, bytes) in [
            (BUFFER_BYTES, 100),
            (BUFFER_BYTES - 50, 100),
            (0, BUFFER_BYTES + 1),
            (u32::MAX, 1),
            (u32::MAX - 50, 100),
            (100, u32::MAX),
            (u32::MAX, u32::MAX),
            (0, 0),
            (0, 7),
        ] {
            let before = net.statistics().malformed;
            let set = NVSP_RECEIVE_BUFFER_ID;
            let answer = send_ranges(&card, set, &[range(offset, bytes)]).await;
            assert_eq!(answer, FAIL, "{offset} {bytes}");
            assert_eq!(net.statistics().malformed, before + 1, "{offset} {bytes}");
        }
        works(&card, net).await;
    });
}

#[test]
fn a_good_range_beside_a_bad_one_is_received() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let gpadl = card.state().receive_gpadl;
        let good = message(&frame(100, 3), &[]);
        card.end(0).write_gpadl(gpadl, 40_000, &good);
        let ranges = [range(u32::MAX, 9), range(40_000, good.len() as u32), range(0, u32::MAX)];
        assert_eq!(send_ranges(&card, NVSP_RECEIVE_BUFFER_ID, &ranges).await, FAIL);
        assert_eq!(net.received().await.unwrap()[..], frame(100, 3));
    });
}

#[test]
fn pages_of_another_set_are_refused() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        assert_eq!(send_ranges(&card, 0, &[range(0, 100)]).await, FAIL);
        assert_eq!(send_ranges(&card, 0xCAFF, &[]).await, FAIL);
        works(&card, net).await;
    });
}

#[test]
fn a_packet_of_no_ranges_is_answered() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        assert_eq!(send_ranges(&card, NVSP_RECEIVE_BUFFER_ID, &[]).await, 1);
        works(&card, net).await;
    });
}

#[test]
fn rndis_messages_that_lie_are_refused_and_counted() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let broken = |at: usize, word: u32| {
            let mut message = message(&frame(100, 1), &[16, 0, 12, 0]);
            message[at..at + 4].copy_from_slice(&word.to_le_bytes());
            message
        };
        let lies: Vec<Vec<u8>> = vec![
            broken(4, u32::MAX),
            broken(4, 3),
            broken(8, 1 << 31),
            broken(12, u32::MAX),
            broken(12, 3),
            broken(28, u32::MAX),
            broken(32, u32::MAX),
            // A list of infos that loops.
            broken(44, 0),
            broken(44, u32::MAX),
            broken(52, 16),
            words(&[7, 20, 0, 0]),
            words(&[7, 24, 0x4001_0013, 4, 1 << 30, 0]),
            words(&[0x8000_0004, 8]),
            words(&[0x8000_0004, 1000]),
        ];
        for lie in &lies {
            let before = net.statistics().malformed;
            let gpadl = card.state().receive_gpadl;
            card.end(0).write_gpadl(gpadl, 80_000, lie);
            let ranges = [range(80_000, lie.len() as u32)];
            let answer = send_ranges(&card, NVSP_RECEIVE_BUFFER_ID, &ranges).await;
            assert_eq!((answer, net.statistics().malformed), (FAIL, before + 1), "{lie:?}");
        }
        assert_eq!(net.statistics().received_frames, 0);
        works(&card, net).await;
    });
}

#[test]
fn memory_that_changes_while_it_is_read_is_judged_by_its_copy() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let gpadl = card.state().receive_gpadl;
        let one = message(&frame(1000, 1), &[16, 0, 12, 0]);
        let end = card.end(0);
        end.write_gpadl(gpadl, 0, &one);
        let stop = core::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (end, stop) = (&end, &stop);
            scope.spawn(move || {
                // Lengths and offsets, right and wrong in turn.
                for word in [104, u32::MAX, 1 << 20, 0].into_iter().cycle() {
                    for at in [4, 8, 12, 28, 32, 44, 52] {
                        end.write_gpadl(gpadl, at, &word.to_le_bytes());
                    }
                    end.write_gpadl(gpadl, 0, &one[..60]);
                    if stop.load(core::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            });
            for _ in 0..2000 {
                card.send_ranges(0, 1, NVSP_RECEIVE_BUFFER_ID, &[range(0, 1060)]);
                net.poll();
                while let Some(frame) = net.receive() {
                    assert!((14..=1000).contains(&frame.len()), "{}", frame.len());
                }
                card.play();
            }
            stop.store(true, core::sync::atomic::Ordering::Relaxed);
        });
        let statistics = net.statistics();
        assert_eq!(statistics.received_frames + statistics.malformed, 2000);
    });
}

#[test]
fn unknown_messages_are_counted_and_passed_over() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        card.say(&words(&[0x77, 12, 1]));
        card.say(&words(&[8, 12, 1]));
        in_band(&card, net, &words(&[999, 0])).await;
        // A virtual function is none of ours.
        in_band(&card, net, &words(&[128, 1, 7])).await;
        assert_eq!(net.statistics().unknown, 3);
        let cancel = OutgoingPacket::new(OutgoingKind::Cancel, 0, &[]);
        card.end(0).send(&cancel);
        let pages = [4096];
        let ranges = [vmbus_ring::GpaRange { byte_count: 1, byte_offset: 0, pages: &pages }];
        card.end(0).send(&OutgoingPacket::gpa_direct(0, &ranges, &[]));
        works(&card, net).await;
        assert_eq!(net.statistics().unknown, 5);
    });
}

#[test]
fn news_without_a_type_or_a_table_is_malformed() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        in_band(&card, net, &[]).await;
        assert_eq!(net.statistics().malformed, 1);
        for lie in [
            words(&[134, 16, u32::MAX]),
            words(&[134, 17, 12]),
            words(&[134, u32::MAX, 12]),
            words(&[134, 16, 40, 0]),
            words(&[134]),
        ] {
            let before = net.statistics().malformed;
            in_band(&card, net, &lie).await;
            assert_eq!(net.statistics().malformed, before + 1, "{lie:?}");
        }
    });
}

#[test]
fn a_table_that_names_no_channel_sends_by_one_that_there_is() {
    let card = Card::new().with_queues(2);
    let options = NetOptions { channels: 2, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let mut table = words(&[134, 16, 12]);
        table.extend(words(&[0xFFFF_FFFF; 16]));
        card.end(0).send(&OutgoingPacket::in_band(0, &[&table]));
        net.poll();
        for port in 0..8 {
            net.transmit(&tcp_frame(port, 10), &PLAIN).unwrap();
        }
        card.until(|state| state.sent.len() == 8).await;
    });
}

#[test]
fn completions_for_nothing_or_twice_free_nothing() {
    let card = Card::new().with(|state| state.withhold = true);
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&frame(1514, 1), &PLAIN).unwrap();
        card.until(|state| state.sent.len() == 1).await;
        let (_, real) = card.state().withheld[0];
        let complete = |transaction: u64| {
            let payload = words(&[108, 1]);
            card.end(0).send(&OutgoingPacket::completion(transaction, &[&payload]));
        };
        for nonsense in [0, real + 1, real | 1 << 32, u64::MAX, 1 << 63] {
            complete(nonsense);
        }
        complete(real);
        complete(real);
        card.state().withhold = false;
        works(&card, net).await;
        assert_eq!(net.statistics().malformed, 6);
    });
}

#[test]
fn a_completion_cut_off_or_of_another_kind_still_ends_its_packet() {
    let card = Card::new().with(|state| state.withhold = true);
    let options = NetOptions { send_buffer_bytes: 3 * 6144, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        for (round, payload) in
            [vec![], vec![0; 8], words(&[2, 1]), words(&[109, 1])].into_iter().enumerate()
        {
            net.transmit(&frame(1514, 1), &PLAIN).unwrap();
            card.until(|state| state.sent.len() == round + 1).await;
            let (_, transaction) = card.state().withheld.remove(0);
            card.end(0).send(&OutgoingPacket::completion(transaction, &[&payload]));
            card.host.set_flag(1);
            net.poll();
        }
        let statistics = net.statistics();
        assert_eq!((statistics.malformed, statistics.transmit_drops), (4, 4));
    });
}

#[test]
fn a_refused_frame_is_counted_as_dropped() {
    let card = Card::new().with(|state| state.withhold = true);
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&frame(1514, 1), &PLAIN).unwrap();
        card.until(|state| state.sent.len() == 1).await;
        let (_, transaction) = card.state().withheld[0];
        let payload = words(&[108, 5]);
        card.end(0).send(&OutgoingPacket::completion(transaction, &[&payload]));
        net.poll();
        let statistics = net.statistics();
        assert_eq!((statistics.transmit_drops, statistics.malformed), (1, 0));
    });
}

#[test]
fn a_flood_does_not_keep_others_from_their_turn() {
    let card = Card::new();
    let options = NetOptions { receive_queue_frames: 4, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let gpadl = card.state().receive_gpadl;
        let one = message(&frame(60, 1), &[]);
        card.end(0).write_gpadl(gpadl, 0, &one);
        let mut turns = 0;
        // A ring full of packets, again and again.
        for _ in 0..20 {
            let ranges = [range(0, one.len() as u32); 8];
            let kind = OutgoingKind::TransferPages {
                set_id: NVSP_RECEIVE_BUFFER_ID,
                sender_owns_set: false,
                ranges: &ranges,
            };
            let payload = words(&[107, 0, u32::MAX, 0]);
            while card.end(0).try_send(&OutgoingPacket::new(kind, 1, &[&payload])).is_ok() {}
            crate::netvsc::queue::yield_now().await;
            turns += 1;
        }
        assert_eq!(turns, 20);
        let statistics = net.statistics();
        assert_eq!(statistics.received_frames, 4);
        assert!(statistics.receive_drops > 1000);
    });
}

#[test]
fn a_host_that_reads_no_answers_stops_being_read() {
    let card = Card::new();
    with_bus(&card, async |bus| {
        let options = NetOptions { ring_pages: 1, ..NetOptions::default() };
        let net = NetVsc::start(bus, card.channel, options).await.unwrap();
        let gpadl = card.state().receive_gpadl;
        let one = message(&frame(60, 1), &[]);
        let end = card.end(0);
        end.write_gpadl(gpadl, 0, &one);
        let ranges = [range(0, one.len() as u32)];
        let kind = OutgoingKind::TransferPages {
            set_id: NVSP_RECEIVE_BUFFER_ID,
            sender_owns_set: false,
            ranges: &ranges,
        };
        let payload = words(&[107, 0, u32::MAX, 0]);
        let payload = [payload.as_slice()];
        let packet = OutgoingPacket::new(kind, 1, &payload).with_completion();
        let mut sent = 0;
        // The card has no turn here, and reads nothing.
        for _ in 0..100 {
            while end.try_send(&packet).is_ok() {
                sent += 1;
            }
            net.poll();
        }
        assert!(sent < 1000, "{sent} packets, and no end");
    });
}
