//! The queue lock of Mellor-Crummey and Scott, and what over-commitment makes of it.
//!
//! **Theory.** Each waiter spins on a word of its own, so that a hand-off touches one waiter's cache line, and
//! the queue serves in the order of arrival. Two problems come with it:
//!
//! 1. The textbook lock needs its queue node until the release, which `lock_api` has no place for. Here, as in Linux's
//!    qspinlock, only waiters stand in the queue: its head waits for the lock's own word and leaves the queue
//!    before it returns as the holder. So nodes live on the stack of [`RawMcsLock::acquire`]. There are no slots
//!    for each processor that could run out: a handler that takes another lock brings its own
//!    stack, and locks may be released in any order, by any processor, or dropped while held.
//! 2. A queue waits for its head, also when the head does not run, and all others behind it. *Prevent*: with [`Idling`]
//!    nobody spins for long, so that the processor goes to those who can get on. *Detect*: a lock that stays
//!    free under the eyes of a running processor has a head that does not run. *Handle*: such a lock is *open*: who runs may
//!    take it, until the head runs again and *closes* it. Only an idling head is kicked, once; its successor is
//!    not woken to become head, but when the lock is free.
//!
//! **Practice.** [`RawMcsLock`] with [`Bare`], [`Plain`] or [`Enlightened`] is strictly first come, first served, where
//! coming is the look at the queue's tail. With [`Idling`] it is so while the head runs; whoever stands at the head can be
//! overtaken only until it runs again, and at most once by falling asleep.
//!
//! The word, for strategies that idle:
//!
//! | word | meaning | on release |
//! | --- | --- | --- |
//! | 0 | free, for the head or, without a queue, for anyone | |
//! | `OPEN` | free for anyone; the head does not run | |
//! | `HELD` | held | 0 |
//! | `HELD \| OPEN` | held, and the head does not run | `OPEN` |
//! | `HELD \| KICK \| vp`, `OPEN` or not | held; the head idles on processor `vp` | 0 or `OPEN`, and `vp` is kicked |
//!
//! [`Bare`]: crate::spin_wait::Bare
//! [`Plain`]: crate::spin_wait::Plain
//! [`Enlightened`]: crate::spin_wait::Enlightened
//! [`Idling`]: crate::spin_wait::Idling

#![expect(unsafe_code, reason = "implements an unsafe trait; waiters link their stack nodes")]

mod node;

use core::marker::PhantomData;
use core::ptr;

use self::node::Node;
use crate::spin_wait::{QueueWait, Waiter};
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1 << 0;
const OPEN: u32 = 1 << 1;
const KICK: u32 = 1 << 2;
const VP_SHIFT: u32 = 3;

/// Most looks at a free lock after which its head is known not to run: a running one takes it within a few.
const MOST_FREE_LOOKS: u32 = 64;

/// A lock that serves in the order of arrival and whose waiters keep off each other's cache lines. `W` says what
/// waiting does.
#[derive(Debug)]
pub struct RawMcsLock<W> {
    /// Free, held and how (see the module). Release in `release` pairs with Acquire in `take`.
    word: AtomicU32,
    /// Who came last; null without waiters. Release of the swap in `acquire_contended` pairs with Acquire in the next one.
    tail: AtomicPtr<Node>,
    strategy: PhantomData<fn() -> W>,
}

