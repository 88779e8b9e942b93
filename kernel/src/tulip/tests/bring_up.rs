//! Starting a card: its ROM, its transceiver, its filter.

use hv_abi::tulip::csr::{Mode, Status};
use hv_abi::tulip::mii::{ANAR, ANLPAR, BMCR, BMCR_RESTART, BMSR};
use vsc_drivers::SECOND_100NS;

use super::chip::{FakeChip, Mischief, rom};
use super::*;
use crate::tulip::leaf::Leaf;
use crate::tulip::rom::{Rom, crc32};
use crate::tulip::{Chip, Filter, Link, Speed};

#[test]
fn a_card_has_the_address_of_its_rom_and_the_link_of_its_transceiver() {
    let (chip, card) = machine();
    assert_eq!(card.mac(), [2, 0x15, 0x5D, 0, 0, 1]);
    assert_eq!(card.link(), Link { up: true, speed: Speed::Mbps100, full_duplex: true });
    assert!(card.has_timer());
    let mode = Mode::from_bits_retain(chip.csr(6));
    assert!(mode.contains(Mode::ST | Mode::SR | Mode::PS | Mode::HBD | Mode::FD | Mode::MBO));
    assert!(!mode.intersects(Mode::PR | Mode::PM | Mode::TTM));
    assert_eq!(chip.state().setups, 1);
    assert_eq!(chip.csr(5) & (Status::ABNORMAL - Status::TPS).bits(), 0);
}

#[test]
fn roms_of_more_words_are_read_as_well() {
    let chip = FakeChip::default();
    let mut large = [0; 512];
    large[..128].copy_from_slice(&rom());
    chip.state().srom = Some(super::chip::srom(&large));
    assert_eq!(start(&chip, TulipOptions::default()).mac(), [2, 0x15, 0x5D, 0, 0, 1]);
}

#[test]
fn without_a_rom_the_address_must_be_given() {
    let chip = FakeChip::default();
    chip.state().srom = None;
    let options = TulipOptions::default();
    assert_eq!(try_start(&chip, options).err(), Some(TulipError::NoAddress));
    let options = TulipOptions { mac: Some([2, 0, 0, 0, 0, 7]), ..options };
    assert_eq!(start(&chip, options).mac(), [2, 0, 0, 0, 0, 7]);
}

#[test]
fn a_rom_with_a_wrong_checksum_or_address_is_found_out() {
    assert!(Rom(rom()).is_whole());
    for place in 0..128 {
        let mut broken = rom();
        broken[place] ^= 0x10;
        assert!(!Rom(broken).is_whole(), "{place}");
    }
    let with = |address: [u8; 6]| {
        let mut rom = rom();
        rom[20..26].copy_from_slice(&address);
        Rom(rom).station_address()
    };
    assert_eq!(with([0; 6]), None);
    assert_eq!(with([0xFF; 6]), None);
    assert_eq!(with([1, 0, 0x5E, 0, 0, 1]), None);
    assert_eq!(Rom([0xFF; 128]).station_address(), None);
    let mut old = [0; 128];
    old[..8].copy_from_slice(&[0, 0, 0xF8, 1, 2, 3, 0xAA, 0xBB]);
    old.copy_within(0..8, 16);
    assert_eq!(Rom(old).station_address(), Some([0, 0, 0xF8, 1, 2, 3]));
}

/// IEEE 802.3's check value for "123456789" is 0xCBF43926, inverted.
#[test]
fn the_check_sequence_is_ethernets() {
    assert_eq!(!crc32(b"123456789"), 0xCBF4_3926);
}

/// The ROM that Linux has for *Cogent EM100* (`eeprom.c`, `eeprom_fixups`), a 21140 without MII.
#[test]
fn media_behind_pins_are_those_of_a_known_card() {
    let mut rom = [0; 128];
    let words: [u16; 17] = [
        0x1E00, 0x0000, 0x0800, 0x063F, 0x0107, 0x8021, 0x0108, 0x8021, 0x0100, 0x009E, 0x0104,
        0x009E, 0x0103, 0x006D, 0x0105, 0x006D, 0,
    ];
    for (place, word) in rom[26..60].as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    let leaf = Leaf::parse(&Rom(rom));
    assert_eq!((leaf.outputs, leaf.blocks.len()), (0x3F, 6));
    let pins = leaf.pins().unwrap();
    assert_eq!((pins.code, pins.value), (3, 1));
    assert_eq!(pins.mode(), Mode::PS | Mode::PCS | Mode::SCR);
    assert_eq!((pins.link(0x40), pins.link(0)), (Some(true), Some(false)));
    assert_eq!(leaf.mii(), None);
}

#[test]
fn without_a_transceiver_the_pins_of_the_rom_are_used() {
    let chip = FakeChip::default();
    let mut bytes = rom();
    bytes[30..38].copy_from_slice(&[0, 8, 0x3F, 1, 3, 0x01, 0x6D, 0]);
    let sum = !crc32(&bytes[..126]) as u16;
    bytes[126..].copy_from_slice(&sum.to_le_bytes());
    chip.state().srom = Some(super::chip::srom(&bytes));
    chip.state().phy.address = None;
    let card = start(&chip, TulipOptions::default());
    assert_eq!(chip.state().pins, [0x13F, 0x01]);
    assert!(Mode::from_bits_retain(chip.csr(6)).contains(Mode::PS | Mode::PCS | Mode::SCR));
    assert!(!card.link().up, "the pin is low");
}

