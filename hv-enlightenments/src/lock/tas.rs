//! The test-and-test-and-set lock.

#![expect(unsafe_code, reason = "implements an unsafe trait")]

use core::marker::PhantomData;

use crate::spin_wait::{SpinWait, Waiter};
use crate::sync::atomic::{AtomicBool, Ordering};

/// A lock that the first processor to see it free takes. `W` says what waiting does.
#[derive(Debug)]
pub struct RawTasLock<W> {
    /// Release in `release` pairs with Acquire in `try_acquire`.
    held: AtomicBool,
    strategy: PhantomData<fn() -> W>,
}

impl<W> RawTasLock<W> {
    /// Free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { held: AtomicBool::new(false), strategy: PhantomData }
    }

    /// Free.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "only for the model checker")]
    pub fn new() -> Self {
        Self { held: AtomicBool::new(false), strategy: PhantomData }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Frees the lock.
    ///
    /// # Safety
    ///
    /// The lock is held, and its holder will not touch what it protects any more.
    #[inline]
    pub unsafe fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Whether the lock is held; out of date at once.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

impl<W: SpinWait> RawTasLock<W> {
    /// Takes the lock, waiting while it is held.
    #[inline]
    pub fn acquire(&self) {
        if !self.try_acquire() {
            self.acquire_contended();
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_contended(&self) {
        let mut waiter = Waiter::<W>::new();
        loop {
            // Look without writing, so that the lock's cache line is shared while it is held.
            while self.is_held() {
                waiter.relax();
            }
            if self.try_acquire() {
                return;
            }
        }
    }
}

#[cfg(not(loom))]
impl<W> Default for RawTasLock<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: only one caller between `try_acquire`'s success and `release` (checked with loom).
super::impl_raw_mutex!(RawTasLock, SpinWait);
