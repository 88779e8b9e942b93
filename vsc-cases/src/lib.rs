//! Conformance cases for VMBus and its synthetic devices, seen from the guest.
//!
//! A case is an `async fn` that takes an [`Environment`], connects, tries one rule, and says what came of it. The same cases run
//! in the kernel on any hypervisor, and in one process against the host's own code, at every version of the protocol; so a
//! case uses nothing but `vsc-drivers` and what it finds on the bus. What is not there is a [`Problem::Skip`] with its reason.
//!
//! [`for_each_case!`] lists all of them for whoever registers or runs them.
//!
//! - [`vmbus`], [`channels`] and [`gpadls`] have the bus itself; [`contacts`], [`hostile_channels`] and [`hostile_gpadls`] have it
//!   with a guest that says what it should not, by [`raw`] messages
//! - [`scsi`] has commands past the driver, [`srb`] the requests around them, [`storvsp`] the protocol's beginning
//! - [`mod@storage`] has disks, [`network`] cards, [`integration`] the rest; [`nvsp`] and [`rndis`] say a card's every byte by [`card_client`],
//!   [`components`] the other components' by [`ic_client`]; [`rings`] has what is the same for all channels
//! - [`support`] has what they share
//! - [`soak`] uses disks and networks for as long as one likes, and is no case

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

pub mod card_client;
pub mod channels;
pub mod components;
pub mod contacts;
pub mod gpadls;
pub mod hostile_channels;
pub mod hostile_gpadls;
pub mod ic_client;
pub mod integration;
mod list;
mod macros;
pub mod network;
pub mod nvsp;
pub mod raw;
pub mod rings;
pub mod rndis;
pub mod scsi;
pub mod scsi_client;
pub mod soak;
pub mod srb;
pub mod storage;
pub mod storvsp;
pub mod support;
pub mod vmbus;

use alloc::string::String;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::storvsc::IoBuffer;
use vsc_drivers::{BusOptions, Hal, Vmbus};

/// Why a case did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It can't be tried here, because of this.
    Skip(String),
    /// It failed, because of this.
    Fail(String),
}

/// What a case returns.
pub type CaseResult = Result<(), Problem>;

/// Where cases run.
pub trait Environment {
    /// The kernel.
    type Hal: Hal;

    /// The kernel.
    fn hal(&self) -> Self::Hal;

    /// A new bus that gets the interrupts from now on. Only one is in use at a time.
    fn new_bus(&self, options: BusOptions) -> Vmbus<Self::Hal>;

    /// The only version to ask for, if the cases are to run at one.
    fn version(&self) -> Option<VmbusVersion>;

    /// Memory of so many bytes that can be lent to the host, on a page boundary.
    fn lend(&self, bytes: usize) -> Option<IoBuffer>;

    /// Processors of the machine.
    fn vps(&self) -> u32;
}
