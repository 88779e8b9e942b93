//! Behaviour as a guest sees it.

use std::sync::Arc;

use hv_abi::pci::{PCI_BASE_ADDRESS_0, PCI_COMMAND, PciClass, PciCommand, PciId};
use proptest::prelude::*;

use super::*;
use crate::emulated::pci::bar::Bar;
use crate::emulated::pci::testing::TestBus;
use crate::emulated::pci::{ConfigSpace, Place, PortRange};

/// What a device has seen.
type Seen = Arc<Mutex<Vec<(Place, u32, usize)>>>;

/// Answers with its letter.
struct Probe {
    config: ConfigSpace,
    letter: u8,
    legacy: &'static [PortRange],
    seen: Seen,
}

const LEGACY: &[PortRange] =
    &[PortRange { first: 0x1F0, count: 8 }, PortRange { first: 0x3F6, count: 0 }];

impl PciFunction for Probe {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn read(&mut self, place: Place, offset: u32, data: &mut [u8]) {
        lock(&self.seen).push((place, offset, data.len()));
        data.fill(self.letter);
    }

    fn write(&mut self, place: Place, offset: u32, data: &[u8]) {
        lock(&self.seen).push((place, offset, data.len()));
    }

    fn legacy_ports(&self) -> &'static [PortRange] {
        self.legacy
    }
}

fn probe(letter: u8, legacy: &'static [PortRange]) -> (Probe, Seen) {
    let config = ConfigSpace::new(PciId::DEC_21140, PciClass::ETHERNET, 0)
        .with_bar(0, Bar::io(128))
        .with_bar(1, Bar::memory(256, false))
        .with_interrupt_pin(1);
    let seen = Seen::default();
    (Probe { config, letter, legacy, seen: seen.clone() }, seen)
}

/// Two functions, *A* in slot 2 and *B* in slot 3.
fn two() -> (TestBus, Seen) {
    let mut bus = TestBus::new(4096).unwrap();
    let (a, seen) = probe(b'A', LEGACY);
    bus.add(2, 0, a).unwrap();
    bus.add(3, 0, probe(b'B', &[]).0).unwrap();
    (bus, seen)
}

fn place_bar(bus: &TestBus, slot: u8, index: u8, base: u32) {
    bus.write_config(slot, 0, PCI_BASE_ADDRESS_0 + 4 * index, &base.to_le_bytes());
}

#[test]
fn firmware_has_placed_and_switched_on_everything() {
    let (bus, _) = two();
    assert_eq!([bus.base(2, 0, 0), bus.base(2, 0, 1)], [0xC000, 0xC000_0000]);
    assert_eq!([bus.base(3, 0, 0), bus.base(3, 0, 1)], [0xC080, 0xC000_0100]);
    let line = |slot| bus.read_config(slot, 0, PCI_INTERRUPT_LINE) as u8;
    assert_eq!([line(2), line(3)], [10, 11]);
    assert_eq!(bus.read_config(2, 0, PCI_COMMAND) & 7, 7);
    assert_eq!((bus.read_port(0xC000), bus.read_u32(0xC000_0104)), ([b'A'], 0x4242_4242));
}

#[test]
fn an_access_follows_a_region_wherever_it_is_moved() {
    let (bus, seen) = two();
    place_bar(&bus, 2, 0, 0xD000);
    place_bar(&bus, 2, 1, 0xD234_5600);
    assert_eq!(bus.read_port(0xD07E), [b'A'; 2]);
    assert_eq!(bus.read_u32(0xD234_5604), 0x4141_4141);
    assert_eq!((bus.read_port(0xC000), bus.read_u32(0xC000_0000)), ([0xFF], u32::MAX));
    assert_eq!(*lock(&seen), [(Place::Bar(0), 0x7E, 2), (Place::Bar(1), 4, 4)]);
}

#[test]
fn switched_off_regions_answer_nowhere() {
    let (bus, _) = two();
    bus.write_config(2, 0, PCI_COMMAND, &PciCommand::MEMORY.bits().to_le_bytes());
    assert_eq!((bus.read_port(0xC000), bus.read_port(0x1F0)), ([0xFF], [0xFF]));
    assert_eq!(bus.read_u32(0xC000_0000), 0x4141_4141);
    bus.write_config(2, 0, PCI_COMMAND, &PciCommand::IO.bits().to_le_bytes());
    assert_eq!((bus.read_port(0xC000), bus.read_port(0x1F7)), ([b'A'], [b'A']));
    assert_eq!(bus.read_u32(0xC000_0000), u32::MAX);
    assert!(!bus.write_u32(0xC000_0000, 0));
}

#[test]
fn fixed_ports_are_there_by_their_index_unless_the_range_is_empty() {
    let (bus, seen) = two();
    assert!(bus.write_port(0x1F7, &[0]));
    assert!(!bus.write_port(0x3F6, &[0]) && !bus.write_port(0x1F8, &[0]));
    assert_eq!(*lock(&seen), [(Place::Legacy(0), 7, 1)]);
}

