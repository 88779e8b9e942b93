//! The processor as this crate sees it: five instructions behind a trait.
//!
//! A kernel uses [`X86Cpu`]; tests use `fake::FakeCpu` (feature `fake`), which misbehaves the way hypervisors may.

#![expect(unsafe_code, reason = "declares and forwards instructions that can do anything")]

#[cfg(any(test, feature = "fake"))]
#[cfg(not(loom))]
pub mod fake;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64::X86Cpu;

use core::ptr::NonNull;

/// The first vector that a synthetic source or timer may be given here. The hypervisor takes those from 16 on, but up to
/// 31 they are exceptions', and the handlers of some expect an error code that no interrupt brings: they would take the
/// stack for something else.
pub(crate) const FIRST_INTERRUPT_VECTOR: u8 = 32;

/// What CPUID returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// Parameters of a fast call in registers (TLFS, *XMM fast hypercall input* and *output*): RDX, R8, XMM0 to XMM5.
///
/// In memory order they are one block of 112 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, align(16))]
pub struct FastRegisters {
    /// RDX, then R8.
    pub general: [u64; 2],
    /// XMM0 to XMM5.
    pub xmm: [[u64; 2]; 6],
}

/// A processor in ring 0 of a guest. Implementations are cheap to copy: a token or a reference.
///
/// The functions act on the processor that runs them. All but [`Cpu::cpuid`] and [`Cpu::rdtsc`] are unsafe
/// because a register or a call may change anything; each caller in this crate says why its use is sound.
pub trait Cpu {
    /// CPUID with `leaf` in EAX and 0 in ECX.
    fn cpuid(&self, leaf: u32) -> CpuidResult;

    /// The time stamp counter, read after all earlier loads and before all later ones.
    fn rdtsc(&self) -> u64;

    /// Reads a model-specific register.
    ///
    /// # Safety
    ///
    /// The register exists (else the processor faults) and reading it has no effect the kernel is unaware of.
    unsafe fn rdmsr(&self, msr: u32) -> u64;

    /// Writes a model-specific register.
    ///
    /// # Safety
    ///
    /// The register exists, takes `value` (else the processor faults), and what it then does is sound.
    unsafe fn wrmsr(&self, msr: u32, value: u64);

    /// Calls the hypercall page at `page` with RCX, RDX and R8; returns RAX.
    ///
    /// # Safety
    ///
    /// `page` is an enabled hypercall page, mapped executable, and the call with these values is sound:
    /// addresses in `rdx` and `r8`, if the call takes any, name memory that the hypervisor may use.
    unsafe fn hypercall(&self, page: NonNull<u8>, rcx: u64, rdx: u64, r8: u64) -> u64;

    /// Like [`Cpu::hypercall`], with XMM0 to XMM5 as well.
    ///
    /// # Safety
    ///
    /// As for [`Cpu::hypercall`]; and SSE is enabled.
    unsafe fn hypercall_xmm(&self, page: NonNull<u8>, rcx: u64, input: &FastRegisters) -> u64;

    /// Like [`Cpu::hypercall_xmm`], and leaves what the registers hold afterwards in `registers`.
    ///
    /// # Safety
    ///
    /// As for [`Cpu::hypercall_xmm`].
    unsafe fn hypercall_xmm_output(
        &self,
        page: NonNull<u8>,
        rcx: u64,
        registers: &mut FastRegisters,
    ) -> u64;
}

impl<C: Cpu + ?Sized> Cpu for &C {
    fn cpuid(&self, leaf: u32) -> CpuidResult {
        (**self).cpuid(leaf)
    }

    fn rdtsc(&self) -> u64 {
        (**self).rdtsc()
    }

    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).rdmsr(msr) }
    }

    unsafe fn wrmsr(&self, msr: u32, value: u64) {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).wrmsr(msr, value) }
    }

    unsafe fn hypercall(&self, page: NonNull<u8>, rcx: u64, rdx: u64, r8: u64) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).hypercall(page, rcx, rdx, r8) }
    }

    unsafe fn hypercall_xmm(&self, page: NonNull<u8>, rcx: u64, input: &FastRegisters) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).hypercall_xmm(page, rcx, input) }
    }

    unsafe fn hypercall_xmm_output(
        &self,
        page: NonNull<u8>,
        rcx: u64,
        registers: &mut FastRegisters,
    ) -> u64 {
        // SAFETY: the caller keeps the same contract.
        unsafe { (**self).hypercall_xmm_output(page, rcx, registers) }
    }
}
