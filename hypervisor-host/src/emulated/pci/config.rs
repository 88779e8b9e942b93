//! A function's configuration space: what it reads as, and what of it a guest may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hv_abi::pci::{
    PCI_BARS, PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_CONFIG_BYTES, PCI_DEVICE_ID,
    PCI_HEADER_MULTIFUNCTION, PCI_HEADER_TYPE, PCI_INTERRUPT_LINE, PCI_INTERRUPT_PIN,
    PCI_REVISION_ID, PCI_STATUS, PCI_SUBSYSTEM_ID, PCI_SUBSYSTEM_VENDOR_ID, PCI_VENDOR_ID,
    PciClass, PciCommand, PciId, PciStatus,
};

use super::bar::Bar;

/// Bits of the status register that a guest clears by writing ones (PCI 3.0 §6.2.3).
const STATUS_EVENTS: PciStatus = PciStatus::MASTER_PARITY
    .union(PciStatus::SIGNALED_TARGET_ABORT)
    .union(PciStatus::RECEIVED_TARGET_ABORT)
    .union(PciStatus::RECEIVED_MASTER_ABORT)
    .union(PciStatus::SIGNALED_SERR)
    .union(PciStatus::PARITY_ERROR);

/// 256 bytes, and for each bit whether a guest can change it.
///
/// Offsets beyond them read as ones and take nothing.
pub struct ConfigSpace {
    bytes: [u8; PCI_CONFIG_BYTES],
    writable: [u8; PCI_CONFIG_BYTES],
    cleared_by_ones: [u8; PCI_CONFIG_BYTES],
    bars: [Option<Bar>; PCI_BARS],
    master: BusMaster,
}

/// Whether a function may read and write memory: the bus master bit of its command register, for a device's own threads.
#[derive(Debug, Clone, Default)]
pub struct BusMaster(Arc<AtomicBool>);

impl BusMaster {
    /// Whether it may.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl ConfigSpace {
    /// One whose header says what the function is. The guest can change I/O, memory and bus master in the command register, the
    /// cache line size, the latency timer and the interrupt line, until the builder's methods say otherwise.
    pub fn new(id: PciId, class: PciClass, revision: u8) -> Self {
        let mut config = Self {
            bytes: [0; PCI_CONFIG_BYTES],
            writable: [0; PCI_CONFIG_BYTES],
            cleared_by_ones: [0; PCI_CONFIG_BYTES],
            bars: [None; PCI_BARS],
            master: BusMaster::default(),
        };
        config.set(PCI_VENDOR_ID, &id.vendor.to_le_bytes());
        config.set(PCI_DEVICE_ID, &id.device.to_le_bytes());
        config.set(PCI_REVISION_ID, &(class.0 << 8 | u32::from(revision)).to_le_bytes());
        config
            .with_writable(PCI_INTERRUPT_LINE, &[0xFF])
            .with_command_bits(PciCommand::IO | PciCommand::MEMORY | PciCommand::MASTER)
            .with_cleared_by_ones(PCI_STATUS, &STATUS_EVENTS.bits().to_le_bytes())
    }

    /// With the identity of the board that the chip is on.
    #[must_use]
    pub fn with_subsystem(self, id: PciId) -> Self {
        self.with(PCI_SUBSYSTEM_VENDOR_ID, &id.vendor.to_le_bytes())
            .with(PCI_SUBSYSTEM_ID, &id.device.to_le_bytes())
    }

    /// With these bits of the status register set.
    #[must_use]
    pub fn with_status(self, status: PciStatus) -> Self {
        self.with(PCI_STATUS, &status.bits().to_le_bytes())
    }

    /// With a command register of which the guest can change these bits and no others.
    #[must_use]
    pub fn with_command_bits(self, bits: PciCommand) -> Self {
        self.with_writable(PCI_COMMAND, &bits.bits().to_le_bytes())
    }

    /// With a region behind base address register `index`, 0 to 5. The bus gives it an address.
    #[must_use]
    pub fn with_bar(mut self, index: u8, bar: Bar) -> Self {
        let Some(offset) = bar_offset(index) else { return self };
        if let Some(slot) = self.bars.get_mut(usize::from(index)) {
            *slot = Some(bar);
        }
        self.with(offset, &bar.flags().to_le_bytes())
            .with_writable(offset, &bar.writable().to_le_bytes())
    }

