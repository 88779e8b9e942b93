//! Hypercalls as the hypervisor sees them, and what it may answer.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::msr::HV_X64_MSR_GUEST_OS_ID;
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::{FakeCall, FakeCpu};
use crate::memory::HvPage;

const IDENTITY: GuestOsId = GuestOsId::open_source(1, 2);
const GPA: Gpa = Gpa(0x5000);
const PARAMETERS_GPA: u64 = 0x9000;

fn page_at(gpa: Gpa) -> MappedPage {
    let page = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: the page is leaked to the value; nothing reaches it by its made-up physical address.
    unsafe { MappedPage::new(page, gpa) }.unwrap()
}

fn cpu_with(privileges: Privileges, features: Features) -> (&'static FakeCpu, HyperV) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(privileges, features, 0);
    (cpu, HyperV::detect(cpu).unwrap())
}

fn enable(
    cpu: &'static FakeCpu,
    hv: &HyperV,
) -> Result<HypercallPage<&'static FakeCpu>, EnableError> {
    // SAFETY: the fake never runs the page.
    unsafe { HypercallPage::enable(cpu, hv, IDENTITY, &page_at(GPA)) }
}

fn enabled(features: Features) -> (&'static FakeCpu, HypercallPage<&'static FakeCpu>) {
    let (cpu, hv) = cpu_with(Privileges::HYPERCALL, features);
    (cpu, enable(cpu, &hv).unwrap())
}

fn buffer() -> CallBuffer {
    CallBuffer::new(page_at(Gpa(PARAMETERS_GPA)))
}

#[test]
fn identity_comes_first_then_the_page() {
    let (cpu, page) = enabled(Features::empty());
    assert_eq!(
        cpu.msr_writes(),
        [(HV_X64_MSR_GUEST_OS_ID, 0xFF00_0000_0001_0002), (HV_X64_MSR_HYPERCALL, 0x5001)]
    );
    // SAFETY: the fake does nothing on a call.
    unsafe { page.fast(8, 1, 2) }.unwrap();
    assert_eq!(cpu.calls()[0].page, page.entry().addr().get());
}

#[test]
fn without_the_privilege_no_register_is_touched() {
    let (cpu, hv) = cpu_with(Privileges::all() - Privileges::HYPERCALL, Features::empty());
    assert_eq!(enable(cpu, &hv).err(), Some(EnableError::NoPrivilege));
    assert!(cpu.msr_writes().is_empty() && cpu.msr_reads().is_empty());
}

#[test]
fn reserved_bits_of_the_register_are_preserved() {
    let (cpu, hv) = cpu_with(Privileges::HYPERCALL, Features::empty());
    cpu.set_msr(HV_X64_MSR_HYPERCALL, 0xFFC);
    enable(cpu, &hv).unwrap();
    assert_eq!(cpu.msr_writes()[1], (HV_X64_MSR_HYPERCALL, 0x5FFD));
}

#[test]
fn a_page_that_firmware_enabled_elsewhere_is_moved() {
    let (cpu, hv) = cpu_with(Privileges::HYPERCALL, Features::empty());
    cpu.set_msr(HV_X64_MSR_HYPERCALL, 0xF_F001);
    enable(cpu, &hv).unwrap();
    assert_eq!(cpu.msr_writes()[1], (HV_X64_MSR_HYPERCALL, 0x5001));
}

#[test]
fn a_register_locked_elsewhere_is_an_error_and_locked_here_is_fine() {
    let (cpu, hv) = cpu_with(Privileges::HYPERCALL, Features::empty());
    for (register, at) in [(0x6003, 0x6000), (0x5002, 0x5000)] {
        cpu.set_msr(HV_X64_MSR_HYPERCALL, register);
        assert_eq!(enable(cpu, &hv).err(), Some(EnableError::Locked { at: Gpa(at) }));
    }
    cpu.set_msr(HV_X64_MSR_HYPERCALL, 0x5003);
    assert!(enable(cpu, &hv).is_ok());
    assert!(cpu.msr_writes().iter().all(|&(msr, _)| msr != HV_X64_MSR_HYPERCALL));
}

