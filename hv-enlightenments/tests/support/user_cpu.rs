//! A processor for measuring in user mode: what any program may do is real, the rest is the fake's.

use core::ptr::NonNull;

use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::cpu::{Cpu, CpuidResult, FastRegisters, X86Cpu};

/// RDTSC and calls of the hypercall page are the real processor's instructions; CPUID and the model-specific
/// registers are the fake's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserCpu {
    real: X86Cpu,
    fake: &'static FakeCpu,
}

impl UserCpu {
    /// A processor whose registers are those of `fake`.
    pub(crate) const fn new(fake: &'static FakeCpu) -> Self {
        // SAFETY: only what user mode may do is asked of it.
        Self { real: unsafe { X86Cpu::new() }, fake }
    }
}

impl Cpu for UserCpu {
    fn cpuid(&self, leaf: u32) -> CpuidResult {
        self.fake.cpuid(leaf)
    }

    #[inline]
    fn rdtsc(&self) -> u64 {
        self.real.rdtsc()
    }

    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        // SAFETY: a fake register.
        unsafe { self.fake.rdmsr(msr) }
    }

    unsafe fn wrmsr(&self, msr: u32, value: u64) {
        // SAFETY: a fake register.
        unsafe { self.fake.wrmsr(msr, value) }
    }

    #[inline]
    unsafe fn hypercall(&self, page: NonNull<u8>, rcx: u64, rdx: u64, r8: u64) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.real.hypercall(page, rcx, rdx, r8) }
    }

    #[inline]
    unsafe fn hypercall_xmm(&self, page: NonNull<u8>, rcx: u64, input: &FastRegisters) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.real.hypercall_xmm(page, rcx, input) }
    }

    #[inline]
    unsafe fn hypercall_xmm_output(
        &self,
        page: NonNull<u8>,
        rcx: u64,
        registers: &mut FastRegisters,
    ) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { self.real.hypercall_xmm_output(page, rcx, registers) }
    }
}
