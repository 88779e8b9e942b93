//! Hypercalls in all their forms, against calls that have an effect where the hypervisor offers them.

#![expect(unsafe_code, reason = "makes hypercalls")]

mod blocks;
mod input;
mod page;
mod preserved;

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hv_abi::cpuid::{Features, Recommendations};
use hv_abi::hypercall::{
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE,
    HV_CALL_NOTIFY_LONG_SPIN_WAIT, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI,
    HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, HypercallInput,
};
use hv_enlightenments::hypercall::CallError;

use super::support::calls::{buffer, bytes, calls};
use super::support::{holds_soon, interface, need_features, recommended, vp_indices};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::interrupts::TEST_VECTOR;
use crate::machine::vp;

cases!(Hypercalls: [
    fast_call_sends_interrupts => "TLFS §3.7.1",
    call_in_memory_sends_interrupts => "TLFS §3.7",
    xmm_fast_call_sends_interrupts => "TLFS §3.7.2",
    call_in_memory_flushes_the_address_space => "TLFS §3.7",
    rep_call_flushes_a_list => "TLFS §3.5",
]);

/// `HV_FLUSH_ALL_PROCESSORS | HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES` (TLFS, *Virtual TLB*).
const FLUSH_ALL: u64 = 1 << 0 | 1 << 1;

/// Calls that exist here, so that nothing but their input value can be wrong.
fn existing_call() -> Result<u16, Problem> {
    calls()?;
    let hv = interface()?;
    if hv.spin_threshold().rounds().is_some() {
        return Ok(HV_CALL_NOTIFY_LONG_SPIN_WAIT);
    }
    recommended(Recommendations::CLUSTER_IPI)?;
    Ok(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI)
}

/// `HvCallSendSyntheticClusterIpi`'s parameters: vector, target VTL 0, mask of processors.
fn ipi_parameters(mask: u64) -> [u64; 2] {
    [TEST_VECTOR.into(), mask]
}

/// All processors as a mask of the hypervisor's indices.
fn everybody() -> Result<u64, Problem> {
    let indices = vp_indices()?;
    if indices.iter().any(|&index| index >= 64) {
        skip!("an index is beyond 63: {indices:?}");
    }
    Ok(indices.iter().fold(0, |mask, index| mask | 1 << index))
}

/// Makes a call that interrupts everybody, and looks whether it does, once.
fn check_interrupts(call: impl FnOnce(u64) -> Result<(), CallError>) -> TestResult {
    let counts = || vp::online().map(|vp| vp.test_interrupts.load(Ordering::Acquire)).collect();
    let mask = everybody()?;
    let before: Vec<u64> = counts();
    let status = call(mask);
    check!(status.is_ok(), "{status:?}");
    let expected: Vec<u64> = before.iter().map(|count| count + 1).collect();
    let came = holds_soon(|| expected == Vec::from_iter(counts()));
    check!(came, "counts {before:?} became {:?}", counts());
    Ok(())
}

fn fast_call_sends_interrupts() -> TestResult {
    recommended(Recommendations::CLUSTER_IPI)?;
    let calls = calls()?;
    check_interrupts(|mask| {
        let [first, second] = ipi_parameters(mask);
        // SAFETY: the interrupt has a handler.
        Ok(unsafe { calls.fast(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, first, second) }?)
    })
}

fn call_in_memory_sends_interrupts() -> TestResult {
    recommended(Recommendations::CLUSTER_IPI)?;
    let (calls, mut buffer) = (calls()?, buffer()?);
    check_interrupts(|mask| {
        let input = HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI);
        let parameters = bytes(&ipi_parameters(mask));
        // SAFETY: the interrupt has a handler.
        unsafe { calls.in_memory(input, &mut buffer, &parameters, &mut []) }
    })
}

/// With a sparse set of one bank, the parameters are 32 bytes: more than general registers hold.
fn xmm_fast_call_sends_interrupts() -> TestResult {
    recommended(Recommendations::CLUSTER_IPI | Recommendations::EX_PROCESSOR_MASKS)?;
    need_features(Features::HYPERCALL_XMM_INPUT)?;
    let calls = calls()?;
    check_interrupts(|mask| {
        let input =
            HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX).with_variable_header(1);
        let (sparse_4k, bank_0) = (0, 1);
        let parameters = bytes(&[TEST_VECTOR.into(), sparse_4k, bank_0, mask]);
        // SAFETY: the interrupt has a handler, and SSE is enabled.
        unsafe { calls.xmm_fast(input, &parameters) }
    })
}

fn call_in_memory_flushes_the_address_space() -> TestResult {
    recommended(Recommendations::REMOTE_TLB_FLUSH)?;
    let (calls, mut buffer) = (calls()?, buffer()?);
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE);
    let parameters = bytes(&[0, FLUSH_ALL, 0]);
    // SAFETY: flushing changes nothing but speed.
    let status = unsafe { calls.in_memory(input, &mut buffer, &parameters, &mut []) };
    check!(status.is_ok(), "{status:?}");
    Ok(())
}

fn rep_call_flushes_a_list() -> TestResult {
    recommended(Recommendations::REMOTE_TLB_FLUSH)?;
    let (calls, mut buffer) = (calls()?, buffer()?);
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST);
    let list = [0x20_0000, 0x40_0000, 0x60_0000];
    let parameters = [bytes(&[0, FLUSH_ALL, 0]), bytes(&list)].concat();
    // SAFETY: flushing changes nothing but speed.
    let status = unsafe { calls.rep_in_memory(input, &mut buffer, &parameters, list.len() as u16) };
    check!(status.is_ok(), "{status:?}");
    Ok(())
}
