//! Reports against hypervisors that take a message, none, or nothing.

use alloc::boxed::Box;

use hv_abi::cpuid::Privileges;

use super::*;
use crate::cpu::fake::FakeCpu;

const CRASH: Crash = Crash { parameters: [1, 2, 3], message: Some((Gpa(0x7010), 40)) };
const CTL: u32 = 0x4000_0105;

fn reported(features: Features, ctl: u64, crash: &Crash) -> (Reported, &'static FakeCpu) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(Privileges::empty(), features, 0);
    for msr in 0x4000_0100..CTL {
        cpu.set_msr(msr, 0);
    }
    cpu.set_msr(CTL, ctl);
    let hv = HyperV::detect(cpu).unwrap();
    // SAFETY: the guest is a fake.
    (unsafe { report(cpu, &hv, crash) }, cpu)
}

#[test]
fn the_parameters_come_before_the_notification() {
    let (result, cpu) = reported(Features::GUEST_CRASH_MSRS, 3 << 62, &CRASH);
    assert_eq!(result, Reported::WithMessage);
    let expected = [
        (0x4000_0100, 1),
        (0x4000_0101, 2),
        (0x4000_0102, 3),
        (0x4000_0103, 0x7010),
        (0x4000_0104, 40),
        (CTL, 3 << 62),
    ];
    assert_eq!(cpu.msr_writes(), expected);
}

#[test]
fn a_message_is_announced_only_where_it_is_taken() {
    let (result, cpu) = reported(Features::GUEST_CRASH_MSRS, 1 << 63, &CRASH);
    assert_eq!(result, Reported::ParametersOnly);
    assert_eq!(cpu.msr_writes().last(), Some(&(CTL, 1 << 63)));
}

#[test]
fn without_a_message_none_is_announced() {
    let crash = Crash { message: None, ..CRASH };
    let (result, cpu) = reported(Features::GUEST_CRASH_MSRS, 3 << 62, &crash);
    assert_eq!(result, Reported::ParametersOnly);
    assert_eq!(cpu.msr_writes()[3..], [(0x4000_0103, 0), (0x4000_0104, 0), (CTL, 1 << 63)]);
}

#[test]
fn a_hypervisor_that_takes_no_notification_is_not_given_one() {
    for ctl in [0, 1 << 62, 1] {
        let (result, cpu) = reported(Features::GUEST_CRASH_MSRS, ctl, &CRASH);
        assert_eq!(result, Reported::NotOffered);
        assert!(cpu.msr_writes().is_empty());
    }
}

#[test]
fn without_the_feature_no_register_is_touched() {
    let features = Features::all() - Features::GUEST_CRASH_MSRS;
    let (result, cpu) = reported(features, 0, &CRASH);
    assert_eq!(result, Reported::NotOffered);
    assert!(cpu.msr_writes().is_empty() && cpu.msr_reads().is_empty());
}
