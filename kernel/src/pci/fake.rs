//! A machine's ports for tests: configuration space by mechanism 1, and whatever a test puts behind the others.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_abi::pci::{
    PCI_CONFIG_ADDRESS_PORT, PCI_CONFIG_BYTES, PCI_CONFIG_DATA_PORT, PciAddress, PciConfigAddress,
};

use super::PortIo;

/// A function's configuration space.
#[derive(Clone)]
pub(crate) struct FakeFunction {
    bytes: [u8; PCI_CONFIG_BYTES],
    /// Bits that writing changes.
    writable: [u8; PCI_CONFIG_BYTES],
}

impl FakeFunction {
    pub(crate) fn new(vendor: u16, device: u16, class: u32) -> Self {
        let mut new = Self { bytes: [0; PCI_CONFIG_BYTES], writable: [0; PCI_CONFIG_BYTES] };
        new.set32(0, u32::from(device) << 16 | u32::from(vendor));
        new.set32(8, class << 8);
        new.writable[4..6].fill(0xFF);
        new.writable[0x3C] = 0xFF;
        new
    }

    fn set32(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn with32(mut self, offset: usize, value: u32) -> Self {
        self.set32(offset, value);
        self
    }

    pub(crate) fn with8(mut self, offset: usize, value: u8) -> Self {
        self.bytes[offset] = value;
        self
    }

    /// A base address register of which these bits can be written.
    pub(crate) fn with_bar(mut self, index: usize, value: u32, writable: u32) -> Self {
        let offset = 0x10 + 4 * index;
        self.set32(offset, value);
        self.writable[offset..offset + 4].copy_from_slice(&writable.to_le_bytes());
        self
    }
}

/// The machine. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct FakePci(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    address: u32,
    functions: BTreeMap<u16, FakeFunction>,
    absent: bool,
    /// Accesses of the data register.
    accesses: usize,
    /// Every function of every bus is this one.
    everywhere: Option<FakeFunction>,
}

impl FakePci {
    pub(crate) fn new(functions: Vec<((u8, u8, u8), FakeFunction)>) -> Self {
        let place = |(bus, slot, function)| PciAddress::new(bus, slot, function).0;
        let functions = functions.into_iter().map(|(at, function)| (place(at), function));
        Self(Arc::new(Mutex::new(State { functions: functions.collect(), ..State::default() })))
    }

    /// No PCI at all.
    pub(crate) fn absent() -> Self {
        Self(Arc::new(Mutex::new(State { absent: true, ..State::default() })))
    }

    /// The same function wherever one looks.
    pub(crate) fn everywhere(function: FakeFunction) -> Self {
        Self(Arc::new(Mutex::new(State { everywhere: Some(function), ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accesses(&self) -> usize {
        self.state().accesses
    }

    /// The byte at `offset` of a function, as it is now.
    pub(crate) fn byte(&self, (bus, slot, function): (u8, u8, u8), offset: usize) -> u8 {
        self.state().functions[&PciAddress::new(bus, slot, function).0].bytes[offset]
    }

    fn read(&self, port: u16, out: &mut [u8]) {
        let mut state = self.state();
        out.fill(0xFF);
        if state.absent {
            return;
        }
        if port == PCI_CONFIG_ADDRESS_PORT && out.len() == 4 {
            out.copy_from_slice(&state.address.to_le_bytes());
        }
        let Some(at) = state.at(port, out.len()) else { return };
        state.accesses += 1;
        if let Some(function) = state.function() {
            out.copy_from_slice(&function.bytes[at..at + out.len()]);
        }
    }

    fn write(&self, port: u16, bytes: &[u8]) {
        let mut state = self.state();
        if let (PCI_CONFIG_ADDRESS_PORT, [a, b, c, d]) = (port, bytes) {
            state.address = u32::from_le_bytes([*a, *b, *c, *d]);
        }
        let Some(at) = state.at(port, bytes.len()) else { return };
        state.accesses += 1;
        let Some(function) = state.function() else { return };
        for (index, &byte) in (at..).zip(bytes) {
            let mask = function.writable[index];
            function.bytes[index] = function.bytes[index] & !mask | byte & mask;
        }
    }
}

impl State {
    /// The offset in configuration space that an access of the data register means.
    fn at(&self, port: u16, len: usize) -> Option<usize> {
        let within = usize::from(port.checked_sub(PCI_CONFIG_DATA_PORT)?);
        let address = PciConfigAddress(self.address);
        (within + len <= 4 && address.is_enabled()).then(|| usize::from(address.offset()) + within)
    }

    fn function(&mut self) -> Option<&mut FakeFunction> {
        let at = PciConfigAddress(self.address).address().0;
        self.functions.get_mut(&at).or(self.everywhere.as_mut())
    }
}

impl PortIo for FakePci {
    fn read8(&self, port: u16) -> u8 {
        let mut bytes = [0; 1];
        self.read(port, &mut bytes);
        bytes[0]
    }

    fn read16(&self, port: u16) -> u16 {
        let mut bytes = [0; 2];
        self.read(port, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn read32(&self, port: u16) -> u32 {
        let mut bytes = [0; 4];
        self.read(port, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write8(&self, port: u16, value: u8) {
        self.write(port, &[value]);
    }

    fn write16(&self, port: u16, value: u16) {
        self.write(port, &value.to_le_bytes());
    }

    fn write32(&self, port: u16, value: u32) {
        self.write(port, &value.to_le_bytes());
    }
}
