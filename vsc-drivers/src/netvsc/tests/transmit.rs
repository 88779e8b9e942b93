//! Frames to the host.

use std::vec;
use std::vec::Vec;

use super::card::{Card, Sent, words};
use super::*;
use crate::netvsc::headers::Headers;
use crate::netvsc::{Offload, TransmitError, TransmitInfo, VlanTag};

const CHECKSUM: TransmitInfo = TransmitInfo { offload: Offload::Checksum, vlan: None };

fn sent(card: &Card) -> Vec<Sent> {
    card.state().sent.clone()
}

async fn wait_for(card: &Card, frames: usize) {
    card.until(|state| state.sent.len() >= frames).await;
}

#[test]
fn frames_arrive_as_they_were_in_their_order() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        for seed in 0..100 {
            net.transmit(&frame(60 + 14 * usize::from(seed), seed), &PLAIN).unwrap();
        }
        net.flush();
        wait_for(&card, 100).await;
    });
    for (seed, sent) in sent(&card).into_iter().enumerate() {
        assert_eq!(sent.frame, frame(60 + 14 * seed, seed as u8));
        assert!(!sent.directly);
    }
}

#[test]
fn a_burst_of_full_frames_costs_few_packets_and_fewer_signals() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let before = card.host.signals(card.channel).0;
        for burst in 0..10_u8 {
            for seed in 0..32 {
                net.transmit(&frame(1514, seed), &PLAIN).unwrap();
            }
            net.flush();
            wait_for(&card, 32 * (usize::from(burst) + 1)).await;
        }
        let signals = card.host.signals(card.channel).0 - before;
        assert!(signals <= 320 / 10, "{signals} signals for 320 frames");
        assert!(signals <= 10 + 2, "one for each burst: {signals}");
        let statistics = net.statistics();
        assert_eq!(statistics.transmitted_frames, 320);
        // Three full frames fit in a section of 6,144 bytes.
        assert!(statistics.transmit_packets <= 110, "{}", statistics.transmit_packets);
    });
}

#[test]
fn waiting_for_what_was_sent_ends_when_the_host_has_done_with_all_of_it() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        for seed in 0..100 {
            net.transmit(&frame(1514, seed), &PLAIN).unwrap();
        }
        net.sent().await.unwrap();
        assert_eq!(card.state().sent.len(), 100);
        net.sent().await.unwrap();
    });
}

#[test]
fn the_task_sends_what_nobody_flushes() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&frame(60, 1), &PLAIN).unwrap();
        wait_for(&card, 1).await;
        net.transmit(&frame(60, 2), &PLAIN).unwrap();
        wait_for(&card, 2).await;
    });
}

#[test]
fn no_more_frames_lie_in_one_packet_than_the_host_takes() {
    // The card checks.
    for packets in [0, 1, 3] {
        let card = Card::new().with(|state| state.packing = (packets.max(1), 5));
        with_net(&card, NetOptions::default(), async |net| {
            for seed in 0..30 {
                net.transmit(&frame(61, seed), &PLAIN).unwrap();
            }
            net.flush();
            wait_for(&card, 30).await;
        });
    }
}

#[test]
fn sections_come_back_with_completions() {
    let card = Card::new().with(|state| state.withhold = true);
    let options = NetOptions { send_buffer_bytes: 16 * 6144, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let fill = || {
            let mut frames = 0;
            while net.transmit(&frame(1514, 0), &PLAIN).is_ok() {
                frames += 1;
            }
            frames
        };
        let first = fill();
        assert!((40..=64).contains(&first), "{first}");
        assert!(!net.has_room(1514));
        net.flush();
        wait_for(&card, first).await;
        card.complete_all();
        net.room(1514).await.unwrap();
        net.poll();
        assert_eq!(fill(), first, "all sections are free again");
        assert_eq!(net.statistics().malformed, 0);
    });
}

#[test]
fn without_a_send_buffer_frames_go_from_where_they_lie() {
    let card = Card::new();
    let options = NetOptions { send_buffer_bytes: 0, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        for seed in 0..20 {
            net.transmit(&frame(100, seed), &PLAIN).unwrap();
        }
        net.flush();
        wait_for(&card, 20).await;
        assert_eq!(net.statistics().transmitted_directly, 20);
    });
    for (seed, sent) in sent(&card).into_iter().enumerate() {
        assert_eq!((sent.frame, sent.directly), (frame(100, seed as u8), true));
    }
}

#[test]
fn a_large_frame_is_not_copied_but_keeps_its_place_in_the_order() {
    let card = Card::new();
    let options = NetOptions { mtu: 9000, ..NetOptions::default() };
    let card = card.with(|state| {
        state.objects.insert(hv_abi::rndis::oid::Oid::GEN_MAXIMUM_FRAME_SIZE.0, words(&[9000]));
    });
    with_net(&card, options, async |net| {
        net.transmit(&frame(100, 1), &PLAIN).unwrap();
        let mut large = net.buffer(9014).unwrap();
        large.copy_from_slice(&frame(9014, 2));
        net.transmit_buffer(large, &PLAIN).unwrap();
        net.transmit(&frame(100, 3), &PLAIN).unwrap();
        net.flush();
        wait_for(&card, 3).await;
    });
    let sent = sent(&card);
    let directly: Vec<_> = sent.iter().map(|sent| sent.directly).collect();
    assert_eq!(directly, [false, true, false]);
    assert_eq!(sent[1].frame, frame(9014, 2));
}

