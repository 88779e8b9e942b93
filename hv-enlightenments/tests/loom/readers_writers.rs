//! The reader-writer lock, spinning and idling.

use hv_enlightenments::lock::RawFairRwLock;
use hv_enlightenments::spin_wait::QueueWait;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::Bounded;
use super::idling::{Idling, become_vp};

/// loom reports a write that another access is not ordered with.
struct Guarded<W> {
    lock: RawFairRwLock<W>,
    value: UnsafeCell<u32>,
}

// SAFETY: `value` is only touched under the lock; whether that suffices is what loom checks.
unsafe impl<W> Sync for Guarded<W> {}

impl<W: QueueWait> Guarded<W> {
    fn shared() -> Arc<Self> {
        Arc::new(Self { lock: RawFairRwLock::new(), value: UnsafeCell::new(0) })
    }

    fn write(&self) {
        self.lock.acquire_exclusive();
        // SAFETY: entered as the writer, and loom checks that this excludes all others.
        self.value.with_mut(|value| unsafe { *value += 1 });
        // SAFETY: entered above.
        unsafe { self.lock.release_exclusive() };
    }

    fn read(&self) -> u32 {
        self.lock.acquire_shared();
        self.look()
    }

    /// As a reader that is inside; leaves.
    fn look(&self) -> u32 {
        // SAFETY: entered as a reader, and loom checks that this excludes writers.
        let value = self.value.with(|value| unsafe { *value });
        // SAFETY: entered by the caller.
        unsafe { self.lock.release_shared() };
        value
    }
}

/// What one thread does with the lock.
type Work<W> = fn(&Guarded<W>);

/// All interleavings of these, the first in the main thread; `writes` are seen in the end.
fn check<W: QueueWait>(work: &'static [Work<W>], writes: u32, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let guarded = Guarded::<W>::shared();
        let others: Vec<_> = (1..work.len())
            .map(|vp| {
                let guarded = guarded.clone();
                thread::spawn(move || {
                    become_vp(vp);
                    work[vp](&guarded);
                })
            })
            .collect();
        work[0](&guarded);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(guarded.read(), writes);
    });
}

fn write<W: QueueWait>(guarded: &Guarded<W>) {
    guarded.write();
}

fn write_twice<W: QueueWait>(guarded: &Guarded<W>) {
    guarded.write();
    guarded.write();
}

fn read<W: QueueWait>(guarded: &Guarded<W>) {
    guarded.read();
}

fn read_twice<W: QueueWait>(guarded: &Guarded<W>) {
    let first = guarded.read();
    assert!(guarded.read() >= first, "a write was undone");
}

fn read_recursively<W: QueueWait>(guarded: &Guarded<W>) {
    guarded.lock.acquire_shared();
    guarded.lock.acquire_shared_recursive();
    // SAFETY: entered twice.
    unsafe { guarded.lock.release_shared() };
    guarded.look();
}

fn try_all<W: QueueWait>(guarded: &Guarded<W>) {
    if guarded.lock.try_acquire_shared() {
        guarded.look();
    }
    if guarded.lock.try_acquire_shared_recursive() {
        guarded.look();
    }
    if guarded.lock.try_acquire_exclusive() {
        // SAFETY: entered as the writer.
        unsafe { guarded.lock.release_exclusive() };
    }
}

#[test]
fn readers_and_writers_exclude() {
    check::<Bounded>(&[write_twice, read_twice], 2, 4);
    check::<Bounded>(&[write_twice, write_twice], 4, 4);
    check::<Bounded>(&[write, read, write], 2, 2);
    check::<Bounded>(&[read, write, read], 1, 2);
}

#[test]
fn readers_that_recurse_and_all_that_try_exclude() {
    check::<Bounded>(&[write_twice, read_recursively], 2, 3);
    check::<Bounded>(&[write_twice, try_all], 2, 3);
}

#[test]
fn idling_readers_and_writers_exclude_and_lose_no_kick() {
    check::<Idling>(&[write_twice, read_twice], 2, 3);
    check::<Idling>(&[write_twice, write_twice], 4, 3);
    check::<Idling>(&[write, read, write], 2, 2);
    check::<Idling>(&[read, write, read], 1, 2);
}

#[test]
fn those_who_only_try_wake_whoever_idles_for_them() {
    check::<Idling>(&[write_twice, try_all], 2, 3);
    check::<Idling>(&[write_twice, read_recursively], 2, 3);
}
