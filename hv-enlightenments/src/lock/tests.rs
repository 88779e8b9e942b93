//! The locks: they exclude, keep their order, and count exactly what was waited.

#![expect(unsafe_code, reason = "takes locks by hand and races on what they protect")]

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use std::thread;

use lock_api::{RawMutex, RawMutexFair};

use super::*;
use crate::spin_wait::{Bare, Enlightened, Idling, Plain, QueueWait, SpinWait};
use crate::test_platform::test_platform;

/// A strategy of which nothing may be used.
struct Untouchable;

impl SpinWait for Untouchable {
    fn limit() -> u32 {
        panic!("an uncontended lock waited")
    }

    fn count(_rounds: u32) {
        panic!("an uncontended lock counted")
    }

    fn limit_reached(_rounds: u32) {
        panic!("an uncontended lock notified")
    }

    fn count_unbounded() -> u64 {
        panic!("an uncontended lock counted")
    }
}

impl QueueWait for Untouchable {
    const IDLES: bool = true;

    fn this_vp() -> u32 {
        panic!("an uncontended lock asked for the processor")
    }

    fn idle_unless(_ready: impl Fn() -> bool) -> bool {
        panic!("an uncontended lock idled")
    }

    fn kick(_vp: u32) {
        panic!("an uncontended lock kicked")
    }
}

fn lock_and_unlock<R: RawMutex>() {
    let lock = lock_api::Mutex::<R, u32>::new(0);
    for expected in 0..1000 {
        let mut value = lock.lock();
        assert_eq!(*value, expected);
        assert!(lock.is_locked());
        assert!(lock.try_lock().is_none());
        *value += 1;
    }
    assert!(!lock.is_locked());
    *lock.try_lock().unwrap() += 1;
    assert_eq!(lock.into_inner(), 1001);
}

#[test]
fn an_uncontended_lock_runs_none_of_the_strategys_code() {
    lock_and_unlock::<RawTasLock<Untouchable>>();
    lock_and_unlock::<RawTicketLock<Untouchable>>();
    lock_and_unlock::<RawMcsLock<Untouchable>>();
}

#[cfg(feature = "spin")]
#[test]
fn an_uncontended_lock_of_spin_runs_none_of_the_strategys_code() {
    let lock = spin::mutex::SpinMutex::<_, Relax<Untouchable>>::new(0);
    (0..1000).for_each(|_| *lock.lock() += 1);
    assert_eq!(*lock.lock(), 1000);
}

#[test]
fn locks_live_in_statics() {
    static TAS: TasLock<u32, Bare> = TasLock::new(1);
    static TICKET: TicketLock<u32, Bare> = TicketLock::new(2);
    static MCS: McsLock<u32, Bare> = McsLock::new(4);
    assert_eq!(*TAS.lock() + *TICKET.lock() + *MCS.lock(), 7);
    assert_eq!(size_of::<RawTasLock<Bare>>(), 1);
    assert_eq!(size_of::<RawTicketLock<Bare>>(), 8);
    assert_eq!(size_of::<RawMcsLock<Bare>>(), 16);
}

#[test]
fn tickets_wrap() {
    for first in [u32::MAX - 2, u32::MAX - 1] {
        let lock = RawTicketLock::<Untouchable>::starting_at(first);
        for _ in 0..3 {
            lock.acquire();
            assert!(!lock.try_acquire());
            assert_eq!(lock.queue_length(), 1);
            // SAFETY: taken above.
            unsafe { lock.release() };
            assert!(lock.try_acquire());
            assert_eq!(lock.queue_length(), 1);
            // SAFETY: taken above.
            unsafe { lock.release() };
            assert!(!lock.is_held());
        }
    }
}

#[test]
fn a_fair_unlock_frees_a_ticket_lock() {
    let lock = TicketLock::<(), Untouchable>::new(());
    lock_api::MutexGuard::unlock_fair(lock.lock());
    assert!(!lock.is_locked());
    fn is_fair<R: RawMutexFair>() {}
    is_fair::<RawTicketLock<Bare>>();
}

/// A count that only mutual exclusion keeps right.
struct Racy(UnsafeCell<u64>);

// SAFETY: every use is under a lock; that this works is what is tested.
unsafe impl Sync for Racy {}

