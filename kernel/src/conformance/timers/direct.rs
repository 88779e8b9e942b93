//! Timers that raise a vector of the local APIC, without a message.

#![expect(unsafe_code, reason = "writes model-specific registers")]

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::stimer::{HvStimerConfig, stimer_config_msr, stimer_count_msr};
use hv_enlightenments::stimer::{Delivery, Lateness};

use super::{MS, PERIOD, now, set};
use crate::conformance::support::registers::refused_writing;
use crate::conformance::support::synic::{CASE_VECTOR, CaseTimer, CaseVector, Source, stays_quiet};
use crate::conformance::support::{holds_soon, need};
use crate::conformance::{Problem, TestResult, cases, check, skip};

cases!(Timers: [
    a_direct_timer_raises_its_vector => "TLFS, Direct Synthetic Timers",
    a_direct_timer_sends_no_message => "TLFS, Direct Synthetic Timers",
    a_direct_periodic_timer_raises_its_vector_again_and_again => "TLFS, Direct Synthetic Timers",
    direct_mode_is_refused_where_it_is_not_offered => "TLFS §2.4 leaf 0x40000003",
]);

fn direct() -> Result<CaseTimer, Problem> {
    CaseTimer::new(1, Delivery::Direct(CASE_VECTOR))
}

fn a_direct_timer_raises_its_vector() -> TestResult {
    let (vector, timer) = (CaseVector::new(), direct()?);
    timer.0.start_at(now()? + MS);
    check!(holds_soon(|| vector.count() != 0), "no interrupt came");
    check!(holds_soon(|| !timer.0.is_running()), "it still runs");
    check!(stays_quiet(|| vector.count() != 1), "{} interrupts came", vector.count());
    Ok(())
}

fn a_direct_timer_sends_no_message() -> TestResult {
    let (vector, timer, source) = (CaseVector::new(), direct()?, Source::counting(5)?);
    set(stimer_count_msr(1), 1);
    // The source is there, but direct mode goes first.
    let config = HvStimerConfig::direct(CASE_VECTOR).0 | HvStimerConfig::message(5).0;
    set(stimer_config_msr(1), config | HvStimerConfig::ENABLED);
    check!(holds_soon(|| vector.count() != 0), "no interrupt came");
    check!(!source.is_full() && source.interrupts() == 0, "a message came");
    check!(holds_soon(|| !timer.0.is_running()), "it still runs");
    Ok(())
}

fn a_direct_periodic_timer_raises_its_vector_again_and_again() -> TestResult {
    let (vector, timer) = (CaseVector::new(), direct()?);
    timer.0.start_every(PERIOD, Lateness::CatchUp);
    check!(holds_soon(|| vector.count() >= 5), "{} interrupts came", vector.count());
    check!(timer.0.is_running(), "it has stopped");
    Ok(())
}

fn direct_mode_is_refused_where_it_is_not_offered() -> TestResult {
    let hv = need(Privileges::SYNTHETIC_TIMERS)?;
    if hv.features().contains(Features::STIMER_DIRECT) {
        skip!("offered: feature {:?}", Features::STIMER_DIRECT);
    }
    let config = HvStimerConfig::direct(CASE_VECTOR).0;
    // SAFETY: the timer stays off.
    let result = unsafe { refused_writing(stimer_config_msr(1), config) };
    set(stimer_config_msr(1), 0);
    result
}
