//! Calls given word by word, in memory and in registers, so that each word can be wrong; sets of processors.

#![expect(unsafe_code, reason = "makes hypercalls")]

use alloc::format;
use core::cell::Cell;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{Features, Privileges, Recommendations};
use hv_abi::hypercall::{HvError, HypercallInput, HypercallResult};
use hv_enlightenments::Cpu;
use hv_enlightenments::cpu::FastRegisters;

use super::calls::calls;
use super::{interface, need, recommended};
use crate::conformance::{Problem, TestResult, check, deviates, skip};
use crate::guest_tests::translations::Frame;
use crate::machine::cpu::CPU;
use crate::machine::fault::{self, Fault, INVALID_OPCODE};
use crate::machine::vp::{self, Vp};

/// `HvGenericSetSparse4k` (TLFS, *Sparse Virtual Processor Set*).
pub(crate) const SPARSE_4K: u64 = 0;
/// `HvGenericSetAll`.
pub(crate) const ALL: u64 = 1;

/// Skips unless the hypervisor recommends what is named and lets us make hypercalls.
pub(crate) fn offered(bits: Recommendations) -> TestResult {
    need(Privileges::HYPERCALL)?;
    recommended(bits)
}

/// A call with its parameters in memory, `offset` bytes into a page.
///
/// # Safety
///
/// What the hypervisor does on this call is sound; it has no output.
pub(crate) unsafe fn in_memory_at(
    offset: usize,
    input: HypercallInput,
    words: &[u64],
) -> Result<HypercallResult, Problem> {
    let page = calls()?.entry();
    let frame = Frame::new(0)?;
    // Beyond the page's end lies somebody else's memory, which is left as it is.
    let room = HV_PAGE_SIZE.saturating_sub(offset) / size_of::<u64>();
    for (index, &word) in words.iter().take(room).enumerate() {
        let place = (frame.address() as usize + offset + index * size_of::<u64>()) as *mut u64;
        // SAFETY: within the frame, which is ours; virtual is physical.
        unsafe { place.write_unaligned(word) };
    }
    let gpa = frame.address() + offset as u64;
    // SAFETY: the page is enabled, and the caller vouches for the call.
    let rax = unsafe { CPU.hypercall(page, input.0, gpa, 0) };
    Ok(HypercallResult(rax))
}

/// As [`in_memory_at`] the beginning of a page.
///
/// # Safety
///
/// As for [`in_memory_at`].
pub(crate) unsafe fn in_memory(
    input: HypercallInput,
    words: &[u64],
) -> Result<HypercallResult, Problem> {
    // SAFETY: the caller's contract is the same.
    unsafe { in_memory_at(0, input, words) }
}

/// A fast call with its parameters in RDX, R8 and XMM registers, or the fault that it raised.
///
/// # Safety
///
/// What the hypervisor does on this call is sound; it has no output.
pub(crate) unsafe fn in_registers(
    input: HypercallInput,
    words: &[u64],
) -> Result<Result<HypercallResult, Fault>, Problem> {
    let page = calls()?.entry();
    let mut registers = FastRegisters::default();
    let places = registers.general.iter_mut().chain(registers.xmm.as_flattened_mut());
    for (place, &word) in places.zip(words) {
        *place = word;
    }
    let rax = Cell::new(0);
    let fault = fault::expect(|| {
        // SAFETY: the page is enabled, and the caller vouches for the call; a fault is expected.
        rax.set(unsafe { CPU.hypercall_xmm(page, input.fast().0, &registers) });
    });
    Ok(fault.map_or(Ok(HypercallResult(rax.get())), Err))
}

/// Fails unless a call succeeded with `reps` elements done.
pub(crate) fn succeeded(result: HypercallResult, reps: u16) -> TestResult {
    check!(result.status() == Ok(()), "the call failed: {:?}", result.status());
    let done = result.reps_complete();
    check!(done == reps, "{done} elements are said to be done, not {reps}");
    Ok(())
}

/// As [`succeeded`], for a call that should not have raised a fault either.
pub(crate) fn succeeded_in_registers(
    result: Result<HypercallResult, Fault>,
    reps: u16,
) -> TestResult {
    match result {
        Ok(result) => succeeded(result, reps),
        Err(fault) => Err(Problem::Fail(format!("the call raised exception {}", fault.vector))),
    }
}

/// Fails unless a call with its parameters in XMM registers raises the fault it has to where that is not offered.
///
/// # Safety
///
/// As for [`in_registers`].
pub(crate) unsafe fn faults_without_xmm_input(input: HypercallInput, words: &[u64]) -> TestResult {
    if interface()?.features().contains(Features::HYPERCALL_XMM_INPUT) {
        skip!("offered: parameters in XMM registers");
    }
    // SAFETY: the caller's contract is the same.
    match unsafe { in_registers(input, words) }? {
        Err(fault) => {
            check!(fault.vector == INVALID_OPCODE, "it raises exception {}", fault.vector);
            Ok(())
        }
        Ok(result) if result.status() == Ok(()) => {
            deviates!("parameters in XMM registers are taken though not offered", "TLFS §3.7.2")
        }
        Ok(result) => Err(Problem::Fail(format!("no fault but {:?}", result.status()))),
    }
}

/// Fails unless a call was refused with this status.
pub(crate) fn refused(result: HypercallResult, status: HvError) -> TestResult {
    check!(result.status() == Err(status), "the status is {:?}, not {status}", result.status());
    Ok(())
}

/// Whether a status is one by which a call that is not offered may be refused.
pub(crate) fn is_not_offered(status: Result<(), HvError>) -> bool {
    matches!(status, Err(HvError::ACCESS_DENIED | HvError::INVALID_HYPERCALL_CODE))
}

/// Processors as a mask of the hypervisor's indices, or the reason to skip.
pub(crate) fn mask_of(vps: impl Iterator<Item = &'static Vp>) -> Result<u64, Problem> {
    let mut mask = 0;
    for vp in vps {
        match vp.hypervisor_index() {
            Some(index @ 0..64) => mask |= 1 << index,
            Some(index) => skip!("index {index} is beyond the first 64"),
            None => skip!("not offered: the hypervisor does not tell its indices"),
        }
    }
    Ok(mask)
}

/// All processors.
pub(crate) fn everybody() -> Result<u64, Problem> {
    mask_of(vp::online())
}

/// All processors but this.
pub(crate) fn everybody_else() -> Result<u64, Problem> {
    let own = vp::current_index();
    mask_of(vp::online().filter(|vp| vp.index != own))
}