impl Racy {
    fn add_one(&self) {
        // SAFETY: the caller holds the lock.
        let value = unsafe { self.0.get().read() };
        // SAFETY: as above.
        unsafe { self.0.get().write(value + 1) };
    }
}

const THREADS: u64 = 4;

/// Threads that add under a lock; more threads than processors, so that holders are preempted.
///
/// All of them begin by waiting: the lock is not free before `contended` says so.
fn race<R: RawMutex + Sync>(each: u64, contended: impl Fn() -> bool) {
    let (lock, count) = (R::INIT, Racy(UnsafeCell::new(0)));
    let first = lock.lock();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..each {
                    let guard = lock.lock();
                    count.add_one();
                    // SAFETY: taken above.
                    unsafe { lock.unlock(guard) };
                }
            });
        }
        while !contended() {
            thread::yield_now();
        }
        // SAFETY: taken above.
        unsafe { lock.unlock(first) };
    });
    assert_eq!(count.0.into_inner(), THREADS * each);
    assert!(!lock.is_locked());
}

#[test]
fn threads_exclude_one_another_with_test_and_set() {
    race::<RawTasLock<Bare>>(500_000, || true);
}

/// Hypervisors and guests agree on the number of notifications, whatever the race.
#[test]
fn notifications_counted_are_the_calls_made_under_contention() {
    test_platform!(Kernel);
    Kernel::enable(64);
    // What a hypervisor would do, and what makes a contended ticket lock finish on a small machine.
    CPU.on_call(|_| {
        thread::yield_now();
        0
    });
    race::<RawTasLock<Enlightened<Kernel>>>(100_000, || Kernel::calls().len() >= 10);
    let by_first_lock = Kernel::calls().len();
    race::<RawTicketLock<Enlightened<Kernel>>>(25_000, || {
        Kernel::calls().len() >= by_first_lock + 10
    });
    let counts = Kernel::counts();
    assert_eq!(counts.notifications, Kernel::calls().len() as u64);
    assert!(counts.iterations >= counts.notifications * 64);
}

#[cfg(feature = "spin")]
#[test]
fn notifications_of_spins_lock_are_the_calls_made_under_contention() {
    test_platform!(Kernel);
    Kernel::enable(64);
    CPU.on_call(|_| {
        thread::yield_now();
        0
    });
    let lock = spin::mutex::SpinMutex::<u64, Relax<Enlightened<Kernel>>>::new(0);
    let first = lock.lock();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..100_000).for_each(|_| *lock.lock() += 1));
        }
        while Kernel::calls().len() < 10 {
            thread::yield_now();
        }
        drop(first);
    });
    assert_eq!(*lock.lock(), THREADS * 100_000);
    let counts = Kernel::counts();
    assert_eq!(counts.notifications, Kernel::calls().len() as u64);
    assert!(counts.notifications <= counts.iterations / 64);
}

#[test]
fn plain_waits_under_contention_are_counted_and_not_reported() {
    test_platform!(Kernel);
    Kernel::enable(1);
    race::<RawTasLock<Plain<Kernel>>>(200_000, || true);
    assert_eq!(Kernel::counts().notifications, 0);
    assert!(Kernel::calls().is_empty());
}

#[test]
fn a_ticket_lock_serves_in_order_of_arrival() {
    // Waiters that yield, so that the order and not the scheduler decides how long this takes.
    test_platform!(Kernel);
    Kernel::enable(1);
    CPU.on_call(|_| {
        thread::yield_now();
        0
    });
    let lock = RawTicketLock::<Enlightened<Kernel>>::new();
    let order = std::sync::Mutex::new(Vec::new());
    lock.acquire();
    thread::scope(|scope| {
        for number in 0..16 {
            let (lock, order) = (&lock, &order);
            scope.spawn(move || {
                lock.acquire();
                order.lock().unwrap().push(number);
                // SAFETY: taken above.
                unsafe { lock.release() };
            });
            // The next one comes only when this one stands in line.
            while lock.queue_length() != number + 2 {
                thread::yield_now();
            }
        }
        // SAFETY: taken above.
        unsafe { lock.release() };
    });
    assert_eq!(order.into_inner().unwrap(), Vec::from_iter(0..16));
    assert_eq!(lock.queue_length(), 0);
}

fn yielding(_call: &crate::cpu::fake::FakeCall) -> u64 {
    thread::yield_now();
    0
}

