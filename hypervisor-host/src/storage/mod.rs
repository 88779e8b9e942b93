//! Disks: what keeps their bytes, who moves these, and the SCSI disks that guests see.
//!
//! - [`disk`]: what a disk is; [`buffer`]: the memory of a request; [`request`]: what can be asked
//! - [`mod@file`], [`overlay`], [`memory`], [`faulty`]: disks
//! - [`engine`]: requests that nobody waits for
//! - [`scsi`]: the commands of a disk; [`mod@unit`], [`controller`]: disks as a guest finds them
//! - [`options`], [`mod@open`]: what a user says of disks, and opening them
//!
//! Nothing here knows VMBus.

pub mod buffer;
pub mod controller;
pub mod disk;
pub mod engine;
pub mod faulty;
pub mod file;
pub mod memory;
pub mod open;
pub mod options;
pub mod overlay;
pub mod request;
pub mod scsi;
pub(crate) mod syscalls;
#[cfg(test)]
pub(crate) mod test_folder;
pub mod unit;
