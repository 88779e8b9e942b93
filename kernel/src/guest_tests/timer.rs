//! Timers: called in time, in order, on every processor, and not when they were cancelled.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernel::MAX_VPS;
use x86_64::instructions::interrupts::without_interrupts;

use super::each_vp::{holds_soon, on_each_vp};
use super::{TestResult, check, guest_test, skip};
use crate::machine::timer::{self, NoTimer};
use crate::machine::{clock, vp};

guest_test!(
    a_timer_is_not_called_before_its_time,
    timers_are_called_in_the_order_of_their_deadlines,
    a_cancelled_timer_is_not_called,
    too_many_timers_are_refused,
    a_timer_may_start_the_next_one,
    every_processor_can_sleep,
    a_wait_ends_when_its_time_is_over,
    a_wait_ends_when_its_condition_holds,
);

/// A millisecond in 100 ns.
const MS: u64 = 10_000;
/// Longer than any test takes.
const FAR: u64 = 10_000_000 * 3600;

fn need_timers() -> TestResult {
    if timer::device().is_none() {
        skip!("nothing can interrupt this processor at a time");
    }
    Ok(())
}

fn a_timer_is_not_called_before_its_time() -> TestResult {
    static CALLED_AT: AtomicU64 = AtomicU64::new(0);
    need_timers()?;
    for delay in [0, 1, MS / 10, 3 * MS] {
        CALLED_AT.store(0, Ordering::Relaxed);
        let deadline = clock::now_100ns() + delay;
        let note = |_| CALLED_AT.store(clock::now_100ns(), Ordering::Release);
        check!(timer::at(deadline, note, 0).is_ok(), "no timer could be started");
        check!(holds_soon(|| CALLED_AT.load(Ordering::Acquire) != 0), "{delay}: it was not called");
        let called_at = CALLED_AT.load(Ordering::Acquire);
        check!(called_at >= deadline, "due at {deadline}, called at {called_at}");
    }
    Ok(())
}

fn timers_are_called_in_the_order_of_their_deadlines() -> TestResult {
    static ORDER: AtomicU64 = AtomicU64::new(0);
    need_timers()?;
    ORDER.store(0, Ordering::Relaxed);
    let note = |digit| {
        let before = ORDER.load(Ordering::Relaxed);
        ORDER.store(before * 10 + digit as u64, Ordering::Release);
    };
    // Starting them may take longer than it is to the first.
    let started = without_interrupts(|| {
        let now = clock::now_100ns();
        let mut timers = [(3, 6 * MS), (1, 2 * MS), (4, 8 * MS), (2, 4 * MS)].into_iter();
        timers.all(|(digit, delay)| timer::at(now + delay, note, digit).is_ok())
    });
    check!(started, "no timer could be started");
    check!(holds_soon(|| ORDER.load(Ordering::Acquire) >= 1000), "some were not called");
    let order = ORDER.load(Ordering::Acquire);
    check!(order == 1234, "the order was {order}");
    Ok(())
}

fn a_cancelled_timer_is_not_called() -> TestResult {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    need_timers()?;
    CALLS.store(0, Ordering::Relaxed);
    let count = |by| {
        CALLS.fetch_add(by, Ordering::AcqRel);
    };
    let (first, second) = (timer::after(FAR, count, 100), timer::after(3 * MS, count, 1));
    let (Ok(first), Ok(second)) = (first, second) else {
        check!(false, "no timer could be started");
        return Ok(());
    };
    check!(timer::cancel(first), "it could not be cancelled");
    check!(!timer::cancel(first), "it could be cancelled twice");
    check!(holds_soon(|| CALLS.load(Ordering::Acquire) != 0), "the other was not called");
    check!(!timer::cancel(second), "it could be cancelled after it was called");
    let calls = CALLS.load(Ordering::Acquire);
    check!(calls == 1, "called: {calls}");
    Ok(())
}

fn too_many_timers_are_refused() -> TestResult {
    need_timers()?;
    let mut started = alloc::vec::Vec::new();
    let refused = (0..1000).any(|_| match timer::after(FAR, |_| {}, 0) {
        Ok(timer) => {
            started.push(timer);
            false
        }
        Err(NoTimer) => true,
    });
    let cancelled = started.iter().filter(|&&timer| timer::cancel(timer)).count();
    check!(refused, "{} timers were taken", started.len());
    check!(cancelled == started.len(), "{cancelled} of {} could be cancelled", started.len());
    let again = timer::after(FAR, |_| {}, 0);
    check!(again.is_ok_and(timer::cancel), "there is no room after all were cancelled");
    Ok(())
}

fn a_timer_may_start_the_next_one() -> TestResult {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    fn next(left: usize) {
        CALLS.fetch_add(1, Ordering::AcqRel);
        if left > 0 {
            let _ = timer::after(MS / 10, next, left - 1);
        }
    }
    need_timers()?;
    CALLS.store(0, Ordering::Relaxed);
    check!(timer::after(MS, next, 4).is_ok(), "no timer could be started");
    check!(holds_soon(|| CALLS.load(Ordering::Acquire) == 5), "not all were called");
    Ok(())
}

fn every_processor_can_sleep() -> TestResult {
    static WITHOUT: AtomicUsize = AtomicUsize::new(0);
    WITHOUT.store(0, Ordering::Relaxed);
    let early = on_each_vp(|_| {
        if timer::device().is_none() {
            WITHOUT.fetch_add(1, Ordering::Relaxed);
        }
        let begin = clock::now_100ns();
        timer::sleep(2 * MS);
        u64::from(clock::now_100ns() < begin + 2 * MS)
    });
    check!(early.iter().all(|&early| early == 0), "woke early, by processor: {early:?}");
    let without = WITHOUT.load(Ordering::Relaxed);
    let all = vp::online().count();
    check!(without == 0 || without == all, "{without} of {all} processors have no timer");
    Ok(())
}

fn a_wait_ends_when_its_time_is_over() -> TestResult {
    let begin = clock::now_100ns();
    check!(!timer::wait_for(MS, || false), "a condition that does not hold held");
    let waited = clock::now_100ns() - begin;
    check!(waited >= MS, "it ended after {waited} units of 100 ns");
    Ok(())
}

fn a_wait_ends_when_its_condition_holds() -> TestResult {
    static HOLDS: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(0) }; MAX_VPS];
    need_timers()?;
    let held = on_each_vp(|index| {
        HOLDS[index].store(0, Ordering::Relaxed);
        let hold = |index: usize| HOLDS[index].store(1, Ordering::Release);
        let started = timer::after(MS, hold, index).is_ok();
        u64::from(started && timer::wait_for(FAR, || HOLDS[index].load(Ordering::Acquire) != 0))
    });
    check!(held.iter().all(|&held| held == 1), "by processor: {held:?}");
    Ok(())
}
