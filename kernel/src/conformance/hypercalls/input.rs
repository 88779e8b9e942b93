//! The input value: what is malformed is refused with the right status, and the result value says no more than it may.

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{
    HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput, HypercallResult,
};

use super::existing_call;
use crate::conformance::support::calls::{Block, UNKNOWN_CODE, calls, raw, result};
use crate::conformance::support::{need, on_each_vp, without};
use crate::conformance::{TestResult, cases, check};

cases!(Hypercalls: [
    unknown_call_codes_are_refused => "TLFS Hypercall Status Codes",
    call_code_zero_is_refused => "TLFS Hypercall Status Codes",
    the_last_code_before_the_extended_ones_is_refused => "TLFS Hypercall Status Codes",
    unknown_call_codes_in_memory_are_refused => "TLFS Hypercall Status Codes",
    unknown_call_codes_with_repetitions_are_refused => "TLFS Hypercall Status Codes",
    calls_of_the_root_partition_are_refused => "TLFS HvCallCreatePartition",
    a_refused_call_completes_no_repetition => "TLFS Hypercall Outputs",
    reserved_bits_of_the_result_are_zero => "TLFS Hypercall Outputs",
    reserved_bits_are_refused => "TLFS Hypercall Inputs",
    reserved_bits_are_refused_in_memory_too => "TLFS Hypercall Inputs",
    reserved_bits_are_refused_on_every_processor => "TLFS Hypercall Inputs",
    repetitions_where_none_belong_are_refused => "TLFS Hypercall Inputs",
    a_signal_takes_no_repetitions => "TLFS HvCallSignalEvent",
    a_signal_takes_no_variable_header => "TLFS Hypercall Inputs",
    a_message_takes_no_repetitions => "TLFS HvCallPostMessage",
    a_message_takes_no_variable_header => "TLFS Hypercall Inputs",
    a_message_without_the_privilege_is_denied => "TLFS HvCallPostMessage",
    a_signal_without_the_privilege_is_denied => "TLFS HvCallSignalEvent",
    every_processor_can_call => "TLFS §3.13",
]);

/// `HvCallCreatePartition`.
const CREATE_PARTITION: u16 = 0x0040;
/// The last code that is not an extended one.
const LAST_CODE: u16 = 0x7FFF;

/// Fails unless the call has this status.
fn refused(input: HypercallInput, first: u64, second: u64, expected: HvError) -> TestResult {
    let status = raw(input, first, second)?;
    check!(status == Err(expected), "input value {:#x}: {status:?}", input.0);
    Ok(())
}

fn unknown_call_codes_are_refused() -> TestResult {
    let input = HypercallInput::new(UNKNOWN_CODE).fast();
    refused(input, 0, 0, HvError::INVALID_HYPERCALL_CODE)
}

fn call_code_zero_is_refused() -> TestResult {
    refused(HypercallInput::new(0).fast(), 0, 0, HvError::INVALID_HYPERCALL_CODE)
}

fn the_last_code_before_the_extended_ones_is_refused() -> TestResult {
    refused(HypercallInput::new(LAST_CODE).fast(), 0, 0, HvError::INVALID_HYPERCALL_CODE)
}

fn unknown_call_codes_in_memory_are_refused() -> TestResult {
    let block = Block::new()?;
    let input = HypercallInput::new(UNKNOWN_CODE);
    refused(input, block.at(0), block.at(2048), HvError::INVALID_HYPERCALL_CODE)
}

fn unknown_call_codes_with_repetitions_are_refused() -> TestResult {
    let block = Block::new()?;
    let status = raw(HypercallInput::new(UNKNOWN_CODE).with_reps(2, 0), block.at(0), 0)?;
    // Both are wrong with it; the specification does not say which is looked at first.
    let either = [HvError::INVALID_HYPERCALL_CODE, HvError::INVALID_HYPERCALL_INPUT];
    check!(status.is_err_and(|status| either.contains(&status)), "{status:?}");
    Ok(())
}

fn calls_of_the_root_partition_are_refused() -> TestResult {
    let block = Block::new()?;
    let status = raw(HypercallInput::new(CREATE_PARTITION), block.at(0), block.at(2048))?;
    let either = [HvError::INVALID_HYPERCALL_CODE, HvError::ACCESS_DENIED];
    check!(status.is_err_and(|status| either.contains(&status)), "{status:?}");
    Ok(())
}

fn a_refused_call_completes_no_repetition() -> TestResult {
    let block = Block::new()?;
    let code = HypercallInput::new(UNKNOWN_CODE);
    let found = result(code.with_reps(4, 0), block.at(0), 0)?;
    check!(found.reps_complete() == 0, "{} are said to be done", found.reps_complete());
    Ok(())
}

