//! Long spin waits are counted exactly, and told to the hypervisor once per threshold.

use core::sync::atomic::{AtomicBool, Ordering};

use hv_enlightenments::lock::TasLock;
use hv_enlightenments::spin_wait::{Bare, Enlightened, Plain, SpinCounts, SpinWait, Waiter};

use super::hyperv::{interface, need};
use super::{Problem, TestResult, check, guest_test, skip};
use crate::machine::hyperv::{self, Kernel};
use crate::machine::{jobs, vp};

guest_test!(
    hypervisor_accepts_notifications,
    a_wait_is_notified_once_per_threshold,
    short_waits_are_not_notified,
    a_plain_wait_is_counted_and_never_notified,
    a_bare_wait_is_not_even_counted,
    host_sees_every_notification,
    a_contended_lock_notifies_once_per_threshold,
);

/// Longer waits would take too long.
const MOST_ROUNDS: u32 = 1 << 20;

/// Rounds between two notifications, or the reason to skip.
fn threshold() -> Result<u32, Problem> {
    let hv = need(hv_abi::cpuid::Privileges::HYPERCALL)?;
    match hv.spin_threshold().rounds() {
        Some(rounds) if rounds <= MOST_ROUNDS => Ok(rounds),
        Some(rounds) => skip!("the threshold is as high as {rounds}"),
        None => skip!("the hypervisor does not want to know of long waits"),
    }
}

/// What one wait of `rounds` adds to this processor's counts.
fn wait<W: SpinWait>(rounds: u32) -> SpinCounts {
    let before = vp::spin_stats().counts();
    let mut waiter = Waiter::<W>::new();
    for _ in 0..rounds {
        waiter.relax();
    }
    drop(waiter);
    vp::spin_stats().counts().since(before)
}

fn counts(iterations: u32, notifications: u32) -> SpinCounts {
    SpinCounts { iterations: iterations.into(), notifications: notifications.into() }
}

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

fn a_plain_wait_is_counted_and_never_notified() -> TestResult {
    let rounds = threshold().unwrap_or(10_000) * 2 + 7;
    let before = hyperv::long_spins_seen_by_host();
    let found = wait::<Plain<Kernel>>(rounds);
    check!(found == counts(rounds, 0), "{found:?}");
    let after = hyperv::long_spins_seen_by_host();
    check!(before == after, "the host saw some: {before:?} became {after:?}");
    Ok(())
}

fn a_bare_wait_is_not_even_counted() -> TestResult {
    let found = wait::<Bare>(1000);
    check!(found == counts(0, 0), "{found:?}");
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
            super::each_vp::holds_soon(has_told);
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
