//! Frames from the host.

use std::vec;
use std::vec::Vec;

use super::card::Card;
use super::*;
use crate::netvsc::{Verdict, VlanTag};

#[test]
fn frames_of_one_packet_are_received_in_order_and_answered_once() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let frames: Vec<_> =
            (0..50).map(|seed| (frame(60 + 20 * seed, seed as u8), vec![])).collect();
        let transaction = card.deliver(0, &frames);
        for (expected, _) in &frames {
            assert_eq!(net.received().await.unwrap()[..], *expected);
        }
        assert_eq!(card.answer_to(transaction).await, 1);
        assert!(net.receive().is_none());
        let statistics = net.statistics();
        assert_eq!((statistics.received_frames, statistics.receive_drops), (50, 0));
        let bytes: usize = frames.iter().map(|(frame, _)| frame.len()).sum();
        assert_eq!(statistics.received_bytes, bytes as u64);
    });
}

#[test]
fn a_frame_does_not_change_when_the_host_writes_the_buffer_again() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        card.deliver(0, &[(frame(1000, 1), vec![])]);
        net.poll();
        let received = net.receive().unwrap();
        let gpadl = card.state().receive_gpadl;
        // All of the buffer's first parts.
        card.end(0).write_gpadl(gpadl, 0, &vec![0xEE; 100_000]);
        assert_eq!(received[..], frame(1000, 1));
    });
}

#[test]
fn what_stands_beside_a_frame_comes_with_it() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        // IEEE_8021Q_INFO: vlanid 100, pri 3; TCPIP_CHKSUM_PKTINFO: tcp and ip succeeded; NBL_HASH_VALUE.
        let infos = vec![16, 6, 12, 100 << 4 | 3, 16, 0, 12, 0x28, 16, 8, 12, 0xABCD];
        card.deliver(0, &[(frame(100, 1), infos)]);
        let received = net.received().await.unwrap();
        let info = received.info();
        let tag = VlanTag { vlan: 100, priority: 3, drop_eligible: false };
        assert_eq!(info.vlan, Some(tag));
        assert_eq!((info.ip_checksum, info.transport_checksum), (Verdict::Right, Verdict::Right));
        assert_eq!(info.hash, Some(0xABCD));
    });
}

#[test]
fn answers_are_sent_many_at_a_time() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let before = card.host.signals(card.channel).0;
        let mut last = 0;
        for seed in 0..60 {
            last = card.deliver(0, &[(frame(60, seed), vec![])]);
        }
        card.answer_to(last).await;
        assert!(card.host.signals(card.channel).0 - before <= 2);
        assert_eq!(net.statistics().received_frames, 60);
    });
}

#[test]
fn a_burst_costs_one_interrupt() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let before = net.statistics().interrupts;
        let mut last = 0;
        for seed in 0..100 {
            last = card.deliver(0, &[(frame(1514, seed), vec![])]);
        }
        card.answer_to(last).await;
        let interrupts = net.statistics().interrupts - before;
        assert!(interrupts <= 2, "{interrupts} interrupts for 100 frames");
    });
}

#[test]
fn frames_that_nobody_takes_are_dropped_and_counted() {
    let card = Card::new();
    let options = NetOptions { receive_queue_frames: 10, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let frames: Vec<_> = (0..16).map(|seed| (frame(60, seed), vec![])).collect();
        let transaction = card.deliver(0, &frames);
        card.answer_to(transaction).await;
        let statistics = net.statistics();
        assert_eq!((statistics.received_frames, statistics.receive_drops), (10, 6));
        assert_eq!(net.receive().unwrap()[..], frame(60, 0), "the oldest stay");
    });
}

#[test]
fn everything_works_by_polling_alone() {
    let card = Card::new().with(|state| state.echo = true);
    with_bus(&card, async |bus| {
        let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
        for seed in 0..200 {
            net.transmit(&frame(1514, seed), &PLAIN).unwrap();
            net.poll();
            // The card's turn.
            card.until(|state| state.sent.len() > seed.into()).await;
            net.poll();
            assert_eq!(net.receive().unwrap()[..], frame(1514, seed));
        }
    });
}
