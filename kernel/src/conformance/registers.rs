//! Synthetic registers: readable or not as the privileges say, and read-only where the specification has them so.

use hv_abi::cpuid::Privileges;
use hv_abi::msr::{HV_X64_MSR_VP_INDEX, HV_X64_MSR_VP_RUNTIME};

use super::support::registers::{read, reading_faults, writing_faults};
use super::support::{need, without};
use super::{TestResult, cases, check};

cases!(Registers: [
    the_vp_index_can_be_read => "TLFS §7.8.1",
    the_vp_index_is_read_only => "TLFS §7.8.1",
    the_vp_index_is_refused_without_its_privilege => "TLFS §2.4 leaf 0x40000003",
    the_run_time_can_be_read => "TLFS §7.8.2",
    the_run_time_is_read_only => "TLFS §7.8.2",
    the_run_time_is_refused_without_its_privilege => "TLFS §2.4 leaf 0x40000003",
]);

fn readable(privilege: Privileges, msr: u32) -> TestResult {
    need(privilege)?;
    let value = read(msr);
    check!(value.is_ok(), "reading register {msr:#x} raised {value:?}");
    Ok(())
}

fn read_only(privilege: Privileges, msr: u32) -> TestResult {
    need(privilege)?;
    let before = read(msr);
    check!(before.is_ok(), "reading register {msr:#x} raised {before:?}");
    // SAFETY: the register only tells something; nothing depends on it.
    unsafe { writing_faults(msr, 0) }
}

fn refused(privilege: Privileges, msr: u32) -> TestResult {
    without(privilege)?;
    reading_faults(msr)
}

fn the_vp_index_can_be_read() -> TestResult {
    readable(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_vp_index_is_read_only() -> TestResult {
    read_only(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_vp_index_is_refused_without_its_privilege() -> TestResult {
    refused(Privileges::VP_INDEX, HV_X64_MSR_VP_INDEX)
}

fn the_run_time_can_be_read() -> TestResult {
    readable(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}

fn the_run_time_is_read_only() -> TestResult {
    read_only(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}

fn the_run_time_is_refused_without_its_privilege() -> TestResult {
    refused(Privileges::VP_RUNTIME, HV_X64_MSR_VP_RUNTIME)
}
