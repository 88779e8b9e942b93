//! A bus without a machine: functions, memory and lines for unit tests, the in-process machine and fuzz targets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hv_abi::pci::PciAddress;
use vm_memory::mmap::FromRangesError;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{AddError, DeviceContext, IrqLines, PciBus, PciFunction};
use crate::stats::lock;

/// The bus, RAM from address 0 on, and the pins of the interrupt controllers.
pub struct TestBus {
    /// The bus itself.
    pub bus: PciBus,
    /// RAM.
    pub memory: GuestMemoryMmap,
    interrupts: IrqLines,
    pins: Arc<Mutex<BTreeMap<u32, Pin>>>,
}

#[derive(Default, Clone, Copy)]
struct Pin {
    level: bool,
    raised: u64,
}

impl TestBus {
    /// With so much RAM, and no function.
    ///
    /// # Errors
    /// There is no such memory.
    pub fn new(ram_bytes: usize) -> Result<Self, FromRangesError> {
        Ok(Self::with_memory(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), ram_bytes)])?))
    }

    /// With this RAM, and no function.
    pub fn with_memory(memory: GuestMemoryMmap) -> Self {
        let pins = Arc::<Mutex<BTreeMap<u32, Pin>>>::default();
        let set = pins.clone();
        let interrupts = IrqLines::new(move |gsi, level| {
            let mut pins = lock(&set);
            let pin = pins.entry(gsi).or_default();
            pin.raised += u64::from(level && !pin.level);
            pin.level = level;
        });
        Self { bus: PciBus::default(), memory, interrupts, pins }
    }

    /// What a device in this slot is made with.
    pub fn context(&self, slot: u8) -> DeviceContext {
        DeviceContext { memory: self.memory.clone(), interrupts: self.interrupts.clone(), slot }
    }

    /// As [`PciBus::add`].
    ///
    /// # Errors
    /// There is no place for it.
    pub fn add(
        &mut self,
        slot: u8,
        function: u8,
        device: impl PciFunction + 'static,
    ) -> Result<(), AddError> {
        self.bus.add(slot, function, Box::new(device))
    }

    /// Whether a pin is high.
    pub fn level(&self, gsi: u32) -> bool {
        lock(&self.pins).get(&gsi).is_some_and(|pin| pin.level)
    }

    /// How often a pin went from low to high.
    pub fn raised(&self, gsi: u32) -> u64 {
        lock(&self.pins).get(&gsi).map_or(0, |pin| pin.raised)
    }

    /// Reads so many ports by one access; ones where nobody is.
    pub fn read_port<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut data = [0; N];
        self.bus.read_port(port, &mut data);
        data
    }

    /// Writes ports by one access; `false` if nobody is there.
    pub fn write_port(&self, port: u16, data: &[u8]) -> bool {
        self.bus.write_port(port, data)
    }

    /// Reads four bytes of memory; ones where nobody is.
    pub fn read_u32(&self, address: u64) -> u32 {
        let mut data = [0; 4];
        self.bus.read_memory(address, &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes four bytes of memory; `false` if nobody is there.
    pub fn write_u32(&self, address: u64, value: u32) -> bool {
        self.bus.write_memory(address, &value.to_le_bytes())
    }

    /// Reads four bytes of a function's configuration space.
    pub fn read_config(&self, slot: u8, function: u8, offset: u8) -> u32 {
        let mut data = [0; 4];
        self.bus.read_config(PciAddress::new(0, slot, function), offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes configuration space.
    pub fn write_config(&self, slot: u8, function: u8, offset: u8, data: &[u8]) {
        self.bus.write_config(PciAddress::new(0, slot, function), offset.into(), data);
    }

    /// The address that base address register `index` of a function holds, as a guest reads it.
    pub fn base(&self, slot: u8, function: u8, index: u8) -> u32 {
        use hv_abi::pci::{PCI_BAR_IO, PCI_BAR_IO_FLAGS, PCI_BAR_MEMORY_FLAGS, PCI_BASE_ADDRESS_0};

        let offset = PCI_BASE_ADDRESS_0.saturating_add(index.saturating_mul(4));
        let value = self.read_config(slot, function, offset);
        let flags = if value & PCI_BAR_IO != 0 { PCI_BAR_IO_FLAGS } else { PCI_BAR_MEMORY_FLAGS };
        value & !flags
    }
}
