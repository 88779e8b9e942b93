//! Flushing the TLB: what must be refused, and what is served though it is not offered.

#![expect(unsafe_code, reason = "makes hypercalls")]

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{Privileges, Recommendations};
use hv_abi::hypercall::{
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
    HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE, HvError, HypercallInput, HypercallResult,
};
use hv_abi::tlb::HvFlushFlags;

use super::memory::own_space;
use super::support::calls::raw;
use super::support::need;
use super::support::parameters::{
    SPARSE_4K, everybody, faults_without_xmm_input, in_memory, in_memory_at, is_not_offered,
    offered, refused, succeeded,
};
use super::{Problem, TestResult, cases, check, deviates, skip};
use crate::guest_tests::translations::{Readers, check_flush};
use crate::machine::shootdown;

const FLAGS: &str = "TLFS HvCallFlushVirtualAddressSpace, Flags";
const LIST: &str = "TLFS HvCallFlushVirtualAddressList";
const INPUT_VALUE: &str = "TLFS §3.7";
const SETS: &str = "TLFS HV_VP_SET";
const ALIGNMENT: &str = "TLFS Hypercall Status Codes, HV_STATUS_INVALID_ALIGNMENT";

cases!(Memory: [
    a_list_without_elements_is_refused => INPUT_VALUE,
    a_list_that_begins_behind_its_end_is_refused => INPUT_VALUE,
    a_list_may_begin_at_a_later_element => INPUT_VALUE,
    flushing_the_space_takes_no_repetitions => INPUT_VALUE,
    plain_flushes_take_no_variable_header => INPUT_VALUE,
    a_set_of_another_size_than_the_variable_header_is_refused => SETS,
    a_set_without_processors_is_flushed_at_once => SETS,
    a_set_of_an_unknown_format_is_refused => SETS,
    unknown_flags_are_refused => FLAGS,
    a_list_of_non_global_mappings_only_is_refused => LIST,
    parameters_at_an_odd_address_are_refused => ALIGNMENT,
    parameters_that_cross_a_page_are_refused => ALIGNMENT,
    the_flush_is_refused_or_works_where_it_is_not_recommended => "TLFS §2.4.5",
    the_flush_of_a_set_is_refused_or_works_where_it_is_not_recommended => "TLFS §2.4.5",
    xmm_input_faults_where_it_is_not_offered => "TLFS §3.7.2",
    switching_the_address_space_is_refused_where_it_is_not_recommended => "TLFS §2.4.5",
]);

const REMOTE: Recommendations = Recommendations::REMOTE_TLB_FLUSH;
const ALL_PROCESSORS: u64 = HvFlushFlags::ALL_PROCESSORS.bits();
/// Not the kernel's: nothing is mapped here.
const NOWHERE: u64 = 1 << 44;

fn call(input: HypercallInput, words: &[u64]) -> Result<HypercallResult, Problem> {
    // SAFETY: flushing changes nothing but speed.
    unsafe { in_memory(input, words) }
}

fn space() -> HypercallInput {
    HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE)
}

fn list(count: u16, start: u16) -> HypercallInput {
    HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST).with_reps(count, start)
}

fn space_ex(banks: u16) -> HypercallInput {
    HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX).with_variable_header(banks)
}

/// Parameters for four ranges, all processors.
fn four_ranges() -> [u64; 7] {
    [own_space(), ALL_PROCESSORS, 0, NOWHERE, NOWHERE, NOWHERE, NOWHERE]
}

fn a_list_without_elements_is_refused() -> TestResult {
    offered(REMOTE)?;
    refused(call(list(0, 0), &four_ranges())?, HvError::INVALID_HYPERCALL_INPUT)
}

