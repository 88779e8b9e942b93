//! Polls futures on this processor, and halts while there is nothing to poll.
//!
//! A waker is a processor's number: it says that something there is to be polled, and ends the halt of that processor.
//! Nothing is counted or freed, so interrupt handlers may wake, clone and drop it.

#![expect(unsafe_code, reason = "a waker whose data is a number")]

use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use kernel::MAX_VPS;

use crate::machine::{cpu, jobs, vp};

/// Looks before a processor halts: an answer that comes soon then costs no halt and no interrupt's exits.
const PATIENCE: u32 = 50;

/// Whether something on a processor is to be polled.
static WOKEN: [AtomicBool; MAX_VPS] = [const { AtomicBool::new(false) }; MAX_VPS];

/// Polls `future` until it is ready, and `background` as often for as long as that lasts.
pub(crate) fn block_on<F: Future>(background: impl Future, future: F) -> F::Output {
    let vp = vp::current_index() as usize;
    let waker = waker(vp);
    let mut context = Context::from_waker(&waker);
    let (mut background, mut future) = (pin!(background), pin!(future));
    let mut background_runs = true;
    loop {
        WOKEN[vp].store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if background_runs && background.as_mut().poll(&mut context).is_ready() {
            background_runs = false;
            continue;
        }
        rest(|| WOKEN[vp].load(Ordering::SeqCst));
    }
}

fn rest(woken: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if woken() {
            return;
        }
        cpu::pause();
    }
    jobs::halt_unless(woken);
}

fn waker(vp: usize) -> Waker {
    // SAFETY: the table's functions take the data for a number and touch no memory through it.
    unsafe { Waker::from_raw(raw(core::ptr::without_provenance(vp))) }
}

const fn raw(vp: *const ()) -> RawWaker {
    RawWaker::new(vp, &TABLE)
}

static TABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| ());

fn wake(vp: *const ()) {
    let index = vp.addr();
    let Some(woken) = WOKEN.get(index) else { return };
    woken.store(true, Ordering::SeqCst);
    // This processor does not halt while it runs this.
    if index != vp::current_index() as usize
        && let Some(vp) = vp::get(index)
    {
        jobs::wake(vp);
    }
}
