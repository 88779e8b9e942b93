//! Queue and reader-writer locks: in handlers that interrupt a wait, out of order, and with readers and writers
//! on all processors.

#![expect(unsafe_code, reason = "releases a lock by hand")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_enlightenments::lock::{FairRwLock, McsLock, RawFairRwLock};
use hv_enlightenments::spin_wait::{Enlightened, Idling};
use lock_api::RwLock;

use super::{TestResult, check, guest_test};
use crate::machine::hyperv::Kernel;
use crate::machine::interrupts::{self, TEST_VECTOR};
use crate::machine::{ipi, jobs, vp};

guest_test!(
    a_handler_takes_a_queue_lock_in_the_middle_of_a_wait_for_another,
    queue_locks_are_released_in_any_order,
    enlightened_readers_and_writers_exclude,
    idling_readers_and_writers_exclude,
    a_reader_in_a_handler_overtakes_a_waiting_writer,
);

/// Turns of each processor, fewer the more there are.
fn turns(all: u64) -> u64 {
    (all / vp::online().count() as u64).max(4)
}

type Queue<T> = McsLock<T, Idling<Kernel>>;

/// Taken with interrupts on.
static OUTER: Queue<u64> = Queue::new(0);
/// Taken in handlers only.
static INNER: Queue<u64> = Queue::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);

fn a_handler_takes_a_queue_lock_in_the_middle_of_a_wait_for_another() -> TestResult {
    *OUTER.lock() = 0;
    *INNER.lock() = 0;
    HANDLED.store(0, Ordering::Relaxed);
    interrupts::set_handler(
        TEST_VECTOR,
        Some(|_| {
            *INNER.lock() += 1;
            HANDLED.fetch_add(1, Ordering::Relaxed);
        }),
    );
    jobs::run_on_all(|index| {
        let others = || vp::online().filter(|vp| vp.index as usize != index);
        let again = core::iter::repeat_with(others).flatten();
        for other in again.take(if others().next().is_some() { turns(1000) as usize } else { 0 }) {
            ipi::send(other, TEST_VECTOR);
            *OUTER.lock() += 1;
        }
    });
    // An interrupt may come after the last turn of all.
    let quiet = || *INNER.lock() == HANDLED.load(Ordering::Relaxed);
    let settled =
        x86_64::instructions::interrupts::without_interrupts(|| super::each_vp::holds_soon(quiet));
    interrupts::set_handler(TEST_VECTOR, None);
    check!(settled, "handlers counted {}, and {HANDLED:?} ran", *INNER.lock());
    let vps = vp::online().count() as u64;
    let expected = if vps > 1 { turns(1000) * vps } else { 0 };
    let found = *OUTER.lock();
    check!(found == expected, "{found} increments of {expected} are left");
    check!(vps == 1 || HANDLED.load(Ordering::Relaxed) > 0, "no interrupt was taken");
    Ok(())
}

fn queue_locks_are_released_in_any_order() -> TestResult {
    static LOCKS: [Queue<u64>; 3] = [const { Queue::new(0) }; 3];
    LOCKS.iter().for_each(|lock| *lock.lock() = 0);
    jobs::run_on_all(|index| {
        for turn in 0..turns(900) as usize {
            let mut guards = LOCKS.each_ref().map(|lock| Some(lock.lock()));
            for step in 0..guards.len() {
                if let Some(guard) = &mut guards[(turn + index + step) % 3] {
                    **guard += 1;
                }
                guards[(turn + index + step) % 3] = None;
            }
        }
    });
    let expected = turns(900) * vp::online().count() as u64;
    let found = LOCKS.each_ref().map(|lock| *lock.lock());
    check!(found == [expected; 3], "{found:?} increments of {expected} each are left");
    Ok(())
}

/// Two numbers that writers keep equal, and readers that saw them differ.
type Pair<W> = RwLock<RawFairRwLock<W>, (u64, u64)>;

static TORN: AtomicU64 = AtomicU64::new(0);

fn read_and_write<W: hv_enlightenments::spin_wait::QueueWait>(lock: &Pair<W>, index: usize) {
    for turn in 0..turns(2000) {
        if (turn + index as u64).is_multiple_of(4) {
            let mut pair = lock.write();
            pair.0 += 1;
            core::hint::black_box(&mut *pair);
            pair.1 += 1;
        } else {
            let pair = lock.read();
            if core::hint::black_box(pair.0) != core::hint::black_box(pair.1) {
                TORN.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn check_pair(pair: (u64, u64)) -> TestResult {
    let turns = turns(2000);
    let writes = |index: u64| (0..turns).filter(|turn| (turn + index).is_multiple_of(4)).count();
    let expected: u64 = vp::online().map(|vp| writes(vp.index.into()) as u64).sum();
    let torn = TORN.swap(0, Ordering::Relaxed);
    check!(torn == 0, "{torn} readers read in the middle of a write");
    check!(pair == (expected, expected), "{pair:?} writes of {expected} are left");
    Ok(())
}

fn enlightened_readers_and_writers_exclude() -> TestResult {
    static LOCK: FairRwLock<(u64, u64), Enlightened<Kernel>> = FairRwLock::new((0, 0));
    *LOCK.write() = (0, 0);
    jobs::run_on_all(|index| read_and_write(&LOCK, index));
    check_pair(*LOCK.read())
}

fn idling_readers_and_writers_exclude() -> TestResult {
    static LOCK: FairRwLock<(u64, u64), Idling<Kernel>> = FairRwLock::new((0, 0));
    *LOCK.write() = (0, 0);
    jobs::run_on_all(|index| read_and_write(&LOCK, index));
    check_pair(*LOCK.read())
}

fn a_reader_in_a_handler_overtakes_a_waiting_writer() -> TestResult {
    static LOCK: RawFairRwLock<Idling<Kernel>> = RawFairRwLock::new();
    static READ: AtomicU64 = AtomicU64::new(0);
    if vp::online().count() < 2 {
        super::skip!("there is only one processor");
    }
    READ.store(0, Ordering::Relaxed);
    interrupts::set_handler(
        TEST_VECTOR,
        // Another processor may only now get around to an interrupt of an earlier test, where many share few.
        Some(|_| {
            if vp::current_index() == 0 {
                LOCK.acquire_shared_recursive();
                READ.fetch_add(1, Ordering::Relaxed);
                release_shared(&LOCK);
            }
        }),
    );
    jobs::run_on(2, |index| {
        if index == 0 {
            LOCK.acquire_shared();
            super::each_vp::holds_soon(|| LOCK.has_waiting_writer());
            ipi::send(vp::current(), TEST_VECTOR);
            super::each_vp::holds_soon(|| READ.load(Ordering::Relaxed) == 1);
            release_shared(&LOCK);
        } else {
            super::each_vp::holds_soon(|| LOCK.is_held());
            LOCK.acquire_exclusive();
            release_exclusive(&LOCK);
        }
    });
    interrupts::set_handler(TEST_VECTOR, None);
    check!(READ.load(Ordering::Relaxed) == 1, "the handler never read");
    check!(!LOCK.is_held(), "somebody still holds the lock");
    Ok(())
}

fn release_shared(lock: &RawFairRwLock<Idling<Kernel>>) {
    // SAFETY: the caller has entered as a reader.
    unsafe { lock.release_shared() };
}

fn release_exclusive(lock: &RawFairRwLock<Idling<Kernel>>) {
    // SAFETY: the caller has entered as the writer.
    unsafe { lock.release_exclusive() };
}