fn reserved_bits_of_the_result_are_zero() -> TestResult {
    /// All but the status and the repetitions done.
    const RESERVED: u64 = !(0xFFFF | 0xFFF << 32);
    let block = Block::new()?;
    let unknown = HypercallInput::new(UNKNOWN_CODE);
    let existing = HypercallInput::new(existing_call()?).fast();
    for (input, first) in
        [(unknown.fast(), 0), (unknown, block.at(0)), (existing, 0), (existing.with_reps(1, 0), 0)]
    {
        let HypercallResult(value) = result(input, first, 0)?;
        check!(value & RESERVED == 0, "input value {:#x}: result {value:#x}", input.0);
    }
    Ok(())
}

fn reserved_bits() -> impl Iterator<Item = u64> {
    (0..64).map(|bit| 1 << bit).filter(|bit| HypercallInput::RESERVED & bit != 0)
}

fn reserved_bits_are_refused() -> TestResult {
    let code = HypercallInput::new(existing_call()?).fast();
    for bit in reserved_bits() {
        refused(HypercallInput(code.0 | bit), 0, 0, HvError::INVALID_HYPERCALL_INPUT)?;
    }
    Ok(())
}

fn reserved_bits_are_refused_in_memory_too() -> TestResult {
    let (code, block) = (HypercallInput::new(existing_call()?), Block::new()?);
    for bit in reserved_bits() {
        let input = HypercallInput(code.0 | bit);
        refused(input, block.at(0), 0, HvError::INVALID_HYPERCALL_INPUT)?;
    }
    Ok(())
}

fn reserved_bits_are_refused_on_every_processor() -> TestResult {
    existing_call()?;
    let right = on_each_vp(|_| {
        let Ok(code) = existing_call() else { return 0 };
        let input = HypercallInput(HypercallInput::new(code).fast().0 | 1 << 63);
        u64::from(matches!(raw(input, 0, 0), Ok(Err(HvError::INVALID_HYPERCALL_INPUT))))
    });
    check!(right.iter().all(|&right| right == 1), "right by processor: {right:?}");
    Ok(())
}

fn repetitions_where_none_belong_are_refused() -> TestResult {
    let code = HypercallInput::new(existing_call()?).fast();
    let before = crate::machine::hyperv::long_spins_seen_by_host();
    for input in [code.with_reps(1, 0), code.with_reps(2, 1), code.with_variable_header(1)] {
        refused(input, 0, 0, HvError::INVALID_HYPERCALL_INPUT)?;
    }
    let after = crate::machine::hyperv::long_spins_seen_by_host();
    check!(before == after, "refused calls were counted: {before:?} became {after:?}");
    Ok(())
}

fn signal_call(change: fn(HypercallInput) -> HypercallInput) -> TestResult {
    need(Privileges::SIGNAL_EVENTS)?;
    let input = change(HypercallInput::new(HV_CALL_SIGNAL_EVENT).fast());
    refused(input, 0, 0, HvError::INVALID_HYPERCALL_INPUT)
}

fn a_signal_takes_no_repetitions() -> TestResult {
    signal_call(|input| input.with_reps(1, 0))
}

fn a_signal_takes_no_variable_header() -> TestResult {
    signal_call(|input| input.with_variable_header(1))
}

fn message_call(change: fn(HypercallInput) -> HypercallInput) -> TestResult {
    need(Privileges::POST_MESSAGES)?;
    let block = Block::new()?;
    let input = change(HypercallInput::new(HV_CALL_POST_MESSAGE));
    refused(input, block.at(0), 0, HvError::INVALID_HYPERCALL_INPUT)
}

fn a_message_takes_no_repetitions() -> TestResult {
    message_call(|input| input.with_reps(1, 0))
}

fn a_message_takes_no_variable_header() -> TestResult {
    message_call(|input| input.with_variable_header(1))
}

fn a_message_without_the_privilege_is_denied() -> TestResult {
    without(Privileges::POST_MESSAGES)?;
    let block = Block::new()?;
    refused(HypercallInput::new(HV_CALL_POST_MESSAGE), block.at(0), 0, HvError::ACCESS_DENIED)
}

fn a_signal_without_the_privilege_is_denied() -> TestResult {
    without(Privileges::SIGNAL_EVENTS)?;
    refused(HypercallInput::new(HV_CALL_SIGNAL_EVENT).fast(), 0, 0, HvError::ACCESS_DENIED)
}

fn every_processor_can_call() -> TestResult {
    calls()?;
    let statuses = on_each_vp(|_| {
        let status = raw(HypercallInput::new(UNKNOWN_CODE).fast(), 0, 0);
        u64::from(matches!(status, Ok(Err(HvError::INVALID_HYPERCALL_CODE))))
    });
    check!(statuses.iter().all(|&right| right == 1), "right by processor: {statuses:?}");
    Ok(())
}
