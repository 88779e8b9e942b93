//! Hyper-V enlightenments for any Rust kernel or unikernel.
//!
//! What a guest gains by knowing that it runs on a hypervisor with the Hyper-V interface (Hyper-V itself, KVM
//! with its `hv-*` options, Xen's Viridian, …): hypercalls, a clock that costs no exit, and spin locks that tell
//! the hypervisor when they wait for long.
//!
//! The crate is `no_std`, allocates nothing and knows no kernel. A kernel supplies pages and a place for each
//! virtual processor's counters; the processor itself is behind the trait [`Cpu`], so everything is tested on
//! a host against a fake.
//!
//! | module | what for |
//! | --- | --- |
//! | [`detect`] | is the interface there, and what does it offer |
//! | [`identity`], [`hypercall`] | who we are; calls in registers and in memory |
//! | [`clock`], [`vp`] | reference time; the processor's number |
//! | [`spin_wait`], [`lock`] | counting and reporting waits; the locks that do so |
//! | [`cpu`], [`memory`] | the processor and the shared pages underneath |

#![no_std]
#![deny(missing_docs)]

#[cfg(any(test, feature = "fake"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod clock;
pub mod cpu;
pub mod detect;
pub mod hypercall;
pub mod identity;
pub mod lock;
pub mod memory;
pub mod spin_wait;
mod sync;
#[cfg(all(test, not(loom)))]
#[expect(unsafe_code, reason = "enables a hypercall page")]
mod test_platform;
pub mod vp;

pub use clock::{Clock, ReferenceTscPage};
pub use cpu::Cpu;
#[cfg(target_arch = "x86_64")]
pub use cpu::X86Cpu;
pub use detect::{Absence, HyperV};
pub use hypercall::{CallError, HypercallPage};
pub use identity::GuestOsId;
pub use memory::{Gpa, HvPage, MappedPage};
