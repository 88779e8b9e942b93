//! Idling as kernels do it: make it known, look, idle.

use std::cell::Cell;

use hv_enlightenments::spin_wait::{QueueWait, SpinWait};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering, fence};

/// Threads of a model.
const MOST: usize = 4;

struct Vp {
    idles: AtomicBool,
    /// Also returns from its wait without a cause, as interrupts do.
    interrupt: Notify,
}

loom::lazy_static! {
    static ref VPS: [Vp; MOST] = core::array::from_fn(|_| Vp {
        idles: AtomicBool::new(false),
        interrupt: Notify::new(),
    });
}

loom::thread_local! {
    static NUMBER: Cell<u32> = Cell::new(0);
}

/// Makes this thread virtual processor `number`.
pub(super) fn become_vp(number: usize) {
    NUMBER.with(|cell| cell.set(number as u32));
}

/// A strategy that idles at once.
pub(super) struct Idling;

impl SpinWait for Idling {
    fn limit() -> u32 {
        1
    }

    fn count(_rounds: u32) {}

    fn limit_reached(_rounds: u32) {}

    fn count_unbounded() -> u64 {
        1
    }
}

impl QueueWait for Idling {
    const IDLES: bool = true;

    fn this_vp() -> u32 {
        NUMBER.with(Cell::get)
    }

    fn idle_unless(ready: impl Fn() -> bool) -> bool {
        let vp = &VPS[Self::this_vp() as usize];
        vp.idles.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !ready() {
            vp.interrupt.wait();
        }
        vp.idles.store(false, Ordering::SeqCst);
        true
    }

    fn kick(vp: u32) {
        let vp = &VPS[vp as usize];
        fence(Ordering::SeqCst);
        if vp.idles.swap(false, Ordering::SeqCst) {
            vp.interrupt.notify();
        }
    }
}
