//! Disks and CD-ROMs on an IDE controller of the PIIX family, by PIO and by bus-master DMA.
//!
//! *Theory.* A channel has one set of registers for two drives, of which one is selected, and does one command at a time. A command moves its
//! data block by block through the data register (PIO), or the controller does it, by a table of memory regions (DMA). A drive tells by its
//! status register and by an interrupt that it wants something; either can be waited for. Whatever a drive does or does not do, each wait has
//! a limit, and a command that went wrong half-way ends in a reset of its channel.
//!
//! *Practice.*
//! - [`Controller`]: finds the drives; [`AtaDisk`], [`CdRom`]: what they are for
//! - [`channel`]: turns, commands' beginning and end; `wait`(mod@wait): status and interrupts; `data`: what is between
//! - `detect`: reset, who is there; [`identify`]: what a drive says of itself; [`prd`]: the table of regions
//! - [`error`]: what can go wrong
//! - [`scratch`]: a disk that tests may overwrite
//!
//! The standards are those of [`hv_abi::ata`].

pub mod channel;
mod command;
mod controller;
mod data;
mod detect;
mod disk;
pub mod error;
pub mod identify;
mod packet;
pub mod prd;
mod registers;
pub mod scratch;
#[cfg(test)]
mod tests;
mod turn;
mod wait;

pub use channel::{Channel, Counts};
pub use command::{Command, Reach};
pub use controller::{ChannelPorts, Controller, is_ide};
pub use disk::{AtaDisk, Mode};
pub use error::{DriveError, IdeError, Waited};
pub use identify::{DiskFacts, PacketFacts};
pub use packet::{CdRom, Sense};
