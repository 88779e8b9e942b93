//! PCI from a guest's side: who is there, and where its registers and its interrupt are.
//!
//! Firmware, or the host in its place, has given out addresses and interrupts; nothing is assigned here.
//!
//! - [`PortIo`]: the port instructions, which the kernel proper supplies; [`Registers32`]: registers of a device wherever they lie
//! - [`config`]: reading and writing configuration space by mechanism 1
//! - [`bar`]: base addresses; [`scan`]: all functions of all buses
//!
//! What configuration space says is not trusted: a bus is visited once however bridges loop, and an address that can't be is none.

pub mod bar;
pub mod config;
#[cfg(test)]
pub(crate) mod fake;
mod io;
mod scan;
#[cfg(test)]
mod tests;

pub use bar::{Bar, bar_bytes};
pub use io::{PortIo, PortRegisters, Registers32};
pub use scan::{PciDevice, scan};
