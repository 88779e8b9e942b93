//! Interrupts by the cluster calls: whom they reach, how often, and what must be refused.

#![expect(unsafe_code, reason = "makes hypercalls that interrupt processors")]

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hv_abi::cpuid::{Features, Privileges, Recommendations};
use hv_abi::hypercall::{
    HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, HvError,
    HypercallInput, HypercallResult,
};
use x86_64::instructions::interrupts;

use super::support::calls::result;
use super::support::parameters::{
    ALL, SPARSE_4K, everybody, everybody_else, faults_without_xmm_input, in_memory, in_registers,
    is_not_offered, mask_of, offered, refused, succeeded, succeeded_in_registers,
};
use super::support::{holds_soon, interface, need, need_features, on_each_vp};
use super::{Problem, TestResult, cases, check, deviates, skip};
use crate::machine::interrupts::TEST_VECTOR;
use crate::machine::{hyperv, ipi, vp};

const PLAIN: &str = "TLFS HvCallSendSyntheticClusterIpi";
const EX: &str = "TLFS HvCallSendSyntheticClusterIpiEx";
const SETS: &str = "TLFS HV_VP_SET";
const INPUT_VALUE: &str = "TLFS §3.7";

cases!(Ipi: [
    a_processor_can_interrupt_itself => PLAIN,
    nobody_is_interrupted_by_an_empty_mask => PLAIN,
    each_processor_can_be_interrupted_alone => PLAIN,
    all_others_can_be_interrupted => PLAIN,
    every_processor_can_interrupt_the_next => PLAIN,
    an_interrupt_waits_while_it_is_masked => PLAIN,
    equal_interrupts_that_wait_become_one => "TLFS §10, Intel SDM vol. 3 §11.8.4",
    a_processor_that_does_not_exist_does_not_keep_others_from_it => PLAIN,
    vectors_below_0x10_are_refused => PLAIN,
    vectors_above_0xff_are_refused => PLAIN,
    the_plain_call_takes_no_repetitions => INPUT_VALUE,
    the_plain_call_takes_no_variable_header => INPUT_VALUE,
    a_sparse_set_in_memory_is_interrupted => EX,
    the_set_of_all_in_memory_is_interrupted => EX,
    the_set_of_all_in_xmm_registers_is_interrupted => "TLFS §3.7.2",
    a_sparse_set_may_have_empty_banks => SETS,
    nobody_is_interrupted_by_an_empty_set => SETS,
    a_set_of_another_size_than_the_variable_header_is_refused => SETS,
    a_set_of_an_unknown_format_is_refused => SETS,
    vectors_out_of_range_are_refused_for_sets => EX,
    the_call_for_sets_takes_no_repetitions => INPUT_VALUE,
    the_call_is_refused_or_works_where_it_is_not_recommended => "TLFS §2.4.5",
    the_call_for_sets_is_refused_or_works_where_it_is_not_recommended => "TLFS §2.4.5",
    sets_in_xmm_registers_fault_where_they_are_not_offered => "TLFS §3.7.2",
    the_kernel_interrupts_by_hypercall_where_recommended => "TLFS §2.4.5",
]);

const IPI: Recommendations = Recommendations::CLUSTER_IPI;
const BOTH: Recommendations = IPI.union(Recommendations::EX_PROCESSOR_MASKS);
const VECTOR: u64 = TEST_VECTOR as u64;

fn counts() -> Vec<u64> {
    vp::online().map(|vp| vp.test_interrupts.load(Ordering::Acquire)).collect()
}

/// Fails unless `send` interrupts exactly these processors (bits by our number), each once.
fn check_reaches(targets: u64, send: impl FnOnce() -> TestResult) -> TestResult {
    let before = counts();
    send()?;
    let bit = |index: usize| targets >> index & 1;
    let expected: Vec<_> = before.iter().enumerate().map(|(n, count)| count + bit(n)).collect();
    // What should not come has had its time when what should has come, to this processor last of all.
    check!(
        holds_soon(|| counts() == expected),
        "{before:?} became {:?}, not {expected:?}",
        counts()
    );
    settle()?;
    check!(counts() == expected, "{before:?} became {:?}, not {expected:?}", counts());
    Ok(())
}

