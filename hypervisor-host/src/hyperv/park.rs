//! The policy `park`: a VP that spins long sleeps until another VP of its machine has run.
//!
//! A long spin wait usually means that the lock's owner was descheduled. Sleeping gives its processor away for
//! certain, which a yield does not; that another VP has run is seen by its thread's run time.

use std::time::Duration;

/// How long the host sleeps between two looks at the others.
pub const STEP: Duration = Duration::from_micros(100);
/// So much run time of one other VP counts as *has run*: more than an exit and an interrupt.
pub const RAN_ENOUGH: Duration = Duration::from_micros(50);
/// Longest time that a VP is parked.
pub const LIMIT: Duration = Duration::from_millis(1);

/// How a VP came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// Another VP ran.
    Woken,
    /// No other VP ran in all the time.
    TimedOut,
}

/// Tells the run time of a VP's thread, if it has one.
pub type RunTime = dyn Fn(u32) -> Option<Duration> + Send + Sync;

/// Parks VP `vp` of `vps`. `sleep` sleeps and gives the time since the start.
pub fn park(vp: u32, vps: u32, run_time: &RunTime, mut sleep: impl FnMut() -> Duration) -> Parked {
    let others =
        || (0..vps).filter(|&other| other != vp).filter_map(|it| Some((it, run_time(it)?)));
    let before: Vec<_> = others().collect();
    loop {
        let elapsed = sleep();
        let ran = |&(other, then): &(u32, Duration)| {
            run_time(other).is_some_and(|now| now.saturating_sub(then) >= RAN_ENOUGH)
        };
        if before.iter().any(ran) {
            return Parked::Woken;
        }
        if elapsed >= LIMIT {
            return Parked::TimedOut;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Parks VP 1 of 3, while each sleep adds so much run time to the VPs; gives the outcome and the sleeps.
    fn parked(run_per_sleep: [u64; 3]) -> (Parked, u64) {
        static NONE: AtomicU64 = AtomicU64::new(0);
        let sleeps: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        let run_time = move |vp: u32| {
            let each = run_per_sleep.get(vp as usize).copied().unwrap_or(NONE.load(Relaxed));
            Some(Duration::from_micros(7_000_000 + each * sleeps.load(Relaxed)))
        };
        let outcome = park(1, 3, &run_time, || STEP * (sleeps.fetch_add(1, Relaxed) as u32 + 1));
        (outcome, sleeps.load(Relaxed))
    }

    #[test]
    fn a_vp_comes_back_when_another_has_run() {
        assert_eq!(parked([0, 0, 100]), (Parked::Woken, 1));
        assert_eq!(parked([10, 0, 0]), (Parked::Woken, 5));
    }

    #[test]
    fn its_own_run_time_does_not_count() {
        assert_eq!(parked([0, 1000, 0]), (Parked::TimedOut, 10));
    }

    #[test]
    fn runs_of_several_vps_do_not_add_up() {
        assert_eq!(parked([4, 0, 4]), (Parked::TimedOut, 10));
    }

    #[test]
    fn vps_without_a_thread_never_run() {
        let mut elapsed = Duration::ZERO;
        let outcome = park(0, 4, &|_| None, || {
            elapsed += STEP;
            elapsed
        });
        assert_eq!((outcome, elapsed), (Parked::TimedOut, LIMIT));
    }
}
