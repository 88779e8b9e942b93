//! A KVM host with a Hyper-V interface of its own: the library behind the `hypervisor-host` binary.
//!
//! [`machine::run`] takes a [`config::MachineConfig`] to a [`report::Report`]. On the way:
//!
//! - [`loader`] and [`acpi`] fill guest RAM; [`layout`] is the address map
//! - [`check`] opens KVM and tells what it lacks
//! - [`partition`] builds the machine and runs its VPs
//! - [`hyperv`] is the interface that the guest sees
//! - [`emulated`] has the devices, [`vsp`] the synthetic ones
//! - [`net`] is what network cards are plugged into
//! - [`control`] takes requests while it runs
//! - [`supervisor`] waits for the end, which [`outcome`] describes
//! - [`stats`] counts, [`report`] tells
//!
//! The guest is not trusted: whatever it writes, it can end its own machine and nothing else.

#![deny(missing_docs)]

pub mod acpi;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod emulated;
pub mod error;
pub mod host_memory;
pub mod hyperv;
pub mod layout;
pub mod loader;
pub mod machine;
pub mod net;
pub mod outcome;
pub mod partition;
pub mod process;
pub mod report;
pub mod signals;
pub mod stats;
pub mod storage;
pub mod supervisor;
pub mod terminal;
pub mod vmbus;
pub mod vsp;
