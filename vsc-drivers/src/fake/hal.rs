//! The kernel's side of the machine.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use std::sync::Arc;
use std::thread_local;

use hv_abi::hypercall::HvError;

use super::Machine;
use crate::hal::{DmaPages, Gpa, Hal};

thread_local! {
    static MASKED: Cell<u32> = const { Cell::new(0) };
    static IN_INTERRUPT: Cell<bool> = const { Cell::new(false) };
}

/// Runs an interrupt handler.
pub(super) fn in_interrupt(f: impl FnOnce()) {
    assert_eq!(MASKED.get(), 0, "something that causes interrupts was called with them masked");
    let before = IN_INTERRUPT.replace(true);
    f();
    IN_INTERRUPT.set(before);
}

/// Panics where a kernel might, or might deadlock.
fn in_a_task() {
    assert!(!IN_INTERRUPT.get(), "not for interrupt handlers");
    assert_eq!(MASKED.get(), 0, "not with interrupts masked");
}

/// Whether this thread runs an interrupt handler, or has interrupts masked; for tests with an allocator of their own.
pub fn must_not_allocate() -> bool {
    IN_INTERRUPT.try_with(Cell::get).unwrap_or(false) || MASKED.try_with(Cell::get).unwrap_or(0) > 0
}

/// What [`FakeHost::hal`](super::FakeHost::hal) gives: a kernel on the fake machine.
///
/// Where a real kernel might deadlock, it panics: memory and hypercalls are not for interrupt handlers, nor with
/// interrupts masked.
#[derive(Clone)]
pub struct FakeHal {
    pub(super) machine: Arc<Machine>,
}

// SAFETY: memory is the process's own, with one address for each (`Memory`); masking is counted, and nests.
unsafe impl Hal for FakeHal {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        in_a_task();
        self.machine.memory.allocate(pages)
    }

    unsafe fn free(&self, pages: DmaPages) {
        if std::thread::panicking() {
            return;
        }
        in_a_task();
        self.machine.check_free(&pages);
        self.machine.memory.free(&pages);
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        Some(self.machine.memory.lend(address.expose_provenance() as u64))
    }

    fn post_message(&self, connection: u32, kind: u32, payload: &[u8]) -> Result<(), HvError> {
        in_a_task();
        self.machine.post(connection, kind, payload)
    }

    fn signal_event(&self, connection: u32, flag: u16) -> Result<(), HvError> {
        in_a_task();
        self.machine.signal(connection, flag)
    }

    fn vp_index(&self) -> u32 {
        super::host::VP_INDEX
    }

    fn now_100ns(&self) -> u64 {
        self.machine.clock.now_100ns()
    }

    fn wake_at(&self, deadline_100ns: u64, waker: &Waker) {
        in_a_task();
        self.machine.clock.wake_at(deadline_100ns, waker);
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        MASKED.set(MASKED.get() + 1);
        let result = f();
        MASKED.set(MASKED.get() - 1);
        result
    }

    fn relax(&self, woken: &AtomicBool) {
        in_a_task();
        if !self.machine.look_at_monitors() && !woken.load(Ordering::SeqCst) {
            self.machine.clock.idle();
        }
    }
}
