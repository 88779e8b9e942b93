//! Behaviour as a guest sees it.

use hv_abi::pci::{PCI_BASE_ADDRESS_0, PCI_VENDOR_NONE};
use proptest::prelude::*;

use super::*;

fn card() -> ConfigSpace {
    ConfigSpace::new(PciId::DEC_21140, PciClass::ETHERNET, 0x22)
        .with_bar(0, Bar::io(128))
        .with_bar(1, Bar::memory(128, false))
        .with_interrupt_pin(1)
        .with_status(PciStatus::DEVSEL_MEDIUM)
}

#[test]
fn the_header_says_what_the_function_is() {
    let config = card().with_subsystem(PciId::new(0x1414, 0x0001));
    // PCI 3.0, figure 6-1: device and vendor; class, sub-class, interface and revision; subsystem.
    assert_eq!(config.u32(0x00), 0x0009_1011);
    assert_eq!(config.u32(0x08), 0x0200_0022);
    assert_eq!(config.u32(0x2C), 0x0001_1414);
    assert_eq!((config.u8(0x0E), config.u8(0x3D)), (0, 1));
}

#[test]
fn identity_and_reserved_registers_do_not_change() {
    let mut config = card();
    let before = [0x00, 0x08, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x40, 0xFC].map(|at| config.u32(at));
    for offset in (0..256).step_by(4) {
        config.write(offset, &[0xFF; 4]);
    }
    let after = [0x00, 0x08, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x40, 0xFC].map(|at| config.u32(at));
    assert_eq!(before, after);
    assert_eq!(config.u8(PCI_INTERRUPT_LINE), 0xFF);
    assert_eq!(config.u8(PCI_INTERRUPT_PIN), 1);
}

#[test]
fn ones_in_a_base_address_register_read_back_as_its_size() {
    let mut config = card();
    for index in 0..6_u16 {
        config.write(u16::from(PCI_BASE_ADDRESS_0) + 4 * index, &[0xFF; 4]);
    }
    assert_eq!((config.u32(0x10), config.u32(0x14)), (0xFFFF_FF81, 0xFFFF_FF80));
    assert_eq!([config.u32(0x18), config.u32(0x24)], [0, 0], "registers that do not exist");
    config.write(0x10, &[0x34]);
    config.write(0x11, &[0xC1]);
    config.write(0x12, &[0, 0]);
    assert_eq!(config.bar(0), Some((Bar::io(128), 0xC100)), "by bytes and words as well");
}

#[test]
fn the_command_register_has_the_bits_that_there_are() {
    let mut config = card();
    let master = config.bus_master();
    config.write(PCI_COMMAND.into(), &[0xFF, 0xFF]);
    assert_eq!(config.command(), PciCommand::IO | PciCommand::MEMORY | PciCommand::MASTER);
    assert!(master.is_on());
    config.write(u16::from(PCI_COMMAND), &[0x03]);
    assert!(!master.is_on(), "a worker sees it at once");
    let mut fixed = card().with_command_bits(PciCommand::empty());
    fixed.write(PCI_COMMAND.into(), &[0xFF, 0xFF]);
    assert_eq!(fixed.command(), PciCommand::empty());
}

#[test]
fn events_of_the_status_register_are_cleared_by_ones_only() {
    let mut config = card();
    let events = PciStatus::RECEIVED_MASTER_ABORT | PciStatus::PARITY_ERROR;
    config.set(PCI_STATUS, &(events | PciStatus::DEVSEL_MEDIUM).bits().to_le_bytes());
    config.write(PCI_STATUS.into(), &[0, 0]);
    assert_eq!(config.u16(PCI_STATUS), 0xA200);
    config.write(PCI_STATUS.into(), &PciStatus::PARITY_ERROR.bits().to_le_bytes());
    assert_eq!(config.u16(PCI_STATUS), 0x2200);
    config.write(PCI_STATUS.into(), &[0xFF, 0xFF]);
    assert_eq!(config.u16(PCI_STATUS), 0x0200, "what is no event stays");
}

#[test]
fn what_lies_beyond_reads_as_ones_and_takes_nothing() {
    let mut config = card();
    let mut data = [0; 8];
    config.read(0xFC, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    config.read(0x100, &mut data);
    assert_eq!(data, [0xFF; 8]);
    config.write(0xFE, &[1; 8]);
    config.write(u16::MAX, &[1; 8]);
    assert_ne!(config.u16(PCI_VENDOR_ID), PCI_VENDOR_NONE);
}

proptest! {
    #[test]
    fn no_write_changes_a_bit_that_is_not_the_guests(
        writes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..9)), 0..40),
    ) {
        let mut config = card();
        let before = config.bytes;
        for (offset, data) in &writes {
            config.write(offset % 0x110, data);
        }
        for (index, old) in before.iter().enumerate() {
            let may_change = config.writable[index] | config.cleared_by_ones[index];
            prop_assert_eq!((config.bytes[index] ^ old) & !may_change, 0);
        }
        for (index, bytes) in [(0, 128), (1, 128)] {
            let (bar, base) = config.bar(index).unwrap();
            prop_assert_eq!((bar.bytes(), base % bytes), (bytes, 0));
        }
        let master = config.command().contains(PciCommand::MASTER);
        prop_assert_eq!(config.bus_master().is_on(), master);
    }
}
