//! The page and the registers against a hypervisor that sets bits, or refuses.

use alloc::boxed::Box;
use alloc::string::ToString;

use hv_abi::cpuid::{Features, HV_CPUID_ENLIGHTENMENT_INFO};

use super::*;
use crate::cpu::CpuidResult;
use crate::cpu::fake::FakeCpu;

const PAGE_GPA: Gpa = Gpa(0x5000);

fn cpu_with(privileges: Privileges) -> (&'static FakeCpu, HyperV) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(privileges, Features::empty(), 0);
    for msr in [HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR, HV_X64_MSR_VP_ASSIST_PAGE] {
        cpu.set_msr(msr, 0);
    }
    (cpu, HyperV::detect(cpu).unwrap())
}

fn new_page() -> &'static VpAssistPage {
    Box::leak(Box::default())
}

fn enabled() -> (&'static FakeCpu, EoiAssist<&'static FakeCpu>) {
    let (cpu, hv) = cpu_with(Privileges::APIC_ACCESS);
    // SAFETY: no hypervisor is there to write to the address.
    (cpu, unsafe { EoiAssist::enable(cpu, &hv, new_page(), PAGE_GPA) }.unwrap())
}

#[test]
fn an_interrupt_with_no_eoi_required_ends_by_the_page_once() {
    let (cpu, assist) = enabled();
    let writes = cpu.msr_writes().len();
    assist.page().apic_assist.store(1, Ordering::SeqCst);
    assert!(assist.end_of_interrupt(|| panic!("an EOI was written")));
    let mut written = false;
    assert!(!assist.end_of_interrupt(|| written = true), "the bit was for one interrupt");
    assert!(written);
    assert_eq!(cpu.msr_writes().len(), writes);
}

#[test]
fn other_bits_of_the_field_are_kept() {
    let (_, assist) = enabled();
    assist.page().apic_assist.store(0xFFFF_FFFF, Ordering::SeqCst);
    assist.end_of_interrupt(|| {});
    assert_eq!(assist.page().apic_assist(), 0xFFFF_FFFE);
}

#[test]
fn what_was_in_the_page_before_is_no_permission() {
    let (cpu, hv) = cpu_with(Privileges::APIC_ACCESS);
    let page = new_page();
    page.apic_assist.store(1, Ordering::SeqCst);
    // SAFETY: no hypervisor is there to write to the address.
    let assist = unsafe { EoiAssist::enable(cpu, &hv, page, PAGE_GPA) }.unwrap();
    assert!(!assist.end_of_interrupt(|| {}));
}

#[test]
fn the_register_keeps_its_reserved_bits_and_can_be_given_back() {
    let (cpu, hv) = cpu_with(Privileges::APIC_ACCESS);
    cpu.set_msr(HV_X64_MSR_VP_ASSIST_PAGE, 0xFFE);
    // SAFETY: no hypervisor is there to write to the address.
    let assist = unsafe { EoiAssist::enable(cpu, &hv, new_page(), PAGE_GPA) }.unwrap();
    assist.disable();
    let expected = [(HV_X64_MSR_VP_ASSIST_PAGE, 0x5FFF), (HV_X64_MSR_VP_ASSIST_PAGE, 0xFFE)];
    assert_eq!(cpu.msr_writes(), expected);
}

#[test]
fn what_is_refused_or_not_offered_is_no_assist() {
    let (cpu, hv) = cpu_with(Privileges::all() - Privileges::APIC_ACCESS);
    // SAFETY: no hypervisor is there to write to the address.
    let error = unsafe { EoiAssist::enable(cpu, &hv, new_page(), PAGE_GPA) }.unwrap_err();
    assert_eq!(error, NoAssistPage::NoPrivilege);
    assert!(ApicMsrs::new(cpu, &hv).is_none());
    let (cpu, hv) = cpu_with(Privileges::APIC_ACCESS);
    // SAFETY: as above.
    let error = unsafe { EoiAssist::enable(cpu, &hv, new_page(), Gpa(0x5004)) }.unwrap_err();
    assert_eq!(error, NoAssistPage::Misaligned);
    assert!(cpu.msr_writes().is_empty());
    cpu.on_wrmsr(|_, _| 0x9001);
    // SAFETY: as above.
    let error = unsafe { EoiAssist::enable(cpu, &hv, new_page(), PAGE_GPA) }.unwrap_err();
    assert_eq!(error, NoAssistPage::Refused { register: 0x9001 });
    assert!(error.to_string().contains("0x9001"));
}

#[test]
fn commands_have_the_destination_where_xapic_mode_has_it() {
    let (cpu, hv) = cpu_with(Privileges::APIC_ACCESS);
    let apic = ApicMsrs::new(cpu, &hv).unwrap();
    // SAFETY: nobody gets an interrupt from a fake.
    unsafe { apic.send(3, 0x4041) };
    apic.end_of_interrupt();
    apic.set_task_priority(0x20);
    let expected =
        [(HV_X64_MSR_ICR, 0x0300_0000_0000_4041), (HV_X64_MSR_EOI, 0), (HV_X64_MSR_TPR, 0x20)];
    assert_eq!(cpu.msr_writes(), expected);
    assert_eq!((apic.command(), apic.task_priority()), (0x0300_0000_0000_4041, 0x20));
}

#[test]
fn msrs_are_preferred_only_if_recommended_and_allowed() {
    for (privileges, eax, expected) in [
        (Privileges::APIC_ACCESS, 1 << 3, true),
        (Privileges::APIC_ACCESS, !(1 << 3), false),
        (Privileges::empty(), 1 << 3, false),
    ] {
        let (cpu, _) = cpu_with(privileges);
        cpu.set_leaf(HV_CPUID_ENLIGHTENMENT_INFO, CpuidResult { eax, ..CpuidResult::default() });
        assert_eq!(prefers_msrs(&HyperV::detect(cpu).unwrap()), expected);
    }
}
