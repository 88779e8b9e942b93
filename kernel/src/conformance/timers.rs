//! Synthetic timers: every kind, by message and directly, and what their registers do with each value.

#![expect(unsafe_code, reason = "writes model-specific registers")]

mod direct;

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::stimer::{HV_STIMER_COUNT, HvStimerConfig, stimer_config_msr, stimer_count_msr};
use hv_enlightenments::Cpu;
use hv_enlightenments::stimer::{Delivery, Lateness, Stimer, TimerExpiration};
use kernel::MAX_VPS;

use super::support::registers::{refused, refused_writing};
use super::support::synic::{CASE_VECTOR, FREE_TIMERS, Source, stays_quiet};
use super::support::{holds_soon, interface, need, on_each_vp, reference_clock, without};
use super::{Problem, TestResult, cases, check, deviates, skip};
use crate::machine::cpu::CPU;
use crate::machine::timer::{self, Device};
use crate::machine::{interrupts, vp};

cases!(Timers: [
    registers_keep_what_is_written => "TLFS, Synthetic Timer Configuration Register",
    a_one_shot_timer_fires_once => "TLFS, Synthetic Timers",
    a_one_shot_timer_disables_itself => "TLFS, Synthetic Timer Configuration Register",
    a_moment_in_the_past_fires_at_once => "TLFS, Synthetic Timer Configuration Register",
    a_timer_never_fires_early => "TLFS, Synthetic Timers",
    an_expiration_message_says_which_timer_and_when => "TLFS, HV_TIMER_MESSAGE_PAYLOAD",
    a_periodic_timer_fires_again_and_again => "TLFS, Periodic Timers",
    a_periodic_timer_runs_until_it_is_stopped => "TLFS, Synthetic Timer Configuration Register",
    a_lazy_timer_fires_again_and_again => "TLFS, Periodic Timers",
    a_stopped_timer_does_not_fire => "TLFS, Synthetic Timer Count Register",
    a_count_of_zero_stops_a_timer => "TLFS, Synthetic Timer Count Register",
    a_count_of_zero_does_not_enable_with_auto_enable => "TLFS, Synthetic Timer Count Register",
    a_count_enables_with_auto_enable => "TLFS, Synthetic Timer Configuration Register",
    a_count_does_not_enable_without_auto_enable => "TLFS, Synthetic Timer Configuration Register",
    a_new_count_replaces_the_old_one => "TLFS, Synthetic Timer Count Register",
    source_0_is_refused_to_a_timer => "TLFS, Synthetic Timer Configuration Register",
    the_timers_of_a_processor_do_not_disturb_each_other => "TLFS, Synthetic Timer MSRs",
    every_processor_has_timers_of_its_own => "TLFS, Synthetic Timer MSRs",
    the_kernels_timers_run_on_synthetic_ones => "TLFS, Synthetic Timers",
    registers_are_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    writing_registers_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
]);

/// A millisecond in 100 ns.
const MS: u64 = 10_000;
/// Longer than any case takes.
const FAR: u64 = 10_000_000 * 3600;

const PERIOD: NonZeroU64 = NonZeroU64::new(MS).unwrap();
const LONG_PERIOD: NonZeroU64 = NonZeroU64::new(FAR).unwrap();

/// Writes a timer's configuration or count.
fn set(msr: u32, value: u64) {
    // SAFETY: the cases have looked for the privilege, and send to sources and vectors that have handlers.
    unsafe { CPU.wrmsr(msr, value) };
}

fn now() -> Result<u64, Problem> {
    Ok(reference_clock()?.counter_100ns())
}

fn expiration(source: &Source) -> Result<TimerExpiration, Problem> {
    let message = source.message("a timer's")?;
    TimerExpiration::from_message(&message)
        .ok_or_else(|| Problem::Fail(alloc::format!("it is no timer's message: {message:?}")))
}

fn registers_keep_what_is_written() -> TestResult {
    let source = Source::counting(5)?;
    for index in FREE_TIMERS {
        let timer = source.timer(index)?;
        let kinds = [
            HvStimerConfig::message(5),
            HvStimerConfig::message(15).with(HvStimerConfig::PERIODIC),
            HvStimerConfig::message(5).with(HvStimerConfig::LAZY | HvStimerConfig::PERIODIC),
            HvStimerConfig::message(5).with(HvStimerConfig::AUTO_ENABLE),
        ];
        for kind in kinds {
            set(stimer_config_msr(index), kind.0);
            let read = timer.0.config();
            check!(read == kind, "timer {index}: written {:#x}, read {:#x}", kind.0, read.0);
        }
        set(stimer_config_msr(index), HvStimerConfig::message(5).0);
        for count in [1, FAR, u64::MAX] {
            set(stimer_count_msr(index), count);
            let read = timer.0.count();
            check!(read == count, "timer {index}: written {count:#x}, read {read:#x}");
        }
    }
    Ok(())
}

