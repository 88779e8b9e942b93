//! Long spin waits are counted exactly, and told to the hypervisor once per threshold.

use core::sync::atomic::{AtomicBool, Ordering};

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HV_CALL_NOTIFY_LONG_SPIN_WAIT, HypercallInput};
use hv_enlightenments::X86Cpu;
use hv_enlightenments::lock::TasLock;
use hv_enlightenments::spin_wait::{
    Enlightened, LongSpinNotifier, SpinCounts, SpinThreshold, Waiter,
};

use super::support::calls::{Block, raw};
use super::support::spin::{counts, threshold, wait};
use super::support::{holds_soon, interface, need, on_each_vp};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::hyperv::{self, Kernel};
use crate::machine::{jobs, vp};
use crate::study::{self, Bound, Parameters};

cases!(Locks: [
    hypervisor_accepts_notifications => "TLFS HvCallNotifyLongSpinWait",
    a_wait_is_notified_once_per_threshold => "TLFS §2.4.5",
    short_waits_are_not_notified => "TLFS §2.4.5",
    host_sees_every_notification => "TLFS HvCallNotifyLongSpinWait",
    a_contended_lock_notifies_once_per_threshold => "TLFS §2.4.5",
    the_longest_count_is_accepted => "TLFS HvCallNotifyLongSpinWait",
    a_notification_in_memory_is_accepted => "TLFS HvCallNotifyLongSpinWait",
    every_processor_can_notify => "TLFS HvCallNotifyLongSpinWait",
    every_processor_notifies_once_per_threshold_of_its_own => "TLFS §2.4.5",
    two_short_waits_are_no_long_one => "TLFS §2.4.5",
    waits_within_one_another_are_notified_each_for_itself => "TLFS §2.4.5",
    another_threshold_is_obeyed_from_the_next_wait_on => "TLFS §2.4.5",
    a_notifier_that_is_off_notifies_nobody => "TLFS §2.4.5",
    never_means_never => "TLFS §2.4.5",
    a_notification_that_nobody_wants_does_no_harm => "TLFS HvCallNotifyLongSpinWait",
    host_sees_what_all_locks_notify => "TLFS HvCallNotifyLongSpinWait",
    plain_locks_notify_nobody => "TLFS HvCallNotifyLongSpinWait",
]);

fn hypervisor_accepts_notifications() -> TestResult {
    let rounds = threshold()?;
    check!(hyperv::notifier().notify(rounds), "the call was not made");
    let refusal = hyperv::notifier().refusal();
    check!(refusal.is_none(), "the hypervisor said {refusal:?}");
    Ok(())
}

fn a_wait_is_notified_once_per_threshold() -> TestResult {
    let threshold = threshold()?;
    for (rounds, expected) in
        [(threshold, 1), (2 * threshold - 1, 1), (2 * threshold, 2), (3 * threshold + 1, 3)]
    {
        let found = wait::<Enlightened<Kernel>>(rounds);
        check!(found == counts(rounds, expected), "{rounds} rounds: {found:?}");
    }
    Ok(())
}

fn short_waits_are_not_notified() -> TestResult {
    let threshold = threshold()?;
    for _ in 0..4 {
        let found = wait::<Enlightened<Kernel>>(threshold - 1);
        check!(found == counts(threshold - 1, 0), "{found:?}");
    }
    Ok(())
}

fn host_sees_every_notification() -> TestResult {
    let threshold = threshold()?;
    let Some(before) = hyperv::long_spins_seen_by_host() else {
        skip!("this hypervisor does not tell how many long waits it has seen");
    };
    let made = wait::<Enlightened<Kernel>>(5 * threshold).notifications;
    let seen = hyperv::long_spins_seen_by_host().map(|after| after.wrapping_sub(before));
    check!(seen.map(u64::from) == Some(made), "{made} were made, {seen:?} were seen");
    Ok(())
}

