//! Configuration space as firmware leaves it, and as nobody should.

use std::vec;
use std::vec::Vec;

use hv_abi::pci::{PciAddress, PciClass, PciCommand, PciId};
use proptest::prelude::*;

use super::fake::{FakeFunction, FakePci};
use super::*;

const HOST_BRIDGE: u32 = 0x06_00_00;
const PCI_BRIDGE: u32 = 0x06_04_00;

/// What SeaBIOS leaves on QEMU's machine `pc` (`info pci` of QEMU 7.2): the PIIX3 with its IDE function, and a network card.
fn pc() -> FakePci {
    FakePci::new(vec![
        ((0, 0, 0), FakeFunction::new(0x8086, 0x1237, HOST_BRIDGE)),
        ((0, 1, 0), FakeFunction::new(0x8086, 0x7000, 0x06_01_00).with8(0x0E, 0x80)),
        ((0, 1, 1), FakeFunction::new(0x8086, 0x7010, 0x01_01_80).with_bar(4, 0xC041, 0xFFF0)),
        (
            (0, 3, 0),
            FakeFunction::new(0x1011, 0x0019, 0x02_00_00)
                .with_bar(0, 0xC001, 0xFFFF_FF80)
                .with_bar(1, 0xFEBF_1000, 0xFFFF_FF80)
                .with32(0x3C, 0x0000_010B),
        ),
    ])
}

#[test]
fn a_pc_has_what_its_firmware_has_left_there() {
    let found = scan(&pc());
    let places: Vec<_> =
        found.iter().map(|it| (it.address.slot(), it.address.function())).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1), (3, 0)]);
    let ide = found[2];
    assert_eq!((ide.id, ide.class), (PciId::INTEL_PIIX3_IDE, PciClass::IDE_COMPATIBILITY));
    assert_eq!(ide.bars, [None, None, None, None, Some(Bar::Io(0xC040)), None]);
    assert_eq!(ide.interrupt_line, None, "it has no pin");
    let card = found[3];
    let memory = Bar::Memory { address: 0xFEBF_1000, prefetchable: false, is_64: false };
    assert_eq!(card.bars[..2], [Some(Bar::Io(0xC000)), Some(memory)]);
    assert_eq!(card.interrupt_line, Some(11));
}

#[test]
fn a_machine_without_pci_has_nothing() {
    assert!(scan(&FakePci::absent()).is_empty());
}

#[test]
fn functions_of_a_device_with_one_are_not_looked_for() {
    let ports = FakePci::new(vec![
        ((0, 5, 0), FakeFunction::new(1, 2, 0)),
        ((0, 5, 3), FakeFunction::new(1, 3, 0)),
    ]);
    assert_eq!(scan(&ports).len(), 1);
}

#[test]
fn a_bus_behind_a_bridge_is_seen_and_bridges_that_loop_end() {
    let bridge = |to: u32| {
        FakeFunction::new(0x8086, 0x2448, PCI_BRIDGE).with8(0x0E, 1).with32(0x18, to << 8)
    };
    let ports = FakePci::new(vec![
        ((0, 1, 0), bridge(3)),
        ((3, 0, 0), bridge(0)),
        ((3, 1, 0), bridge(3)),
        ((3, 2, 0), FakeFunction::new(0x1234, 1, 0)),
    ]);
    let found = scan(&ports);
    assert_eq!(found.len(), 4);
    assert_eq!(found[3].address, PciAddress::new(3, 2, 0));
}

#[test]
fn what_is_everywhere_is_not_looked_at_without_end() {
    let bridge = FakeFunction::new(0x8086, 0x2448, PCI_BRIDGE).with8(0x0E, 0x81);
    let ports = FakePci::everywhere(bridge.with32(0x18, 0x0700));
    assert_eq!(scan(&ports).len(), 512);
    assert!(ports.accesses() < 20_000, "{}", ports.accesses());
}

