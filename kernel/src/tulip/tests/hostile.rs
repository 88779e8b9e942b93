//! Chips that lie.

use core::future::poll_fn;
use core::task::Poll;
use std::vec::Vec;

use hv_abi::tulip::csr::Status;
use hv_abi::tulip::descriptor::{RX_FL_MASK, RX_FS, RX_LS};
use proptest::prelude::*;

use super::chip::Mischief;
use super::*;
use crate::pci::Registers32;
use crate::tulip::leaf::Leaf;
use crate::tulip::rom::Rom;
use crate::tulip::{Chip, Filter, TransmitError};

/// Takes what there is.
fn drain(card: &Card) -> usize {
    let mut frames = 0;
    // A hostile chip may give without end.
    while frames < 10_000 && card.receive().is_some() {
        frames += 1;
    }
    frames
}

#[test]
fn lengths_that_lie_are_counted_and_dropped() {
    for lie in [RX_FL_MASK, RX_FS, RX_LS, RX_FS | RX_LS, RX_FL_MASK | RX_FS] {
        let (chip, card) = machine();
        chip.state().mischief = Mischief::Lies(lie);
        (0..100).for_each(|number| chip.comes(frame(card.mac(), 60, number)));
        while chip.step() {}
        assert_eq!(drain(&card), 0, "{lie:#x}");
        let statistics = card.statistics();
        let dropped = statistics.malformed + statistics.oversized + statistics.receive_errors;
        assert!(dropped > 0 || lie & RX_LS != 0, "{lie:#x}");
        chip.state().mischief = Mischief::None;
        (0..10).for_each(|number| chip.comes(frame(card.mac(), 60, number)));
        while chip.step() {}
        assert!(drain(&card) >= 9, "{lie:#x}: it goes on");
    }
}

#[test]
fn descriptors_that_were_changed_are_written_anew() {
    let (chip, card) = machine();
    chip.state().mischief = Mischief::Scribbles;
    for round in 0..5 {
        (0..100).for_each(|number| chip.comes(frame(card.mac(), 60, number)));
        (0..100).for_each(|number| card.transmit(&frame([2; 6], 60, number + round)).unwrap());
        chip.run(card.sent()).unwrap();
        while chip.step() {}
        assert_eq!(drain(&card), 100);
        assert_eq!(chip.sent().len(), 100);
    }
    assert_eq!(chip.state().bad_addresses, 0);
}

#[test]
fn descriptors_that_come_back_at_once_do_no_harm() {
    let (chip, card) = machine();
    chip.state().mischief = Mischief::GivesBackAtOnce;
    for number in 0..1000 {
        match card.transmit(&frame([2; 6], 60, number)) {
            Ok(()) | Err(TransmitError::Full) => {}
            Err(error) => panic!("{error}"),
        }
        chip.step();
        card.flush();
    }
    chip.run(card.sent()).unwrap();
}

/// Registers that read as anything, and memory that anything is written to.
#[derive(Clone)]
struct Random {
    words: std::sync::Arc<std::sync::Mutex<(Vec<u32>, usize)>>,
    hal: TestHal,
}

impl Random {
    fn next(&self) -> u32 {
        let mut words = self.words.lock().unwrap();
        words.1 = (words.1 + 1) % words.0.len();
        let at = words.1;
        words.0[at] = words.0[at].rotate_left(1);
        words.0[at]
    }
}

impl Registers32 for Random {
    fn read(&self, _: u16) -> u32 {
        self.next()
    }

    fn write(&self, _: u16, value: u32) {
        // Descriptors are where CSR3 and CSR4 say.
        if let Some(word) = self.hal.word(u64::from(value & !3)) {
            let scribble = self.next();
            word.store(scribble, core::sync::atomic::Ordering::SeqCst);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_rom_is_read(bytes in proptest::array::uniform32(any::<[u8; 4]>())) {
        let mut rom = [0; 128];
        rom.copy_from_slice(bytes.as_flattened());
        let leaf = Leaf::parse(&Rom(rom));
        prop_assert!(leaf.blocks.len() <= 16);
        let _ = (leaf.mii(), leaf.pins().map(|pins| (pins.mode(), pins.link(0xFF))));
        let _ = Rom(rom).station_address();
    }

    #[test]
    fn any_leaf_at_any_place_is_read(offset in any::<u8>(), leaf in proptest::collection::vec(any::<u8>(), 98)) {
        let mut rom = [0; 128];
        rom[30..].copy_from_slice(&leaf);
        rom[27] = offset;
        prop_assert!(Leaf::parse(&Rom(rom)).blocks.len() <= 16);
    }

    #[test]
    fn registers_that_read_as_anything_do_no_harm(words in proptest::collection::vec(any::<u32>(), 1..50)) {
        let hal = TestHal::default();
        let words = std::sync::Arc::new(std::sync::Mutex::new((words, 0)));
        let random = Random { words, hal: hal.clone() };
        let options = TulipOptions { chip: Chip::Dc21140, mac: Some([2; 6]), ..TulipOptions::default() };
        // Its reset fails nearly always.
        let _ = hal.block_on(Tulip::start(random, hal.clone(), options));
    }

    #[test]
    fn status_longwords_that_are_anything_do_no_harm(lies in proptest::collection::vec(any::<u32>(), 1..10), events in any::<u32>()) {
        let (chip, card) = machine();
        for (number, lie) in lies.into_iter().enumerate() {
            chip.state().mischief = Mischief::Lies(lie & !(1 << 31));
            chip.comes(frame(card.mac(), 60 + number, 1));
            chip.raise(Status::from_bits_retain(events) & (Status::NORMAL | Status::ABNORMAL));
            let _ = card.transmit(&frame([2; 6], 60, 1));
            while chip.step() && drain(&card) < 10_000 {}
            card.flush();
            chip.run(poll_fn(|_| Poll::Ready(())));
        }
        chip.state().mischief = Mischief::None;
        chip.run(card.set_filter(Filter::default())).unwrap();
    }
}
