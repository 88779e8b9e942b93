//! The driver against a chip made from the manual, well-behaved and not.

mod bring_up;
mod chip;
mod frames;
mod hostile;
mod load;
mod stack;

use std::vec::Vec;

use vsc_drivers::Hal;
use vsc_drivers::task::{beside, sleep_until};

use super::{Tulip, TulipError, TulipOptions};
use crate::testing::TestHal;
use chip::FakeChip;

/// The card of these tests.
type Card = Tulip<FakeChip, TestHal>;

/// Starts a card on a chip, which interrupts it from then on.
fn try_start(chip: &FakeChip, options: TulipOptions) -> Result<Card, TulipError> {
    let card = chip.run(Tulip::start(chip.clone(), chip.hal().clone(), options))?;
    let handler = card.clone();
    chip.attach(move || handler.on_interrupt());
    Ok(card)
}

fn start(chip: &FakeChip, options: TulipOptions) -> Card {
    try_start(chip, options).unwrap()
}

/// A chip and a card on it.
fn machine() -> (FakeChip, Card) {
    let chip = FakeChip::default();
    let card = start(&chip, TulipOptions::default());
    (chip, card)
}

/// Lets so much time pass beside the card's task.
fn pass(chip: &FakeChip, card: &Card, time_100ns: u64) {
    let end = chip.hal().now_100ns() + time_100ns;
    chip.run(beside(card.run(), sleep_until(chip.hal(), end)));
}

/// A frame for `destination` that can be told from others.
fn frame(destination: [u8; 6], bytes: usize, number: u64) -> Vec<u8> {
    let mut frame: Vec<_> = (0..bytes).map(|at| (at as u64 * 7 + number) as u8).collect();
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x99]);
    frame
}
