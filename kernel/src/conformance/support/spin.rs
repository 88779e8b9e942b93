//! Waits of a given length, and what they count.

use hv_abi::cpuid::Privileges;
use hv_enlightenments::spin_wait::{SpinCounts, SpinWait, Waiter};

use super::need;
use crate::conformance::{Problem, skip};
use crate::machine::vp;

/// Longer waits would take too long.
const MOST_ROUNDS: u32 = 1 << 20;

/// Rounds between two notifications, or the reason to skip.
pub(crate) fn threshold() -> Result<u32, Problem> {
    let hv = need(Privileges::HYPERCALL)?;
    match hv.spin_threshold().rounds() {
        Some(rounds) if rounds <= MOST_ROUNDS => Ok(rounds),
        Some(rounds) => skip!("the threshold is as high as {rounds}"),
        None => skip!("not offered: the hypervisor does not want to know of long waits"),
    }
}

/// What one wait of `rounds` adds to this processor's counts.
pub(crate) fn wait<W: SpinWait>(rounds: u32) -> SpinCounts {
    let before = vp::spin_stats().counts();
    let mut waiter = Waiter::<W>::new();
    for _ in 0..rounds {
        waiter.relax();
    }
    drop(waiter);
    vp::spin_stats().counts().since(before)
}

/// Counts to compare with.
pub(crate) fn counts(iterations: u32, notifications: u32) -> SpinCounts {
    SpinCounts { iterations: iterations.into(), notifications: notifications.into() }
}
