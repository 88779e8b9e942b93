//! Crash registers, without a crash: what they keep and what they say of themselves.

#![expect(unsafe_code, reason = "writes model-specific registers")]

use hv_abi::cpuid::Features;
use hv_abi::msr::{
    HV_CRASH_CTL_CRASH_MESSAGE, HV_CRASH_CTL_CRASH_NOTIFY, HV_X64_MSR_CRASH_CTL,
    HV_X64_MSR_CRASH_P0, HV_X64_MSR_CRASH_P4,
};
use hv_enlightenments::Cpu;

use super::support::registers::{refused, refused_writing};
use super::support::synic::Restored;
use super::support::{interface, need_features, on_each_vp};
use super::{TestResult, cases, check, deviates, skip};
use crate::machine::cpu::CPU;
use crate::machine::hyperv;

cases!(Crash: [
    parameters_keep_what_is_written => "TLFS, Partition Crash Enlightenment",
    parameters_are_the_partitions => "TLFS, Partition Crash Enlightenment",
    the_control_register_says_what_can_be_told => "TLFS, Partition Crash Enlightenment",
    a_control_value_that_tells_nothing_changes_nothing => "TLFS, HV_CRASH_CTL_REG_CONTENTS",
    registers_are_refused_where_they_are_not_offered => "TLFS §2.4 leaf 0x40000003",
]);

const PARAMETERS: core::ops::RangeInclusive<u32> = HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4;

fn get(msr: u32) -> u64 {
    // SAFETY: the case has looked for the feature; reading has no effect.
    unsafe { CPU.rdmsr(msr) }
}

fn set(msr: u32, value: u64) {
    // SAFETY: a parameter only remembers; the control register is never told to notify.
    unsafe { CPU.wrmsr(msr, value) };
}

/// All parameters, which get their values back.
fn parameters() -> alloc::vec::Vec<Restored> {
    PARAMETERS.map(Restored::new).collect()
}

fn fill(seed: u64) {
    PARAMETERS.for_each(|msr| set(msr, seed.rotate_left(msr)));
}

fn kept(seed: u64) -> bool {
    PARAMETERS.into_iter().all(|msr| get(msr) == seed.rotate_left(msr))
}

const SEED: u64 = 0x0123_4567_89AB_CDEF;

fn parameters_keep_what_is_written() -> TestResult {
    need_features(Features::GUEST_CRASH_MSRS)?;
    let _restored = parameters();
    for seed in [SEED, !SEED, 0, u64::MAX] {
        fill(seed);
        check!(kept(seed), "they read {:x?}", PARAMETERS.map(get).collect::<alloc::vec::Vec<_>>());
    }
    Ok(())
}

fn parameters_are_the_partitions() -> TestResult {
    need_features(Features::GUEST_CRASH_MSRS)?;
    let _restored = parameters();
    fill(SEED);
    let same = on_each_vp(|_| u64::from(kept(SEED)));
    check!(same.iter().all(|&same| same == 1), "the same, by processor: {same:?}");
    Ok(())
}

fn the_control_register_says_what_can_be_told() -> TestResult {
    need_features(Features::GUEST_CRASH_MSRS)?;
    let control = get(HV_X64_MSR_CRASH_CTL);
    if control == 0 && hyperv::detect().host.is_none() {
        deviates!(
            "KVM says 0 until its user sets the register",
            "TLFS, Partition Crash Enlightenment"
        );
    }
    check!(control & HV_CRASH_CTL_CRASH_NOTIFY != 0, "it is {control:#x}");
    let reserved = control & !(HV_CRASH_CTL_CRASH_NOTIFY | HV_CRASH_CTL_CRASH_MESSAGE);
    check!(reserved & 0xFFFF_FFFF == 0, "reserved bits are set: {control:#x}");
    Ok(())
}

fn a_control_value_that_tells_nothing_changes_nothing() -> TestResult {
    need_features(Features::GUEST_CRASH_MSRS)?;
    let _restored = parameters();
    fill(SEED);
    let before = get(HV_X64_MSR_CRASH_CTL);
    for value in [0, HV_CRASH_CTL_CRASH_MESSAGE] {
        set(HV_X64_MSR_CRASH_CTL, value);
        let now = get(HV_X64_MSR_CRASH_CTL);
        check!(now == before, "written {value:#x}, {before:#x} became {now:#x}");
    }
    check!(kept(SEED), "the parameters have changed");
    Ok(())
}

fn registers_are_refused_where_they_are_not_offered() -> TestResult {
    let features = interface()?.features();
    if features.contains(Features::GUEST_CRASH_MSRS) {
        skip!("offered: feature {:?}", Features::GUEST_CRASH_MSRS);
    }
    PARAMETERS.chain([HV_X64_MSR_CRASH_CTL]).try_for_each(refused)?;
    // SAFETY: a parameter only remembers.
    unsafe { refused_writing(HV_X64_MSR_CRASH_P0, 1) }
}