#[test]
fn a_register_that_does_not_take_the_value_is_an_error() {
    for held in [0, 0x5000, 0x6001, 0x1] {
        let (cpu, hv) = cpu_with(Privileges::HYPERCALL, Features::empty());
        cpu.on_wrmsr(move |msr, value| if msr == HV_X64_MSR_HYPERCALL { held } else { value });
        let error = enable(cpu, &hv).unwrap_err();
        assert_eq!(error, EnableError::Refused { register: held });
        assert!(error.to_string().contains("did not enable"));
    }
}

#[test]
fn a_hypervisor_that_loses_the_identity_enables_nothing() {
    let (cpu, hv) = cpu_with(Privileges::HYPERCALL, Features::empty());
    cpu.on_wrmsr(|msr, value| if msr == HV_X64_MSR_GUEST_OS_ID { 0 } else { value });
    assert_eq!(enable(cpu, &hv).err(), Some(EnableError::Refused { register: 0x5000 }));
}

#[test]
fn misaligned_pages_cannot_be_named() {
    let page: NonNull<u8> = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: as in `page_at`; a refused page is not used at all.
    assert!(unsafe { MappedPage::new(page, Gpa(0x5008)) }.is_none());
    let within = page.map_addr(|address| address | 8);
    // SAFETY: as above.
    assert!(unsafe { MappedPage::new(within, Gpa(0x5000)) }.is_none());
}

#[test]
fn a_fast_call_sets_the_fast_bit_and_passes_both_registers() {
    let (cpu, page) = enabled(Features::empty());
    // SAFETY: the fake does nothing on a call.
    unsafe { page.fast(0x5D, 0x1122, 0x3344) }.unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.general, call.xmm), (0x1_005D, [0x1122, 0x3344], false));
}

#[test]
fn statuses_become_errors_whatever_else_the_result_holds() {
    let (cpu, page) = enabled(Features::empty());
    cpu.on_call(|_| 0xFFFF_0FFF_FFFF_0006);
    // SAFETY: the fake does nothing on a call.
    assert_eq!(unsafe { page.fast(8, 0, 0) }, Err(HvError::ACCESS_DENIED));
    cpu.on_call(|_| 0xFFFF_0FFF_FFFF_0000);
    // SAFETY: as above.
    assert_eq!(unsafe { page.fast(8, 0, 0) }, Ok(()));
}

#[test]
fn xmm_parameters_lie_in_memory_order() {
    let (cpu, page) = enabled(Features::HYPERCALL_XMM_INPUT);
    let parameters: Vec<u8> = (0..112).collect();
    // SAFETY: the fake does nothing on a call.
    unsafe { page.xmm_fast(HypercallInput::new(3), &parameters) }.unwrap();
    let call = cpu.calls()[0];
    assert!(call.xmm);
    assert_eq!(call.rcx, 0x1_0003);
    assert_eq!(call.registers.general, [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908]);
    assert_eq!(call.registers.xmm[0], [0x1716_1514_1312_1110, 0x1F1E_1D1C_1B1A_1918]);
    assert_eq!(call.registers.xmm[5], [0x6766_6564_6362_6160, 0x6F6E_6D6C_6B6A_6968]);
}

#[test]
fn short_xmm_parameters_need_no_xmm_and_are_padded_with_zeros() {
    let (cpu, page) = enabled(Features::empty());
    // SAFETY: the fake does nothing on a call.
    unsafe { page.xmm_fast(HypercallInput::new(8), &[0xAA; 9]) }.unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.xmm, call.registers.general), (false, [0xAAAA_AAAA_AAAA_AAAA, 0xAA]));
}

#[test]
fn xmm_calls_are_not_made_where_they_would_fault_or_not_fit() {
    let (cpu, page) = enabled(Features::empty());
    let input = HypercallInput::new(8);
    // SAFETY: the fake does nothing on a call.
    assert_eq!(unsafe { page.xmm_fast(input, &[0; 17]) }, Err(CallError::NoXmm));
    // SAFETY: as above.
    assert_eq!(unsafe { page.xmm_fast(input, &[0; 113]) }, Err(CallError::TooLong));
    let rep = input.with_reps(1, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { page.xmm_fast(rep, &[]) }, Err(CallError::BadReps));
    assert!(cpu.calls().is_empty());
}

const XMM_BOTH: Features = Features::HYPERCALL_XMM_INPUT.union(Features::HYPERCALL_XMM_OUTPUT);

