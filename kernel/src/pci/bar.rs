//! Base address registers (PCI 3.0 §6.2.5.1).

use hv_abi::pci::{
    PCI_BAR_IO, PCI_BAR_IO_FLAGS, PCI_BAR_MEMORY_FLAGS, PCI_BAR_PREFETCHABLE, PCI_BARS,
    PCI_BASE_ADDRESS_0, PCI_COMMAND, PciAddress, PciCommand,
};

use super::{PortIo, config};

/// Bits 2:1 of a register for memory: anywhere in 32 bits, below 1 MiB, anywhere in 64 bits.
const MEMORY_TYPE: u32 = 0b110;
const MEMORY_32: u32 = 0b000;
const MEMORY_BELOW_1_MIB: u32 = 0b010;
const MEMORY_64: u32 = 0b100;

/// Where a device's registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// At ports from here on.
    Io(u16),
    /// In memory.
    Memory {
        /// Address of the first byte.
        address: u64,
        /// Reading has no side effects.
        prefetchable: bool,
        /// The register has 64 bits, and takes the place of two.
        is_64: bool,
    },
}

impl Bar {
    /// The first port, if it is at ports.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Io(port) => Some(port),
            Self::Memory { .. } => None,
        }
    }

    /// The address, if it is in memory.
    pub fn address(self) -> Option<u64> {
        match self {
            Self::Io(_) => None,
            Self::Memory { address, .. } => Some(address),
        }
    }
}

/// Reads the registers' values, of which there are `count` (6, or 2 of a bridge). What has no address, or one that can't be, is `None`,
/// as is the second half of a register of 64 bits.
pub fn decode(values: [u32; PCI_BARS], count: usize) -> [Option<Bar>; PCI_BARS] {
    let mut bars = [None; PCI_BARS];
    let mut upper_half = false;
    for (index, bar) in bars.iter_mut().enumerate().take(count) {
        if upper_half {
            upper_half = false;
            continue;
        }
        let value = values[index];
        let next = values.get(index + 1).copied().filter(|_| index + 1 < count);
        upper_half = is_64(value);
        *bar = decode_one(value, next);
    }
    bars
}

fn is_64(value: u32) -> bool {
    value & (PCI_BAR_IO | MEMORY_TYPE) == MEMORY_64
}

fn decode_one(value: u32, next: Option<u32>) -> Option<Bar> {
    if value & PCI_BAR_IO != 0 {
        // PCs have 16 bits of port addresses.
        let port = u16::try_from(value & !PCI_BAR_IO_FLAGS).ok()?;
        return (port != 0).then_some(Bar::Io(port));
    }
    let low = u64::from(value & !PCI_BAR_MEMORY_FLAGS);
    let address = match value & MEMORY_TYPE {
        MEMORY_32 | MEMORY_BELOW_1_MIB => low,
        MEMORY_64 => u64::from(next?) << 32 | low,
        _ => return None,
    };
    let prefetchable = value & PCI_BAR_PREFETCHABLE != 0;
    (address != 0).then_some(Bar::Memory { address, prefetchable, is_64: is_64(value) })
}

/// How many bytes or ports register `index` of a function asks for; `None` if it is not there. The device does not answer at its addresses
/// meanwhile. Of a register of 64 bits only those below 4 GiB are counted.
pub fn bar_bytes(ports: &impl PortIo, address: PciAddress, index: usize) -> Option<u32> {
    let offset = u8::try_from(index).ok().filter(|&index| usize::from(index) < PCI_BARS)?;
    let offset = PCI_BASE_ADDRESS_0 + 4 * offset;
    let command = config::command(ports, address);
    let silent = command - PciCommand::IO - PciCommand::MEMORY;
    config::write16(ports, address, PCI_COMMAND, silent.bits());
    let value = config::read32(ports, address, offset);
    config::write32(ports, address, offset, u32::MAX);
    let mask = config::read32(ports, address, offset);
    config::write32(ports, address, offset, value);
    config::write16(ports, address, PCI_COMMAND, command.bits());
    let is_io = value & PCI_BAR_IO != 0;
    let mask = mask & !if is_io { PCI_BAR_IO_FLAGS } else { PCI_BAR_MEMORY_FLAGS };
    // Of an I/O register the upper half may be wired to zero.
    let mask = if is_io && mask != 0 { mask | 0xFFFF_0000 } else { mask };
    let bytes = mask.wrapping_neg();
    // The bits that can be written are the upper ones, without a gap.
    bytes.is_power_of_two().then_some(bytes)
}
