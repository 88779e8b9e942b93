//! Conventional PCI: one bus, the host bridge's end of it, and what a device on it implements.
//!
//! - [`bus`]: [`PciBus`] finds the function that has a port or an address, wherever the guest has moved it
//! - [`config`]: [`ConfigSpace`], a function's 256 bytes with what a guest may change in them
//! - [`ports`], [`bus`]: configuration mechanism 1 and memory-mapped configuration space (ECAM)
//! - [`lines`]: [`IrqLine`], an interrupt line that several functions may share
//! - [`bridges`]: host bridge and ISA bridge; [`plan`]: what else a machine shall have
//! - [`testing`]: a bus without a machine
//!
//! *PCI 3.0* is the PCI Local Bus Specification, revision 3.0. What the guest writes is never trusted: a base address may be
//! anything, and an access may have any length and begin anywhere.

pub mod bar;
pub mod bridges;
pub mod bus;
pub mod config;
pub mod context;
pub mod lines;
pub mod plan;
pub mod ports;
mod routes;
pub mod testing;

pub use self::bus::{AddError, PciBus};
pub use self::config::{BusMaster, ConfigSpace};
pub use self::context::DeviceContext;
pub use self::lines::{IrqLine, IrqLines};
pub use self::plan::PciPlan;

/// Which of a function's regions an access is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The region of this base address register, 0 to 5.
    Bar(u8),
    /// The range of [`PciFunction::legacy_ports`] with this index.
    Legacy(u8),
}

/// I/O ports that a function has whatever its base address registers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// How many; none for a range that is switched off.
    pub count: u16,
}

/// One function. The bus locks it for each access, so what takes long belongs on a thread of its own.
///
/// Data of an access has 1 to 8 bytes, also odd numbers of them, and lies wholly within its region; the offset need not be a
/// multiple of its length.
pub trait PciFunction: Send {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;

    /// Its configuration space.
    fn config_mut(&mut self) -> &mut ConfigSpace;

    /// The guest has written `bytes` bytes of configuration space from `offset` on, and [`ConfigSpace`] has taken what may be
    /// written of them.
    fn config_written(&mut self, _offset: u8, _bytes: usize) {}

    /// Fills `data`, which is all ones, with what the guest reads.
    fn read(&mut self, _place: Place, _offset: u32, _data: &mut [u8]) {}

    /// Takes what the guest writes.
    fn write(&mut self, _place: Place, _offset: u32, _data: &[u8]) {}

    /// As [`PciFunction::read`], for the elements of a string instruction, each of `width` bytes and all of the same place. Data
    /// registers can give all of them by one call.
    fn read_repeated(&mut self, place: Place, offset: u32, width: usize, data: &mut [u8]) {
        data.chunks_mut(width.max(1)).for_each(|element| self.read(place, offset, element));
    }

    /// As [`PciFunction::write`], for the elements of a string instruction.
    fn write_repeated(&mut self, place: Place, offset: u32, width: usize, data: &[u8]) {
        data.chunks(width.max(1)).for_each(|element| self.write(place, offset, element));
    }

    /// Fixed ports, which are its own while I/O is on in its command register. Asked again after each write to its
    /// configuration space.
    fn legacy_ports(&self) -> &'static [PortRange] {
        &[]
    }
}
