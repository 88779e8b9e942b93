//! What a device is made with.

use vm_memory::GuestMemoryMmap;

use super::lines::{IrqLine, IrqLines};
use crate::layout;

/// The machine as a device in one slot sees it.
#[derive(Clone)]
pub struct DeviceContext {
    /// Guest RAM, for transfers that the device makes by itself. It asks [`super::BusMaster`] first.
    pub memory: GuestMemoryMmap,
    /// All interrupt lines; a device with fixed ones takes them from here.
    pub interrupts: IrqLines,
    /// Where it is.
    pub slot: u8,
}

impl DeviceContext {
    /// The line of an interrupt pin, 1 to 4 for INTA# to INTD#.
    pub fn intx(&self, pin: u8) -> IrqLine {
        self.interrupts.line(layout::pci_gsi(self.slot, pin).into())
    }
}