#[test]
fn base_addresses_that_can_not_be_are_none() {
    let all = |values| bar::decode(values, 6);
    assert_eq!(all([0, 1, 0x0001_0001, 0xFFFF_FFFF, 0x6, 0xFFFF_FFF4]), [None; 6]);
    let wide = all([0xF000_000C, 1, 0, 0, 0, 0]);
    let expected = Bar::Memory { address: 0x1_F000_0000, prefetchable: true, is_64: true };
    assert_eq!(wide, [Some(expected), None, None, None, None, None]);
    assert_eq!(bar::decode([1; 6], 0), [None; 6]);
    assert_eq!(bar::decode([0, 0xF000_0004, 7, 0, 0, 0], 2)[1], None, "it has no second half");
}

#[test]
fn sizing_leaves_everything_as_it_was() {
    let ports = pc();
    let card = PciAddress::new(0, 3, 0);
    config::enable(&ports, card, PciCommand::IO | PciCommand::MASTER);
    assert_eq!(bar_bytes(&ports, card, 0), Some(0x80));
    assert_eq!(bar_bytes(&ports, card, 1), Some(0x80));
    assert_eq!(bar_bytes(&ports, PciAddress::new(0, 1, 1), 4), Some(0x10), "16 bits are enough");
    assert_eq!(bar_bytes(&ports, card, 2), None);
    assert_eq!(bar_bytes(&ports, card, 6), None);
    assert_eq!(bar_bytes(&ports, card, usize::MAX), None);
    assert_eq!(scan(&ports)[3].bars[0], Some(Bar::Io(0xC000)));
    assert_eq!(config::command(&ports, card), PciCommand::IO | PciCommand::MASTER);
}

#[test]
fn sizes_with_gaps_are_no_sizes() {
    let odd = FakeFunction::new(1, 2, 0).with_bar(0, 0x1000_0000, 0xFF0F_FF00);
    assert_eq!(bar_bytes(&FakePci::new(vec![((0, 1, 0), odd)]), PciAddress::new(0, 1, 0), 0), None);
}

#[test]
fn enabling_writes_the_command_register_alone_and_only_if_need_be() {
    let ports = pc();
    let ide = PciAddress::new(0, 1, 1);
    config::enable(&ports, ide, PciCommand::MASTER);
    assert_eq!(ports.byte((0, 1, 1), 4), 4);
    let before = ports.accesses();
    config::enable(&ports, ide, PciCommand::MASTER);
    assert_eq!(ports.accesses(), before + 1, "one read");
}

#[test]
fn registers_are_found_by_their_bytes() {
    let ports = pc();
    let card = PciAddress::new(0, 3, 0);
    assert_eq!(config::read16(&ports, card, 2), 0x0019);
    assert_eq!(config::read8(&ports, card, 0x0B), 0x02);
    config::write32(&ports, card, 0x3C, 5);
    assert_eq!(config::read8(&ports, card, 0x3C), 5);
}

proptest! {
    #[test]
    fn no_content_of_configuration_space_is_too_much(
        header in proptest::collection::vec(any::<u8>(), 64),
        slots in proptest::collection::vec((0u8..4, 0u8..32, 0u8..8), 1..8),
    ) {
        let mut function = FakeFunction::new(0x1234, 0x5678, 0);
        for (offset, byte) in header.iter().enumerate().skip(4) {
            function = function.with8(offset, *byte);
        }
        let functions = slots.into_iter().map(|at| (at, function.clone())).collect();
        for device in scan(&FakePci::new(functions)) {
            let possible = |bar: &Bar| match *bar {
                Bar::Io(port) => port != 0 && port % 4 == 0,
                Bar::Memory { address, .. } => address != 0 && address % 16 == 0,
            };
            prop_assert!(device.bars.iter().flatten().all(possible));
            prop_assert!(device.interrupt_line.is_none_or(|line| line != 0 && line != 255));
        }
    }
}