#[test]
fn without_either_the_usual_is_assumed() {
    let chip = FakeChip::default();
    chip.state().phy.address = None;
    let options = TulipOptions { chip: Chip::Dc21143, ..TulipOptions::default() };
    let card = start(&chip, options);
    assert!(card.link().up);
    assert!(Mode::from_bits_retain(chip.csr(6)).contains(Mode::PS | Mode::PCS | Mode::SCR));
}

#[test]
fn a_transceiver_that_does_not_negotiate_is_told_to() {
    let chip = FakeChip::default();
    chip.state().phy.registers[usize::from(BMCR)] = 0x0400;
    chip.state().phy.registers[usize::from(ANAR)] = 0x0001;
    start(&chip, TulipOptions::default());
    let registers = chip.state().phy.registers;
    assert_eq!(registers[usize::from(BMCR)] & 0x1600, 0x1000 | BMCR_RESTART, "and not isolated");
    assert_eq!(registers[usize::from(ANAR)], 0x01E1, "what the ROM says");
}

#[test]
fn the_mode_follows_the_link() {
    let (chip, card) = machine();
    let mode = || Mode::from_bits_retain(chip.csr(6));
    chip.state().phy.set_link(false);
    pass(&chip, &card, 11 * SECOND_100NS);
    assert!(!card.link().up);
    chip.state().phy.registers[usize::from(ANLPAR)] = 0x4021;
    chip.state().phy.set_link(true);
    pass(&chip, &card, 2 * SECOND_100NS);
    assert_eq!(card.link(), Link { up: true, speed: Speed::Mbps10, full_duplex: false });
    assert!(mode().contains(Mode::TTM | Mode::ST | Mode::SR) && !mode().contains(Mode::FD));
    assert_eq!(card.statistics().link_changes, 3);
    assert_eq!(card.statistics().restarts, 0);
    chip.run(card.link_up(SECOND_100NS)).unwrap();
    chip.state().phy.set_link(false);
    assert_eq!(chip.run(card.link_up(SECOND_100NS)), Err(TulipError::TimedOut));
}

#[test]
fn a_link_that_was_lost_for_a_moment_is_up() {
    let (chip, card) = machine();
    chip.state().phy.set_link(false);
    chip.state().phy.set_link(true);
    pass(&chip, &card, 11 * SECOND_100NS);
    assert!(card.link().up);
    assert_ne!(chip.state().phy.registers[usize::from(BMSR)] & 4, 0);
}

#[test]
fn a_chip_that_is_not_there_or_does_not_reset_is_an_error() {
    for (mischief, error) in
        [(Mischief::Gone, TulipError::NoDevice), (Mischief::NeverSends, TulipError::TimedOut)]
    {
        let chip = FakeChip::default();
        chip.state().mischief = mischief;
        assert_eq!(try_start(&chip, TulipOptions::default()).err(), Some(error));
    }
}

#[test]
fn no_memory_is_an_error_wherever_it_ends() {
    let chip = FakeChip::default();
    for allocations in [0, 1, 30, 65, 66, 100, 129] {
        chip.hal().fail_after(Some(allocations));
        let failed = try_start(&chip, TulipOptions::default());
        assert_eq!(failed.err(), Some(TulipError::NoMemory), "{allocations}");
        assert_eq!(chip.hal().pages_in_use(), 0);
    }
    chip.hal().fail_after(Some(130));
    assert!(try_start(&chip, TulipOptions::default()).is_ok());
}

#[test]
fn memory_is_free_again_when_the_card_is_dropped_but_not_if_the_chip_runs_on() {
    let (chip, card) = machine();
    assert_ne!(chip.hal().pages_in_use(), 0);
    chip.detach();
    drop(card);
    assert_eq!(chip.hal().pages_in_use(), 0);
    let card = start(&chip, TulipOptions::default());
    let pages = chip.hal().pages_in_use();
    chip.state().mischief = Mischief::NeverStops;
    chip.detach();
    drop(card);
    assert_eq!(chip.hal().pages_in_use(), pages);
}

#[test]
fn a_card_that_was_stopped_leaves_the_chip_to_the_next_one() {
    let (chip, old) = machine();
    old.stop();
    let new = start(&chip, TulipOptions::default());
    drop(old);
    new.transmit(&frame([2; 6], 60, 0)).unwrap();
    chip.run(new.sent()).unwrap();
    assert_eq!(chip.sent().len(), 1);
}

#[test]
fn a_stopped_card_says_so() {
    let (chip, card) = machine();
    card.stop();
    assert_eq!(chip.run(card.run()), TulipError::Stopped);
    assert_eq!(chip.run(card.received()).err(), Some(TulipError::Stopped));
    assert_eq!(chip.run(card.room()), Err(TulipError::Stopped));
    assert_eq!(chip.run(card.set_filter(Filter::default())), Err(TulipError::Stopped));
    assert!(card.transmit(&[0; 60]).is_err() && card.receive().is_none());
}
