//! Who waits for an interrupt.

use alloc::vec::Vec;
use core::mem;
use core::task::Waker;

use spin::Mutex;

use crate::hal::Hal;

/// The wakers of the tasks that wait for the same thing.
///
/// A handler only reads the list, so nothing is allocated or dropped there. Tasks change it with interrupts masked, and
/// allocate before and drop after.
#[derive(Default)]
pub struct Bell {
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    waker: Waker,
    /// Woken since it last listened: its place may go to another.
    woken: bool,
}

impl Bell {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// How many are in the list.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Wakes all. Fit for interrupt handlers.
    pub fn ring(&self, hal: &impl Hal) {
        hal.without_interrupts(|| {
            for waiting in self.waiting.lock().iter_mut() {
                waiting.woken = true;
                waiting.waker.wake_by_ref();
            }
        });
    }

    /// Has `waker` woken by the next ring. Who listens looks *then* whether what it waits for is there already.
    pub fn listen(&self, hal: &impl Hal, waker: &Waker) {
        let known = hal.without_interrupts(|| {
            let mut list = self.waiting.lock();
            let known = list.iter_mut().find(|waiting| waiting.waker.will_wake(waker));
            known.map(|waiting| waiting.woken = false).is_some()
        });
        if known {
            return;
        }
        let mut new = Waiting { waker: waker.clone(), woken: false };
        let mut spare = Vec::new();
        while let Err((back, length)) =
            hal.without_interrupts(|| put(&mut self.waiting.lock(), new, &mut spare))
        {
            new = back;
            spare = Vec::with_capacity((length + 1) * 2);
        }
    }
}

/// Puts `new` where a woken one was, or behind the others, if need be in `spare`. What remains goes to the caller, who drops it
/// with interrupts on; it also gets `new` back, and the length, if there is no room.
fn put(
    list: &mut Vec<Waiting>,
    new: Waiting,
    spare: &mut Vec<Waiting>,
) -> Result<Option<Waiting>, (Waiting, usize)> {
    if let Some(place) = list.iter_mut().find(|waiting| waiting.woken) {
        return Ok(Some(mem::replace(place, new)));
    }
    if list.len() == list.capacity() {
        if spare.capacity() <= list.len() {
            return Err((new, list.len()));
        }
        spare.append(list);
        mem::swap(list, spare);
    }
    list.push(new);
    Ok(None)
}
