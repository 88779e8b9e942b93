//! Disks: what keeps their bytes, who moves these, and the SCSI commands that a guest asks for them by.
//!
//! - [`disk`]: what a disk is; [`buffer`]: the memory of a request; [`request`]: what can be asked
//! - [`mod@file`], [`overlay`], [`memory`], [`faulty`]: disks
//! - [`engine`]: requests that nobody waits for
//!
//! Nothing here knows VMBus.

pub mod buffer;
pub mod disk;
pub mod engine;
pub mod faulty;
pub mod file;
pub mod memory;
pub mod overlay;
pub mod request;
mod syscalls;
#[cfg(test)]
mod test_folder;
