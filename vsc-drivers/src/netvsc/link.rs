//! The link: up or down, how fast, how large its frames may be; and who waits for changes.

use core::future::poll_fn;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll};

use spin::Mutex;

use crate::hal::Hal;
use crate::task::Bell;

/// State of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Frames pass.
    pub up: bool,
    /// Millions of bits per second, as the host says; 0 if it doesn't.
    pub megabits: u32,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// How often the host said that this is another network now: addresses should be asked for again.
    pub networks: u32,
    /// The adapter works. False for ever once it was stopped, or lost its channel.
    pub present: bool,
}

/// The link's state, and its listeners.
pub(super) struct LinkCell {
    state: Mutex<(Link, u64)>,
    /// [`Link::mtu`], for those who look at every frame.
    mtu: AtomicU32,
    changed: Bell,
}

impl LinkCell {
    pub(super) fn new(mtu: u32) -> Self {
        let link = Link { up: false, megabits: 0, mtu, networks: 0, present: true };
        Self { state: Mutex::new((link, 0)), mtu: AtomicU32::new(mtu), changed: Bell::new() }
    }

    pub(super) fn get(&self) -> Link {
        self.state.lock().0
    }

    /// Largest IP packet, in bytes.
    pub(super) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed) as usize
    }

    /// Changes the state; wakes listeners if it really is another then.
    pub(super) fn update(&self, hal: &impl Hal, change: impl FnOnce(&mut Link)) {
        let is_new = {
            let mut state = self.state.lock();
            let old = state.0;
            change(&mut state.0);
            self.mtu.store(state.0.mtu, Ordering::Relaxed);
            let is_new = state.0 != old;
            state.1 += u64::from(is_new);
            is_new
        };
        if is_new {
            self.changed.ring(hal);
        }
    }

    /// A state that is newer than `seen`, which then is that one's; has the task woken by the next if there is none.
    pub(super) fn poll_newer(
        &self,
        hal: &impl Hal,
        seen: &mut u64,
        context: &Context<'_>,
    ) -> Poll<Link> {
        self.changed.listen(hal, context.waker());
        let (link, count) = *self.state.lock();
        if count == *seen {
            return Poll::Pending;
        }
        *seen = count;
        Poll::Ready(link)
    }

    /// Waits for a state that is newer than `seen`.
    pub(super) async fn newer(&self, hal: &impl Hal, seen: &mut u64) -> Link {
        poll_fn(|context| self.poll_newer(hal, seen, context)).await
    }

    /// The number of the state at the moment.
    pub(super) fn count(&self) -> u64 {
        self.state.lock().1
    }
}
