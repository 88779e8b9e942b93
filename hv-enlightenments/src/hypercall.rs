//! Calling the hypervisor through the page it provides.
//!
//! **Theory.** The guest lends a page; the hypervisor fills it with the instructions that reach it, and the
//! guest calls the page as a function: input value in RCX, parameters in RDX and R8 (and XMM0 to XMM5) or in
//! memory, result value in RAX.
//!
//! **Practice.** [`HypercallPage`] is the proof that the page is enabled, and cheap to copy to every
//! processor; the page serves the whole partition. Fast calls need no memory and may be made anywhere,
//! interrupt handlers included. Calls in memory use a [`CallBuffer`], one for each processor or behind a lock.

#![expect(unsafe_code, reason = "hypercalls and model-specific registers")]

mod buffer;
mod error;
mod registers;
#[cfg(all(test, not(loom)))]
mod tests;

pub use buffer::CallBuffer;
pub use error::{CallError, EnableError};
pub use registers::XMM_INPUT_MAX_BYTES;

use core::ptr::NonNull;

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::hypercall::{HvError, HypercallInput, HypercallResult};
use hv_abi::msr::{
    HV_MSR_HYPERCALL_LOCKED, HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_HYPERCALL,
};

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::identity::GuestOsId;
use crate::memory::{Gpa, MappedPage};

/// The enabled hypercall page, through which any processor of the partition calls the hypervisor.
#[derive(Debug, Clone, Copy)]
pub struct HypercallPage<C> {
    cpu: C,
    entry: NonNull<u8>,
    xmm: bool,
}

// SAFETY: the page is code that nobody writes; any processor may run it at any time.
unsafe impl<C: Send> Send for HypercallPage<C> {}
// SAFETY: as above.
unsafe impl<C: Sync> Sync for HypercallPage<C> {}

impl<C: Cpu> HypercallPage<C> {
    /// Announces the guest's identity and enables the hypercall page at `page`. Once for the partition.
    ///
    /// # Errors
    ///
    /// [`EnableError`]; the page is then the caller's again, the identity stays announced.
    ///
    /// # Safety
    ///
    /// The page is mapped executable, stays so, and is given away for good: while the value or a copy of it
    /// exists, which includes every `LongSpinNotifier` that was given it.
    pub unsafe fn enable(
        cpu: C,
        hv: &HyperV,
        identity: GuestOsId,
        page: &MappedPage,
    ) -> Result<Self, EnableError> {
        if !hv.privileges().contains(Privileges::HYPERCALL) {
            return Err(EnableError::NoPrivilege);
        }
        identity.announce(&cpu, hv);
        enable_at(&cpu, page.gpa())?;
        Ok(Self {
            cpu,
            entry: page.address(),
            xmm: hv.features().contains(Features::HYPERCALL_XMM_INPUT),
        })
    }

    /// Where calls enter: the page's virtual address.
    pub fn entry(&self) -> NonNull<u8> {
        self.entry
    }

    /// A fast call: two parameters in RDX and R8, no output.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound.
    pub unsafe fn fast(&self, code: u16, first: u64, second: u64) -> Result<(), HvError> {
        let input = HypercallInput::new(code).fast();
        // SAFETY: the page is enabled (`enable`), a fast call names no memory, and the caller vouches for it.
        let rax = unsafe { self.cpu.hypercall(self.entry, input.0, first, second) };
        HypercallResult(rax).status()
    }

    /// A fast call with up to [`XMM_INPUT_MAX_BYTES`] of parameters in RDX, R8 and XMM0 to XMM5, no output.
    ///
    /// `input` is the call and its variable header; the fast bit is added. Up to 16 bytes need no XMM.
    ///
    /// # Errors
    ///
    /// [`CallError::NoXmm`] where the hypervisor lacks the feature: make the call in memory instead.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound, and SSE is enabled.
    pub unsafe fn xmm_fast(
        &self,
        input: HypercallInput,
        parameters: &[u8],
    ) -> Result<(), CallError> {
        if input.rep_count() != 0 {
            return Err(CallError::BadReps);
        }
        let registers = registers::load(parameters).ok_or(CallError::TooLong)?;
        let [first, second] = registers.general;
        let rcx = input.fast().0;
        let rax = if parameters.len() <= size_of_val(&registers.general) {
            // SAFETY: as in `fast`.
            unsafe { self.cpu.hypercall(self.entry, rcx, first, second) }
        } else if self.xmm {
            // SAFETY: as in `fast`; the caller has enabled SSE.
            unsafe { self.cpu.hypercall_xmm(self.entry, rcx, &registers) }
        } else {
            return Err(CallError::NoXmm);
        };
        Ok(HypercallResult(rax).status()?)
    }

