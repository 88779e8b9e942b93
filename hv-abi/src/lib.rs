//! The contract between a Hyper-V guest and its hypervisor: constants and wire structs, nothing else.
//!
//! Every item, or its module's header, cites where it comes from. *TLFS* is Microsoft's Hypervisor Top-Level
//! Functional Specification. A section number is that of version 6.0b and given only where a second source
//! confirms it; otherwise the *title* of the topic in the published specification is given, which is the same
//! in its HTML edition. Where the specification is silent, the public source that shows the fact is named.
//!
//! - [`cpuid`]: the discovery leaves from `0x4000_0000` on
//! - [`msr`]: the synthetic model-specific registers
//! - [`hypercall`]: call codes, the input and result values, status codes
//! - [`synic`], [`stimer`]: the synthetic interrupt controller and its timers
//! - [`clock`]: the reference TSC page, re-enlightenment
//! - [`apic`]: the VP assist page's EOI field
//! - [`extended`]: extended hypercalls
//! - [`tlb`], [`ipi`], [`vp_set`]: flushing the TLB, interrupts, and the sets of processors they go to
//! - [`vmbus`], [`guid`]: the bus for synthetic devices, and how it names them
//! - [`storvsp`], [`scsi`]: disks on that bus, and the commands they take
//! - [`ic`]: heartbeat, shutdown, time synchronisation and key-value exchange on that bus
//! - [`nvsp`], [`rndis`]: network cards on that bus
//! - [`pci`]: the bus of emulated devices
//! - [`tulip`]: the emulated network card, DEC's 21140A
//! - [`ata`]: IDE disks and CD-ROMs, on an emulated controller beside that bus
//! - [`host`]: what Enlighten's own host adds beside the Hyper-V interface
//!
//! Values that the other side supplies are newtypes with associated constants, never Rust enums:
//! an unknown value is data, not undefined behaviour.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod apic;
pub mod ata;
pub mod clock;
pub mod cpuid;
pub mod extended;
pub mod guid;
pub mod host;
pub mod hypercall;
pub mod ic;
pub mod ipi;
pub mod msr;
pub mod nvsp;
pub mod pci;
pub mod rndis;
pub mod scsi;
pub mod stimer;
pub mod storvsp;
pub mod synic;
pub mod tlb;
pub mod tulip;
pub mod vmbus;
pub mod vp_set;

/// Bytes in a page of the hypervisor's interface (always 4 KiB, whatever the guest uses: Linux,
/// `HV_HYP_PAGE_SIZE`).
pub const HV_PAGE_SIZE: usize = 4096;
/// log₂ of [`HV_PAGE_SIZE`].
pub const HV_PAGE_SHIFT: u32 = 12;
