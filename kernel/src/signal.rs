//! From an interrupt handler to the one task that waits for it.

use core::future::poll_fn;
use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};

use spin::mutex::SpinMutex;
use vsc_drivers::Hal;

/// Raised by a handler, waited for by a task. The handler allocates, clones and drops nothing.
#[derive(Debug, Default)]
pub struct Signal {
    /// SeqCst: the task listens, then looks; the handler raises, then wakes.
    raised: AtomicBool,
    waiting: SpinMutex<Option<Waker>>,
}

impl Signal {
    /// Not raised.
    pub const fn new() -> Self {
        Self { raised: AtomicBool::new(false), waiting: SpinMutex::new(None) }
    }

    /// Raises it, and wakes who waits. Fit for interrupt handlers.
    pub fn raise(&self, hal: &impl Hal) {
        self.raised.store(true, Ordering::SeqCst);
        hal.without_interrupts(|| {
            if let Some(waker) = &*self.waiting.lock() {
                waker.wake_by_ref();
            }
        });
    }

    /// Forgets that it was raised; whether it was.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::SeqCst)
    }

    /// Waits until it is raised, and takes it.
    pub async fn wait(&self, hal: &impl Hal) {
        poll_fn(|context| {
            self.listen(hal, context.waker());
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn listen(&self, hal: &impl Hal, waker: &Waker) {
        let is_known = |known: &Option<Waker>| known.as_ref().is_some_and(|it| it.will_wake(waker));
        if hal.without_interrupts(|| is_known(&self.waiting.lock())) {
            return;
        }
        let new = Some(waker.clone());
        // Dropped here, with interrupts on.
        drop(hal.without_interrupts(|| mem::replace(&mut *self.waiting.lock(), new)));
    }
}
