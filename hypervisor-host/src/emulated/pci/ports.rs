//! Configuration mechanism 1 (PCI 3.0 §3.2.2.3.2), and the reset control register, which PC chipsets have in the midst of it.
//!
//! `CONFIG_ADDRESS` takes accesses of 32 bits at its own port and no others. So a byte at 0xCF9 is the reset control register,
//! and all other narrow accesses are those of ports that nobody has.

use std::sync::Arc;

use hv_abi::pci::{PCI_CONFIG_ADDRESS_PORT, PCI_CONFIG_DATA_PORT, PciConfigAddress};

use super::PciBus;
use crate::emulated::power::ResetControl;
use crate::emulated::{PortDevice, Request};

/// The ports.
pub struct ConfigPorts {
    bus: Arc<PciBus>,
    address: PciConfigAddress,
    reset: ResetControl,
}

/// Offset of `CONFIG_DATA`.
const DATA: u16 = PCI_CONFIG_DATA_PORT - PCI_CONFIG_ADDRESS_PORT;
/// Offset of the reset control register.
const RESET: u16 = ResetControl::PORT - PCI_CONFIG_ADDRESS_PORT;

impl ConfigPorts {
    /// The first port.
    pub const FIRST: u16 = PCI_CONFIG_ADDRESS_PORT;
    /// How many.
    pub const COUNT: u16 = 8;

    /// The ports of a host bridge to `bus`.
    pub fn new(bus: Arc<PciBus>) -> Self {
        Self { bus, address: PciConfigAddress(0), reset: ResetControl::new() }
    }

    /// How many bytes of an access of `length` bytes at `offset` are of `CONFIG_DATA`, and where in configuration space they
    /// begin. `None` if it is no access of configuration space.
    fn data(&self, offset: u16, length: usize) -> Option<(u16, usize)> {
        let byte = offset.checked_sub(DATA).filter(|_| self.address.is_enabled())?;
        let count = length.min(usize::from(4_u16.checked_sub(byte)?));
        Some((u16::from(self.address.offset()) + byte, count))
    }
}

impl PortDevice for ConfigPorts {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        match (offset, data.len()) {
            (0, 4) => data.copy_from_slice(&self.address.0.to_le_bytes()),
            (RESET, 1) => self.reset.read(0, data),
            _ => {
                if let Some((register, count)) = self.data(offset, data.len())
                    && let Some(data) = data.get_mut(..count)
                {
                    self.bus.read_config(self.address.address(), register, data);
                }
            }
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        match (offset, data) {
            (0, &[a, b, c, d]) => {
                let value = u32::from_le_bytes([a, b, c, d]);
                self.address = PciConfigAddress(value & PciConfigAddress::MASK);
            }
            (RESET, &[_]) => return self.reset.write(0, data),
            _ => {
                if let Some((register, count)) = self.data(offset, data.len())
                    && let Some(data) = data.get(..count)
                {
                    self.bus.write_config(self.address.address(), register, data);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
