//! Waiting for a future in a kernel without an executor.

#![expect(unsafe_code, reason = "a waker that outlives its wait and is never freed")]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::pin::pin;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use spin::Mutex;

use crate::hal::Hal;

/// Flags that no [`block_on`] uses at the moment. A flag is never freed: a bell may hold its waker for ever, and ringing for a
/// later wait than it meant does no harm. So there are as many as there ever were waits at the same time.
static FREE: Mutex<Vec<&'static AtomicBool>> = Mutex::new(Vec::new());

/// Polls `future` until it is ready, and `background` as often, for as long as that lasts: the bus's task, and the drivers'.
///
/// Between polls, [`Hal::relax`] waits for an interrupt. Its waker only sets the flag that `relax` is given: in a kernel with several
/// processors, where an interrupt of one wakes a task that waits on another, `relax` must return by itself from time to time (on
/// a timer's tick, for example). Not for interrupt handlers.
pub fn block_on<H: Hal, B: Future, F: Future>(hal: &H, background: B, future: F) -> F::Output {
    let flag = FREE.lock().pop().unwrap_or_else(|| Box::leak(Box::new(AtomicBool::new(false))));
    let waker = waker(flag);
    let mut context = Context::from_waker(&waker);
    let (mut background, mut future) = (pin!(background), pin!(future));
    let mut background_runs = true;
    let output = loop {
        flag.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            break output;
        }
        if background_runs && background.as_mut().poll(&mut context).is_ready() {
            background_runs = false;
            continue;
        }
        while !flag.load(Ordering::SeqCst) {
            hal.relax(flag);
        }
    };
    FREE.lock().push(flag);
    output
}

/// Sets `flag` when it wakes. Cloning and dropping it does nothing, so interrupt handlers may do both.
fn waker(flag: &'static AtomicBool) -> Waker {
    // SAFETY: the table's functions take the data for a flag, which it is, and never dangles.
    unsafe { Waker::from_raw(raw(ptr::from_ref(flag).cast())) }
}

const fn raw(flag: *const ()) -> RawWaker {
    RawWaker::new(flag, &TABLE)
}

static TABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| ());

fn wake(flag: *const ()) {
    // SAFETY: only `waker` makes such wakers, of flags that live for ever.
    let flag = unsafe { &*flag.cast::<AtomicBool>() };
    flag.store(true, Ordering::SeqCst);
}
