//! Hypercalls, well formed and malformed.

#![expect(unsafe_code, reason = "makes hypercalls")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HvError, HypercallInput, HypercallResult};
use hv_enlightenments::hypercall::CallBuffer;
use hv_enlightenments::{Cpu, Gpa, HvPage, HypercallPage, MappedPage, X86Cpu};

use super::need;
use crate::conformance::Problem;
use crate::machine::cpu::CPU;
use crate::machine::hyperv;

/// A code that the specification gives to nothing.
pub(crate) const UNKNOWN_CODE: u16 = 0x0FFF;

/// The hypercall page, or the reason to skip.
pub(crate) fn calls() -> Result<&'static HypercallPage<X86Cpu>, Problem> {
    need(Privileges::HYPERCALL)?;
    hyperv::calls().ok_or(Problem::Fail("hypercalls are not enabled".into()))
}

/// A fast call as its registers are.
pub(crate) fn raw(
    input: HypercallInput,
    first: u64,
    second: u64,
) -> Result<Result<(), HvError>, Problem> {
    result(input, first, second).map(HypercallResult::status)
}

/// As [`raw`], with the count of repetitions done.
pub(crate) fn result(
    input: HypercallInput,
    first: u64,
    second: u64,
) -> Result<HypercallResult, Problem> {
    let page = calls()?.entry();
    // SAFETY: the page is enabled. Cases name no memory here that the hypervisor could change.
    Ok(HypercallResult(unsafe { CPU.hypercall(page, input.0, first, second) }))
}

/// A page for parameters, given away for good.
pub(crate) fn buffer() -> Result<CallBuffer, Problem> {
    let page = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    let gpa = Gpa(page.addr().get() as u64);
    // SAFETY: a page of our own, given away for good; virtual is physical.
    let page = unsafe { MappedPage::new(page, gpa) };
    page.map(CallBuffer::new).ok_or(Problem::Fail("a page is not aligned".into()))
}

/// An address at which this kernel's machines have no memory.
pub(crate) const NO_MEMORY: u64 = 0xF_0000_0000;

/// A page for parameters at addresses of the case's choosing.
pub(crate) struct Block(*mut HvPage);

impl Block {
    /// A page of zeros, given away for good. Skips where there are no hypercalls to use it with.
    pub(crate) fn new() -> Result<Self, Problem> {
        calls()?;
        Ok(Self(Box::into_raw(Box::new(HvPage::new()))))
    }

    /// The address of the byte at `offset`.
    pub(crate) fn at(&self, offset: u64) -> u64 {
        self.0.addr() as u64 + offset
    }

    /// Fills the beginning.
    pub(crate) fn write(&self, words: &[u64]) {
        let first: *mut u64 = self.0.cast();
        for (index, &word) in words.iter().enumerate().take(size_of::<HvPage>() / size_of::<u64>())
        {
            // SAFETY: within the page, which is ours and aligned.
            unsafe { first.wrapping_add(index).write_volatile(word) };
        }
    }
}

/// Words as the bytes of a parameter block.
pub(crate) fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
