//! The bus: who answers, and configuration space by address.
//!
//! A function's lock is taken before that of the routes, and the routes' is never held while a function is at work.

use std::sync::{Mutex, PoisonError, RwLock};

use hv_abi::pci::{
    PCI_BARS, PCI_CONFIG_BYTES, PCI_FUNCTIONS, PCI_INTERRUPT_LINE, PCI_INTERRUPT_PIN, PCI_SLOTS,
    PciAddress,
};
use thiserror::Error;

use super::PciFunction;
use super::routes::{Routes, Target};
use crate::layout::{self, PCI_IO_START, PCI_MMIO_START};
use crate::stats::lock;

/// Why a function can't be on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AddError {
    /// No such slot, or no such function.
    #[error("there is no slot {0} with a function {1}")]
    NoSuchPlace(u8, u8),
    /// Somebody is there already.
    #[error("function {1} of slot {0} is taken")]
    Taken(u8, u8),
    /// The regions of all functions together are too large.
    #[error("there are no ports or addresses left")]
    NoRoom,
}

struct Function {
    address: PciAddress,
    device: Mutex<Box<dyn PciFunction>>,
}

/// Bus 0, and there is no other.
pub struct PciBus {
    functions: Vec<Function>,
    routes: RwLock<Routes>,
    free_ports: u32,
    free_memory: u32,
}

impl Default for PciBus {
    fn default() -> Self {
        Self {
            functions: Vec::new(),
            routes: RwLock::default(),
            free_ports: PCI_IO_START.into(),
            free_memory: PCI_MMIO_START as u32,
        }
    }
}

