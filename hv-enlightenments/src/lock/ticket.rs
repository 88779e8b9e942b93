//! The ticket lock.

#![expect(unsafe_code, reason = "implements an unsafe trait")]

use core::marker::PhantomData;

use crate::spin_wait::{SpinWait, Waiter};
use crate::sync::atomic::{AtomicU32, Ordering};

/// A lock that serves in the order of arrival. `W` says what waiting does.
///
/// Numbers wrap; up to 2³² - 1 processors may wait.
#[derive(Debug)]
pub struct RawTicketLock<W> {
    /// The next ticket to draw.
    next: AtomicU32,
    /// The ticket that holds the lock, or will. Release in `release` pairs with Acquire in `acquire`,
    /// `acquire_contended` and `try_acquire`.
    serving: AtomicU32,
    strategy: PhantomData<fn() -> W>,
}

impl<W> RawTicketLock<W> {
    /// Free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    #[cfg(not(loom))]
    pub(super) const fn starting_at(ticket: u32) -> Self {
        Self {
            next: AtomicU32::new(ticket),
            serving: AtomicU32::new(ticket),
            strategy: PhantomData,
        }
    }

    /// Free, with a first ticket that soon wraps.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "only for the model checker")]
    pub fn new() -> Self {
        Self {
            next: AtomicU32::new(u32::MAX),
            serving: AtomicU32::new(u32::MAX),
            strategy: PhantomData,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        // Success means that nobody drew the ticket being served: the lock is free and `serving` still right.
        self.next
            .compare_exchange(
                serving,
                serving.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Frees the lock for the next in line.
    ///
    /// # Safety
    ///
    /// The lock is held, and its holder will not touch what it protects any more.
    #[inline]
    pub unsafe fn release(&self) {
        // Only the holder writes `serving`.
        let serving = self.serving.load(Ordering::Relaxed);
        self.serving.store(serving.wrapping_add(1), Ordering::Release);
    }

    /// How many hold the lock or wait for it; out of date at once.
    pub fn queue_length(&self) -> u32 {
        // In this order, so that the result is too large rather than negative.
        let serving = self.serving.load(Ordering::Acquire);
        self.next.load(Ordering::Relaxed).wrapping_sub(serving)
    }

    /// Whether the lock is held; out of date at once.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.queue_length() != 0
    }
}

impl<W: SpinWait> RawTicketLock<W> {
    /// Takes the lock, waiting until all who came before have had it.
    #[inline]
    pub fn acquire(&self) {
        let ticket = self.draw();
        if self.serving.load(Ordering::Acquire) != ticket {
            self.acquire_contended(ticket);
        }
    }

    /// Draws a ticket: the place in line is fixed from here on.
    #[inline]
    fn draw(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn acquire_contended(&self, ticket: u32) {
        let mut waiter = Waiter::<W>::new();
        while self.serving.load(Ordering::Acquire) != ticket {
            waiter.relax();
        }
    }
}

#[cfg(not(loom))]
impl<W> Default for RawTicketLock<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: only one ticket is served at a time, until `release` (checked with loom).
super::impl_raw_mutex!(RawTicketLock, SpinWait);

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: `unlock` already hands the lock to whoever waits longest.
unsafe impl<W: SpinWait> lock_api::RawMutexFair for RawTicketLock<W> {
    #[inline]
    unsafe fn unlock_fair(&self, _guard: Self::Guard) {
        // SAFETY: the caller holds the lock.
        unsafe { self.release() }
    }
}