/// What the registers hold after a call: their numbers, in both halves.
fn numbered() -> FastRegisters {
    FastRegisters {
        general: [1, 2],
        xmm: core::array::from_fn(|n| [3 + 2 * n as u64, 4 + 2 * n as u64]),
    }
}

#[test]
fn xmm_output_lies_behind_the_input_from_the_next_pair_of_registers_on() {
    // The example of the TLFS (*XMM fast hypercall output*): 20 bytes of input leave 80 for output, from XMM1 on.
    let (cpu, page) = enabled(XMM_BOTH);
    cpu.on_output(|_| numbered());
    let mut output = [0; 80];
    // SAFETY: the fake does nothing on a call.
    unsafe { page.xmm_fast_output(HypercallInput::new(0x50), &[0xAA; 20], &mut output) }.unwrap();
    let words: Vec<_> = output.chunks_exact(8).map(|word| word[0]).collect();
    assert_eq!(words, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.xmm[0]), (0x1_0050, [0xAAAA_AAAA, 0]));
}

#[test]
fn output_without_input_begins_in_rdx() {
    // HvExtCallQueryCapabilities: no input, 8 bytes of output. It takes no XMM input.
    let (cpu, page) = enabled(Features::HYPERCALL_XMM_OUTPUT);
    cpu.on_output(|_| numbered());
    let mut output = [0; 8];
    // SAFETY: the fake does nothing on a call.
    unsafe { page.xmm_fast_output(HypercallInput::new(0x8001), &[], &mut output) }.unwrap();
    assert_eq!(u64::from_le_bytes(output), 1);
}

#[test]
fn xmm_output_is_not_asked_for_where_it_would_fault_or_not_fit() {
    let input = HypercallInput::new(0x50);
    for (features, bytes) in [
        (Features::HYPERCALL_XMM_INPUT, 8),
        (Features::HYPERCALL_XMM_OUTPUT, 17),
        (Features::empty(), 0),
    ] {
        let (cpu, page) = enabled(features);
        // SAFETY: the fake does nothing on a call.
        let result = unsafe { page.xmm_fast_output(input, &vec![0; bytes], &mut [0; 8]) };
        assert_eq!(result, Err(CallError::NoXmm));
        assert!(cpu.calls().is_empty());
    }
    let (cpu, page) = enabled(XMM_BOTH);
    for (bytes, output) in [(0, 113), (1, 97), (97, 1), (113, 0), (112, 1)] {
        let mut output = vec![0; output];
        // SAFETY: the fake does nothing on a call.
        let result = unsafe { page.xmm_fast_output(input, &vec![0; bytes], &mut output) };
        assert_eq!(result, Err(CallError::TooLong), "{bytes} in, {} out", output.len());
    }
    assert!(cpu.calls().is_empty());
}

#[test]
fn xmm_output_of_a_failed_call_is_not_read() {
    let (cpu, page) = enabled(XMM_BOTH);
    cpu.on_output(|_| numbered());
    cpu.on_call(|_| 5);
    let mut output = [0xEE; 8];
    // SAFETY: the fake does nothing on a call.
    let result = unsafe { page.xmm_fast_output(HypercallInput::new(0x50), &[], &mut output) };
    assert_eq!(result, Err(CallError::Status(HvError::INVALID_PARAMETER)));
    assert_eq!(output, [0xEE; 8]);
}

/// Lets a handler read and write the buffer behind its physical address.
fn memory_of(buffer: &CallBuffer) -> usize {
    buffer.page.address().addr().get()
}

fn bytes_at<'a>(page: usize, gpa: u64, length: usize) -> &'a mut [u8] {
    let offset = usize::try_from(gpa - PARAMETERS_GPA).unwrap();
    assert!(offset + length <= HV_PAGE_SIZE);
    let start = core::ptr::with_exposed_provenance_mut::<u8>(page + offset);
    // SAFETY: inside the leaked page, whose owner waits for the call that this is part of.
    unsafe { core::slice::from_raw_parts_mut(start, length) }
}

