//! The real processor: one assembly sequence for each function of [`Cpu`].

#![expect(unsafe_code, reason = "inline assembly")]

use core::arch::asm;
use core::ptr::NonNull;

use super::{Cpu, CpuidResult, FastRegisters};

/// The processor this code runs on. A token without size that proves to be in ring 0.
#[derive(Debug, Clone, Copy)]
pub struct X86Cpu(());

impl X86Cpu {
    /// The token.
    ///
    /// # Safety
    ///
    /// Code that uses the token runs in ring 0 of a 64-bit guest.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Cpu for X86Cpu {
    fn cpuid(&self, leaf: u32) -> CpuidResult {
        let result = core::arch::x86_64::__cpuid_count(leaf, 0);
        CpuidResult { eax: result.eax, ebx: result.ebx, ecx: result.ecx, edx: result.edx }
    }

    #[inline]
    fn rdtsc(&self) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: reads a counter; no memory, stack or flags are touched. It is not `nomem`, so that the
        // compiler keeps loads on their side, as LFENCE makes the processor do.
        unsafe {
            asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high,
                options(nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline]
    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: ring 0 by the token, and the caller vouches for the register.
        unsafe {
            asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high,
                options(nostack, preserves_flags));
        }
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline]
    unsafe fn wrmsr(&self, msr: u32, value: u64) {
        // SAFETY: ring 0 by the token, and the caller vouches for the register and the value.
        unsafe {
            asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack, preserves_flags));
        }
    }

    #[inline]
    unsafe fn hypercall(&self, page: NonNull<u8>, rcx: u64, rdx: u64, r8: u64) -> u64 {
        let rax: u64;
        // SAFETY: the caller vouches for page and values. The page may change what the Microsoft x64
        // convention calls volatile, and no more; without `nostack` the stack is fit for a call.
        unsafe {
            asm!("call {page}", page = in(reg) page.as_ptr(),
                inlateout("rcx") rcx => _, inlateout("rdx") rdx => _, inlateout("r8") r8 => _,
                lateout("rax") rax, clobber_abi("win64"));
        }
        rax
    }

    #[inline]
    unsafe fn hypercall_xmm(&self, page: NonNull<u8>, rcx: u64, input: &FastRegisters) -> u64 {
        let rax: u64;
        // SAFETY: as in `hypercall`; `input` is a 16-byte aligned block of 112 bytes to load from.
        unsafe {
            asm!(
                "movaps xmm0, [rax + 16]",
                "movaps xmm1, [rax + 32]",
                "movaps xmm2, [rax + 48]",
                "movaps xmm3, [rax + 64]",
                "movaps xmm4, [rax + 80]",
                "movaps xmm5, [rax + 96]",
                "call {page}",
                page = in(reg) page.as_ptr(),
                inlateout("rcx") rcx => _,
                inlateout("rdx") input.general[0] => _,
                inlateout("r8") input.general[1] => _,
                inlateout("rax") input => rax,
                clobber_abi("win64"));
        }
        rax
    }

    unsafe fn hypercall_xmm_output(
        &self,
        page: NonNull<u8>,
        rcx: u64,
        registers: &mut FastRegisters,
    ) -> u64 {
        let rax: u64;
        let (mut rdx, mut r8) = (registers.general[0], registers.general[1]);
        // SAFETY: as in `hypercall_xmm`; the block is also fit to store to, and RSI, which the convention
        // preserves, has its address.
        unsafe {
            asm!(
                "movaps xmm0, [rsi]",
                "movaps xmm1, [rsi + 16]",
                "movaps xmm2, [rsi + 32]",
                "movaps xmm3, [rsi + 48]",
                "movaps xmm4, [rsi + 64]",
                "movaps xmm5, [rsi + 80]",
                "call {page}",
                "movaps [rsi], xmm0",
                "movaps [rsi + 16], xmm1",
                "movaps [rsi + 32], xmm2",
                "movaps [rsi + 48], xmm3",
                "movaps [rsi + 64], xmm4",
                "movaps [rsi + 80], xmm5",
                page = in(reg) page.as_ptr(),
                in("rsi") registers.xmm.as_mut_ptr(),
                inlateout("rcx") rcx => _,
                inlateout("rdx") rdx,
                inlateout("r8") r8,
                lateout("rax") rax,
                clobber_abi("win64"));
        }
        registers.general = [rdx, r8];
        rax
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
