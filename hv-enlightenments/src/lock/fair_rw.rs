//! The reader-writer lock.
//!
//! **Theory.** Readers share a counter, so that a free lock costs a reader one atomic addition. Whoever has to wait,
//! reader or writer, stands in a queue (a [`RawMcsLock`]), and the queue's head waits for the word. A writer at
//! the head keeps new readers out, so it waits for those inside and for no others: neither side starves. Linux's
//! qrwlock has the same two parts.
//!
//! **Practice.** With [`Idling`](crate::spin_wait::Idling), the queue idles as the queue lock does, and the head
//! leaves its processor's number in the word for whoever lets it in.
//!
//! | bits of the word | meaning |
//! | --- | --- |
//! | 0 | a writer holds it |
//! | 1 | a writer is the queue's head |
//! | 2 | the head idles and is to be kicked |
//! | 31:3 | on this processor |
//! | 62:32 | readers, those included that find that they may not enter and leave again |
//! | 63 | too many readers |
//!
//! A reader that may come while its own processor reads already (in a handler, say) must not wait for a writer that
//! waits for it: it takes [`RawFairRwLock::acquire_shared_recursive`], by way of `lock_api::RwLock::raw`.

#![expect(unsafe_code, reason = "implements an unsafe trait")]

use super::mcs::RawMcsLock;
use crate::spin_wait::{QueueWait, Waiter};
use crate::sync::atomic::{AtomicU64, Ordering};

const WRITER: u64 = 1 << 0;
const WAITING: u64 = 1 << 1;
const KICK: u64 = 1 << 2;
const VP_SHIFT: u32 = 3;
const READER_SHIFT: u32 = 32;
const READER: u64 = 1 << READER_SHIFT;
const TOO_MANY: u64 = 1 << 63;
/// All that says whom to kick.
const SLEEPER: u64 = KICK | (READER - 1) >> VP_SHIFT << VP_SHIFT;

/// A lock for many readers or one writer, in about the order of arrival. `W` says what waiting does.
///
/// Nobody starves: who waits is overtaken only by those who come before it has become the queue's head.
#[derive(Debug)]
pub struct RawFairRwLock<W> {
    /// Release in `release_shared` and `release_exclusive` pairs with Acquire wherever someone enters.
    word: AtomicU64,
    queue: RawMcsLock<W>,
}

/// What the queue's head waits for.
type Condition = fn(u64) -> bool;

fn without_writer(word: u64) -> bool {
    word & WRITER == 0
}

fn empty(word: u64) -> bool {
    without_writer(word) && word < READER
}

impl<W> RawFairRwLock<W> {
    /// Free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0), queue: RawMcsLock::new() }
    }

    /// Free.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "only for the model checker")]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), queue: RawMcsLock::new() }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) const fn with_readers(readers: u64) -> Self {
        Self { word: AtomicU64::new(readers << READER_SHIFT), queue: RawMcsLock::new() }
    }

    /// Whether a reader or a writer holds the lock; out of date at once.
    #[inline]
    pub fn is_held(&self) -> bool {
        !empty(self.word.load(Ordering::Relaxed))
    }

    /// Whether a writer holds the lock; out of date at once.
    #[inline]
    pub fn is_held_exclusively(&self) -> bool {
        !without_writer(self.word.load(Ordering::Relaxed))
    }

    /// Whether a writer waits at the head of the queue, so that new readers wait too; out of date at once.
    pub fn has_waiting_writer(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITING != 0
    }
}

impl<W: QueueWait> RawFairRwLock<W> {
    /// Enters as a reader, if no writer holds the lock or waits for it.
    #[inline]
    pub fn try_acquire_shared(&self) -> bool {
        let before = self.word.fetch_add(READER, Ordering::Acquire);
        if before & (WRITER | WAITING | TOO_MANY) == 0 {
            return true;
        }
        self.back_out(before);
        false
    }

    /// Enters as a reader, after the writers that came before.
    #[inline]
    pub fn acquire_shared(&self) {
        if !self.try_acquire_shared() {
            self.acquire_shared_contended();
        }
    }

    /// Enters as a reader, overtaking writers that wait; for readers whose own processor may be reading already.
    #[inline]
    pub fn acquire_shared_recursive(&self) {
        let before = self.word.fetch_add(READER, Ordering::Acquire);
        if before & (WRITER | TOO_MANY) != 0 {
            self.wait_recursive(before);
        }
    }

    /// Enters as a reader, if no writer holds the lock.
    #[inline]
    pub fn try_acquire_shared_recursive(&self) -> bool {
        let before = self.word.fetch_add(READER, Ordering::Acquire);
        if before & (WRITER | TOO_MANY) == 0 {
            return true;
        }
        self.back_out(before);
        false
    }

