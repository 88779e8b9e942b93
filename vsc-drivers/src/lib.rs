//! A VMBus client, and drivers for Hyper-V's synthetic devices, for any Rust kernel.

#![no_std]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod bus;
pub mod channel;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod hal;
pub mod ic;
pub mod netvsc;
pub mod registry;
pub mod storvsc;
pub mod task;
#[cfg(test)]
mod testing;

pub use bus::{
    BusCounts, BusError, BusOptions, Change, ChannelError, ChannelId, Offer, Request, Vmbus,
};
pub use channel::{Channel, OpenParams, SharedBuffer};
pub use hal::{DmaBuffer, DmaPages, Gpa, Hal, OutOfRange};
pub use registry::{Driver, DriverTask, Registry};
pub use task::block_on;

/// A second in the units of [`Hal::now_100ns`].
pub const SECOND_100NS: u64 = 10_000_000;