#[test]
fn checksums_are_asked_for_where_the_host_computes_them() {
    let card = Card::new().with_offloads();
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&tcp_frame(99, 200), &CHECKSUM).unwrap();
        net.transmit(&frame(100, 1), &CHECKSUM).unwrap();
        net.flush();
        wait_for(&card, 2).await;
    });
    let sent = sent(&card);
    // TCPIP_CHKSUM_PKTINFO: is_ipv4 | tcp_checksum, header at 34.
    assert_eq!(sent[0].head[44..], words(&[16, 0, 12, 0x0022_0005]));
    // Pseudo header: 0a00 + 0001 + 0a00 + 0002 + 6 + 220.
    assert_eq!(sent[0].frame[50..52], (0x1403_u16 + 6 + 220).to_be_bytes());
    assert_eq!(sent[1].head.len(), 44, "nothing to do for what isn't TCP or UDP");
}

#[test]
fn checksums_are_computed_where_the_host_does_not() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&tcp_frame(99, 200), &CHECKSUM).unwrap();
        net.flush();
        wait_for(&card, 1).await;
    });
    let sent = sent(&card);
    assert_eq!(sent[0].head.len(), 44);
    assert!(Headers::find(&sent[0].frame).unwrap().verify_checksum(&sent[0].frame));
}

#[test]
fn a_large_segment_is_left_to_the_host_to_cut() {
    let card = Card::new().with_offloads();
    let segment = TransmitInfo { offload: Offload::Segment { mss: 1460 }, vlan: None };
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&tcp_frame(99, 50_000), &segment).unwrap();
        net.transmit(&tcp_frame(99, 1460), &segment).unwrap();
        let too_large = net.transmit(&tcp_frame(99, 0xF000), &segment);
        assert_eq!(too_large, Err(TransmitError::NotSegmentable));
        let other = net.transmit(&frame(1000, 0), &segment);
        assert_eq!(other, Err(TransmitError::NotSegmentable));
        net.flush();
        wait_for(&card, 2).await;
    });
    let sent = sent(&card);
    // TCP_LARGESEND_PKTINFO: mss 1460, header at 34, version 2.
    assert_eq!(sent[0].head[44..], words(&[16, 2, 12, 1460 | 34 << 20 | 1 << 30]));
    assert!(sent[0].directly);
    assert_eq!(sent[0].frame[16..18], [0, 0], "no total length (netvsc_xmit)");
    assert_eq!(sent[0].frame[50..52], 0x1409_u16.to_be_bytes(), "pseudo header without length");
    assert_eq!(sent[0].frame[54..], tcp_frame(99, 50_000)[54..]);
    assert_eq!(sent[1].head[44..48], words(&[16]), "one segment only has its checksum filled in");
    assert_eq!(sent[1].head[48..52], words(&[0]));
}

#[test]
fn without_segmentation_a_large_segment_is_refused() {
    let card = Card::new();
    let segment = TransmitInfo { offload: Offload::Segment { mss: 1460 }, vlan: None };
    with_net(&card, NetOptions::default(), async |net| {
        let refused = net.transmit(&tcp_frame(99, 5000), &segment);
        assert_eq!(refused, Err(TransmitError::NotSegmentable));
    });
}

#[test]
fn a_tag_goes_beside_the_frame() {
    let card = Card::new();
    let vlan = Some(VlanTag { vlan: 100, priority: 5, drop_eligible: false });
    with_net(&card, NetOptions::default(), async |net| {
        net.transmit(&frame(100, 1), &TransmitInfo { vlan, ..PLAIN }).unwrap();
        net.flush();
        wait_for(&card, 1).await;
    });
    assert_eq!(sent(&card)[0].head[44..], words(&[16, 6, 12, 100 << 4 | 5]));
}

#[test]
fn frames_of_impossible_lengths_are_refused() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        for bytes in [0, 13, 1515, 70_000] {
            let refused = net.transmit(&vec![0; bytes], &PLAIN);
            assert_eq!(refused, Err(TransmitError::BadLength), "{bytes}");
        }
        let mut tagged = frame(1518, 0);
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        net.transmit(&tagged, &PLAIN).unwrap();
        assert!(net.buffer(70_000).is_err());
        assert_eq!(net.statistics().transmit_drops, 0);
    });
}

#[test]
fn a_full_ring_delays_frames_and_loses_none() {
    let card = Card::new();
    let options = NetOptions { ring_pages: 1, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let mut taken = 0;
        while taken < 500 {
            match net.transmit(&frame(1514, taken as u8), &PLAIN) {
                Ok(()) => taken += 1,
                Err(TransmitError::Full) => net.room(1514).await.unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        net.flush();
        wait_for(&card, 500).await;
        assert_eq!(net.statistics().transmitted_frames, 500);
    });
    for (index, sent) in sent(&card).into_iter().enumerate() {
        assert_eq!(sent.frame, frame(1514, index as u8));
    }
}

#[test]
fn threads_send_at_the_same_time_and_lose_nothing() {
    let card = Card::new().with_queues(3);
    card.host.real_time();
    let options = NetOptions { channels: 3, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let send = |thread: u16| {
            let net = net.clone();
            move || {
                for number in 0..200_u16 {
                    let frame = tcp_frame(thread << 8 | number, 400);
                    while net.transmit(&frame, &PLAIN) == Err(TransmitError::Full) {
                        net.flush();
                        std::thread::yield_now();
                    }
                    if number % 7 == 0 {
                        net.poll();
                    }
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(send(thread))).collect();
        wait_for(&card, 800).await;
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        net.stop().await.unwrap();
        assert_eq!(net.statistics().malformed, 0);
    });
    let mut ports: Vec<_> =
        sent(&card).iter().map(|sent| [sent.frame[34], sent.frame[35]]).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((ports.len(), sent(&card).len()), (800, 800));
}