impl PciBus {
    /// Puts a function on the bus, gives its regions addresses and its interrupt a line, and switches it on, as firmware would.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn add(
        &mut self,
        slot: u8,
        function: u8,
        mut device: Box<dyn PciFunction>,
    ) -> Result<(), AddError> {
        if slot >= PCI_SLOTS || function >= PCI_FUNCTIONS {
            return Err(AddError::NoSuchPlace(slot, function));
        }
        let address = PciAddress::new(0, slot, function);
        if self.index(address).is_some() {
            return Err(AddError::Taken(slot, function));
        }
        self.place_bars(&mut *device)?;
        let config = device.config_mut();
        let pin = config.u8(PCI_INTERRUPT_PIN);
        if pin != 0 {
            config.set(PCI_INTERRUPT_LINE, &[layout::pci_gsi(slot, pin)]);
        }
        config.switch_on();
        device.config_written(0, PCI_CONFIG_BYTES);
        self.functions.push(Function { address, device: Mutex::new(device) });
        self.mark_multifunction(slot);
        self.follow(self.functions.len() - 1);
        Ok(())
    }

    fn place_bars(&mut self, device: &mut dyn PciFunction) -> Result<(), AddError> {
        let config = device.config_mut();
        for index in 0..PCI_BARS as u8 {
            let Some((bar, _)) = config.bar(index) else { continue };
            let (free, end) = match bar.is_io() {
                true => (&mut self.free_ports, layout::PCI_IO_LAST.into()),
                false => (&mut self.free_memory, layout::PCI_MMIO_LAST as u32),
            };
            let base = free.next_multiple_of(bar.bytes());
            let last = base.checked_add(bar.bytes() - 1).filter(|last| *last <= end);
            *free = last.ok_or(AddError::NoRoom)? + 1;
            config.place_bar(index, base);
        }
        Ok(())
    }

    /// Guests look for further functions only where the first one says that there are any.
    fn mark_multifunction(&self, slot: u8) {
        let here = || self.functions.iter().filter(|function| function.address.slot() == slot);
        if here().count() > 1 {
            here().for_each(|function| lock(&function.device).config_mut().set_multifunction());
        }
    }

    /// Takes up the regions of a function that is not being used.
    fn follow(&self, index: usize) {
        if let Some(function) = self.functions.get(index) {
            self.update_routes(index, &**lock(&function.device));
        }
    }

    fn update_routes(&self, index: usize, device: &dyn PciFunction) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).update(index, device);
    }

    fn index(&self, address: PciAddress) -> Option<usize> {
        self.functions.iter().position(|function| function.address == address)
    }

    /// A guest reads ports. `false` if no function has the first of them; ports behind its region read as ones.
    pub fn read_port(&self, port: u16, data: &mut [u8]) -> bool {
        self.read(|routes| routes.port(port), data)
    }

    /// A guest writes ports. `false` if no function has the first of them; what lies behind its region is lost.
    pub fn write_port(&self, port: u16, data: &[u8]) -> bool {
        self.write(|routes| routes.port(port), data)
    }

    /// As [`PciBus::read_port`], for a string instruction whose elements have `width` bytes each: the function is locked once.
    pub fn read_port_repeated(&self, port: u16, width: usize, data: &mut [u8]) -> bool {
        data.fill(0xFF);
        let Some((function, target)) = self.target(|routes| routes.port(port)) else {
            return false;
        };
        let mut device = lock(&function.device);
        if width <= target.room {
            device.read_repeated(target.place, target.offset, width, data);
            return true;
        }
        for element in data.chunks_mut(width.max(1)) {
            let count = element.len().min(target.room);
            if let Some(element) = element.get_mut(..count) {
                device.read(target.place, target.offset, element);
            }
        }
        true
    }

    /// As [`PciBus::write_port`], for a string instruction.
    pub fn write_port_repeated(&self, port: u16, width: usize, data: &[u8]) -> bool {
        let Some((function, target)) = self.target(|routes| routes.port(port)) else {
            return false;
        };
        let mut device = lock(&function.device);
        if width <= target.room {
            device.write_repeated(target.place, target.offset, width, data);
            return true;
        }
        for element in data.chunks(width.max(1)) {
            let count = element.len().min(target.room);
            if let Some(element) = element.get(..count) {
                device.write(target.place, target.offset, element);
            }
        }
        true
    }

    /// A guest reads memory. `false` if nobody has the first byte; what lies behind a region reads as ones.
    pub fn read_memory(&self, address: u64, data: &mut [u8]) -> bool {
        if let Some((function, offset)) = ecam(address) {
            self.read_config(function, offset, data);
            return true;
        }
        self.read(|routes| routes.memory(address), data)
    }

    /// A guest writes memory. `false` if nobody has the first byte; what lies behind a region is lost.
    pub fn write_memory(&self, address: u64, data: &[u8]) -> bool {
        if let Some((function, offset)) = ecam(address) {
            self.write_config(function, offset, data);
            return true;
        }
        self.write(|routes| routes.memory(address), data)
    }

    /// A guest reads configuration space. Absent functions read as ones, and so does what lies behind byte 255.
    pub fn read_config(&self, address: PciAddress, offset: u16, data: &mut [u8]) {
        data.fill(0xFF);
        let function = self.index(address).and_then(|index| self.functions.get(index));
        if let Some(function) = function {
            lock(&function.device).config().read(offset, data);
        }
    }

    /// A guest writes configuration space.
    pub fn write_config(&self, address: PciAddress, offset: u16, data: &[u8]) {
        let Some(index) = self.index(address) else { return };
        let Some(function) = self.functions.get(index) else { return };
        let Ok(first) = u8::try_from(offset) else { return };
        let count = data.len().min(PCI_CONFIG_BYTES - usize::from(first));
        let Some(data) = data.get(..count) else { return };
        let mut device = lock(&function.device);
        device.config_mut().write(offset, data);
        device.config_written(first, count);
        self.update_routes(index, &**device);
    }

    fn target(&self, find: impl Fn(&Routes) -> Option<Target>) -> Option<(&Function, Target)> {
        let target = find(&self.routes.read().unwrap_or_else(PoisonError::into_inner))?;
        Some((self.functions.get(target.function)?, target))
    }

    fn read(&self, find: impl Fn(&Routes) -> Option<Target>, data: &mut [u8]) -> bool {
        data.fill(0xFF);
        let Some((function, target)) = self.target(find) else { return false };
        let count = data.len().min(target.room);
        if let Some(data) = data.get_mut(..count) {
            lock(&function.device).read(target.place, target.offset, data);
        }
        true
    }

    fn write(&self, find: impl Fn(&Routes) -> Option<Target>, data: &[u8]) -> bool {
        let Some((function, target)) = self.target(find) else { return false };
        let count = data.len().min(target.room);
        if let Some(data) = data.get(..count) {
            lock(&function.device).write(target.place, target.offset, data);
        }
        true
    }
}

/// Function and offset of an address in memory-mapped configuration space.
fn ecam(address: u64) -> Option<(PciAddress, u16)> {
    let within = address.checked_sub(layout::PCI_ECAM_START)?;
    if within >= layout::PCI_ECAM_BYTES {
        return None;
    }
    Some((PciAddress((within >> 12) as u16), (within & 0xFFF) as u16))
}

#[cfg(test)]
mod tests;
