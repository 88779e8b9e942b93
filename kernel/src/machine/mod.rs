//! The machine: everything that needs ring 0, from the first instruction to processors that wait for work.

pub(crate) mod apic;
pub(crate) mod apic_timer;
pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod console;
pub(crate) mod cpu;
mod entry;
pub(crate) mod exit;
pub(crate) mod fault;
pub(crate) mod heap;
pub(crate) mod hyperv;
pub(crate) mod interrupts;
pub(crate) mod jobs;
mod logger;
pub(crate) mod memory;
mod panic;
mod runtime;
mod segments;
pub(crate) mod smp;
pub(crate) mod stacks;
pub(crate) mod symbols;
pub(crate) mod synic;
pub(crate) mod timer;
mod trampoline;
pub(crate) mod vp;
pub(crate) mod watchdog;