fn a_list_that_begins_behind_its_end_is_refused() -> TestResult {
    offered(REMOTE)?;
    for (count, start) in [(1, 1), (2, 4), (0, 1), (4, 0xFFF)] {
        let result = call(list(count, start), &four_ranges())?;
        let refused = result.status() == Err(HvError::INVALID_HYPERCALL_INPUT);
        check!(refused, "{count} elements from {start}: {:?}", result.status());
    }
    Ok(())
}

fn a_list_may_begin_at_a_later_element() -> TestResult {
    offered(REMOTE)?;
    let result = call(list(4, 2), &four_ranges())?;
    if result.status() == Err(HvError::INVALID_HYPERCALL_INPUT) {
        // Linux 6.1, `kvm_hv_hypercall`: `!hc.rep_cnt || hc.rep_idx`. It never stops in the middle, either.
        deviates!("a list is refused unless it begins at element 0", "TLFS §3.7, rep start index");
    }
    succeeded(result, 4)
}

fn flushing_the_space_takes_no_repetitions() -> TestResult {
    offered(REMOTE)?;
    let words = [own_space(), ALL_PROCESSORS, 0];
    for (count, start) in [(1, 0), (0, 1), (2, 1)] {
        let result = call(space().with_reps(count, start), &words)?;
        let refused = result.status() == Err(HvError::INVALID_HYPERCALL_INPUT);
        check!(refused, "{count} repetitions from {start}: {:?}", result.status());
    }
    Ok(())
}

fn plain_flushes_take_no_variable_header() -> TestResult {
    offered(REMOTE)?;
    for input in [space(), list(1, 0)] {
        let result = call(input.with_variable_header(1), &four_ranges())?;
        refused(result, HvError::INVALID_HYPERCALL_INPUT)?;
    }
    Ok(())
}

fn a_set_of_another_size_than_the_variable_header_is_refused() -> TestResult {
    offered(REMOTE | Recommendations::EX_PROCESSOR_MASKS)?;
    for (banks, valid) in [(0, 0b1), (2, 0b1), (1, 0b11), (1, 0), (0x3FF, 0b1)] {
        let result = call(space_ex(banks), &[own_space(), 0, SPARSE_4K, valid, 1, 0])?;
        let refused = result.status() == Err(HvError::INVALID_HYPERCALL_INPUT);
        check!(refused, "{banks} words, banks {valid:#b}: {:?}", result.status());
    }
    Ok(())
}

fn a_set_without_processors_is_flushed_at_once() -> TestResult {
    offered(REMOTE | Recommendations::EX_PROCESSOR_MASKS)?;
    succeeded(call(space_ex(0), &[own_space(), 0, SPARSE_4K, 0])?, 0)?;
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX).with_reps(2, 0);
    succeeded(call(input, &[own_space(), 0, SPARSE_4K, 0, NOWHERE, NOWHERE])?, 2)
}

fn a_set_of_an_unknown_format_is_refused() -> TestResult {
    offered(REMOTE | Recommendations::EX_PROCESSOR_MASKS)?;
    let result = call(space_ex(1), &[own_space(), 0, 2, 1, 1])?;
    if result.status() == Ok(()) {
        // Linux 6.1, `kvm_hv_flush_tlb`: whatever is not sparse is all.
        deviates!(
            "a set of an unknown format is taken for the set of all",
            "TLFS HV_GENERIC_SET_FORMAT"
        );
    }
    refused(result, HvError::INVALID_PARAMETER)
}

fn unknown_flags_are_refused() -> TestResult {
    offered(REMOTE)?;
    for bit in [4, 5, 31, 63] {
        let result = call(space(), &[own_space(), ALL_PROCESSORS | 1 << bit, 0])?;
        if result.status() == Ok(()) {
            // Linux 6.1, `kvm_hv_flush_tlb` looks at one flag only.
            deviates!("flags without a meaning are ignored", FLAGS);
        }
        refused(result, HvError::INVALID_PARAMETER)?;
    }
    Ok(())
}

