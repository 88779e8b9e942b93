//! A channel's registers.

use hv_abi::ata::{bus_master, device, reg};

use super::command::{Command, Reach};
use crate::pci::PortIo;

/// Where a channel's registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelPorts {
    /// First port of the command block.
    pub command: u16,
    /// The control block's port.
    pub control: u16,
    /// First port of the bus master's set, if there is one.
    pub bus_master: Option<u16>,
}

/// The registers of one channel.
pub(super) struct Registers<P> {
    io: P,
    at: ChannelPorts,
}

impl<P: PortIo> Registers<P> {
    pub(super) fn new(io: P, at: ChannelPorts) -> Self {
        Self { io, at }
    }

    fn port(&self, register: u16) -> u16 {
        self.at.command.wrapping_add(register)
    }

    pub(super) fn read(&self, register: u16) -> u8 {
        self.io.read8(self.port(register))
    }

    pub(super) fn write(&self, register: u16, value: u8) {
        self.io.write8(self.port(register), value);
    }

    /// The status register. Ends a pending interrupt.
    pub(super) fn status(&self) -> u8 {
        self.read(reg::STATUS)
    }

    /// The status without that effect.
    pub(super) fn alternate_status(&self) -> u8 {
        self.io.read8(self.at.control)
    }

    /// Device control.
    pub(super) fn control(&self, value: u8) {
        self.io.write8(self.at.control, value);
    }

    pub(super) fn select(&self, drive: u8) {
        let drive = if drive == 0 { 0 } else { device::DEV };
        self.write(reg::DEVICE, device::OBSOLETE | drive);
    }

    pub(super) fn read_data(&self, bytes: &mut [u8]) {
        self.io.read_words(self.port(reg::DATA), bytes);
    }

    pub(super) fn write_data(&self, bytes: &[u8]) {
        self.io.write_words(self.port(reg::DATA), bytes);
    }

    /// Writes a command; the drive is selected before, and begins with the last write (ATA-6, *Register-delivered command*).
    pub(super) fn command(&self, command: &Command) {
        let [l0, l8, l16, l24, l32, l40, ..] = command.lba.to_le_bytes();
        let [count, count_high] = command.count.to_le_bytes();
        // Registers that the command does not look at are left alone: each write may be an exit.
        if command.reach == Reach::Lba48 {
            self.write(reg::SECTOR_COUNT, count_high);
            self.write(reg::LBA_LOW, l24);
            self.write(reg::LBA_MID, l32);
            self.write(reg::LBA_HIGH, l40);
        }
        if command.reach == Reach::None {
            self.write(reg::FEATURES, command.features);
        }
        self.write(reg::SECTOR_COUNT, count);
        self.write(reg::LBA_LOW, l0);
        self.write(reg::LBA_MID, l8);
        self.write(reg::LBA_HIGH, l16);
        self.write(reg::COMMAND, command.code.0);
    }

    /// Lets the time pass that a drive has to become busy: 400 ns (ATA-6, *Register-delivered command*). A read of a port takes most of that
    /// on a real bus.
    pub(super) fn settle(&self) {
        self.alternate_status();
        (0..64).for_each(|_| core::hint::spin_loop());
    }

    pub(super) fn has_bus_master(&self) -> bool {
        self.at.bus_master.is_some()
    }

    fn bus_master(&self, register: u16) -> Option<u16> {
        Some(self.at.bus_master?.wrapping_add(register))
    }

    /// The bus master's status; 0 without one.
    pub(super) fn bus_master_status(&self) -> u8 {
        self.bus_master(bus_master::reg::STATUS).map_or(0, |port| self.io.read8(port))
    }

    pub(super) fn set_bus_master_status(&self, value: u8) {
        if let Some(port) = self.bus_master(bus_master::reg::STATUS) {
            self.io.write8(port, value);
        }
    }

    pub(super) fn set_bus_master_command(&self, value: u8) {
        if let Some(port) = self.bus_master(bus_master::reg::COMMAND) {
            self.io.write8(port, value);
        }
    }

    pub(super) fn set_table(&self, address: u32) {
        if let Some(port) = self.bus_master(bus_master::reg::TABLE) {
            self.io.write32(port, address);
        }
    }
}
