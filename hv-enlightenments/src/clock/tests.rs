//! The clock against a hypervisor whose page changes, lies or says *not now*.

use alloc::boxed::Box;
use alloc::string::ToString;
use std::sync::Arc;

use hv_abi::cpuid::Features;
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::FakeCpu;

const BOTH: Privileges = Privileges::TIME_REF_COUNT.union(Privileges::REFERENCE_TSC);
const PAGE_GPA: Gpa = Gpa(0x7000);
/// 10 MHz over 2.5 GHz as a 64-bit fraction: 2⁶⁴ / 250, rounded down.
const SCALE_2_5_GHZ: u64 = 73_786_976_294_838_206;

fn cpu_with(privileges: Privileges) -> (&'static FakeCpu, HyperV) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(privileges, Features::empty(), 0);
    (cpu, HyperV::detect(cpu).unwrap())
}

fn new_page() -> &'static ReferenceTscPage {
    Box::leak(Box::default())
}

fn fill(page: &ReferenceTscPage, sequence: u32, scale: u64, offset: u64) {
    page.scale.store(scale, Ordering::SeqCst);
    page.offset.store(offset, Ordering::SeqCst);
    page.sequence.store(sequence, Ordering::SeqCst);
}

fn clock_with_page() -> (&'static FakeCpu, &'static ReferenceTscPage, Clock<&'static FakeCpu>) {
    let (cpu, hv) = cpu_with(BOTH);
    let page = new_page();
    let mut clock = Clock::new(cpu, &hv).unwrap();
    // SAFETY: no hypervisor is there to write to the address.
    unsafe { clock.enable_tsc_page(&hv, page, PAGE_GPA) }.unwrap();
    (cpu, page, clock)
}

#[test]
fn the_page_has_the_layout_of_the_abi() {
    use core::mem::offset_of;
    use hv_abi::clock::HvReferenceTscPage as Abi;
    assert_eq!(offset_of!(ReferenceTscPage, sequence), offset_of!(Abi, tsc_sequence));
    assert_eq!(offset_of!(ReferenceTscPage, scale), offset_of!(Abi, tsc_scale));
    assert_eq!(offset_of!(ReferenceTscPage, offset), offset_of!(Abi, tsc_offset));
}

#[test]
fn enabling_writes_address_and_enable_bit_and_keeps_reserved_bits() {
    let (cpu, hv) = cpu_with(BOTH);
    cpu.set_msr(HV_X64_MSR_REFERENCE_TSC, 0xFFE);
    let mut clock = Clock::new(cpu, &hv).unwrap();
    // SAFETY: no hypervisor is there to write to the address.
    unsafe { clock.enable_tsc_page(&hv, new_page(), PAGE_GPA) }.unwrap();
    assert_eq!(cpu.msr_writes(), [(HV_X64_MSR_REFERENCE_TSC, 0x7FFF)]);
    assert!(clock.has_tsc_page());
}

#[test]
fn the_page_gives_time_without_touching_the_counter() {
    let (cpu, page, clock) = clock_with_page();
    fill(page, 1, SCALE_2_5_GHZ, 0);
    let reads = cpu.msr_reads();
    for (tsc, time) in
        [(0, 0), (250, 0), (251, 1), (2_500_000_000, 9_999_999), (2_500_000_001, 10_000_000)]
    {
        cpu.set_tsc(tsc);
        assert_eq!(clock.now_with_source(), (time, Source::TscPage), "TSC {tsc}");
    }
    assert_eq!(cpu.msr_reads(), reads);
}

#[test]
fn the_offset_is_signed() {
    let (cpu, page, clock) = clock_with_page();
    fill(page, 1, SCALE_2_5_GHZ, -9_000_000_i64 as u64);
    cpu.set_tsc(2_500_000_001);
    assert_eq!(clock.now_100ns(), 1_000_000);
}

#[test]
fn sequence_zero_sends_to_the_counter_and_back() {
    let (cpu, page, clock) = clock_with_page();
    cpu.set_msr(HV_X64_MSR_TIME_REF_COUNT, 77);
    fill(page, 0, SCALE_2_5_GHZ, 0);
    assert_eq!(clock.now_with_source(), (77, Source::Counter));
    fill(page, 5, SCALE_2_5_GHZ, 0);
    cpu.set_tsc(2_500_000_001);
    assert_eq!(clock.now_with_source(), (10_000_000, Source::TscPage));
    assert_eq!(page.sequence(), 5);
    page.invalidate();
    assert_eq!(clock.now_with_source(), (77, Source::Counter));
}

#[test]
fn a_change_under_way_is_read_again() {
    let (cpu, page, clock) = clock_with_page();
    fill(page, 1, SCALE_2_5_GHZ, 1_000_000_000);
    cpu.set_tsc(2_500_000_001);
    // The first reading sees sequence 1 and the old offset; then the hypervisor changes both.
    cpu.on_rdtsc(move || fill(page, 2, SCALE_2_5_GHZ, 0));
    assert_eq!(clock.now_with_source(), (10_000_000, Source::TscPage));
}