    /// A simple call with its parameters in memory: `parameters` in, `output` filled.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound; its output is no longer than `output`.
    pub unsafe fn in_memory(
        &self,
        input: HypercallInput,
        buffer: &mut CallBuffer,
        parameters: &[u8],
        output: &mut [u8],
    ) -> Result<(), CallError> {
        if input.is_fast() || input.rep_count() != 0 {
            return Err(CallError::BadReps);
        }
        let blocks = buffer.fill(parameters, output.len())?;
        // SAFETY: the page is enabled, and both blocks lie in the buffer's page, which is ours.
        let result = unsafe { self.call_blocks(input, &blocks) };
        result.status()?;
        buffer.read(&blocks, output)
    }

    /// A rep call with its parameters in memory and no output: header, then `count` list elements.
    ///
    /// Goes on where the hypervisor stops, until all elements are done. On an error, the elements before the
    /// one that failed are done; their number is in the second half.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound; it has no output.
    pub unsafe fn rep_in_memory(
        &self,
        input: HypercallInput,
        buffer: &mut CallBuffer,
        parameters: &[u8],
        count: u16,
    ) -> Result<(), (CallError, u16)> {
        if input.is_fast() || count == 0 || count > REP_MAX {
            return Err((CallError::BadReps, 0));
        }
        let blocks = buffer.fill(parameters, 0).map_err(|error| (error, 0))?;
        let mut done = 0;
        while done < count {
            // SAFETY: the page is enabled, and the block lies in the buffer's page, which is ours.
            let result = unsafe { self.call_blocks(input.with_reps(count, done), &blocks) };
            let now_done = result.reps_complete();
            if now_done < done || now_done > count {
                return Err((CallError::BadResult, done));
            }
            result.status().map_err(|error| (error.into(), now_done))?;
            if now_done == done {
                // Success without progress would have us call forever.
                return Err((CallError::BadResult, done));
            }
            done = now_done;
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The caller of the call vouches for it; `blocks` lie in a page that the hypervisor may use.
    unsafe fn call_blocks(
        &self,
        input: HypercallInput,
        blocks: &buffer::Blocks,
    ) -> HypercallResult {
        // SAFETY: the page is enabled (`enable`); the rest is this function's contract.
        let rax = unsafe {
            self.cpu.hypercall(self.entry, input.0, blocks.input_gpa.0, blocks.output_gpa.0)
        };
        HypercallResult(rax)
    }
}

/// Most elements of one rep call: twelve bits.
const REP_MAX: u16 = 0xFFF;

fn enable_at<C: Cpu>(cpu: &C, gpa: Gpa) -> Result<(), EnableError> {
    // SAFETY: the privilege was checked: the register exists; reading it has no effect.
    let before = unsafe { cpu.rdmsr(HV_X64_MSR_HYPERCALL) };
    let at = Gpa(before & HV_MSR_PAGE_ADDRESS_MASK);
    let enabled = before & HV_MSR_PAGE_ENABLE != 0;
    if before & HV_MSR_HYPERCALL_LOCKED != 0 {
        return if enabled && at == gpa { Ok(()) } else { Err(EnableError::Locked { at }) };
    }
    // Bits 11:2 are reserved and kept as they were.
    let reserved = before & !HV_MSR_PAGE_ADDRESS_MASK & !HV_MSR_HYPERCALL_LOCKED;
    let wanted = gpa.0 | reserved | HV_MSR_PAGE_ENABLE;
    // SAFETY: the register exists; the hypervisor overlays a page that was given away for it.
    unsafe { cpu.wrmsr(HV_X64_MSR_HYPERCALL, wanted) };
    // SAFETY: as the first read.
    let register = unsafe { cpu.rdmsr(HV_X64_MSR_HYPERCALL) };
    let taken = register & HV_MSR_PAGE_ENABLE != 0 && register & HV_MSR_PAGE_ADDRESS_MASK == gpa.0;
    if taken { Ok(()) } else { Err(EnableError::Refused { register }) }
}