fn a_list_of_non_global_mappings_only_is_refused() -> TestResult {
    offered(REMOTE)?;
    let flags = ALL_PROCESSORS | HvFlushFlags::NON_GLOBAL_MAPPINGS_ONLY.bits();
    let result = call(list(1, 0), &[own_space(), flags, 0, NOWHERE])?;
    if result.status() == Ok(()) {
        deviates!("an option that makes no sense for a list is ignored", LIST);
    }
    refused(result, HvError::INVALID_PARAMETER)
}

fn parameters_at_an_odd_address_are_refused() -> TestResult {
    offered(REMOTE)?;
    for offset in [1, 4] {
        // SAFETY: flushing changes nothing but speed.
        let result = unsafe { in_memory_at(offset, space(), &[own_space(), ALL_PROCESSORS, 0]) }?;
        if result.status() == Ok(()) {
            // Linux 6.1, `kvm_hv_flush_tlb` copies from any address.
            deviates!("parameters that are not aligned to 8 bytes are taken", ALIGNMENT);
        }
        refused(result, HvError::INVALID_ALIGNMENT)?;
    }
    Ok(())
}

fn parameters_that_cross_a_page_are_refused() -> TestResult {
    offered(REMOTE)?;
    // What the call finds behind the page is a mask at most, and the flag makes it ignore that.
    let offset = HV_PAGE_SIZE - 16;
    // SAFETY: flushing changes nothing but speed.
    let result = unsafe { in_memory_at(offset, space(), &[own_space(), ALL_PROCESSORS, 0]) }?;
    if result.status() == Ok(()) {
        deviates!("parameters that cross a page are taken", ALIGNMENT);
    }
    refused(result, HvError::INVALID_ALIGNMENT)
}

/// Whether a call that is not recommended was refused; if not, it must work: then the caller goes on.
fn is_refused(result: HypercallResult) -> Result<bool, Problem> {
    let status = result.status();
    if status == Ok(()) {
        return Ok(false);
    }
    check!(is_not_offered(status), "it is refused by {status:?}");
    Ok(true)
}

fn the_flush_is_refused_or_works_where_it_is_not_recommended() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.recommendations().contains(REMOTE) {
        skip!("offered: flushes by hypercall are recommended");
    }
    let words = [own_space(), ALL_PROCESSORS, 0];
    if is_refused(call(space(), &words)?)? {
        return Ok(());
    }
    check_flush(Readers::Busy, 2, |pages| {
        shootdown::flush_own(pages);
        succeeded(call(space(), &[own_space(), ALL_PROCESSORS, 0])?, 0)
    })
}

fn the_flush_of_a_set_is_refused_or_works_where_it_is_not_recommended() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.recommendations().contains(REMOTE | Recommendations::EX_PROCESSOR_MASKS) {
        skip!("offered: flushes of sets are recommended");
    }
    if is_refused(call(space_ex(1), &[own_space(), 0, SPARSE_4K, 1, everybody()?])?)? {
        return Ok(());
    }
    check_flush(Readers::Busy, 2, |_| {
        succeeded(call(space_ex(1), &[own_space(), 0, SPARSE_4K, 1, everybody()?])?, 0)
    })
}

fn xmm_input_faults_where_it_is_not_offered() -> TestResult {
    offered(REMOTE)?;
    // SAFETY: flushing changes nothing but speed.
    unsafe { faults_without_xmm_input(space(), &[own_space(), ALL_PROCESSORS, 0]) }
}

fn switching_the_address_space_is_refused_where_it_is_not_recommended() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.recommendations().contains(Recommendations::AS_SWITCH) {
        skip!("offered: switching the address space is recommended");
    }
    // To the address space that is in force, so that it does no harm.
    let input = HypercallInput::new(HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE).fast();
    let before = own_space();
    let status = raw(input, before, 0)?;
    check!(status == Ok(()) || is_not_offered(status), "it is refused by {status:?}");
    let after = own_space();
    check!(after == before, "the address space was {before:#x} and is {after:#x}");
    Ok(())
}
