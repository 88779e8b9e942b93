//! Interrupts as the hypervisor sees them asked for, byte by byte as in the TLFS.

use alloc::string::ToString;

use hv_abi::cpuid::Features;
use hv_abi::hypercall::HvError;

use super::*;
use crate::cpu::fake::FakeCpu;
use crate::test_calls::{BUFFER_GPA, buffer, enabled, registers, words};
use crate::vp_set::VpSet;

const BOTH: Recommendations =
    Recommendations::CLUSTER_IPI.union(Recommendations::EX_PROCESSOR_MASKS);
const XMM: Features = Features::HYPERCALL_XMM_INPUT;

fn ipi(
    features: Features,
    recommendations: Recommendations,
) -> (&'static FakeCpu, ClusterIpi<&'static FakeCpu>) {
    let (cpu, hv, calls) = enabled(features, recommendations);
    (cpu, ClusterIpi::new(&hv, &calls).unwrap())
}

fn send(
    ipi: ClusterIpi<&'static FakeCpu>,
    targets: Targets<'_>,
    buffer: Option<&mut CallBuffer>,
) -> Result<(), IpiError> {
    // SAFETY: the fake interrupts nobody.
    unsafe { ipi.send(0xF1, targets, buffer) }
}

fn set(indices: &[u32]) -> VpSet {
    VpSet::from_indices(indices.iter().copied()).unwrap()
}

#[test]
fn nothing_is_sent_this_way_unless_recommended() {
    let (cpu, hv, calls) = enabled(XMM, !Recommendations::CLUSTER_IPI);
    assert!(ClusterIpi::new(&hv, &calls).is_none());
    assert!(cpu.calls().is_empty());
}

#[test]
fn low_indices_take_two_registers_and_no_xmm() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    send(ipi, Targets::Set(&set(&[0, 3, 63])), None).unwrap();
    let call = cpu.calls()[0];
    // Call code 0x000B, fast; vector and mask.
    assert_eq!((call.rcx, call.xmm), (0x1_000B, false));
    assert_eq!(call.registers.general, [0xF1, 0x8000_0000_0000_0009]);
}

#[test]
fn high_indices_take_a_sparse_set_in_xmm_registers() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    send(ipi, Targets::Set(&set(&[1, 64, 200])), None).unwrap();
    let call = cpu.calls()[0];
    // Call code 0x0015, fast, three banks of variable header.
    assert_eq!((call.rcx, call.xmm), (0x7_0015, true));
    assert_eq!(registers(&call)[..7], [0xF1, 0, 0b1011, 0x2, 0x1, 0x100, 0]);
}

#[test]
fn without_xmm_a_sparse_set_goes_in_memory() {
    let (cpu, ipi) = ipi(Features::empty(), BOTH);
    let mut buffer = buffer();
    send(ipi, Targets::Set(&set(&[64])), Some(&mut buffer)).unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.general), (0x2_0015, [BUFFER_GPA, 0]));
    assert_eq!(words(&buffer, 4), [0xF1, 0, 0b10, 0x1]);
}

#[test]
fn more_banks_than_registers_go_in_memory() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    let banks = |count| VpSet::from_indices((0..count).map(|bank| bank * 64)).unwrap();
    send(ipi, Targets::Set(&banks(11)), None).unwrap();
    assert!(cpu.calls()[0].xmm);
    assert_eq!(send(ipi, Targets::Set(&banks(12)), None), Err(IpiError::Call(CallError::NoBuffer)));
    let mut buffer = buffer();
    send(ipi, Targets::Set(&banks(64)), Some(&mut buffer)).unwrap();
    assert_eq!((cpu.calls().len(), cpu.calls()[1].xmm), (2, false));
    assert_eq!(words(&buffer, 67)[2..], [&[u64::MAX][..], &[1; 64]].concat());
}

#[test]
fn everybody_is_a_format_without_banks() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    send(ipi, Targets::All, None).unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.xmm), (0x1_0015, true));
    assert_eq!(registers(&call)[..3], [0xF1, 1, 0]);
}

#[test]
fn without_ex_only_low_indices_can_be_reached() {
    let (cpu, ipi) = ipi(XMM, Recommendations::CLUSTER_IPI);
    assert_eq!(send(ipi, Targets::All, None), Err(IpiError::NeedsEx));
    assert_eq!(send(ipi, Targets::Set(&set(&[64])), None), Err(IpiError::NeedsEx));
    assert!(cpu.calls().is_empty());
    assert_eq!(send(ipi, Targets::Set(&set(&[63])), None), Ok(()));
}

#[test]
fn nobody_is_reached_without_a_call() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    assert_eq!(send(ipi, Targets::Set(&VpSet::new()), None), Ok(()));
    assert!(cpu.calls().is_empty());
}

#[test]
fn vectors_of_exceptions_are_refused() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    for vector in [0, 2, 0xF] {
        // SAFETY: the fake interrupts nobody.
        let result = unsafe { ipi.send(vector, Targets::All, None) };
        assert_eq!(result, Err(IpiError::BadVector(vector)));
    }
    assert!(cpu.calls().is_empty());
    // SAFETY: as above.
    assert_eq!(unsafe { ipi.send(0x10, Targets::All, None) }, Ok(()));
}

#[test]
fn the_hypervisors_refusal_is_told() {
    let (cpu, ipi) = ipi(XMM, BOTH);
    cpu.on_call(|_| 5);
    let error = send(ipi, Targets::Set(&set(&[0])), None).unwrap_err();
    assert_eq!(error, IpiError::Call(CallError::Status(HvError::INVALID_PARAMETER)));
    assert_eq!(error.to_string(), "HV_STATUS_INVALID_PARAMETER");
}