/// Processor 0 holds a lock until processor 1 has told the hypervisor three times that it waits for it.
fn a_contended_lock_notifies_once_per_threshold() -> TestResult {
    let threshold = u64::from(threshold()?);
    interface()?;
    if vp::online().count() < 2 {
        skip!("there is only one processor");
    }
    static LOCK: TasLock<(), Enlightened<Kernel>> = TasLock::new(());
    static HELD: AtomicBool = AtomicBool::new(false);
    const NOTIFICATIONS: u64 = 3;
    HELD.store(false, Ordering::Relaxed);
    let Some(waiting) = vp::get(1) else { return Ok(()) };
    let before = waiting.spins.counts();
    jobs::run_on(2, |index| {
        if index == 0 {
            let guard = LOCK.lock();
            HELD.store(true, Ordering::SeqCst);
            vp::online().for_each(jobs::wake);
            let start = vp::get(1).map(|vp| vp.spins.counts());
            let has_told = || {
                let now = vp::get(1).map(|vp| vp.spins.counts());
                now.zip(start)
                    .is_some_and(|(now, start)| now.since(start).notifications >= NOTIFICATIONS)
            };
            holds_soon(has_told);
            drop(guard);
        } else {
            jobs::wait_until(|| HELD.load(Ordering::SeqCst));
            drop(LOCK.lock());
        }
    });
    let found = waiting.spins.counts().since(before);
    check!(found.notifications >= NOTIFICATIONS, "the waiting processor counts {found:?}");
    let exact = found.notifications == found.iterations / threshold;
    check!(exact, "{found:?} with a threshold of {threshold}");
    Ok(())
}

/// The call as its registers are.
fn notification() -> Result<HypercallInput, Problem> {
    threshold()?;
    Ok(HypercallInput::new(HV_CALL_NOTIFY_LONG_SPIN_WAIT))
}

fn the_longest_count_is_accepted() -> TestResult {
    let status = raw(notification()?.fast(), u32::MAX.into(), 0)?;
    check!(status.is_ok(), "{status:?}");
    Ok(())
}

fn a_notification_in_memory_is_accepted() -> TestResult {
    let (input, block) = (notification()?, Block::new()?);
    block.write(&[u64::from(threshold()?)]);
    let status = raw(input, block.at(0), 0)?;
    check!(status.is_ok(), "{status:?}");
    Ok(())
}

fn every_processor_can_notify() -> TestResult {
    notification()?;
    let right = on_each_vp(|_| {
        let call = || raw(notification()?.fast(), 1, 0);
        u64::from(call().is_ok_and(|status| status.is_ok()))
    });
    check!(right.iter().all(|&right| right == 1), "accepted by processor: {right:?}");
    Ok(())
}

fn every_processor_notifies_once_per_threshold_of_its_own() -> TestResult {
    threshold()?;
    let found = on_each_vp(|_| {
        let rounds = threshold().unwrap_or(0);
        wait::<Enlightened<Kernel>>(2 * rounds + 1).notifications
    });
    check!(found.iter().all(|&count| count == 2), "notifications by processor: {found:?}");
    Ok(())
}

fn two_short_waits_are_no_long_one() -> TestResult {
    let threshold = threshold()?;
    let before = vp::spin_stats().counts();
    wait::<Enlightened<Kernel>>(threshold - 1);
    wait::<Enlightened<Kernel>>(threshold - 1);
    let found = vp::spin_stats().counts().since(before);
    check!(found == counts(2 * (threshold - 1), 0), "{found:?}");
    Ok(())
}

/// As in an interrupt handler that waits in the middle of another wait.
fn waits_within_one_another_are_notified_each_for_itself() -> TestResult {
    let threshold = threshold()?;
    let before = vp::spin_stats().counts();
    let mut outer = Waiter::<Enlightened<Kernel>>::new();
    for _ in 1..threshold {
        outer.relax();
    }
    let inner = wait::<Enlightened<Kernel>>(threshold - 1);
    check!(inner.notifications == 0, "the inner wait: {inner:?}");
    outer.relax();
    drop(outer);
    let found = vp::spin_stats().counts().since(before);
    check!(found == counts(2 * threshold - 1, 1), "both: {found:?}");
    Ok(())
}

/// Runs `wait` with another threshold, then sets the hypervisor's again.
fn with_threshold(
    rounds: SpinThreshold,
    wait: impl FnOnce() -> SpinCounts,
) -> Result<SpinCounts, Problem> {
    threshold()?;
    let hv = interface()?;
    let Some(calls) = hyperv::calls() else { skip!("hypercalls are not enabled") };
    hyperv::notifier().enable(calls, rounds);
    let found = wait();
    hyperv::notifier().enable(calls, hv.spin_threshold());
    Ok(found)
}