#[test]
fn threads_exclude_one_another_in_a_queue() {
    test_platform!(Kernel);
    Kernel::enable(64);
    CPU.on_call(yielding);
    race::<RawMcsLock<Enlightened<Kernel>>>(25_000, || Kernel::calls().len() >= 10);
    let counts = Kernel::counts();
    assert_eq!(counts.notifications, Kernel::calls().len() as u64);
    assert_eq!(Kernel::idle_counts().idles, 0);
}

#[test]
fn threads_exclude_one_another_in_an_idling_queue_and_all_wake() {
    test_platform!(Kernel);
    Kernel::enable(64);
    // Each begins with all of them idle, and so with a kick for each: also where threads then run one after the other.
    for _ in 0..10 {
        race::<RawMcsLock<Idling<Kernel>>>(50_000, || Kernel::idling_now() as u64 == THREADS);
    }
    let (calls, kicks) = (Kernel::calls().len() as u64, Kernel::idle_counts().kicks);
    assert!(kicks > 0);
    // It may, where whoever stands behind it was interrupted before saying so.
    assert!(
        calls < kicks / 10,
        "a processor that can idle need not tell: {calls} times, {kicks} kicks"
    );
}

#[test]
fn a_free_reader_writer_lock_runs_none_of_the_strategys_code() {
    let lock = FairRwLock::<u32, Untouchable>::new(0);
    for expected in 0..1000 {
        {
            let (one, other) = (lock.read(), lock.try_read().unwrap());
            assert_eq!((*one, *other), (expected, expected));
            assert!(lock.is_locked() && !lock.is_locked_exclusive());
            assert!(lock.try_write().is_none());
        }
        let mut value = lock.write();
        assert!(lock.is_locked_exclusive());
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        *value += 1;
    }
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner(), 1000);
    assert_eq!(size_of::<RawFairRwLock<Bare>>(), 24);
}

/// Four threads write and read two numbers that only exclusion keeps equal.
fn race_readers_and_writers<W: QueueWait>(each: u64, contended: impl Fn() -> bool) {
    let lock = FairRwLock::<(u64, u64), W>::new((0, 0));
    let first = lock.write();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let lock = &lock;
            scope.spawn(move || {
                for round in 0..each {
                    if (round + number).is_multiple_of(4) {
                        let mut value = lock.write();
                        value.0 += 1;
                        value.1 += 1;
                    } else {
                        let value = lock.read();
                        assert_eq!(value.0, value.1, "read in the middle of a write");
                    }
                }
            });
        }
        while !contended() {
            thread::yield_now();
        }
        drop(first);
    });
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner(), (THREADS * each / 4, THREADS * each / 4));
}

#[test]
fn readers_and_writers_exclude_one_another() {
    test_platform!(Kernel);
    Kernel::enable(64);
    CPU.on_call(yielding);
    race_readers_and_writers::<Enlightened<Kernel>>(40_000, || Kernel::calls().len() >= 10);
    assert_eq!(Kernel::counts().notifications, Kernel::calls().len() as u64);
}

#[test]
fn idling_readers_and_writers_exclude_one_another_and_all_wake() {
    test_platform!(Kernel);
    Kernel::enable(64);
    race_readers_and_writers::<Idling<Kernel>>(200_000, || Kernel::idling_now() as u64 == THREADS);
    let (calls, kicks) = (Kernel::calls().len() as u64, Kernel::idle_counts().kicks);
    assert!(kicks > 0);
    assert!(calls <= 1 + kicks / 10, "{calls} calls, {kicks} kicks");
}

#[test]
fn a_waiting_writer_keeps_new_readers_out_but_not_recursive_ones() {
    let lock = RawFairRwLock::<Bare>::new();
    lock.acquire_shared();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            lock.acquire_exclusive();
            // SAFETY: entered above.
            unsafe { lock.release_exclusive() };
        });
        while !lock.has_waiting_writer() {
            thread::yield_now();
        }
        assert!(!lock.try_acquire_shared());
        assert!(lock.try_acquire_shared_recursive());
        lock.acquire_shared_recursive();
        for _ in 0..3 {
            assert!(!writer.is_finished());
            // SAFETY: entered above, three times.
            unsafe { lock.release_shared() };
        }
    });
    assert!(!lock.is_held());
}