/// Lets interrupts that are under way arrive: each processor does something else first.
fn settle() -> TestResult {
    let indices = on_each_vp(|index| index as u64);
    check!(indices.len() == vp::online().count(), "a processor is gone");
    Ok(())
}

/// All online processors by our numbers.
fn all() -> u64 {
    vp::online().fold(0, |mask, vp| mask | 1 << vp.index)
}

fn plain() -> HypercallInput {
    HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI)
}

fn ex(banks: u16) -> HypercallInput {
    HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX).with_variable_header(banks)
}

/// The plain call in registers.
fn send(vector: u64, mask: u64) -> Result<HypercallResult, Problem> {
    result(plain().fast(), vector, mask)
}

fn send_in_memory(input: HypercallInput, words: &[u64]) -> Result<HypercallResult, Problem> {
    // SAFETY: every vector has a handler.
    unsafe { in_memory(input, words) }
}

fn a_processor_can_interrupt_itself() -> TestResult {
    offered(IPI)?;
    let own = mask_of(vp::online().take(1))?;
    check_reaches(1, || succeeded(send(VECTOR, own)?, 0))
}

fn nobody_is_interrupted_by_an_empty_mask() -> TestResult {
    offered(IPI)?;
    check_reaches(0, || succeeded(send(VECTOR, 0)?, 0))
}

fn each_processor_can_be_interrupted_alone() -> TestResult {
    offered(IPI)?;
    for target in vp::online() {
        let mask = mask_of(core::iter::once(target))?;
        check_reaches(1 << target.index, || succeeded(send(VECTOR, mask)?, 0))?;
    }
    Ok(())
}

fn all_others_can_be_interrupted() -> TestResult {
    offered(IPI)?;
    let others = everybody_else()?;
    check_reaches(all() & !1, || succeeded(send(VECTOR, others)?, 0))
}

fn every_processor_can_interrupt_the_next() -> TestResult {
    offered(IPI)?;
    everybody()?;
    check_reaches(all(), || {
        let failed = on_each_vp(|index| {
            let next = (index + 1) % vp::online().count();
            let sent = mask_of(vp::get(next).into_iter()).and_then(|mask| send(VECTOR, mask));
            u64::from(!sent.is_ok_and(|result| result.status().is_ok()))
        });
        check!(failed.iter().all(|&failed| failed == 0), "failures by processor: {failed:?}");
        Ok(())
    })
}

/// Interrupts this processor with interrupts off; what had come before they were on again, and what came then.
fn masked(times: usize) -> Result<(u64, u64), Problem> {
    let own = mask_of(vp::online().take(1))?;
    let count = || vp::current().test_interrupts.load(Ordering::Acquire);
    let before = count();
    let while_masked = interrupts::without_interrupts(|| {
        for _ in 0..times {
            succeeded(send(VECTOR, own)?, 0)?;
        }
        Ok(count() - before)
    })?;
    holds_soon(|| count() != before);
    Ok((while_masked, count() - before))
}

fn an_interrupt_waits_while_it_is_masked() -> TestResult {
    offered(IPI)?;
    let (while_masked, afterwards) = masked(1)?;
    check!(while_masked == 0, "{while_masked} came while interrupts were masked");
    check!(afterwards == 1, "{afterwards} came afterwards");
    Ok(())
}

fn equal_interrupts_that_wait_become_one() -> TestResult {
    offered(IPI)?;
    let (while_masked, afterwards) = masked(3)?;
    check!((while_masked, afterwards) == (0, 1), "{while_masked} came, then {afterwards}");
    Ok(())
}