#[test]
fn a_call_in_memory_carries_input_in_and_output_out() {
    let (cpu, page) = enabled(Features::empty());
    let mut buffer = buffer();
    let memory = memory_of(&buffer);
    cpu.on_call(move |call| {
        let [input, output] = call.registers.general;
        assert_eq!(call.rcx, 0x8001);
        assert_eq!((input, output), (PARAMETERS_GPA, PARAMETERS_GPA + 8));
        assert_eq!(bytes_at(memory, input, 5), [1, 2, 3, 4, 5]);
        bytes_at(memory, output, 8).copy_from_slice(&0x1234_u64.to_le_bytes());
        0
    });
    let mut output = [0; 8];
    let input = HypercallInput::new(0x8001);
    // SAFETY: the fake writes what the handler above writes.
    unsafe { page.in_memory(input, &mut buffer, &[1, 2, 3, 4, 5], &mut output) }.unwrap();
    assert_eq!(u64::from_le_bytes(output), 0x1234);
}

#[test]
fn blocks_without_bytes_have_no_address() {
    let (cpu, page) = enabled(Features::empty());
    let input = HypercallInput::new(0x46);
    // SAFETY: the fake does nothing on a call.
    unsafe { page.in_memory(input, &mut buffer(), &[], &mut [0; 8]) }.unwrap();
    // SAFETY: as above.
    unsafe { page.in_memory(input, &mut buffer(), &[7], &mut []) }.unwrap();
    let general: Vec<_> = cpu.calls().iter().map(|call| call.registers.general).collect();
    assert_eq!(general, [[0, PARAMETERS_GPA], [PARAMETERS_GPA, 0]]);
}

#[test]
fn output_of_a_failed_call_is_not_read() {
    let (cpu, page) = enabled(Features::empty());
    cpu.on_call(|_| 5);
    let mut output = [0xEE; 8];
    let input = HypercallInput::new(0x46);
    // SAFETY: the fake does nothing on a call.
    let result = unsafe { page.in_memory(input, &mut buffer(), &[], &mut output) };
    assert_eq!(result, Err(CallError::Status(HvError::INVALID_PARAMETER)));
    assert_eq!(output, [0xEE; 8]);
}

#[test]
fn parameters_never_cross_the_page() {
    let (cpu, page) = enabled(Features::empty());
    let input = HypercallInput::new(1);
    for (bytes, output) in [(4097, 0), (0, 4097), (4096, 1), (4089, 1), (1, 4089), (8, 4089)] {
        let (parameters, mut output) = (vec![0; bytes], vec![0; output]);
        // SAFETY: the fake does nothing on a call.
        let result = unsafe { page.in_memory(input, &mut buffer(), &parameters, &mut output) };
        assert_eq!(result, Err(CallError::TooLong), "{bytes} in, {} out", output.len());
    }
    assert!(cpu.calls().is_empty());
}

#[test]
fn kinds_of_calls_are_not_mixed_up() {
    let (cpu, page) = enabled(Features::empty());
    let mut buffer = buffer();
    for input in [HypercallInput::new(1).fast(), HypercallInput::new(1).with_reps(2, 0)] {
        // SAFETY: the fake does nothing on a call.
        let result = unsafe { page.in_memory(input, &mut buffer, &[], &mut []) };
        assert_eq!(result, Err(CallError::BadReps));
    }
    for (input, count) in [
        (HypercallInput::new(1), 0),
        (HypercallInput::new(1), 4096),
        (HypercallInput::new(1).fast(), 1),
    ] {
        // SAFETY: as above.
        let result = unsafe { page.rep_in_memory(input, &mut buffer, &[], count) };
        assert_eq!(result, Err((CallError::BadReps, 0)));
    }
    assert!(cpu.calls().is_empty());
}

fn rep(page: HypercallPage<&'static FakeCpu>, count: u16) -> Result<(), (CallError, u16)> {
    // SAFETY: the fake does nothing on a call.
    unsafe { page.rep_in_memory(HypercallInput::new(3), &mut buffer(), &[0; 64], count) }
}

fn starts(cpu: &FakeCpu) -> Vec<u16> {
    cpu.calls().iter().map(|call| HypercallInput(call.rcx).rep_start()).collect()
}