fn a_one_shot_timer_fires_once() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    timer.0.start_at(now()? + MS);
    expiration(&source)?;
    check!(stays_quiet(|| source.is_full()), "it fired again");
    source.expect_interrupts(1, "it fired once")
}

fn a_one_shot_timer_disables_itself() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    timer.0.start_at(now()? + FAR);
    check!(timer.0.is_running(), "it does not run: {:#x}", timer.0.config().0);
    timer.0.start_at(now()? + MS);
    expiration(&source)?;
    check!(holds_soon(|| !timer.0.is_running()), "it still runs: {:#x}", timer.0.config().0);
    Ok(())
}

fn a_moment_in_the_past_fires_at_once() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    for at in [1, now()?] {
        timer.0.start_at(at);
        expiration(&source)?;
    }
    Ok(())
}

fn a_timer_never_fires_early() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    for delay in [MS / 10, MS, 5 * MS] {
        let at = now()? + delay;
        timer.0.start_at(at);
        expiration(&source)?;
        let time = now()?;
        check!(time >= at, "due at {at}, it was there at {time}");
    }
    Ok(())
}

fn an_expiration_message_says_which_timer_and_when() -> TestResult {
    let source = Source::counting(5)?;
    for index in FREE_TIMERS {
        let timer = source.timer(index)?;
        let at = now()? + MS;
        timer.0.start_at(at);
        let told = expiration(&source)?;
        let time = now()?;
        check!(usize::from(told.timer) == index, "timer {index} says that it is {}", told.timer);
        let ordered = at <= told.expired_at_100ns
            && told.expired_at_100ns <= told.delivered_at_100ns
            && told.delivered_at_100ns <= time;
        check!(ordered, "due at {at}, read at {time}: {told:?}");
    }
    Ok(())
}

/// Takes five of a periodic timer's messages.
fn fires_often(lateness: Lateness) -> TestResult {
    const TIMES: usize = 5;
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    let begin = now()?;
    timer.0.start_every(PERIOD, lateness);
    let mut last = begin;
    for time in 1..=TIMES {
        let told = expiration(&source)?;
        let due = told.expired_at_100ns;
        check!(due > last, "expiration {time} was due at {due}, the one before at {last}");
        last = due;
    }
    // A period may be short to catch up, but not the first.
    check!(last >= begin + MS, "{TIMES} periods of {MS} from {begin} on ended at {last}");
    check!(timer.0.is_running(), "it has stopped: {:#x}", timer.0.config().0);
    Ok(())
}

fn a_periodic_timer_fires_again_and_again() -> TestResult {
    fires_often(Lateness::CatchUp)
}

fn a_lazy_timer_fires_again_and_again() -> TestResult {
    fires_often(Lateness::Lazy)
}

fn a_periodic_timer_runs_until_it_is_stopped() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    timer.0.start_every(PERIOD, Lateness::CatchUp);
    expiration(&source)?;
    timer.0.stop();
    // What was under way may still come.
    while holds_briefly(|| source.is_full()) {
        expiration(&source)?;
    }
    check!(stays_quiet(|| source.is_full()), "it fires on");
    Ok(())
}

/// Whether something happens within the time of a few periods.
fn holds_briefly(condition: impl Fn() -> bool) -> bool {
    timer::wait_for(3 * MS, condition)
}

fn a_stopped_timer_does_not_fire() -> TestResult {
    let source = Source::counting(5)?;
    let (stopped, other) = (source.timer(1)?, source.timer(2)?);
    let at = now()? + 20 * MS;
    stopped.0.start_at(at);
    stopped.0.stop();
    if now()? >= at {
        skip!("this machine stood still for too long");
    }
    other.0.start_at(at);
    let told = expiration(&source)?;
    check!(told.timer == 2, "timer {} fired", told.timer);
    check!(stays_quiet(|| source.is_full()), "the stopped one fired behind the other");
    Ok(())
}

fn a_count_of_zero_stops_a_timer() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    timer.0.start_every(LONG_PERIOD, Lateness::CatchUp);
    check!(timer.0.is_running(), "it does not run: {:#x}", timer.0.config().0);
    set(stimer_count_msr(1), 0);
    check!(!timer.0.is_running(), "it still runs: {:#x}", timer.0.config().0);
    Ok(())
}

fn a_count_of_zero_does_not_enable_with_auto_enable() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    set(stimer_config_msr(1), HvStimerConfig::message(5).with(HvStimerConfig::AUTO_ENABLE).0);
    set(stimer_count_msr(1), FAR);
    set(stimer_count_msr(1), 0);
    check!(!timer.0.is_running(), "it runs: {:#x}", timer.0.config().0);
    Ok(())
}

fn a_count_enables_with_auto_enable() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    set(stimer_config_msr(1), HvStimerConfig::message(5).with(HvStimerConfig::AUTO_ENABLE).0);
    check!(!timer.0.is_running(), "it runs without a count: {:#x}", timer.0.config().0);
    set(stimer_count_msr(1), now()? + FAR);
    check!(timer.0.is_running(), "it does not run: {:#x}", timer.0.config().0);
    set(stimer_count_msr(1), now()? + MS);
    expiration(&source)?;
    Ok(())
}

