//! One wait.

use core::marker::PhantomData;

use super::{QueueWait, SpinWait};
use crate::sync::spin_loop;

/// How often idling may end for nothing before a waiter spins again. Ordinary interrupts do not come as often.
const MOST_IDLES: u32 = 16;

/// One wait, from the first failed attempt until it is dropped.
///
/// Counts in a register and adds to the processor's counters when the wait ends or reaches its limit, so that
/// waiting costs what a plain spin loop costs.
///
/// ```
/// use hv_enlightenments::spin_wait::{Bare, Waiter};
/// # let mut looks = 0;
/// # let mut held = || { looks += 1; looks < 10 };
/// let mut waiter = Waiter::<Bare>::new();
/// while held() {
///     waiter.relax();
/// }
/// ```
#[derive(Debug)]
pub struct Waiter<W: SpinWait> {
    /// Rounds not yet added to the processor's counters; less than `limit` between calls.
    pending: u32,
    limit: u32,
    /// Rounds already added, saturating: the hypervisor is told no more than 32 bits.
    counted: u32,
    strategy: PhantomData<fn() -> W>,
}

impl<W: SpinWait> Waiter<W> {
    /// Begins a wait.
    pub fn new() -> Self {
        Self { pending: 0, limit: W::limit(), counted: 0, strategy: PhantomData }
    }

    /// One round: call it each time a look at the lock finds it still held.
    pub fn relax(&mut self) {
        if self.round() {
            self.tell();
        }
    }

    /// One round of which the strategy is not told. Whether the limit was reached.
    pub(crate) fn round(&mut self) -> bool {
        spin_loop();
        self.pending += 1;
        let reached = self.pending >= self.limit;
        if reached {
            self.flush();
        }
        reached
    }

    #[cold]
    fn tell(&mut self) {
        W::limit_reached(self.counted);
        // The threshold may have changed meanwhile.
        self.limit = W::limit();
    }

    #[cold]
    fn flush(&mut self) {
        W::count(self.pending);
        self.counted = self.counted.saturating_add(self.pending);
        self.pending = 0;
    }
}

impl<W: QueueWait> Waiter<W> {
    /// The limit was reached: idles unless `ready`, or tells the hypervisor where idling is impossible. Whether it
    /// idled.
    #[cold]
    fn idle_unless(&mut self, ready: impl Fn() -> bool) -> bool {
        let idled = W::IDLES && W::idle_unless(ready);
        if !idled {
            self.tell();
        }
        idled
    }
}

impl<W: QueueWait> Waiter<W> {
    /// The limit was reached: idles until `ready`. Returns earlier where that is impossible, and where idling ends again
    /// and again for nothing: an interrupt that is pending and masked ends it at once each time, which would make
    /// the wait a storm of exits. Call it again after another limit of rounds.
    #[cold]
    pub(crate) fn idle_until(&mut self, ready: impl Fn() -> bool) {
        for _ in 0..MOST_IDLES {
            if !self.idle_unless(&ready) || ready() {
                return;
            }
        }
        self.tell();
    }
}

impl<W: SpinWait> Default for Waiter<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: SpinWait> Drop for Waiter<W> {
    fn drop(&mut self) {
        if self.pending != 0 {
            self.flush();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static IDLES: AtomicU32 = AtomicU32::new(0);
    static TOLD: AtomicU32 = AtomicU32::new(0);

    /// On a processor where an interrupt is pending and masked: it never sleeps.
    struct Restless;

    impl SpinWait for Restless {
        fn limit() -> u32 {
            8
        }

        fn count(_rounds: u32) {}

        fn limit_reached(_rounds: u32) {
            TOLD.fetch_add(1, Ordering::Relaxed);
        }

        fn count_unbounded() -> u64 {
            1
        }
    }

    impl QueueWait for Restless {
        const IDLES: bool = true;

        fn idle_unless(_ready: impl Fn() -> bool) -> bool {
            IDLES.fetch_add(1, Ordering::Relaxed);
            true
        }
    }

    #[test]
    fn idling_that_ends_at_once_again_and_again_gives_way_to_spinning_and_is_told() {
        let mut waiter = Waiter::<Restless>::new();
        waiter.idle_until(|| false);
        assert_eq!(IDLES.load(Ordering::Relaxed), MOST_IDLES);
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
        waiter.idle_until(|| true);
        assert_eq!(IDLES.load(Ordering::Relaxed), MOST_IDLES + 1);
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
    }
}