#[test]
fn a_rep_call_goes_on_where_the_hypervisor_stopped() {
    let (cpu, page) = enabled(Features::empty());
    cpu.on_call(|call| u64::from((HypercallInput(call.rcx).rep_start() + 4).min(10)) << 32);
    rep(page, 10).unwrap();
    assert_eq!(starts(cpu), [0, 4, 8]);
    assert!(cpu.calls().iter().all(|call| HypercallInput(call.rcx).rep_count() == 10));
}

#[test]
fn a_rep_call_that_fails_says_how_far_it_came() {
    let (cpu, page) = enabled(Features::empty());
    cpu.on_call(|_| 7 << 32 | 5);
    assert_eq!(rep(page, 10), Err((CallError::Status(HvError::INVALID_PARAMETER), 7)));
    assert_eq!(starts(cpu), [0]);
}

#[test]
fn impossible_progress_ends_a_rep_call() {
    // No progress, too much, and backwards.
    for done in [[0, 0], [11, 0], [4, 3], [4, 4]] {
        let (cpu, page) = enabled(Features::empty());
        let calls = AtomicU16::new(0);
        cpu.on_call(move |_| done[usize::from(calls.fetch_add(1, Ordering::SeqCst))] << 32);
        let Err((CallError::BadResult, _)) = rep(page, 10) else { panic!("{done:?} accepted") };
    }
}

#[test]
fn a_rep_call_in_registers_is_continued_alike() {
    let (cpu, page) = enabled(Features::HYPERCALL_XMM_INPUT);
    cpu.on_call(|call| u64::from((HypercallInput(call.rcx).rep_start() + 2).min(5)) << 32);
    let input = HypercallInput::new(3);
    // SAFETY: the fake does nothing on a call.
    unsafe { page.rep_xmm_fast(input, &[7; 64], 5) }.unwrap();
    assert_eq!(starts(cpu), [0, 2, 4]);
    assert!(cpu.calls().iter().all(|call| HypercallInput(call.rcx).is_fast() && call.xmm));
    // SAFETY: as above.
    let result = unsafe { page.rep_xmm_fast(input, &[7; 113], 5) };
    assert_eq!(result, Err((CallError::TooLong, 0)));
    // SAFETY: as above.
    assert_eq!(unsafe { page.rep_xmm_fast(input, &[7; 8], 0) }, Err((CallError::BadReps, 0)));
    let (_, page) = enabled(Features::empty());
    // SAFETY: as above.
    assert_eq!(unsafe { page.rep_xmm_fast(input, &[7; 64], 5) }, Err((CallError::NoXmm, 0)));
}

#[test]
fn errors_name_what_failed() {
    assert_eq!(
        CallError::from(HvError::INVALID_ALIGNMENT).to_string(),
        "HV_STATUS_INVALID_ALIGNMENT"
    );
    let locked = EnableError::Locked { at: Gpa(0x6000) };
    assert_eq!(locked.to_string(), "the hypercall page is locked at 0x6000");
}

proptest! {
    #[test]
    fn any_result_values_at_all_are_survived(results in proptest::collection::vec(any::<u64>(), 1..8)) {
        let (cpu, page) = enabled(Features::HYPERCALL_XMM_INPUT);
        let values = results.clone();
        let next = AtomicU16::new(0);
        cpu.on_call(move |_: &FakeCall| {
            values[usize::from(next.fetch_add(1, Ordering::SeqCst)) % values.len()]
        });
        if let Err((_, done)) = rep(page, 100) {
            prop_assert!(done <= 100);
        }
        let before = cpu.calls().len();
        let expected = results[before % results.len()] as u16;
        // SAFETY: the fake does nothing on a call.
        let status = unsafe { page.fast(8, 0, 0) }.map_or_else(|error| error.0.get(), |()| 0);
        prop_assert_eq!(status, expected);
    }

    #[test]
    fn any_parameters_lie_inside_the_page(input in 0_usize..5000, output in 0_usize..5000) {
        match buffer().fill(&[&vec![0; input]], output) {
            Ok(blocks) => {
                prop_assert!(blocks.output_offset >= input);
                prop_assert!(blocks.output_offset.is_multiple_of(8));
                prop_assert!(blocks.output_offset + output <= HV_PAGE_SIZE);
            }
            Err(error) => {
                prop_assert_eq!(error, CallError::TooLong);
                prop_assert!(input.next_multiple_of(8) + output > HV_PAGE_SIZE);
            }
        }
    }
}