fn a_count_does_not_enable_without_auto_enable() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    set(stimer_config_msr(1), HvStimerConfig::message(5).0);
    set(stimer_count_msr(1), 1);
    check!(!timer.0.is_running(), "it runs: {:#x}", timer.0.config().0);
    check!(stays_quiet(|| source.is_full()), "it fired");
    Ok(())
}

fn a_new_count_replaces_the_old_one() -> TestResult {
    let source = Source::counting(5)?;
    let stopped_at_the_end = source.timer(1)?;
    let timer = stopped_at_the_end.0.into_deadlines();
    timer.set(now()? + FAR);
    timer.set(now()? + MS);
    expiration(&source)?;
    timer.set(now()? + MS);
    expiration(&source)?;
    timer.cancel();
    check!(stays_quiet(|| source.is_full()), "it fired for a count that was replaced");
    Ok(())
}

fn source_0_is_refused_to_a_timer() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    set(stimer_count_msr(1), now()? + FAR);
    set(stimer_config_msr(1), HvStimerConfig::message(0).with(HvStimerConfig::ENABLED).0);
    if timer.0.is_running() {
        deviates!(
            "KVM up to Linux 6.1 looks for source 0 only in a timer that runs already",
            "TLFS, Synthetic Timer Configuration Register"
        );
    }
    Ok(())
}

fn the_timers_of_a_processor_do_not_disturb_each_other() -> TestResult {
    let sources = [Source::counting(5)?, Source::counting(6)?, Source::counting(7)?];
    let mut timers = alloc::vec::Vec::new();
    for (source, index) in sources.iter().zip(FREE_TIMERS) {
        timers.push(source.timer(index)?);
    }
    let at = now()? + 2 * MS;
    timers.iter().for_each(|timer| timer.0.start_at(at));
    for (source, index) in sources.iter().zip(FREE_TIMERS) {
        let told = expiration(source)?;
        check!(usize::from(told.timer) == index, "timer {index} says that it is {}", told.timer);
        source.expect_interrupts(1, "each fired once")?;
    }
    Ok(())
}

/// Interrupts with [`CASE_VECTOR`], by processor.
static TAKEN: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(0) }; MAX_VPS];

/// What a timer of any processor is tried with: straight to a vector, or by message.
fn own_timer(index: usize) -> Option<bool> {
    let hv = crate::machine::hyperv::interface()?;
    if hv.features().contains(Features::STIMER_DIRECT) {
        let timer = Stimer::new(CPU, hv, 1, Delivery::Direct(CASE_VECTOR)).ok()?;
        timer.start_at(1);
        let fired = holds_soon(|| TAKEN[index].load(Ordering::SeqCst) != 0);
        timer.stop();
        return Some(fired);
    }
    let source = Source::counting(5).ok()?;
    let timer = source.timer(1).ok()?;
    timer.0.start_at(1);
    Some(holds_soon(|| source.is_full()))
}

fn every_processor_has_timers_of_its_own() -> TestResult {
    need(Privileges::SYNTHETIC_TIMERS | Privileges::SYNIC)?;
    TAKEN.iter().for_each(|taken| taken.store(0, Ordering::SeqCst));
    let count = |_| {
        TAKEN[vp::current_index() as usize].fetch_add(1, Ordering::SeqCst);
    };
    interrupts::set_handler(CASE_VECTOR, Some(count));
    let fired = on_each_vp(|index| match own_timer(index) {
        Some(fired) => u64::from(fired),
        None => 2,
    });
    interrupts::set_handler(CASE_VECTOR, None);
    check!(fired.iter().all(|&fired| fired == 1), "fired (2: no timer), by processor: {fired:?}");
    Ok(())
}

fn the_kernels_timers_run_on_synthetic_ones() -> TestResult {
    need(Privileges::SYNTHETIC_TIMERS | Privileges::TIME_REF_COUNT)?;
    let direct = interface()?.features().contains(Features::STIMER_DIRECT);
    if !direct {
        need(Privileges::SYNIC)?;
    }
    let device = timer::device();
    let right = match device {
        Some(Device::Direct(_)) => direct,
        Some(Device::Message(_)) => !direct,
        _ => false,
    };
    check!(right, "direct mode offered: {direct}; they run on {:?}", device.map(Device::name));
    Ok(())
}

fn registers_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::SYNTHETIC_TIMERS)?;
    (0..HV_STIMER_COUNT)
        .flat_map(|index| [stimer_config_msr(index), stimer_count_msr(index)])
        .try_for_each(refused)
}

fn writing_registers_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::SYNTHETIC_TIMERS)?;
    for index in 0..HV_STIMER_COUNT {
        // SAFETY: zeros turn off what is off.
        unsafe { refused_writing(stimer_config_msr(index), 0) }?;
        // SAFETY: as above.
        unsafe { refused_writing(stimer_count_msr(index), 0) }?;
    }
    Ok(())
}