fn a_processor_that_does_not_exist_does_not_keep_others_from_it() -> TestResult {
    offered(IPI)?;
    let everybody = everybody()?;
    if everybody >> 63 != 0 || everybody.count_ones() < vp::online().count() as u32 {
        skip!("all 64 processors exist");
    }
    check_reaches(all(), || succeeded(send(VECTOR, everybody | 1 << 63)?, 0))
}

/// Fails unless each of these vectors is refused.
fn vectors_are_refused(
    vectors: &[u64],
    send: impl Fn(u64) -> Result<HypercallResult, Problem>,
) -> TestResult {
    check_reaches(0, || {
        for &vector in vectors {
            let status = send(vector)?.status();
            // The specification gives the range, and no status. KVM says INVALID_HYPERCALL_INPUT.
            let refused = matches!(
                status,
                Err(HvError::INVALID_PARAMETER | HvError::INVALID_HYPERCALL_INPUT)
            );
            check!(refused, "vector {vector:#x}: {status:?}");
        }
        Ok(())
    })
}

fn vectors_below_0x10_are_refused() -> TestResult {
    offered(IPI)?;
    let mask = everybody()?;
    vectors_are_refused(&[0, 2, 0xF], |vector| send(vector, mask))
}

fn vectors_above_0xff_are_refused() -> TestResult {
    offered(IPI)?;
    let mask = everybody()?;
    vectors_are_refused(&[0x100, 0x1_0000 | VECTOR, 0xFFFF_FFFF], |vector| send(vector, mask))?;
    vectors_are_refused(&[0x100], |vector| send_in_memory(plain(), &[vector, mask]))
}

/// Fails unless the call with this input value is refused, and interrupts nobody.
fn input_is_refused(input: HypercallInput, words: &[u64]) -> TestResult {
    check_reaches(0, || refused(send_in_memory(input, words)?, HvError::INVALID_HYPERCALL_INPUT))
}

fn the_plain_call_takes_no_repetitions() -> TestResult {
    offered(IPI)?;
    let words = [VECTOR, everybody()?];
    input_is_refused(plain().with_reps(1, 0), &words)?;
    input_is_refused(plain().with_reps(0, 1), &words)
}

fn the_plain_call_takes_no_variable_header() -> TestResult {
    offered(IPI)?;
    input_is_refused(plain().with_variable_header(1), &[VECTOR, everybody()?, 0])
}

fn a_sparse_set_in_memory_is_interrupted() -> TestResult {
    offered(BOTH)?;
    let words = [VECTOR, SPARSE_4K, 1, everybody_else()?];
    check_reaches(all() & !1, || succeeded(send_in_memory(ex(1), &words)?, 0))
}

fn the_set_of_all_in_memory_is_interrupted() -> TestResult {
    offered(BOTH)?;
    check_reaches(all(), || succeeded(send_in_memory(ex(0), &[VECTOR, ALL, 0])?, 0))
}

fn the_set_of_all_in_xmm_registers_is_interrupted() -> TestResult {
    offered(BOTH)?;
    need_features(Features::HYPERCALL_XMM_INPUT)?;
    check_reaches(all(), || {
        // SAFETY: every vector has a handler.
        succeeded_in_registers(unsafe { in_registers(ex(0), &[VECTOR, ALL, 0]) }?, 0)
    })
}

fn a_sparse_set_may_have_empty_banks() -> TestResult {
    offered(BOTH)?;
    let words = [VECTOR, SPARSE_4K, 0b1011, everybody()?, 0, 0];
    check_reaches(all(), || succeeded(send_in_memory(ex(3), &words)?, 0))
}

fn nobody_is_interrupted_by_an_empty_set() -> TestResult {
    offered(BOTH)?;
    check_reaches(0, || succeeded(send_in_memory(ex(0), &[VECTOR, SPARSE_4K, 0])?, 0))?;
    check_reaches(0, || succeeded(send_in_memory(ex(1), &[VECTOR, SPARSE_4K, 1, 0])?, 0))
}

