//! The queue lock, spinning and idling.

use hv_enlightenments::lock::RawMcsLock;
use loom::thread;

use super::idling::{Idling, become_vp};
use super::{Bounded, Guarded, Lock, exclusion, trying};

#[test]
fn queues_exclude_and_lose_no_unlock() {
    exclusion::<RawMcsLock<Bounded>>(&[2, 2], Some(4));
    exclusion::<RawMcsLock<Bounded>>(&[2, 1, 1], Some(3));
}

#[test]
fn trying_for_a_queue_lock_excludes() {
    trying::<RawMcsLock<Bounded>>();
}

/// Whoever waits in the queue when the lock is released has had it before the releaser gets it again.
fn in_order<L: Lock>(has_queue: impl Fn(&L) -> bool + Send + Sync + Copy + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let guarded = Guarded::<L>::shared();
        guarded.lock.acquire();
        let waiter = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                become_vp(1);
                guarded.locked_add();
            })
        };
        let stood_in_line = has_queue(&guarded.lock);
        guarded.lock.release();
        guarded.lock.acquire();
        if stood_in_line {
            assert_eq!(guarded.get(), 1, "overtaken");
        }
        guarded.lock.release();
        waiter.join().unwrap();
    });
}

#[test]
fn a_queue_serves_in_order_of_arrival() {
    in_order::<RawMcsLock<Bounded>>(RawMcsLock::has_queue);
}

/// With two in the queue, the second never gets the lock before the first.
#[test]
fn two_in_a_queue_are_served_in_order_of_arrival() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let guarded = Guarded::<RawMcsLock<Bounded>>::shared();
        Lock::acquire(&guarded.lock);
        let first = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                Lock::acquire(&guarded.lock);
                let found = guarded.get();
                guarded.add_one();
                Lock::release(&guarded.lock);
                found
            })
        };
        let first_stood_in_line = guarded.lock.has_queue();
        let second = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.locked_add())
        };
        Lock::release(&guarded.lock);
        let found = first.join().unwrap();
        second.join().unwrap();
        if first_stood_in_line {
            assert_eq!(found, 0, "overtaken");
        }
    });
}

/// A lost wake-up leaves a thread idle for ever, which loom reports as a deadlock.
#[test]
fn idling_queues_exclude_and_lose_no_kick() {
    exclusion::<RawMcsLock<Idling>>(&[2, 2], Some(3));
    exclusion::<RawMcsLock<Idling>>(&[2, 1, 1], Some(2));
}

#[test]
fn trying_for_an_idling_queue_lock_excludes() {
    trying::<RawMcsLock<Idling>>();
}
