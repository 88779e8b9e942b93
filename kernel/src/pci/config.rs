//! Configuration space by mechanism 1: a register names a place, another is that place (PCI 3.0 §3.2.2.3.2).
//!
//! The two accesses belong together: only one processor at a time may be here.

use hv_abi::pci::{
    PCI_COMMAND, PCI_CONFIG_ADDRESS_PORT, PCI_CONFIG_DATA_PORT, PciAddress, PciCommand,
    PciConfigAddress,
};

use super::PortIo;

/// Whether there is configuration space at all: the address register keeps what is written to it.
pub fn is_present(ports: &impl PortIo) -> bool {
    let before = ports.read32(PCI_CONFIG_ADDRESS_PORT);
    ports.write32(PCI_CONFIG_ADDRESS_PORT, PciConfigAddress::ENABLE);
    let kept = ports.read32(PCI_CONFIG_ADDRESS_PORT);
    ports.write32(PCI_CONFIG_ADDRESS_PORT, before & PciConfigAddress::MASK);
    kept == PciConfigAddress::ENABLE
}

/// Reads the 32-bit register in which byte `offset` is.
pub fn read32(ports: &impl PortIo, address: PciAddress, offset: u8) -> u32 {
    ports.write32(PCI_CONFIG_ADDRESS_PORT, PciConfigAddress::new(address, offset).0);
    ports.read32(PCI_CONFIG_DATA_PORT)
}

/// Reads 16 bits at `offset`, a multiple of 2.
pub fn read16(ports: &impl PortIo, address: PciAddress, offset: u8) -> u16 {
    (read32(ports, address, offset) >> (8 * (offset & 2))) as u16
}

/// Reads the byte at `offset`.
pub fn read8(ports: &impl PortIo, address: PciAddress, offset: u8) -> u8 {
    (read32(ports, address, offset) >> (8 * (offset & 3))) as u8
}

/// Writes the 32-bit register in which byte `offset` is.
pub fn write32(ports: &impl PortIo, address: PciAddress, offset: u8, value: u32) {
    ports.write32(PCI_CONFIG_ADDRESS_PORT, PciConfigAddress::new(address, offset).0);
    ports.write32(PCI_CONFIG_DATA_PORT, value);
}

/// Writes 16 bits at `offset`, a multiple of 2, and leaves those beside them alone: in the status register ones clear bits.
pub fn write16(ports: &impl PortIo, address: PciAddress, offset: u8, value: u16) {
    ports.write32(PCI_CONFIG_ADDRESS_PORT, PciConfigAddress::new(address, offset).0);
    ports.write16(PCI_CONFIG_DATA_PORT + u16::from(offset & 2), value);
}

/// The command register.
pub fn command(ports: &impl PortIo, address: PciAddress) -> PciCommand {
    PciCommand::from_bits_retain(read16(ports, address, PCI_COMMAND))
}

/// Switches these bits of the command register on, and leaves the others.
pub fn enable(ports: &impl PortIo, address: PciAddress, wanted: PciCommand) {
    let now = command(ports, address);
    if !now.contains(wanted) {
        write16(ports, address, PCI_COMMAND, (now | wanted).bits());
    }
}
