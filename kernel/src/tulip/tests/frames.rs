//! Frames both ways, and which of them.

use core::future::poll_fn;
use core::task::Poll;
use std::vec::Vec;

use hv_abi::tulip::csr::{Mode, Status};
use vsc_drivers::SECOND_100NS;

use super::chip::{FakeChip, Mischief};
use super::*;
use crate::tulip::{Demand, Filter, LONGEST_FRAME, Threshold, TransmitError};

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// All frames, in bursts as large as there is room for.
async fn send_all(card: &Card, frames: &[Vec<u8>]) {
    for frame in frames {
        while let Err(error) = card.transmit(frame) {
            assert_eq!(error, TransmitError::Full);
            card.flush();
            card.room().await.unwrap();
        }
    }
    card.sent().await.unwrap();
}

async fn receive(card: &Card, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.push(card.received().await.unwrap().to_vec());
    }
    frames
}

fn both_modes() -> impl Iterator<Item = TulipOptions> {
    [false, true].into_iter().map(|chained| TulipOptions {
        chained,
        transmit_descriptors: 64,
        receive_descriptors: 64,
        ..TulipOptions::default()
    })
}

#[test]
fn frames_of_every_length_go_out_as_they_are() {
    for options in both_modes() {
        let chip = FakeChip::default();
        let card = start(&chip, options);
        let frames: Vec<_> = (14..=LONGEST_FRAME).map(|bytes| frame(PEER, bytes, 5)).collect();
        chip.run(send_all(&card, &frames));
        assert_eq!(chip.sent(), frames);
        let statistics = card.statistics();
        assert_eq!(statistics.transmitted_frames, frames.len() as u64);
        assert_eq!(statistics.transmit_errors + statistics.transmit_drops, 0);
        assert_eq!(chip.state().bad_addresses, 0);
    }
}

#[test]
fn frames_of_every_length_come_in_as_they_are() {
    for options in both_modes() {
        let chip = FakeChip::default();
        let card = start(&chip, options);
        let frames: Vec<_> =
            (14..=LONGEST_FRAME).map(|bytes| frame(card.mac(), bytes, 9)).collect();
        let came = chip.run(async {
            let mut came = Vec::new();
            for burst in frames.chunks(50) {
                burst.iter().for_each(|frame| chip.comes(frame.clone()));
                came.extend(receive(&card, burst.len()).await);
            }
            came
        });
        assert_eq!(came, frames);
        assert_eq!(card.statistics().received_frames, frames.len() as u64);
    }
}

#[test]
fn what_no_frame_can_be_is_refused() {
    let (_, card) = machine();
    for bytes in [0, 13, LONGEST_FRAME + 1, 5000] {
        assert_eq!(card.transmit(&std::vec![0; bytes]), Err(TransmitError::BadLength));
    }
}

#[test]
fn a_full_ring_says_so_and_keeps_room_for_the_filter() {
    let (chip, card) = machine();
    let sent = (0..).take_while(|_| card.transmit(&[0; 60]).is_ok()).count();
    assert_eq!(sent, 126);
    assert_eq!(card.transmit(&[0; 60]), Err(TransmitError::Full));
    let filter = Filter { all_multicast: true, ..Filter::default() };
    chip.run(card.set_filter(filter)).unwrap();
    assert_eq!((chip.sent().len(), chip.state().setups), (126, 2));
}

#[test]
fn bursts_longer_than_the_ring_lose_no_more_than_the_chip_says() {
    let (chip, card) = machine();
    let (chip2, card2) = (chip.clone(), card.clone());
    (0..1000).for_each(|number| chip.comes(frame(card.mac(), 60, number)));
    // Nobody looks while they come.
    while chip.step() {}
    let came = chip.run(async { receive(&card2, 128).await });
    assert_eq!(came.len(), 128);
    assert!(card.receive().is_none());
    let statistics = card.statistics();
    assert_eq!(statistics.missed, 872);
    assert!(statistics.stalls >= 1);
    assert!(chip.state().interrupts < 20, "lost frames must not interrupt each");
    chip2.comes(frame(card.mac(), 60, 1));
    assert_eq!(chip.run(receive(&card, 1)).len(), 1, "and goes on");
    assert_ne!(chip.csr(7) & Status::RU.bits(), 0, "and tells of the next time");
}

