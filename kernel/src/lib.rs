//! The kernel's logic that needs no processor of its own: everything here builds and tests on the host.
//!
//! The freestanding program (`main.rs` and its modules) supplies the machine: physical memory through
//! [`phys::PhysMemory`], page-table frames through [`paging::TableMemory`]. What comes from outside the
//! kernel (boot information, ACPI tables, the command line) is parsed here and never trusted.

#![no_std]
#![cfg_attr(not(test), forbid(unsafe_code))]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod backtrace;
pub mod boot;
pub mod cmdline;
pub mod event;
pub mod files;
pub mod fixed;
pub mod frames;
pub mod histogram;
pub mod http;
pub mod ide;
pub mod matrix;
pub mod memory_map;
pub mod paging;
pub mod pci;
pub mod phys;
pub mod rounds;
pub mod signal;
pub mod symbols;
pub mod tally;
#[cfg(test)]
mod testing;
pub mod timer_wheel;
pub mod tulip;

/// Most virtual processors that the kernel runs.
pub const MAX_VPS: usize = 64;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: u64 = 4096;