fn a_set_of_another_size_than_the_variable_header_is_refused() -> TestResult {
    offered(BOTH)?;
    let mask = everybody()?;
    for (banks, valid) in [(0, 0b1), (2, 0b1), (1, 0b11), (1, 0)] {
        input_is_refused(ex(banks), &[VECTOR, SPARSE_4K, valid, mask, 0])?;
    }
    Ok(())
}

fn a_set_of_an_unknown_format_is_refused() -> TestResult {
    offered(BOTH)?;
    let before = counts();
    let result = send_in_memory(ex(1), &[VECTOR, 2, 1, everybody()?])?;
    if result.status() == Ok(()) {
        // They come, so that they don't disturb the next case.
        let expected: Vec<_> = before.iter().map(|count| count + 1).collect();
        check!(
            holds_soon(|| counts() == expected),
            "success, but {before:?} became {:?}",
            counts()
        );
        // Linux 6.1, `kvm_hv_send_ipi`: whatever is not all is sparse.
        deviates!(
            "a set of an unknown format is taken for a sparse one",
            "TLFS HV_GENERIC_SET_FORMAT"
        );
    }
    refused(result, HvError::INVALID_PARAMETER)
}

fn vectors_out_of_range_are_refused_for_sets() -> TestResult {
    offered(BOTH)?;
    let mask = everybody()?;
    vectors_are_refused(&[0, 0xF, 0x100], |vector| {
        send_in_memory(ex(1), &[vector, SPARSE_4K, 1, mask])
    })
}

fn the_call_for_sets_takes_no_repetitions() -> TestResult {
    offered(BOTH)?;
    let words = [VECTOR, SPARSE_4K, 1, everybody()?];
    input_is_refused(ex(1).with_reps(1, 0), &words)?;
    input_is_refused(ex(1).with_reps(0, 1), &words)
}

/// Fails unless the call interrupts everybody, or is refused as one that is not offered.
fn refused_or_works(call: impl FnOnce() -> Result<HypercallResult, Problem>) -> TestResult {
    let before = counts();
    let status = call()?.status();
    let works = status == Ok(());
    check!(works || is_not_offered(status), "it is refused by {status:?}");
    let expected: Vec<_> = before.iter().map(|count| count + u64::from(works)).collect();
    let came = holds_soon(|| counts() == expected);
    check!(came, "{status:?}, but {before:?} became {:?}", counts());
    Ok(())
}

fn the_call_is_refused_or_works_where_it_is_not_recommended() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.recommendations().contains(IPI) {
        skip!("offered: interrupts by hypercall are recommended");
    }
    let mask = everybody()?;
    refused_or_works(|| send(VECTOR, mask))
}

fn the_call_for_sets_is_refused_or_works_where_it_is_not_recommended() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.recommendations().contains(BOTH) {
        skip!("offered: interrupts to sets are recommended");
    }
    let words = [VECTOR, SPARSE_4K, 1, everybody()?];
    refused_or_works(|| send_in_memory(ex(1), &words))
}

fn sets_in_xmm_registers_fault_where_they_are_not_offered() -> TestResult {
    offered(BOTH)?;
    // SAFETY: every vector has a handler.
    unsafe { faults_without_xmm_input(ex(0), &[VECTOR, SPARSE_4K, 0]) }
}

fn the_kernel_interrupts_by_hypercall_where_recommended() -> TestResult {
    let hv = interface()?;
    let usable = hyperv::calls().is_some() && hv.privileges().contains(Privileges::VP_INDEX);
    let expected = if usable && hv.recommendations().contains(IPI) { "hypercall" } else { "apic" };
    let method = ipi::method();
    check!(method == expected, "the kernel interrupts by {method}, not by {expected}");
    check_reaches(all(), || {
        ipi::send_to(vp::online(), TEST_VECTOR);
        Ok(())
    })?;
    for target in vp::online() {
        check_reaches(1 << target.index, || {
            ipi::send(target, TEST_VECTOR);
            Ok(())
        })?;
    }
    Ok(())
}
