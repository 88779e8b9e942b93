//! How much one virtual processor has waited.

use core::sync::atomic::{AtomicU64, Ordering};

/// Counters of one virtual processor; they only grow. Lay one in each processor's own block.
///
/// Alone on its cache line, as every processor writes its own while it waits. Additions are atomic and so
/// also hold against interrupts and against a caller that was moved to another processor.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct SpinStats {
    rounds: AtomicU64,
    unbounded_rounds: AtomicU64,
    notifications: AtomicU64,
    idles: AtomicU64,
    kicks: AtomicU64,
}

impl SpinStats {
    /// Zero.
    pub const fn new() -> Self {
        Self {
            rounds: AtomicU64::new(0),
            unbounded_rounds: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
            idles: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
        }
    }

    /// The counts now. Each is exact; a wait under way is added when it ends or reaches its limit.
    pub fn counts(&self) -> SpinCounts {
        let unbounded = self.unbounded_rounds.load(Ordering::Relaxed);
        SpinCounts {
            iterations: self.rounds.load(Ordering::Relaxed).wrapping_add(unbounded),
            notifications: self.notifications.load(Ordering::Relaxed),
        }
    }

    /// How often the processor has idled in a wait, and woken others from theirs.
    pub fn idle_counts(&self) -> IdleCounts {
        IdleCounts {
            idles: self.idles.load(Ordering::Relaxed),
            kicks: self.kicks.load(Ordering::Relaxed),
        }
    }

    pub(super) fn add_rounds(&self, rounds: u32) {
        self.rounds.fetch_add(u64::from(rounds), Ordering::Relaxed);
    }

    pub(super) fn add_unbounded_round(&self) -> u64 {
        self.unbounded_rounds.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn add_notification(&self) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_idle(&self) {
        self.idles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_kick(&self) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
    }
}

/// What [`SpinStats`] counted of idling ([`super::Idling`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdleCounts {
    /// Times this processor idled in a wait.
    pub idles: u64,
    /// Times it kicked another, on handing it a lock that it idled for.
    pub kicks: u64,
}

impl IdleCounts {
    /// What was added since `earlier` counts of the same processor.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            idles: self.idles.wrapping_sub(earlier.idles),
            kicks: self.kicks.wrapping_sub(earlier.kicks),
        }
    }
}

/// What [`SpinStats`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpinCounts {
    /// Rounds of waiting: how often a look at a lock found it still held.
    pub iterations: u64,
    /// `HvCallNotifyLongSpinWait` calls made, exactly.
    pub notifications: u64,
}

impl SpinCounts {
    /// What was added since `earlier` counts of the same processor.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            iterations: self.iterations.wrapping_sub(earlier.iterations),
            notifications: self.notifications.wrapping_sub(earlier.notifications),
        }
    }
}

impl core::ops::Add for SpinCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            iterations: self.iterations.wrapping_add(other.iterations),
            notifications: self.notifications.wrapping_add(other.notifications),
        }
    }
}

impl core::iter::Sum for SpinCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| sum + one)
    }
}