#[test]
fn only_frames_for_the_station_and_for_all_come_through() {
    let (chip, card) = machine();
    let others = [PEER, [1, 0, 0x5E, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];
    others.into_iter().for_each(|to| chip.comes(frame(to, 60, 0)));
    chip.comes(frame([0xFF; 6], 60, 1));
    chip.comes(frame(card.mac(), 60, 2));
    let came = chip.run(receive(&card, 2));
    assert_eq!(came, [frame([0xFF; 6], 60, 1), frame(card.mac(), 60, 2)]);
    assert!(chip.run(poll_fn(|_| Poll::Ready(card.receive()))).is_none());
}

fn groups(count: u8) -> Vec<[u8; 6]> {
    (0..count).map(|last| [1, 0, 0x5E, 0, 1, last]).collect()
}

#[test]
fn filters_of_all_kinds_let_through_what_is_wanted() {
    let stations: Vec<_> = (0..20).map(|last| [2, 9, 9, 9, 9, last]).collect();
    for (filter, wanted, unwanted) in [
        (
            Filter { addresses: groups(14), ..Filter::default() },
            [1, 0, 0x5E, 0, 1, 13],
            [1, 0, 0x5E, 0, 1, 14],
        ),
        (
            Filter { addresses: groups(200), ..Filter::default() },
            [1, 0, 0x5E, 0, 1, 199],
            [1, 0, 0x5E, 0, 2, 7],
        ),
        (
            Filter { addresses: stations, ..Filter::default() },
            [2, 9, 9, 9, 9, 19],
            [2, 9, 9, 9, 9, 20],
        ),
        (Filter { all_multicast: true, ..Filter::default() }, [1, 2, 3, 4, 5, 6], PEER),
    ] {
        let (chip, card) = machine();
        chip.run(card.set_filter(filter)).unwrap();
        for to in [unwanted, wanted, [0xFF; 6], card.mac()] {
            chip.comes(frame(to, 60, 3));
        }
        let came = chip.run(receive(&card, 3));
        let to: Vec<_> = came.iter().map(|frame| frame[..6].to_vec()).collect();
        assert_eq!(to, [wanted, [0xFF; 6], card.mac()]);
    }
}

#[test]
fn hashes_let_some_pass_that_are_sorted_out() {
    let (chip, card) = machine();
    chip.run(card.set_filter(Filter { addresses: groups(200), ..Filter::default() })).unwrap();
    (0..=255).for_each(|last| chip.comes(frame([1, 0, 0x5E, 7, 7, last], 60, 0)));
    chip.comes(frame(card.mac(), 60, 0));
    let came = chip.run(receive(&card, 1));
    assert_eq!(came[0][..6], card.mac());
    assert!(card.statistics().filtered > 0);
}

#[test]
fn a_promiscuous_card_gets_all_and_stops_to_when_told() {
    let (chip, card) = machine();
    chip.run(card.set_filter(Filter { promiscuous: true, ..Filter::default() })).unwrap();
    chip.comes(frame(PEER, 60, 0));
    assert_eq!(chip.run(receive(&card, 1)).len(), 1);
    chip.run(card.set_filter(Filter::default())).unwrap();
    assert!(!Mode::from_bits_retain(chip.csr(6)).contains(Mode::PR));
    chip.comes(frame(PEER, 60, 0));
    chip.comes(frame(card.mac(), 60, 0));
    assert_eq!(chip.run(receive(&card, 1))[0][..6], card.mac());
}

#[test]
fn many_frames_go_with_one_demand_and_few_interrupts() {
    let (chip, card) = machine();
    let counts = || {
        let state = chip.state();
        (state.writes[1], state.interrupts)
    };
    let before = counts();
    let frames: Vec<_> = (0..126).map(|number| frame(PEER, 60, number)).collect();
    chip.run(send_all(&card, &frames));
    assert_eq!(counts().0 - before.0, 1);
    assert!(counts().1 - before.1 <= 2);
    assert_eq!(card.statistics().transmitted_frames, 126);
}

#[test]
fn a_chip_at_work_is_not_told_again() {
    for (demand, saved) in [(Demand::WhenIdle, true), (Demand::EachFlush, false)] {
        let chip = FakeChip::default();
        let card = start(&chip, TulipOptions { demand, ..TulipOptions::default() });
        for number in 0..20 {
            card.transmit(&frame(PEER, 60, number)).unwrap();
            card.flush();
        }
        chip.run(card.sent()).unwrap();
        assert_eq!(chip.sent().len(), 20);
        let statistics = card.statistics();
        assert_eq!(statistics.demands_saved > 0, saved);
        assert_eq!(statistics.demands + statistics.demands_saved, 21);
    }
}

#[test]
fn a_chip_that_looked_too_early_is_told_after_a_moment() {
    let (chip, card) = machine();
    chip.state().mischief = Mischief::LooksEarly;
    for number in 0..3 {
        card.transmit(&frame(PEER, 60, number)).unwrap();
    }
    card.flush();
    chip.step();
    chip.step();
    // At the third one already, it has seen none behind it, and is still busy with it as far as the driver can see.
    chip.state().mischief = Mischief::NeverSends;
    card.transmit(&frame(PEER, 60, 9)).unwrap();
    card.flush();
    assert_eq!(card.statistics().demands_saved, 1);
    chip.state().mischief = Mischief::LooksEarly;
    let begun = vsc_drivers::Hal::now_100ns(chip.hal());
    chip.run(card.sent()).unwrap();
    assert_eq!(chip.sent().len(), 4);
    assert!(vsc_drivers::Hal::now_100ns(chip.hal()) - begun < SECOND_100NS / 10);
}

#[test]
fn an_underflow_raises_the_threshold() {
    let (chip, card) = machine();
    chip.state().underflows = 5;
    let frames: Vec<_> = (0..8).map(|number| frame(PEER, 60, number)).collect();
    for frame in &frames {
        card.transmit(frame).unwrap();
        chip.run(card.sent()).unwrap();
        pass(&chip, &card, SECOND_100NS / 100);
    }
    assert_eq!(chip.sent(), frames[5..]);
    let statistics = card.statistics();
    assert_eq!((statistics.underflows, statistics.transmit_errors), (5, 5));
    let mode = Mode::from_bits_retain(chip.csr(6));
    assert!(mode.contains(Threshold::StoreAndForward.mode() | Mode::ST | Mode::SR));
}