impl<W> RawMcsLock<W> {
    /// Free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            word: AtomicU32::new(FREE),
            tail: AtomicPtr::new(ptr::null_mut()),
            strategy: PhantomData,
        }
    }

    /// Free.
    #[cfg(loom)]
    #[expect(clippy::new_without_default, reason = "only for the model checker")]
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(FREE),
            tail: AtomicPtr::new(ptr::null_mut()),
            strategy: PhantomData,
        }
    }

    /// Whether the lock is held; out of date at once.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) & HELD != 0
    }

    /// Whether somebody waits in the queue; out of date at once.
    #[inline]
    pub fn has_queue(&self) -> bool {
        !self.tail.load(Ordering::Relaxed).is_null()
    }

    /// Something that changes with each waiter that comes.
    #[cfg(all(test, not(loom)))]
    pub(super) fn last_in_queue(&self) -> usize {
        self.tail.load(Ordering::Relaxed).addr()
    }

    #[inline]
    fn take(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl<W: QueueWait> RawMcsLock<W> {
    /// Takes the lock if it is free and nobody waits for it.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        // Whoever stood in the queue at this look came before.
        if !self.has_queue() && self.take(FREE, HELD) {
            return true;
        }
        W::IDLES && self.take_open()
    }

    /// Takes the lock, waiting for those who came before.
    #[inline]
    pub fn acquire(&self) {
        if self.has_queue() || !self.take(FREE, HELD) {
            self.acquire_contended();
        }
    }

    /// Frees the lock.
    ///
    /// # Safety
    ///
    /// The lock is held, and its holder will not touch what it protects any more.
    #[inline]
    pub unsafe fn release(&self) {
        if W::IDLES {
            let before = self.word.fetch_and(OPEN, Ordering::Release);
            // From here on the lock may be gone: whoever takes it next may free its memory.
            if before & KICK != 0 {
                W::kick(before >> VP_SHIFT);
            }
        } else {
            self.word.store(FREE, Ordering::Release);
        }
    }

    /// Frees the lock for the head of the queue, even if that has to be woken.
    ///
    /// # Safety
    ///
    /// As for [`RawMcsLock::release`].
    #[inline]
    pub unsafe fn release_fair(&self) {
        if W::IDLES {
            let before = self.word.swap(FREE, Ordering::Release);
            if before & KICK != 0 {
                W::kick(before >> VP_SHIFT);
            }
        } else {
            self.word.store(FREE, Ordering::Release);
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_contended(&self) {
        let mut waiter = Waiter::<W>::new();
        if W::IDLES && self.overtake(&mut waiter) {
            return;
        }
        let node = Node::new(W::this_vp());
        let this = ptr::from_ref(&node).cast_mut();
        let before = self.tail.swap(this, Ordering::AcqRel);
        // SAFETY: who stood at the tail leaves its node only once it knows its successor, which is this call.
        if let Some(before) = unsafe { before.as_ref() } {
            before.next.store(this, Ordering::Release);
            node.wait(&mut waiter);
        }
        self.wait_as_head(&mut waiter);
        self.leave_queue(&node, &mut waiter);
    }

    /// Takes an open lock, or one whose head leaves it free, without standing in the queue. Gives up when the
    /// lock's head runs, or when that has lasted.
    #[cold]
    fn overtake(&self, waiter: &mut Waiter<W>) -> bool {
        let patience = (W::limit() / 4).clamp(1, MOST_FREE_LOOKS);
        let mut free_looks = 0;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word & (HELD | OPEN) == HELD {
                return false;
            }
            if word == FREE {
                free_looks += 1;
                let head_sleeps = free_looks >= patience;
                if (head_sleeps || !self.has_queue()) && self.take(FREE, self.held_by_passer()) {
                    return true;
                }
            } else if self.take_open() {
                return true;
            }
            if waiter.round() {
                return false;
            }
        }
    }

    /// Takes the lock if it is open.
    #[cold]
    fn take_open(&self) -> bool {
        self.word.load(Ordering::Relaxed) == OPEN && self.take(OPEN, self.held_by_passer())
    }

    /// What to make of the word when overtaking: open, unless there is nobody to overtake.
    fn held_by_passer(&self) -> u32 {
        if self.has_queue() { HELD | OPEN } else { HELD }
    }

    /// At the head of the queue: waits for the lock and takes it, closed.
    fn wait_as_head(&self, waiter: &mut Waiter<W>) {
        let mut may_open = OPEN;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word & HELD == 0 {
                if self.take(word, HELD) {
                    return;
                }
            } else if W::IDLES && word != HELD {
                // Others took it for not running.
                let _ = self.change(word, HELD);
            } else if waiter.round() && self.idle_as_head(waiter, may_open) {
                may_open = 0;
            }
        }
    }

    /// Announces to the holder that the head idles, and idles until the lock has been free. Whether the holder knew.
    #[cold]
    fn idle_as_head(&self, waiter: &mut Waiter<W>, may_open: u32) -> bool {
        let announced = HELD | KICK | W::this_vp() << VP_SHIFT | may_open;
        if W::IDLES && !self.change(HELD, announced) {
            return false;
        }
        // What wakes it without a kick (an interrupt, say) sends it back to sleep.
        let ready = || self.word.load(Ordering::Relaxed) != announced;
        waiter.idle_until(ready);
        W::IDLES
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Makes the successor, if there is one, the head. The caller holds the lock since just now.
    fn leave_queue(&self, node: &Node, waiter: &mut Waiter<W>) {
        let this = ptr::from_ref(node).cast_mut();
        let alone =
            self.tail.compare_exchange(this, ptr::null_mut(), Ordering::Relaxed, Ordering::Relaxed);
        if alone.is_ok() {
            return;
        }
        // SAFETY: the successor waits until it becomes the head, and then for the lock, which the caller holds.
        let next = unsafe { &*node.successor(waiter) };
        if next.make_head::<W>() {
            // It sleeps on, and whoever frees the lock wakes it. If it has woken by itself it sees to that itself.
            let _ = self.change(HELD, HELD | OPEN | KICK | next.vp << VP_SHIFT);
        }
    }
}

#[cfg(not(loom))]
impl<W> Default for RawMcsLock<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: the word goes to held by compare and exchange from a free one only, and to free only by the holder
// (checked with loom).
super::impl_raw_mutex!(RawMcsLock, QueueWait);

#[cfg(all(feature = "lock_api", not(loom)))]
// SAFETY: as above.
unsafe impl<W: QueueWait> lock_api::RawMutexFair for RawMcsLock<W> {
    #[inline]
    unsafe fn unlock_fair(&self, _guard: Self::Guard) {
        // SAFETY: the caller holds the lock.
        unsafe { self.release_fair() }
    }
}
