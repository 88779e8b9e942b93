//! The Hyper-V interface that a guest sees.
//!
//! [`HypervInterface`] is what the VP run loop needs to know of it. [`kvm::KvmEngine`] is the engine
//! that lets KVM's in-kernel emulation do the hot parts and keeps only what the host wants to see: the
//! identity and hypercall MSRs ([`msr`]), the hypercall page ([`hypercall_page`]), long spin waits
//! ([`long_spin`], [`park`]), the idle state ([`idle`]), messages and events ([`synic`]), the crash registers
//! ([`crash`]) and extended calls ([`extended`]). [`features`] says what a guest is offered.

mod calls;
pub mod cpuid;
pub mod crash;
pub mod extended;
pub mod features;
pub mod hypercall_page;
pub mod idle;
pub mod kvm;
pub mod long_spin;
pub mod msr;
pub mod park;
mod registers;
pub mod synic;

use std::sync::Arc;

use kvm_bindings::{kvm_cpuid_entry2, kvm_regs};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::errno;

use self::synic::Synic;
use crate::stats::VpStats;

/// The guest gets a general protection fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneralProtection;

/// A VP at one of its exits, as an engine sees it.
pub struct VpAccess<'a> {
    /// Its number.
    pub index: u32,
    /// The VP.
    pub vcpu: &'a VcpuFd,
    /// Its general registers at the exit.
    pub registers: kvm_regs,
    /// Its counters.
    pub stats: &'a VpStats,
    /// What the engine remembers about it.
    pub memo: &'a mut VpMemo,
}

/// What an engine remembers about a VP between exits.
#[derive(Debug, Default)]
pub struct VpMemo {
    /// The VP was seen in 64-bit mode.
    pub long_mode: bool,
}

/// An implementation of the Hyper-V interface.
pub trait HypervInterface: Send + Sync {
    /// The hypervisor's CPUID leaves, all within `0x40000000..=0x4FFFFFFF`.
    fn cpuid(&self) -> &[kvm_cpuid_entry2];

    /// Prepares a machine before its first VP exists.
    ///
    /// # Errors
    /// KVM refuses a capability.
    fn prepare_machine(&self, vm: &VmFd) -> Result<(), KvmFailure>;

    /// Prepares a VP after its CPUID is set.
    ///
    /// # Errors
    /// KVM refuses a capability.
    fn prepare_vp(&self, vcpu: &VcpuFd) -> Result<(), KvmFailure>;

    /// A read of an MSR that KVM left to us.
    ///
    /// # Errors
    /// The guest may not read it.
    fn read_msr(&self, msr: u32) -> Result<u64, GeneralProtection>;

    /// A write to an MSR that KVM left to us, by VP `vp`.
    ///
    /// # Errors
    /// The guest may not write that.
    fn write_msr(
        &self,
        vp: u32,
        vcpu: &VcpuFd,
        msr: u32,
        value: u64,
    ) -> Result<(), GeneralProtection>;

    /// A read from the hypercall page's port; gives what the page finds in EAX.
    fn hypercall_page(&self, vp: VpAccess<'_>) -> u32;

    /// A hypercall that KVM does not answer, with its two parameters; gives the result value.
    fn hypercall(&self, input: u64, parameters: [u64; 2], stats: &VpStats) -> u64;

    /// The SynICs of the machine's VPs, for devices that interrupt by them.
    fn synic(&self) -> &Arc<Synic>;

    /// VP `vp` begins to idle with interrupts masked.
    fn idle_begins(&self, vp: u32);

    /// It does so no more.
    fn idle_ends(&self, vp: u32);

    /// Whether somebody has sent it an interrupt since then.
    fn idle_interrupted(&self, vp: u32) -> bool;
}

/// KVM refused something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {error}")]
pub struct KvmFailure {
    /// The ioctl, and the capability if there is one.
    pub what: &'static str,
    /// Its error.
    pub error: errno::Error,
}

impl KvmFailure {
    /// For `map_err`.
    pub fn of(what: &'static str) -> impl FnOnce(errno::Error) -> Self {
        move |error| Self { what, error }
    }
}
