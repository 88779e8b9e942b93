//! What a channel's task tells the controller's: look at the disks, look at the clock.

use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;

use crate::hal::Hal;
use crate::task::Bell;

/// Something that was noticed and waits to be seen to. Noticed many times, it is seen to once.
pub(super) struct Notice {
    raised: AtomicBool,
    bell: Bell,
}

impl Notice {
    const fn new() -> Self {
        Self { raised: AtomicBool::new(false), bell: Bell::new() }
    }

    /// Notices it.
    pub(super) fn raise(&self, hal: &impl Hal) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.bell.ring(hal);
        }
    }

    /// Waits until it is noticed.
    pub(super) async fn wait(&self, hal: &impl Hal) {
        poll_fn(|context| {
            self.bell.listen(hal, context.waker());
            if self.raised.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// All there is to notice.
pub(super) struct Notices {
    /// Disks may have come, gone or changed.
    pub(super) disks: Notice,
    /// A request is too late.
    pub(super) overdue: Notice,
}

impl Notices {
    pub(super) const fn new() -> Self {
        Self { disks: Notice::new(), overdue: Notice::new() }
    }
}
