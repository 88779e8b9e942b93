//! Locks that count what they wait and, if so built, tell the hypervisor of long waits or idle through them.
//!
//! | type | order | use |
//! | --- | --- | --- |
//! | [`RawTasLock`] | none | test-and-test-and-set: cheapest, and whoever runs gets it |
//! | [`RawTicketLock`] | first come, first served | fair, and so suffers most when its next owner does not run |
//! | [`RawMcsLock`] | first come, first served | a queue: each waiter on its own cache line; idles, if so built |
//! | [`RawFairRwLock`] | about that of arrival | many readers or one writer, neither of which starves |
//! | [`Relax`] | | turns `spin`'s own locks into such locks |
//!
//! The raw locks implement `lock_api`'s traits; [`TasLock`], [`TicketLock`], [`McsLock`] and [`FairRwLock`] are
//! ready-made. The second parameter is the strategy of [`crate::spin_wait`].
//!
//! # When virtual processors do not run
//!
//! More virtual processors than processors means that a lock's holder, or whoever is next, may not run, and spinning for
//! it takes the processor it needs.
//!
//! - *Prevent*: hold locks briefly. A test-and-set lock needs nobody in particular, so a waiter that does not run
//!   harms no one; with [`Idling`](crate::spin_wait::Idling) a queue's waiters spin no longer than the
//!   hypervisor's threshold.
//! - *Detect*: a wait of more rounds than the threshold ([`Waiter`](crate::spin_wait::Waiter)); a free lock that its next
//!   owner does not take ([`RawMcsLock`]).
//! - *Handle*: tell the hypervisor, which may run someone else ([`Enlightened`](crate::spin_wait::Enlightened)); idle
//!   until kicked, and let those who run overtake those who don't ([`Idling`](crate::spin_wait::Idling)).
//!
//! Tickets are beyond that help. A ticket has no name: whoever releases the lock can't know whom to kick, and a ticket
//! whose owner does not run can't be passed over, so all behind it wait for the hypervisor to run this
//! one processor. All that is left is to tell the hypervisor, so that spinners make room. Where processors are
//! over-committed, use [`RawMcsLock`], which is as fair among those who run.
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

mod fair_rw;
mod mcs;
#[cfg(feature = "spin")]
mod relax;
mod tas;
mod ticket;

#[cfg(all(test, not(loom)))]
mod tests;

pub use fair_rw::RawFairRwLock;
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

/// A reader-writer lock on [`RawFairRwLock`].
#[cfg(all(feature = "lock_api", not(loom)))]
pub type FairRwLock<T, W> = lock_api::RwLock<RawFairRwLock<W>, T>;