#[test]
fn an_access_ends_where_its_region_ends() {
    let (bus, seen) = two();
    assert_eq!(bus.read_port(0xC07F), [b'A', 0xFF, 0xFF, 0xFF]);
    assert!(bus.write_port(0x1F6, &[0; 4]));
    let mut data = [0; 8];
    assert!(bus.bus.read_memory(0xC000_00FD, &mut data));
    assert_eq!(data, [b'A', b'A', b'A', 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    let ends = [(Place::Bar(0), 0x7F, 1), (Place::Legacy(0), 6, 2), (Place::Bar(1), 0xFD, 3)];
    assert_eq!(*lock(&seen), ends);
}

#[test]
fn of_two_regions_in_one_place_the_function_added_first_has_it() {
    let (bus, _) = two();
    place_bar(&bus, 3, 0, 0xC000);
    place_bar(&bus, 3, 1, 0xC000_0000);
    assert_eq!((bus.read_port(0xC000), bus.read_u32(0xC000_0000)), ([b'A'], 0x4141_4141));
    place_bar(&bus, 2, 0, 0xE000);
    assert_eq!(bus.read_port(0xC000), [b'B']);
    place_bar(&bus, 2, 1, 0xE800_0000);
    assert_eq!(bus.read_u32(0xE800_0000), u32::MAX, "configuration space stays what it is");
    assert_eq!(bus.read_u32(0xE801_0000), 0x0009_1011);
}

#[test]
fn addresses_that_can_not_be_answer_nowhere() {
    let (bus, _) = two();
    for base in [0, 0xFFFF_FFFF, 0x0001_0000, 0x8000_0000] {
        place_bar(&bus, 2, 0, base);
        assert_eq!(bus.read_port(base as u16 & 0xFF80), [0xFF], "{base:#x}");
    }
    for base in [0, 0xFFFF_FFFF] {
        place_bar(&bus, 2, 1, base);
        assert_eq!(bus.read_u32(u64::from(base & 0xFFFF_FF00)), u32::MAX, "{base:#x}");
    }
    assert!(!bus.bus.read_memory(u64::MAX, &mut [0; 4]));
    assert!(!bus.bus.read_memory(0x1_C000_0000, &mut [0; 4]), "above 4 GiB is nothing");
}

#[test]
fn memory_mapped_configuration_space_is_that_of_the_ports_and_ones_behind() {
    let (bus, _) = two();
    let slot_2 = layout::PCI_ECAM_START + (2 << 15);
    assert_eq!(bus.read_u32(slot_2), 0x0009_1011);
    assert!(bus.write_u32(slot_2 + 0x10, 0xD000));
    assert_eq!((bus.base(2, 0, 0), bus.read_port(0xD000)), (0xD000, [b'A']));
    assert_eq!((bus.read_u32(slot_2 + 0x100), bus.read_u32(slot_2 + 0x1000)), (u32::MAX, u32::MAX));
    assert!(bus.write_u32(slot_2 + 0xFFC, 0) && bus.write_u32(layout::PCI_ECAM_START, 0));
    assert_eq!(bus.read_u32(layout::PCI_ECAM_START + layout::PCI_ECAM_BYTES - 4), u32::MAX);
}

#[test]
fn a_slot_with_two_functions_says_so() {
    let (mut bus, _) = two();
    assert_eq!(bus.read_config(2, 0, 0x0C) >> 16 & 0x80, 0);
    bus.add(2, 1, probe(b'C', &[]).0).unwrap();
    assert_eq!(bus.read_config(2, 0, 0x0C) >> 16 & 0x80, 0x80);
}

#[test]
fn places_that_there_are_not_are_refused() {
    let (mut bus, _) = two();
    let mut add = |slot, function| bus.add(slot, function, probe(b'D', &[]).0);
    assert_eq!(add(2, 0), Err(AddError::Taken(2, 0)));
    assert_eq!(add(32, 0), Err(AddError::NoSuchPlace(32, 0)));
    assert_eq!(add(0, 8), Err(AddError::NoSuchPlace(0, 8)));
    let huge = ConfigSpace::new(PciId::DEC_21140, PciClass::ETHERNET, 0)
        .with_bar(0, Bar::memory(256 << 20, false))
        .with_bar(1, Bar::memory(256 << 20, false));
    let probe = Probe { config: huge, ..probe(b'E', &[]).0 };
    assert_eq!(bus.add(4, 0, probe), Err(AddError::NoRoom));
}

proptest! {
    #[test]
    fn a_hostile_guest_gets_through_to_no_device_beyond_its_regions(
        actions in prop::collection::vec((0..4_u8, any::<u32>(), 1..9_usize), 0..60),
    ) {
        let (bus, seen) = two();
        for (kind, at, length) in actions {
            let data = at.to_le_bytes().repeat(2);
            let data = &data[..length];
            match kind {
                0 => bus.write_config(2 + (at & 1) as u8, 0, (at >> 8) as u8, data),
                1 => drop(bus.write_port(at as u16, data)),
                2 => drop(bus.bus.write_memory(0xC000_0000 | u64::from(at), data)),
                _ => drop(bus.bus.read_memory(u64::from(at), &mut [0; 8][..length])),
            }
        }
        // Straight at both regions, wherever they are now.
        bus.write_port(bus.base(2, 0, 0) as u16, &[0; 8]);
        bus.write_u32(bus.base(2, 0, 1).into(), 0);
        for (place, offset, length) in lock(&seen).iter() {
            let size = match place {
                Place::Bar(0) => 128,
                Place::Bar(_) => 256,
                Place::Legacy(_) => 8,
            };
            prop_assert!(*length > 0 && *offset as usize + *length <= size);
        }
        prop_assert_eq!(bus.read_config(2, 0, 0), 0x0009_1011);
    }
}
