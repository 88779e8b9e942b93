//! Interrupts: how many, and what stands in for them under load.

use std::vec::Vec;

use hv_abi::tulip::csr::Status;
use vsc_drivers::task::{beside, sleep_until};
use vsc_drivers::{Hal, SECOND_100NS};

use super::chip::FakeChip;
use super::*;

/// A frame every 50 µs, so many; those that were received.
fn flood(chip: &FakeChip, card: &Card, frames: u64) -> Vec<u64> {
    let mut came = Vec::new();
    let receive = async {
        while came.len() < frames as usize {
            let frame = card.received().await.unwrap();
            came.push(u64::from_le_bytes(*frame[14..].first_chunk().unwrap()));
        }
    };
    let send = async {
        for burst in 0..frames / 10 {
            for number in burst * 10..burst * 10 + 10 {
                let mut frame = frame(card.mac(), 60, 0);
                frame[14..22].copy_from_slice(&number.to_le_bytes());
                chip.comes(frame);
            }
            sleep_until(chip.hal(), chip.hal().now_100ns() + 500).await;
        }
        core::future::pending::<()>().await;
    };
    chip.run(beside(send, receive));
    came
}

#[test]
fn under_load_the_timer_interrupts_for_many_frames() {
    let (chip, card) = machine();
    let before = chip.state().interrupts;
    assert_eq!(flood(&chip, &card, 20_000), (0..20_000).collect::<Vec<_>>());
    let interrupts = chip.state().interrupts - before;
    let statistics = card.statistics();
    assert!(statistics.mitigations >= 1);
    assert!(interrupts * 20 < 20_000, "{interrupts}");
    assert_eq!((statistics.missed, statistics.malformed), (0, 0));
}

#[test]
fn without_load_each_frame_interrupts_at_once() {
    let (chip, card) = machine();
    flood(&chip, &card, 2000);
    // Quiet again.
    pass(&chip, &card, SECOND_100NS / 10);
    let receive = async { while card.received().await.is_ok() {} };
    let end = chip.hal().now_100ns() + SECOND_100NS / 10;
    chip.run(beside(receive, sleep_until(chip.hal(), end)));
    assert_ne!(chip.csr(7) & Status::RI.bits(), 0);
    assert_eq!(chip.csr(11) & 0xFFFF, 0, "and the timer is off");
    chip.comes(frame(card.mac(), 60, 1));
    let begun = chip.hal().now_100ns();
    chip.run(card.received()).unwrap();
    assert_eq!(chip.hal().now_100ns(), begun);
}

#[test]
fn a_chip_whose_timer_does_not_run_goes_without() {
    let chip = FakeChip::default();
    chip.state().has_timer = false;
    let card = start(&chip, TulipOptions::default());
    assert!(!card.has_timer());
    assert_eq!(flood(&chip, &card, 2000).len(), 2000);
    assert_eq!(card.statistics().mitigations, 0);
}

#[test]
fn a_timer_that_stops_is_found_out() {
    let (chip, card) = machine();
    flood(&chip, &card, 1000);
    chip.state().has_timer = false;
    chip.stop_timer();
    assert_eq!(flood(&chip, &card, 30_000).len(), 30_000);
    assert!(!card.has_timer());
    assert_ne!(chip.csr(7) & Status::RI.bits(), 0);
}

#[test]
fn an_interrupt_of_another_device_is_not_taken() {
    let (chip, card) = machine();
    assert!(!chip.hal().interrupt(|| card.on_interrupt()));
    // What is masked does not count either.
    chip.raise(Status::TU | Status::ERI);
    assert!(!chip.hal().interrupt(|| card.on_interrupt()));
    chip.raise(Status::TI);
    assert!(chip.hal().interrupt(|| card.on_interrupt()));
    assert!(!chip.hal().interrupt(|| card.on_interrupt()), "it was acknowledged");
}

#[test]
fn processes_that_stop_by_themselves_are_started_again() {
    let (chip, card) = machine();
    for (events, restarts) in [(Status::TPS, 1), (Status::TJT, 2), (Status::RPS, 3)] {
        chip.stop_processes();
        chip.raise(events);
        pass(&chip, &card, SECOND_100NS / 1000);
        assert_eq!(card.statistics().restarts, restarts);
        assert!(chip.runs(events));
    }
}

#[test]
fn a_fatal_error_of_the_bus_resets_the_chip() {
    let (chip, card) = machine();
    card.transmit(&frame([2; 6], 60, 0)).unwrap();
    chip.raise(Status::FBE);
    pass(&chip, &card, SECOND_100NS / 1000);
    let statistics = card.statistics();
    assert_eq!((statistics.resets, statistics.transmit_drops), (1, 1));
    card.transmit(&frame([2; 6], 60, 1)).unwrap();
    chip.run(card.sent()).unwrap();
    chip.comes(frame(card.mac(), 60, 2));
    chip.run(card.received()).unwrap();
    assert_eq!(chip.sent().len(), 1);
}

#[test]
fn a_chip_that_sends_nothing_is_reset() {
    use super::chip::Mischief;
    let (chip, card) = machine();
    chip.state().mischief = Mischief::NeverSends;
    card.transmit(&frame([2; 6], 60, 0)).unwrap();
    card.flush();
    pass(&chip, &card, 5 * SECOND_100NS);
    assert!(card.statistics().resets >= 1);
    assert!(card.statistics().demands_repeated <= 4);
    chip.state().mischief = Mischief::None;
    pass(&chip, &card, 5 * SECOND_100NS);
    card.transmit(&frame([2; 6], 60, 1)).unwrap();
    chip.run(card.sent()).unwrap();
    assert_eq!(chip.sent().len(), 1);
}

#[test]
fn a_card_that_is_pulled_out_ends() {
    use super::chip::Mischief;
    let (chip, card) = machine();
    chip.state().mischief = Mischief::Gone;
    assert_eq!(chip.run(card.run()), TulipError::Stopped);
}
