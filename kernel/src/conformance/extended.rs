//! Extended hypercalls: which there are, and memory that is said to be zero.

#![expect(unsafe_code, reason = "makes hypercalls, reads free memory")]

use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{Features, Privileges};
use hv_abi::extended::{
    ExtendedCapabilities, HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY, HV_EXT_CALL_MEMORY_HEAT_HINT,
    HV_EXT_CALL_QUERY_CAPABILITIES,
};
use hv_abi::hypercall::{HvError, HypercallInput, HypercallResult};
use hv_enlightenments::extended::{ExtendedCalls, ExtendedError};
use hv_enlightenments::hypercall::CallBuffer;
use hv_enlightenments::{Cpu, Gpa, X86Cpu};

use super::support::calls::{buffer, calls, raw};
use super::support::{need, need_features, without};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::cpu::CPU;
use crate::machine::memory;

cases!(Extended: [
    capabilities_can_be_queried => "TLFS, HvExtCallQueryCapabilities",
    capabilities_do_not_change => "TLFS, HvExtCallQueryCapabilities",
    an_unknown_extended_call_is_refused => "TLFS, Extended Hypercall Interface",
    an_answer_to_an_odd_address_is_refused => "TLFS, Alignment",
    zeroed_memory_is_zero => "TLFS, HvExtCallGetBootZeroedMemory",
    memory_that_was_written_is_not_said_to_be_zero => "TLFS, HvExtCallGetBootZeroedMemory",
    capabilities_come_in_registers_where_that_is_offered => "TLFS, XMM fast hypercall output",
    calls_without_their_capability_are_refused => "TLFS, HvExtCallQueryCapabilities",
    extended_calls_are_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
]);

/// What a failed extended call fails a case with.
fn failed(error: ExtendedError) -> Problem {
    match error {
        ExtendedError::NotOffered => Problem::Skip(alloc::format!("not offered: {error}")),
        error => Problem::Fail(alloc::format!("{error}")),
    }
}

fn query(buffer: &mut CallBuffer) -> Result<ExtendedCalls<X86Cpu>, Problem> {
    let hv = need(Privileges::EXTENDED_HYPERCALLS | Privileges::HYPERCALL)?;
    ExtendedCalls::query(calls()?, hv, buffer).map_err(failed)
}

fn capabilities_can_be_queried() -> TestResult {
    let capabilities = query(&mut buffer()?)?.capabilities().bits();
    // Bits 63:5 are reserved; Linux gives 8 a meaning.
    check!(capabilities & !0x11F == 0, "reserved bits are set: {capabilities:#x}");
    Ok(())
}

fn capabilities_do_not_change() -> TestResult {
    let mut buffer = buffer()?;
    let (first, second) = (query(&mut buffer)?.capabilities(), query(&mut buffer)?.capabilities());
    check!(first == second, "{first:?} became {second:?}");
    Ok(())
}

fn capabilities_come_in_registers_where_that_is_offered() -> TestResult {
    need_features(Features::HYPERCALL_XMM_OUTPUT)?;
    let expected = query(&mut buffer()?)?.capabilities().bits();
    let input = HypercallInput::new(HV_EXT_CALL_QUERY_CAPABILITIES);
    let mut output = [0; 8];
    // SAFETY: the call has no effect, and its output goes in registers; SSE is enabled.
    let result = unsafe { calls()?.xmm_fast_output(input, &[], &mut output) };
    check!(result.is_ok(), "{result:?}");
    let found = u64::from_le_bytes(output);
    check!(found == expected, "{found:#x} in registers, {expected:#x} in memory");
    Ok(())
}

fn an_unknown_extended_call_is_refused() -> TestResult {
    need(Privileges::EXTENDED_HYPERCALLS | Privileges::HYPERCALL)?;
    for code in [0x8000, 0x8FFF, 0xFFFF] {
        let status = raw(HypercallInput::new(code).fast(), 0, 0)?;
        check!(status == Err(HvError::INVALID_HYPERCALL_CODE), "{code:#x}: {status:?}");
    }
    Ok(())
}

fn an_answer_to_an_odd_address_is_refused() -> TestResult {
    need(Privileges::EXTENDED_HYPERCALLS | Privileges::HYPERCALL)?;
    let frame = Frames::take(1)?;
    let page = calls()?.entry();
    let output = frame.0[0] + 4;
    let input = HypercallInput::new(HV_EXT_CALL_QUERY_CAPABILITIES);
    // SAFETY: the output lies in a frame that nobody uses.
    let result = unsafe { CPU.hypercall(page, input.0, 0, output) };
    let status = HypercallResult(result).status();
    check!(status == Err(HvError::INVALID_ALIGNMENT), "{status:?}");
    Ok(())
}

