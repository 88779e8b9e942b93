//! The locks under loom, which runs every interleaving of a few threads and every outcome their memory
//! orderings allow:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p hv-enlightenments --test loom --release
//! ```

#![cfg(loom)]
#![expect(unsafe_code, reason = "takes locks by hand and reaches what they protect")]

mod idling;
mod mcs;
mod readers_writers;
mod spinning;

use hv_enlightenments::lock::{RawMcsLock, RawTasLock, RawTicketLock};
use hv_enlightenments::spin_wait::{QueueWait, SpinWait};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Rounds of one wait that are explored. With two waiters, one of which could always run before the holder,
/// there are endless interleavings; from the bound on, loom lets everybody run in turn.
const EXPLORED_ROUNDS: u32 = 3;

/// A strategy that bounds what is explored, and nothing else.
struct Bounded;

impl SpinWait for Bounded {
    fn limit() -> u32 {
        EXPLORED_ROUNDS
    }

    fn count(_rounds: u32) {}

    fn limit_reached(_rounds: u32) {
        loom::skip_branch();
    }

    fn count_unbounded() -> u64 {
        1
    }
}

impl QueueWait for Bounded {}

/// What the locks have in common.
trait Lock: Send + Sync + 'static {
    fn new() -> Self;
    fn acquire(&self);
    fn try_acquire(&self) -> bool;
    fn release(&self);
}

macro_rules! lock {
    ($lock:ty) => {
        impl Lock for $lock {
            fn new() -> Self {
                Self::new()
            }

            fn acquire(&self) {
                self.acquire();
            }

            fn try_acquire(&self) -> bool {
                self.try_acquire()
            }

            fn release(&self) {
                // SAFETY: each test releases what it acquired.
                unsafe { self.release() }
            }
        }
    };
}

lock!(RawTasLock<Bounded>);
lock!(RawTicketLock<Bounded>);
lock!(RawMcsLock<Bounded>);
lock!(RawMcsLock<idling::Idling>);

/// A lock and what it protects: loom reports any two accesses that are not ordered by the lock.
struct Guarded<L> {
    lock: L,
    value: UnsafeCell<u32>,
}

// SAFETY: `value` is only touched under the lock; whether that suffices is what loom checks.
unsafe impl<L: Sync> Sync for Guarded<L> {}

impl<L: Lock> Guarded<L> {
    fn shared() -> Arc<Self> {
        Arc::new(Self { lock: L::new(), value: UnsafeCell::new(0) })
    }

    fn add_one(&self) {
        // SAFETY: the caller holds the lock, and loom checks that this excludes all others.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn locked_add(&self) {
        self.lock.acquire();
        self.add_one();
        self.lock.release();
    }

    fn get(&self) -> u32 {
        // SAFETY: as in `add_one`.
        self.value.with(|value| unsafe { *value })
    }
}

/// Exclusion, visibility of the last holder's writes, no lost unlock (a lost one leaves somebody waiting for
/// ever, which loom reports). Each thread takes the lock as often as `times` says; the first is the main one.
fn exclusion<L: Lock>(times: &'static [u32], preemptions: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let guarded = Guarded::<L>::shared();
        let others: Vec<_> = times[1..]
            .iter()
            .enumerate()
            .map(|(other, &times)| {
                let guarded = guarded.clone();
                thread::spawn(move || {
                    idling::become_vp(other + 1);
                    (0..times).for_each(|_| guarded.locked_add());
                })
            })
            .collect();
        (0..times[0]).for_each(|_| guarded.locked_add());
        for other in others {
            other.join().unwrap();
        }
        guarded.lock.acquire();
        assert_eq!(guarded.get(), times.iter().sum::<u32>());
        guarded.lock.release();
    });
}

/// Whoever gets the lock by trying sees what the last holder wrote, and excludes those who wait.
fn trying<L: Lock>() {
    loom::model(|| {
        let guarded = Guarded::<L>::shared();
        let trier = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                idling::become_vp(1);
                let success = guarded.lock.try_acquire();
                if success {
                    guarded.add_one();
                    guarded.lock.release();
                }
                u32::from(success)
            })
        };
        guarded.locked_add();
        guarded.locked_add();
        let tried = trier.join().unwrap();
        guarded.lock.acquire();
        assert_eq!(guarded.get(), 2 + tried);
        guarded.lock.release();
        // Nobody holds it any more, so trying must succeed.
        assert!(guarded.lock.try_acquire());
    });
}

/// Whoever waits in the queue when the lock is released has had it before the releaser gets it again.
fn in_order<L: Lock>(
    has_queue: impl Fn(&L) -> bool + Send + Sync + Copy + 'static,
    preemptions: Option<usize>,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let guarded = Guarded::<L>::shared();
        guarded.lock.acquire();
        let waiter = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                idling::become_vp(1);
                guarded.locked_add();
            })
        };
        let stood_in_line = has_queue(&guarded.lock);
        guarded.lock.release();
        guarded.lock.acquire();
        if stood_in_line {
            assert_eq!(guarded.get(), 1, "overtaken");
        }
        guarded.lock.release();
        waiter.join().unwrap();
    });
}

/// With two in the queue, the second never gets the lock before the first.
fn two_in_order<L: Lock>(has_queue: impl Fn(&L) -> bool + Send + Sync + Copy + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let guarded = Guarded::<L>::shared();
        guarded.lock.acquire();
        let first = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                guarded.lock.acquire();
                let found = guarded.get();
                guarded.add_one();
                guarded.lock.release();
                found
            })
        };
        let first_stood_in_line = has_queue(&guarded.lock);
        let second = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.locked_add())
        };
        guarded.lock.release();
        let found = first.join().unwrap();
        second.join().unwrap();
        if first_stood_in_line {
            assert_eq!(found, 0, "overtaken");
        }
    });
}
