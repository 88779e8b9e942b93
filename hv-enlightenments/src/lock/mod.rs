//! Spin locks that count what they wait and, if so built, tell the hypervisor of long waits.
//!
//! | type | order | use |
//! | --- | --- | --- |
//! | [`RawTasLock`] | none | test-and-test-and-set: cheapest, and whoever runs gets it |
//! | [`RawTicketLock`] | first come, first served | fair, and so suffers most when its next owner does not run |
//! | [`Relax`] | | turns `spin`'s own locks into such locks |
//!
//! The raw locks implement `lock_api::RawMutex`; [`TasLock`] and [`TicketLock`] are the ready-made mutexes.
//! The second parameter is the strategy of [`crate::spin_wait`].
//!
//! Taking a free lock runs none of the strategy's code, so every strategy costs the same there.
//!
//! As with any spin lock, a lock that an interrupt handler takes must be taken with interrupts off elsewhere
//! on the same processor. The locks leave the interrupt flag to the kernel.

/// Makes a raw lock `lock_api`'s, by its own functions `acquire`, `try_acquire`, `release` and `is_held`.
///
/// Whoever uses it says why the lock excludes.
#[cfg(all(feature = "lock_api", not(loom)))]
macro_rules! impl_raw_mutex {
    ($lock:ident, $strategy:ident) => {
        // SAFETY: the lock excludes, as its own module says where it uses this.
        unsafe impl<W: $strategy> lock_api::RawMutex for $lock<W> {
            const INIT: Self = Self::new();
            type Guard = lock_api::GuardSend;

            #[inline]
            fn lock(&self) -> Self::Guard {
                self.acquire();
                lock_api::GuardSend::new()
            }

            #[inline]
            fn try_lock(&self) -> Option<Self::Guard> {
                self.try_acquire().then(lock_api::GuardSend::new)
            }

            #[inline]
            unsafe fn unlock(&self, _guard: Self::Guard) {
                // SAFETY: the caller holds the lock.
                unsafe { self.release() }
            }

            #[inline]
            fn is_locked(&self) -> bool {
                self.is_held()
            }
        }
    };
}
#[cfg(all(feature = "lock_api", not(loom)))]
use impl_raw_mutex;

mod mcs;
#[cfg(feature = "spin")]
mod relax;
mod tas;
mod ticket;

#[cfg(all(test, not(loom)))]
mod tests;

pub use mcs::RawMcsLock;
#[cfg(feature = "spin")]
pub use relax::Relax;
pub use tas::RawTasLock;
pub use ticket::RawTicketLock;

/// A mutex on [`RawTasLock`].
#[cfg(all(feature = "lock_api", not(loom)))]
pub type TasLock<T, W> = lock_api::Mutex<RawTasLock<W>, T>;

/// A mutex on [`RawMcsLock`].
#[cfg(all(feature = "lock_api", not(loom)))]
pub type McsLock<T, W> = lock_api::Mutex<RawMcsLock<W>, T>;

/// A mutex on [`RawTicketLock`].
#[cfg(all(feature = "lock_api", not(loom)))]
pub type TicketLock<T, W> = lock_api::Mutex<RawTicketLock<W>, T>;