/// Frames that nobody uses, given back at the end.
struct Frames(Vec<u64>);

impl Frames {
    fn take(count: usize) -> Result<Self, Problem> {
        let frames: Vec<_> = (0..count).map_while(|_| memory::allocate_frame()).collect();
        if frames.is_empty() {
            Err(Problem::Skip("no memory is free".into()))
        } else {
            Ok(Self(frames))
        }
    }
}

impl Frames {
    /// One of each 2 MiB: what lies beside memory in use may be touched with it.
    fn take_far_apart(count: usize) -> Result<Self, Problem> {
        Self::some((0..count).map_while(|_| memory::allocate_frames(1, 512)).collect())
    }

    fn some(frames: Vec<u64>) -> Result<Self, Problem> {
        if frames.is_empty() {
            skip!("no memory is free");
        }
        Ok(Self(frames))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for &frame in &self.0 {
            memory::with_frames(|frames| frames.free(frame));
        }
    }
}

fn is_zero(frame: u64) -> bool {
    (0..HV_PAGE_SIZE / 8).all(|word| {
        // SAFETY: a frame that nobody uses, mapped one to one.
        unsafe { (frame as *const u64).wrapping_add(word).read_volatile() == 0 }
    })
}

fn zeroed_ranges(buffer: &mut CallBuffer) -> Result<Vec<core::ops::Range<Gpa>>, Problem> {
    let zeroed = query(buffer)?.boot_zeroed(buffer).map_err(failed)?;
    Ok(zeroed.collect())
}

fn zeroed_memory_is_zero() -> TestResult {
    let mut buffer = buffer()?;
    let frames = Frames::take_far_apart(32)?;
    let ranges = zeroed_ranges(&mut buffer)?;
    let said = |frame: u64| ranges.iter().any(|range| range.contains(&Gpa(frame)));
    let said: Vec<_> = frames.0.iter().copied().filter(|&frame| said(frame)).collect();
    let wrong = said.iter().find(|&&frame| !is_zero(frame));
    check!(wrong.is_none(), "{:#x} is said to be zero, and is not", wrong.copied().unwrap_or(0));
    if said.is_empty() {
        skip!("none of {} free frames is said to be zero", frames.0.len());
    }
    Ok(())
}

fn memory_that_was_written_is_not_said_to_be_zero() -> TestResult {
    let mut buffer = buffer()?;
    let frames = Frames::take(8)?;
    for &frame in &frames.0 {
        // SAFETY: a frame that nobody uses, mapped one to one.
        unsafe { (frame as *mut u64).write_volatile(0x5A5A) };
    }
    let ranges = zeroed_ranges(&mut buffer)?;
    let wrong =
        frames.0.iter().find(|&&frame| ranges.iter().any(|range| range.contains(&Gpa(frame))));
    check!(wrong.is_none(), "{:#x} is said to be zero", wrong.copied().unwrap_or(0));
    Ok(())
}

fn calls_without_their_capability_are_refused() -> TestResult {
    let capabilities = query(&mut buffer()?)?.capabilities();
    let calls = [
        (ExtendedCapabilities::BOOT_ZEROED_MEMORY, HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY),
        (ExtendedCapabilities::MEMORY_HEAT_HINT, HV_EXT_CALL_MEMORY_HEAT_HINT),
    ];
    let missing: Vec<_> = calls.iter().filter(|(bit, _)| !capabilities.intersects(*bit)).collect();
    if missing.is_empty() {
        skip!("all are offered");
    }
    for (bit, code) in missing {
        let status = raw(HypercallInput::new(*code).fast(), 0, 0)?;
        check!(status.is_err(), "{bit:?} is not there, but the call succeeds");
    }
    Ok(())
}

fn extended_calls_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::EXTENDED_HYPERCALLS)?;
    need(Privileges::HYPERCALL)?;
    let status = raw(HypercallInput::new(HV_EXT_CALL_QUERY_CAPABILITIES).fast(), 0, 0)?;
    let refused = [Err(HvError::ACCESS_DENIED), Err(HvError::INVALID_HYPERCALL_CODE)];
    check!(refused.contains(&status), "{status:?}");
    Ok(())
}