    /// With an interrupt pin, 1 to 4 for INTA# to INTD#. The bus fills the interrupt line.
    #[must_use]
    pub fn with_interrupt_pin(self, pin: u8) -> Self {
        self.with(PCI_INTERRUPT_PIN, &[pin])
    }

    /// With these bytes from `offset` on, which the guest reads.
    #[must_use]
    pub fn with(mut self, offset: u8, bytes: &[u8]) -> Self {
        self.set(offset, bytes);
        self
    }

    /// With a mask for the bytes from `offset` on: of each byte the guest can change the bits that are ones here, and no others.
    #[must_use]
    pub fn with_writable(mut self, offset: u8, mask: &[u8]) -> Self {
        put(&mut self.writable, offset, mask);
        self
    }

    /// With a mask for the bytes from `offset` on: the guest clears the bits that are ones here by writing ones to them.
    #[must_use]
    pub fn with_cleared_by_ones(mut self, offset: u8, mask: &[u8]) -> Self {
        put(&mut self.cleared_by_ones, offset, mask);
        self
    }

    /// Fills `data` with the bytes from `offset` on; what lies beyond reads as ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        data.fill(0xFF);
        for (byte, value) in data.iter_mut().zip(self.bytes.iter().skip(offset.into())) {
            *byte = *value;
        }
    }

    /// A guest's write, as far as it is allowed.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (index, value) in (usize::from(offset)..PCI_CONFIG_BYTES).zip(data) {
            let masks = self.writable.get(index).zip(self.cleared_by_ones.get(index));
            if let (Some(byte), Some((writable, cleared))) = (self.bytes.get_mut(index), masks) {
                *byte = *byte & !writable & !(cleared & value) | value & writable;
            }
        }
        self.tell_master();
    }

    /// The device's own change, which asks no mask.
    pub fn set(&mut self, offset: u8, bytes: &[u8]) {
        put(&mut self.bytes, offset, bytes);
        self.tell_master();
    }

    /// The byte at `offset`.
    pub fn u8(&self, offset: u8) -> u8 {
        u8::from_le_bytes(self.get(offset))
    }

    /// The two bytes from `offset` on.
    pub fn u16(&self, offset: u8) -> u16 {
        u16::from_le_bytes(self.get(offset))
    }

    /// The four bytes from `offset` on.
    pub fn u32(&self, offset: u8) -> u32 {
        u32::from_le_bytes(self.get(offset))
    }

    fn get<const N: usize>(&self, offset: u8) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(offset.into(), &mut bytes);
        bytes
    }

    /// The command register.
    pub fn command(&self) -> PciCommand {
        PciCommand::from_bits_retain(self.u16(PCI_COMMAND))
    }

    /// Whether the function may read and write memory, now and later.
    pub fn bus_master(&self) -> BusMaster {
        self.master.clone()
    }

    /// The region of base address register `index`, and its address. `None` if there is no such register.
    pub fn bar(&self, index: u8) -> Option<(Bar, u32)> {
        let bar = (*self.bars.get(usize::from(index))?)?;
        Some((bar, bar.base(self.u32(bar_offset(index)?))))
    }

    /// Gives the region of base address register `index` an address, as firmware would.
    pub(super) fn place_bar(&mut self, index: u8, base: u32) {
        if let (Some((bar, _)), Some(offset)) = (self.bar(index), bar_offset(index)) {
            self.set(offset, &(base & bar.writable() | bar.flags()).to_le_bytes());
        }
    }

    /// Switches on what the function has of I/O, memory and bus master, as firmware would.
    pub(super) fn switch_on(&mut self) {
        let all = PciCommand::IO | PciCommand::MEMORY | PciCommand::MASTER;
        let [low, high, ..] = all.bits().to_le_bytes();
        self.write(PCI_COMMAND.into(), &[low, high]);
    }

    /// Says that the device has further functions.
    pub(super) fn set_multifunction(&mut self) {
        let kind = self.u8(PCI_HEADER_TYPE) | PCI_HEADER_MULTIFUNCTION;
        self.set(PCI_HEADER_TYPE, &[kind]);
    }

    fn tell_master(&self) {
        self.master.0.store(self.command().contains(PciCommand::MASTER), Ordering::Release);
    }
}

fn bar_offset(index: u8) -> Option<u8> {
    (usize::from(index) < PCI_BARS).then_some(PCI_BASE_ADDRESS_0 + 4 * index)
}

fn put(all: &mut [u8], offset: u8, bytes: &[u8]) {
    for (byte, value) in all.iter_mut().skip(offset.into()).zip(bytes) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests;