fn another_threshold_is_obeyed_from_the_next_wait_on() -> TestResult {
    for rounds in [1, 2, 64, 1000] {
        let threshold = SpinThreshold::from_cpuid(rounds);
        let found = with_threshold(threshold, || wait::<Enlightened<Kernel>>(8 * rounds))?;
        check!(found == counts(8 * rounds, 8), "a threshold of {rounds}: {found:?}");
    }
    Ok(())
}

fn a_notifier_that_is_off_notifies_nobody() -> TestResult {
    let rounds = 2 * threshold()?;
    let found = with_threshold(SpinThreshold::NEVER, || {
        hyperv::notifier().disable();
        wait::<Enlightened<Kernel>>(rounds)
    })?;
    check!(found == counts(rounds, 0), "{found:?}");
    Ok(())
}

/// Longer than any threshold of a hypervisor that wants to know.
const LONG_WAIT: u32 = 200_000;

fn never_means_never() -> TestResult {
    let hv = interface()?;
    if hv.spin_threshold().rounds().is_some() {
        skip!("offered: long waits may be told");
    }
    let before = hyperv::long_spins_seen_by_host();
    let found = wait::<Enlightened<Kernel>>(LONG_WAIT);
    check!(found == counts(LONG_WAIT, 0), "{found:?}");
    let after = hyperv::long_spins_seen_by_host();
    check!(before == after, "the host saw some: {before:?} became {after:?}");
    Ok(())
}

/// A guest that has not read the leaf right is refused, or not even that, and its notifier gives up.
fn a_notification_that_nobody_wants_does_no_harm() -> TestResult {
    let hv = need(Privileges::HYPERCALL)?;
    if hv.spin_threshold().rounds().is_some() {
        skip!("offered: long waits may be told");
    }
    let Some(calls) = hyperv::calls() else { skip!("hypercalls are not enabled") };
    let notifier: LongSpinNotifier<X86Cpu> = LongSpinNotifier::new(crate::machine::cpu::CPU);
    notifier.enable(calls, SpinThreshold::from_cpuid(100));
    check!(notifier.notify(100), "the call was not made");
    let consistent = notifier.refusal().is_none() || notifier.threshold() == SpinThreshold::NEVER;
    check!(consistent, "refused with {:?}, it would notify again", notifier.refusal());
    Ok(())
}

/// What all processors notify while they contend for a lock, by their own counts.
fn contend(name: &str) -> Result<SpinCounts, Problem> {
    /// Few: in line behind a processor that does not run, each turn may take a time slice.
    const ACQUISITIONS: u64 = 100;
    let contender = study::contender(name)
        .ok_or_else(|| Problem::Fail(alloc::format!("there is no lock `{name}`")))?;
    let vps = study::most_vps();
    let parameters = Parameters {
        vps,
        bound: Bound::Acquisitions((ACQUISITIONS / vps as u64).max(4)),
        hold: 50,
        gap: 20,
        late_ticks: u64::MAX,
        marked: false,
    };
    let found = study::measure(contender, parameters);
    Ok(found.per_vp().iter().map(|vp| vp.spins).sum())
}

/// With a low threshold, so that there is something to see.
fn host_sees_what_all_locks_notify() -> TestResult {
    const LOW: u32 = 16;
    threshold()?;
    let Some(mut seen) = hyperv::long_spins_seen_by_host() else {
        skip!("this hypervisor does not tell how many long waits it has seen");
    };
    for name in ["spin-enlightened", "tas-enlightened", "ticket-enlightened", "mcs-notifying"] {
        let mut result = Ok(SpinCounts::default());
        with_threshold(SpinThreshold::from_cpuid(LOW), || {
            result = contend(name);
            SpinCounts::default()
        })?;
        let made = result?.notifications;
        let after = hyperv::long_spins_seen_by_host().unwrap_or(seen);
        let difference = u64::from(after.wrapping_sub(seen));
        check!(difference == made, "{name}: {made} were made, {difference} were seen");
        seen = after;
    }
    Ok(())
}

fn plain_locks_notify_nobody() -> TestResult {
    interface()?;
    let before = hyperv::long_spins_seen_by_host();
    for name in ["spin", "tas", "ticket", "mcs"] {
        let found = contend(name)?;
        check!(found.notifications == 0, "{name}: {found:?}");
    }
    let after = hyperv::long_spins_seen_by_host();
    check!(before == after, "the host saw some: {before:?} became {after:?}");
    Ok(())
}
