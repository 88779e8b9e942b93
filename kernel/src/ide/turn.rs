//! Taking turns: one task at a time uses a channel.

use alloc::vec::Vec;
use core::future::poll_fn;
use core::mem;
use core::task::{Poll, Waker};

use spin::mutex::SpinMutex;

/// Whose turn it is. Not for interrupt handlers.
#[derive(Debug, Default)]
pub(super) struct Turn(SpinMutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    taken: bool,
    waiting: Vec<Waker>,
}

impl Turn {
    /// Waits for its turn, which lasts until [`end`](Self::end).
    pub(super) async fn take(&self) {
        poll_fn(|context| {
            let mut queue = self.0.lock();
            if !mem::replace(&mut queue.taken, true) {
                return Poll::Ready(());
            }
            if queue.waiting.iter().all(|known| !known.will_wake(context.waker())) {
                queue.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Lets another have its turn.
    pub(super) fn end(&self) {
        let waiting = {
            let mut queue = self.0.lock();
            queue.taken = false;
            mem::take(&mut queue.waiting)
        };
        // All, because one of them may not be interested any longer.
        waiting.into_iter().for_each(Waker::wake);
    }
}
