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
mod in_pieces;
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

use crate::cpu::{Cpu, FastRegisters};
use crate::detect::HyperV;
use crate::identity::GuestOsId;
use crate::memory::{Gpa, MappedPage};

/// The enabled hypercall page, through which any processor of the partition calls the hypervisor.
#[derive(Debug, Clone, Copy)]
pub struct HypercallPage<C> {
    cpu: C,
    entry: NonNull<u8>,
    xmm_input: bool,
    xmm_output: bool,
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
            xmm_input: hv.features().contains(Features::HYPERCALL_XMM_INPUT),
            xmm_output: hv.features().contains(Features::HYPERCALL_XMM_OUTPUT),
        })
    }

    /// The same page, for a kernel that must leave the XMM registers alone: one built without SSE, under which programs'
    /// values stay in them. No call of this value, nor of what is made from it ([`crate::TlbFlush`],
    /// [`crate::ClusterIpi`]), puts parameters there; they go in memory, so those need a [`CallBuffer`].
    pub fn without_xmm(self) -> Self {
        Self { xmm_input: false, xmm_output: false, ..self }
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
    #[inline]
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
        let registers = registers::load(&[parameters]).ok_or(CallError::TooLong)?;
        // SAFETY: the caller's contract is the same.
        let result = unsafe { self.call_registers(input, parameters.len(), &registers) }?;
        Ok(result.status()?)
    }

    /// As [`Self::xmm_fast`] with `output` in the registers behind those of the input.
    ///
    /// The input takes whole pairs of registers, so input rounded up to 16 bytes and output share
    /// [`XMM_INPUT_MAX_BYTES`] (TLFS, *XMM fast hypercall output*). The output of a call that failed is not read.
    ///
    /// # Errors
    ///
    /// [`CallError::NoXmm`] where the hypervisor lacks one of the features: make the call in memory instead.
    ///
    /// # Safety
    ///
    /// As for [`Self::xmm_fast`].
    pub unsafe fn xmm_fast_output(
        &self,
        input: HypercallInput,
        parameters: &[u8],
        output: &mut [u8],
    ) -> Result<(), CallError> {
        if input.rep_count() != 0 {
            return Err(CallError::BadReps);
        }
        let mut registers = registers::load(&[parameters]).ok_or(CallError::TooLong)?;
        let offset = registers::output_offset(parameters.len()).ok_or(CallError::TooLong)?;
        if offset.checked_add(output.len()).is_none_or(|end| end > XMM_INPUT_MAX_BYTES) {
            return Err(CallError::TooLong);
        }
        if !self.xmm_output || parameters.len() > registers::GENERAL_BYTES && !self.xmm_input {
            return Err(CallError::NoXmm);
        }
        let rcx = input.fast().0;
        // SAFETY: as in `fast`; the caller has enabled SSE.
        let rax = unsafe { self.cpu.hypercall_xmm_output(self.entry, rcx, &mut registers) };
        HypercallResult(rax).status()?;
        registers::unload(registers, parameters.len(), output).ok_or(CallError::TooLong)
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
        let blocks = buffer.fill(&[parameters], output.len())?;
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
        check_reps(input, count).map_err(|error| (error, 0))?;
        let blocks = buffer.fill(&[parameters], 0).map_err(|error| (error, 0))?;
        continue_until_done(count, |done| {
            // SAFETY: the page is enabled, and the block lies in the buffer's page, which is ours.
            Ok(unsafe { self.call_blocks(input.with_reps(count, done), &blocks) })
        })
    }

    /// As [`Self::rep_in_memory`] with header and list in registers: [`XMM_INPUT_MAX_BYTES`] in all.
    ///
    /// # Errors
    ///
    /// [`CallError::NoXmm`] where the hypervisor lacks the feature: make the call in memory instead.
    ///
    /// # Safety
    ///
    /// What the hypervisor does on this call with these parameters is sound; SSE is enabled.
    pub unsafe fn rep_xmm_fast(
        &self,
        input: HypercallInput,
        parameters: &[u8],
        count: u16,
    ) -> Result<(), (CallError, u16)> {
        check_reps(input, count).map_err(|error| (error, 0))?;
        let registers = registers::load(&[parameters]).ok_or((CallError::TooLong, 0))?;
        continue_until_done(count, |done| {
            let input = input.with_reps(count, done);
            // SAFETY: the caller's contract is the same.
            unsafe { self.call_registers(input, parameters.len(), &registers) }
        })
    }

    /// A fast call with `bytes` of input in registers.
    ///
    /// # Safety
    ///
    /// The caller of the call vouches for it; SSE is enabled.
    unsafe fn call_registers(
        &self,
        input: HypercallInput,
        bytes: usize,
        registers: &FastRegisters,
    ) -> Result<HypercallResult, CallError> {
        let [first, second] = registers.general;
        let rcx = input.fast().0;
        let rax = if bytes <= registers::GENERAL_BYTES {
            // SAFETY: as in `fast`.
            unsafe { self.cpu.hypercall(self.entry, rcx, first, second) }
        } else if self.xmm_input {
            // SAFETY: as in `fast`; the caller has enabled SSE.
            unsafe { self.cpu.hypercall_xmm(self.entry, rcx, registers) }
        } else {
            return Err(CallError::NoXmm);
        };
        Ok(HypercallResult(rax))
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

fn check_reps(input: HypercallInput, count: u16) -> Result<(), CallError> {
    let bad = input.is_fast() || count == 0 || count > REP_MAX;
    if bad { Err(CallError::BadReps) } else { Ok(()) }
}

/// Calls with the number of elements done so far, until all `count` are done or something is wrong.
fn continue_until_done(
    count: u16,
    mut call: impl FnMut(u16) -> Result<HypercallResult, CallError>,
) -> Result<(), (CallError, u16)> {
    let mut done = 0;
    while done < count {
        let result = call(done).map_err(|error| (error, done))?;
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
