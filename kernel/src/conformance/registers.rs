//! Synthetic registers: there or not as the privileges say, read-only where the specification has them so, and a
//! general protection fault for all that does not exist.

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::{HV_X64_MSR_RESET, HV_X64_MSR_VP_INDEX, HV_X64_MSR_VP_RUNTIME};

use super::support::registers::{self, read, reading_faults, write, writing_faults};
use super::support::{argument, interface, need, on_each_vp, on_each_vp_with, without};
use super::{TestResult, cases, check, skip};

cases!(Registers: [
    the_vp_index_can_be_read => "TLFS Virtual Processor Indices",
    the_vp_index_is_read_only => "TLFS Virtual Processor Indices",
    the_vp_index_is_read_only_on_every_processor => "TLFS Virtual Processor Indices",
    the_vp_index_is_refused_without_its_privilege => "TLFS §2.4.4 AccessVpIndex",
    the_run_time_can_be_read => "TLFS Virtual Processor Run Time Register",
    the_run_time_never_goes_backwards => "TLFS Virtual Processor Run Time Register",
    the_run_time_is_read_only => "TLFS Virtual Processor Run Time Register",
    the_run_time_is_refused_without_its_privilege => "TLFS §2.4.4 AccessVpRunTimeReg",
    the_reset_register_reads_as_zero => "TLFS §2.4.4 AccessResetReg",
    writing_zero_to_the_reset_register_resets_nothing => "TLFS §2.4.4 AccessResetReg",
    the_reset_register_is_refused_without_its_privilege => "TLFS §2.4.4 AccessResetReg",
    registers_that_do_not_exist_cannot_be_read => "TLFS Synthetic MSRs",
    registers_that_do_not_exist_cannot_be_written => "TLFS Synthetic MSRs",
    registers_that_do_not_exist_fault_on_every_processor => "TLFS Synthetic MSRs",
    statistics_are_refused_without_their_privilege => "TLFS §2.4.4 AccessStatsReg",
    debug_registers_are_refused_without_their_feature => "TLFS §2.4.4",
]);

/// Numbers between the groups of synthetic registers, given to none (TLFS, *Synthetic MSRs*; Linux agrees).
const NO_REGISTERS: [u32; 6] =
    [0x4000_0004, 0x4000_000F, 0x4000_0011, 0x4000_0030, 0x4000_0060, 0x4000_00A0];
/// The first of the registers that map statistics pages (`HV_X64_MSR_STATS_PARTITION_RETAIL_PAGE`).
const STATISTICS: u32 = 0x4000_00E0;
/// `HV_X64_MSR_SYNDBG_CONTROL` to `HV_X64_MSR_SYNDBG_PENDING_BUFFER` (Linux).
const DEBUG: core::ops::RangeInclusive<u32> = 0x4000_00F1..=0x4000_00F5;

fn readable(privilege: Privileges, msr: u32) -> TestResult {
    need(privilege)?;
    let value = read(msr);
    check!(value.is_ok(), "reading register {msr:#x} raised {value:?}");
    Ok(())
}

fn read_only(privilege: Privileges, msr: u32) -> TestResult {
    readable(privilege, msr)?;
    // SAFETY: the register only tells something; nothing depends on it.
    unsafe { writing_faults(msr, 0) }
}

fn refused(privilege: Privileges, msr: u32) -> TestResult {
    without(privilege)?;
    registers::refused(msr)
}

fn the_vp_index_can_be_read() -> TestResult {
    readable(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_vp_index_is_read_only() -> TestResult {
    read_only(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_vp_index_is_read_only_on_every_processor() -> TestResult {
    need(Privileges::VP_INDEX)?;
    let right = on_each_vp(|_| {
        // SAFETY: the register only tells something; nothing depends on it.
        u64::from(unsafe { writing_faults(HV_X64_MSR_VP_INDEX, 63) }.is_ok())
    });
    check!(right.iter().all(|&right| right == 1), "faults by processor: {right:?}");
    Ok(())
}

fn the_vp_index_is_refused_without_its_privilege() -> TestResult {
    refused(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_run_time_can_be_read() -> TestResult {
    readable(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}

fn the_run_time_never_goes_backwards() -> TestResult {
    need(Privileges::VP_RUNTIME)?;
    let backwards = on_each_vp(|_| {
        let mut last = 0;
        let went_back = |_: &u32| {
            let now = read(HV_X64_MSR_VP_RUNTIME).unwrap_or(0);
            core::mem::replace(&mut last, now) > now
        };
        (0..50).filter(went_back).count() as u64
    });
    check!(backwards.iter().all(|&count| count == 0), "times by processor: {backwards:?}");
    Ok(())
}

fn the_run_time_is_read_only() -> TestResult {
    read_only(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}

fn the_run_time_is_refused_without_its_privilege() -> TestResult {
    refused(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}

fn the_reset_register_reads_as_zero() -> TestResult {
    need(Privileges::RESET)?;
    let value = read(HV_X64_MSR_RESET);
    check!(value == Ok(0), "{value:x?}");
    Ok(())
}

fn writing_zero_to_the_reset_register_resets_nothing() -> TestResult {
    need(Privileges::RESET)?;
    // SAFETY: only bit 0 resets.
    let written = unsafe { write(HV_X64_MSR_RESET, 0) };
    check!(written.is_ok(), "it raised {written:?}");
    Ok(())
}

fn the_reset_register_is_refused_without_its_privilege() -> TestResult {
    refused(Privileges::RESET, HV_X64_MSR_RESET)?;
    // SAFETY: only bit 0 resets.
    unsafe { registers::refused_writing(HV_X64_MSR_RESET, 0) }
}

fn registers_that_do_not_exist_cannot_be_read() -> TestResult {
    interface()?;
    NO_REGISTERS.into_iter().try_for_each(reading_faults)
}

fn registers_that_do_not_exist_cannot_be_written() -> TestResult {
    interface()?;
    // SAFETY: what does not exist does nothing.
    NO_REGISTERS.into_iter().try_for_each(|msr| unsafe { writing_faults(msr, 0) })
}

fn registers_that_do_not_exist_fault_on_every_processor() -> TestResult {
    interface()?;
    for msr in NO_REGISTERS {
        let right =
            on_each_vp_with(msr as usize, |_| u64::from(reading_faults(argument() as u32).is_ok()));
        check!(right.iter().all(|&right| right == 1), "{msr:#x}: faults by processor: {right:?}");
    }
    Ok(())
}

fn statistics_are_refused_without_their_privilege() -> TestResult {
    refused(Privileges::STATS, STATISTICS)
}

fn debug_registers_are_refused_without_their_feature() -> TestResult {
    if interface()?.features().contains(Features::DEBUG_MSRS) {
        skip!("offered: debug registers");
    }
    DEBUG.into_iter().try_for_each(reading_faults)
}
