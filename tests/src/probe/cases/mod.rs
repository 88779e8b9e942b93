//! Conformance cases that stock Linux's own drivers try: `guest-probe cases`, the first program of a Linux guest.
//!
//! The rows are those of `vsc-cases`. The SCSI cases are the very same functions, run through `hv_storvsc` by `SG_IO`; of the
//! others those are here that Linux can be made to try by what it shows and takes under `/sys`, by its modules, block devices and raw
//! sockets. What comes of them is told by the same event lines as our kernel's.
//!
//! - [`registry`]: which cases there are; [`run`]: runs those that are wanted, and ends the machine
//! - [`bus`], [`channels`], [`disks`], [`cards`], [`components`]: the cases
//! - [`sg`]: SCSI commands through a disk's driver
//! - [`system`]: devices and channels of VMBus, the kernel's log; [`reload`]: its modules, taken away and put back

pub mod bus;
pub mod cards;
pub mod channels;
pub mod components;
pub mod disks;
pub mod registry;
pub mod reload;
pub mod run;
pub mod sg;
pub mod system;

use std::fmt::Display;

use vsc_cases::Problem;

pub use registry::{LinuxCase, all};

/// Turns an error into a failure that says at what.
fn failed<E: Display>(at: impl Display) -> impl FnOnce(E) -> Problem {
    move |error| Problem::Fail(format!("{at}: {error}"))
}
