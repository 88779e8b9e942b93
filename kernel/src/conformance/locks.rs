//! Long spin waits are counted exactly, and told to the hypervisor once per threshold.

use core::sync::atomic::{AtomicBool, Ordering};

use hv_enlightenments::lock::TasLock;
use hv_enlightenments::spin_wait::Enlightened;

use super::support::spin::{counts, threshold, wait};
use super::support::{holds_soon, interface};
use super::{TestResult, cases, check, skip};
use crate::machine::hyperv::{self, Kernel};
use crate::machine::{jobs, vp};

cases!(Locks: [
    hypervisor_accepts_notifications => "TLFS HvCallNotifyLongSpinWait",
    a_wait_is_notified_once_per_threshold => "TLFS §2.4 leaf 0x40000004 EBX",
    short_waits_are_not_notified => "TLFS §2.4 leaf 0x40000004 EBX",
    host_sees_every_notification => "TLFS HvCallNotifyLongSpinWait",
    a_contended_lock_notifies_once_per_threshold => "TLFS §2.4 leaf 0x40000004 EBX",
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
