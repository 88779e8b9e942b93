//! A waiter's place in the queue.

use core::ptr;

use crate::spin_wait::{QueueWait, Waiter};
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Waits, awake.
const WAITING: u32 = 0;
/// Waits, idling or about to.
const IDLE: u32 = 1;
/// Is the head of the queue.
const HEAD: u32 = 2;

/// On the stack of whoever waits, alone on its cache line.
#[repr(align(64))]
pub(super) struct Node {
    /// Who came next. Release in `RawMcsLock::acquire_contended` pairs with Acquire in `successor`.
    pub(super) next: AtomicPtr<Node>,
    /// Orders nothing: what the lock protects comes with the lock's word.
    state: AtomicU32,
    /// The processor that waits.
    pub(super) vp: u32,
}

impl Node {
    pub(super) fn new(vp: u32) -> Self {
        Self { next: AtomicPtr::new(ptr::null_mut()), state: AtomicU32::new(WAITING), vp }
    }

    /// Waits until it is the head of the queue.
    pub(super) fn wait<W: QueueWait>(&self, waiter: &mut Waiter<W>) {
        while self.state.load(Ordering::Relaxed) != HEAD {
            if waiter.round() {
                self.idle(waiter);
            }
        }
    }

    #[cold]
    fn idle<W: QueueWait>(&self, waiter: &mut Waiter<W>) {
        if W::IDLES {
            let _ =
                self.state.compare_exchange(WAITING, IDLE, Ordering::Relaxed, Ordering::Relaxed);
        }
        // Nobody wakes it to become the head, but as the head to take a free lock; so it idles on.
        let ready = || self.state.load(Ordering::Relaxed) == HEAD;
        waiter.idle_until(ready);
    }

    /// Makes the waiter the head. Whether it idles, and has not been woken.
    pub(super) fn make_head<W: QueueWait>(&self) -> bool {
        if W::IDLES {
            return self.state.swap(HEAD, Ordering::Relaxed) == IDLE;
        }
        self.state.store(HEAD, Ordering::Relaxed);
        false
    }

    /// The waiter behind this one, which has come but may not have said who it is.
    pub(super) fn successor<W: QueueWait>(&self, waiter: &mut Waiter<W>) -> *mut Self {
        loop {
            let next = self.next.load(Ordering::Acquire);
            if !next.is_null() {
                return next;
            }
            waiter.relax();
        }
    }
}