    /// Enters as the writer, if the lock is free and no writer waits for it.
    #[inline]
    pub fn try_acquire_exclusive(&self) -> bool {
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Enters as the writer, after those who came before.
    #[inline]
    pub fn acquire_exclusive(&self) {
        if !self.try_acquire_exclusive() {
            self.acquire_exclusive_contended();
        }
    }

    /// Leaves as a reader.
    ///
    /// # Safety
    ///
    /// The caller has entered as a reader, and will not touch what the lock protects any more.
    #[inline]
    pub unsafe fn release_shared(&self) {
        self.leave();
    }

    /// Leaves as the writer.
    ///
    /// # Safety
    ///
    /// The caller has entered as the writer, and will not touch what the lock protects any more.
    #[inline]
    pub unsafe fn release_exclusive(&self) {
        let before = self.word.fetch_sub(WRITER, Ordering::Release);
        if W::IDLES && before & KICK != 0 {
            kick::<W>(before);
        }
    }

    #[inline]
    fn leave(&self) {
        let before = self.word.fetch_sub(READER, Ordering::Release);
        // From here on the lock may be gone: a writer may free its memory.
        let is_free = before >> READER_SHIFT == 1 && without_writer(before);
        if W::IDLES && before & KICK != 0 && is_free {
            kick::<W>(before);
        }
    }

    #[cold]
    fn back_out(&self, before: u64) {
        // A writer may have seen this reader and gone to sleep.
        self.leave();
        refuse_too_many(before);
    }

    #[cold]
    #[inline(never)]
    fn wait_recursive(&self, before: u64) {
        if before & TOO_MANY != 0 {
            self.back_out(before);
        }
        // Not in the queue, where the context that this one interrupted may stand.
        let mut waiter = Waiter::<W>::new();
        while !without_writer(self.word.load(Ordering::Acquire)) {
            waiter.relax();
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_shared_contended(&self) {
        self.queue.acquire();
        let before = self.word.fetch_add(READER, Ordering::Acquire);
        if before & TOO_MANY != 0 {
            // SAFETY: acquired above.
            unsafe { self.queue.release() };
            self.back_out(before);
        }
        // A writer that is inside will leave; with a reader counted, no other can enter.
        self.wait_as_head(without_writer);
        // SAFETY: acquired above.
        unsafe { self.queue.release() };
    }

    #[cold]
    #[inline(never)]
    fn acquire_exclusive_contended(&self) {
        self.queue.acquire();
        self.word.fetch_or(WAITING, Ordering::Relaxed);
        loop {
            let word = self.wait_as_head(empty);
            let entered =
                self.word.compare_exchange(word, WRITER, Ordering::Acquire, Ordering::Relaxed);
            if entered.is_ok() {
                break;
            }
        }
        // SAFETY: acquired above.
        unsafe { self.queue.release() };
    }

    /// At the head of the queue: waits until the word fulfils `condition`, and returns it.
    fn wait_as_head(&self, condition: Condition) -> u64 {
        let mut waiter = Waiter::<W>::new();
        loop {
            let word = self.word.load(Ordering::Acquire);
            if condition(word) {
                return word;
            }
            if waiter.round() {
                self.idle_as_head(&mut waiter, condition);
            }
        }
    }

    /// Leaves word whom to kick, and idles until the word fulfils `condition`.
    #[cold]
    fn idle_as_head(&self, waiter: &mut Waiter<W>, condition: Condition) {
        if W::IDLES {
            self.word.fetch_or(KICK | u64::from(W::this_vp()) << VP_SHIFT, Ordering::Relaxed);
        }
        let ready = || condition(self.word.load(Ordering::Relaxed));
        // What wakes it without a reason (an interrupt, say) sends it back to sleep.
        waiter.idle_until(ready);
        if W::IDLES {
            self.word.fetch_and(!SLEEPER, Ordering::Relaxed);
        }
    }
}

#[cold]
fn kick<W: QueueWait>(word: u64) {
    W::kick(((word & SLEEPER) >> VP_SHIFT) as u32);
}

fn refuse_too_many(before: u64) {
    assert!(before & TOO_MANY == 0, "a lock has 2^31 readers: most of their guards were forgotten");
}

#[cfg(not(loom))]
impl<W> Default for RawFairRwLock<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: the writer enters an empty lock by compare and exchange; readers stay only if they found no writer or
// have seen it leave (checked with loom).
unsafe impl<W: QueueWait> lock_api::RawRwLock for RawFairRwLock<W> {
    const INIT: Self = Self::new();
    type SharedGuard = lock_api::GuardSend;
    type ExclusiveGuard = lock_api::GuardSend;

    #[inline]
    fn lock_shared(&self) -> Self::SharedGuard {
        self.acquire_shared();
        lock_api::GuardSend::new()
    }

    #[inline]
    fn try_lock_shared(&self) -> Option<Self::SharedGuard> {
        self.try_acquire_shared().then(lock_api::GuardSend::new)
    }

    #[inline]
    unsafe fn unlock_shared(&self, _guard: Self::SharedGuard) {
        // SAFETY: the caller has entered as a reader.
        unsafe { self.release_shared() }
    }

    #[inline]
    fn lock_exclusive(&self) -> Self::ExclusiveGuard {
        self.acquire_exclusive();
        lock_api::GuardSend::new()
    }

    #[inline]
    fn try_lock_exclusive(&self) -> Option<Self::ExclusiveGuard> {
        self.try_acquire_exclusive().then(lock_api::GuardSend::new)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, _guard: Self::ExclusiveGuard) {
        // SAFETY: the caller has entered as the writer.
        unsafe { self.release_exclusive() }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.is_held()
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        self.is_held_exclusively()
    }
}