#[test]
fn a_change_to_zero_under_way_sends_to_the_counter() {
    let (cpu, page, clock) = clock_with_page();
    cpu.set_msr(HV_X64_MSR_TIME_REF_COUNT, 77);
    fill(page, 1, SCALE_2_5_GHZ, 0);
    cpu.on_rdtsc(move || fill(page, 0, 0, 0));
    assert_eq!(clock.now_with_source(), (77, Source::Counter));
}

#[test]
fn a_page_that_never_holds_still_does_not_hang_the_guest() {
    let (cpu, page, clock) = clock_with_page();
    cpu.set_msr(HV_X64_MSR_TIME_REF_COUNT, 77);
    fill(page, 1, SCALE_2_5_GHZ, 0);
    let looks = Arc::new(AtomicU32::new(1));
    let count = looks.clone();
    cpu.on_rdtsc(move || {
        let sequence = count.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        page.sequence.store(sequence, Ordering::SeqCst);
    });
    assert_eq!(clock.now_with_source(), (77, Source::Counter));
    assert_eq!(looks.load(Ordering::SeqCst), 1 + PAGE_ATTEMPTS);
}

#[test]
fn without_the_counter_there_is_no_clock_even_with_the_page() {
    let (cpu, hv) = cpu_with(Privileges::REFERENCE_TSC);
    assert_eq!(Clock::new(cpu, &hv).err(), Some(NoClock));
    assert!(cpu.msr_reads().is_empty());
}

#[test]
fn without_the_page_the_counter_is_the_clock() {
    let (cpu, hv) = cpu_with(Privileges::TIME_REF_COUNT);
    cpu.set_msr(HV_X64_MSR_TIME_REF_COUNT, 123);
    let mut clock = Clock::new(cpu, &hv).unwrap();
    // SAFETY: no hypervisor is there to write to the address.
    let refused = unsafe { clock.enable_tsc_page(&hv, new_page(), PAGE_GPA) };
    assert_eq!(refused, Err(NoTscPage::NoPrivilege));
    assert!(cpu.msr_writes().is_empty());
    assert_eq!(clock.now_with_source(), (123, Source::Counter));
}

#[test]
fn a_refused_page_is_never_read() {
    let (cpu, hv) = cpu_with(BOTH);
    cpu.set_msr(HV_X64_MSR_TIME_REF_COUNT, 9);
    let mut clock = Clock::new(cpu, &hv).unwrap();
    let page = new_page();
    fill(page, 1, u64::MAX, 0);
    for held in [0, PAGE_GPA.0, 0x9001] {
        cpu.on_wrmsr(move |_, _| held);
        // SAFETY: no hypervisor is there to write to the address.
        let error = unsafe { clock.enable_tsc_page(&hv, page, PAGE_GPA) }.unwrap_err();
        assert_eq!(error, NoTscPage::Refused { register: held });
        assert!(error.to_string().contains("did not enable"));
        assert!(!clock.has_tsc_page());
        assert_eq!(clock.now_with_source(), (9, Source::Counter));
    }
}

#[test]
fn a_misaligned_page_is_not_offered_to_the_hypervisor() {
    let (cpu, hv) = cpu_with(BOTH);
    let mut clock = Clock::new(cpu, &hv).unwrap();
    // SAFETY: no hypervisor is there to write to the address.
    let error = unsafe { clock.enable_tsc_page(&hv, new_page(), Gpa(0x7008)) };
    assert_eq!(error, Err(NoTscPage::Misaligned));
    assert!(cpu.msr_writes().is_empty());
}

proptest! {
    #[test]
    fn any_page_gives_the_formulas_value(
        sequence in 1..=u32::MAX, scale: u64, offset: i64, tsc: u64,
    ) {
        let cpu = FakeCpu::new();
        cpu.set_tsc(tsc);
        let page = ReferenceTscPage::new();
        fill(&page, sequence, scale, offset as u64);
        // 64 by 64 bits in four 32-bit halves, as a processor without a wide multiplication does it.
        let (th, tl, sh, sl) = (tsc >> 32, tsc & 0xFFFF_FFFF, scale >> 32, scale & 0xFFFF_FFFF);
        let (low, mid1, mid2, high) = (tl * sl, th * sl, tl * sh, th * sh);
        let carry = ((low >> 32) + (mid1 & 0xFFFF_FFFF) + (mid2 & 0xFFFF_FFFF)) >> 32;
        let product = high + (mid1 >> 32) + (mid2 >> 32) + carry;
        prop_assert_eq!(page.read(&&cpu), Some(product.wrapping_add_signed(offset)));
    }
}