/// Readers that always overlap never leave the lock empty by themselves.
#[test]
fn a_writer_gets_in_between_readers_that_never_stop() {
    test_platform!(Kernel);
    Kernel::enable(64);
    CPU.on_call(yielding);
    let lock = FairRwLock::<u32, Enlightened<Kernel>>::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = lock.read();
                while *last == 0 {
                    // The next one before this one is dropped, as soon as that is possible.
                    match lock.try_read() {
                        Some(next) => last = next,
                        None => {
                            drop(last);
                            last = lock.read();
                        }
                    }
                }
            });
        }
        *lock.write() = 1;
    });
}

#[test]
#[should_panic(expected = "2^31 readers")]
fn forgotten_readers_do_not_overflow_into_a_free_lock() {
    let lock = RawFairRwLock::<Bare>::with_readers(1 << 31);
    assert!(!lock.try_acquire_exclusive());
    lock.acquire_shared();
}

#[test]
fn a_fair_unlock_frees_a_queue_lock() {
    let lock = McsLock::<(), Untouchable>::new(());
    lock_api::MutexGuard::unlock_fair(lock.lock());
    assert!(!lock.is_locked());
}

#[test]
fn a_queue_lock_serves_in_order_of_arrival() {
    test_platform!(Kernel);
    Kernel::enable(1);
    CPU.on_call(yielding);
    serves_in_order::<Enlightened<Kernel>>(|number| Kernel::calls().len() as u64 >= number);
}

#[test]
fn an_idling_queue_lock_serves_in_order_of_arrival() {
    test_platform!(Kernel);
    Kernel::enable(8);
    serves_in_order::<Idling<Kernel>>(|number| Kernel::idling_now() as u64 >= number);
}

/// Threads that come one after the other, each when the one before `stands` in the queue.
fn serves_in_order<W: QueueWait>(stands: impl Fn(u64) -> bool) {
    let lock = RawMcsLock::<W>::new();
    let order = std::sync::Mutex::new(Vec::new());
    lock.acquire();
    thread::scope(|scope| {
        for number in 0..16 {
            let (lock, order) = (&lock, &order);
            let before = lock.last_in_queue();
            scope.spawn(move || {
                lock.acquire();
                order.lock().unwrap().push(number);
                // SAFETY: taken above.
                unsafe { lock.release() };
            });
            while lock.last_in_queue() == before || !stands(number + 1) {
                thread::yield_now();
            }
        }
        // SAFETY: taken above.
        unsafe { lock.release() };
    });
    assert_eq!(order.into_inner().unwrap(), Vec::from_iter(0..16));
    assert!(!lock.has_queue() && !lock.is_held());
}

/// An interrupt handler takes and frees another lock in the middle of a wait, and the outer wait goes on.
#[test]
fn a_handler_may_wait_for_a_queue_lock_in_the_middle_of_a_wait_for_another() {
    test_platform!(Kernel);
    Kernel::enable(16);
    static INNER: RawMcsLock<Enlightened<Kernel>> = RawMcsLock::new();
    std::thread_local!(static IS_HANDLER: core::cell::Cell<bool> = const { core::cell::Cell::new(false) });
    CPU.on_call(|_| {
        // Each call is interrupted, by a handler that is not: waiting for a lock in the middle of a wait for the same one would have no end.
        if !IS_HANDLER.replace(true) {
            INNER.acquire();
            // SAFETY: taken above.
            unsafe { INNER.release() };
            IS_HANDLER.set(false);
        }
        thread::yield_now();
        0
    });
    race::<RawMcsLock<Enlightened<Kernel>>>(2_000, || Kernel::calls().len() >= 10);
    assert!(!INNER.is_held() && !INNER.has_queue());
}

#[test]
fn guards_of_queue_locks_are_dropped_in_any_order() {
    test_platform!(Kernel);
    let locks: [McsLock<u32, Idling<Kernel>>; 3] = core::array::from_fn(|_| McsLock::new(0));
    thread::scope(|scope| {
        for thread in 0..3 {
            let locks = &locks;
            scope.spawn(move || {
                for round in 0..20_000 {
                    let mut guards: Vec<_> = locks.iter().map(|lock| lock.lock()).collect();
                    guards.iter_mut().for_each(|guard| **guard += 1);
                    drop(guards.remove((round + thread) % 3));
                    drop(guards.remove(round % 2));
                }
            });
        }
    });
    assert!(locks.iter().all(|lock| *lock.lock() == 60_000));
}
