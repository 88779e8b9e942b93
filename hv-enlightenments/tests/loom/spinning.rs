//! Test-and-set and tickets.

use hv_enlightenments::lock::{RawTasLock, RawTicketLock};
use loom::thread;

use super::{Bounded, Guarded, Lock, exclusion, trying};

#[test]
fn test_and_set_excludes_and_loses_no_unlock() {
    exclusion::<RawTasLock<Bounded>>(&[2, 2], None);
    exclusion::<RawTasLock<Bounded>>(&[1, 1, 1], Some(2));
}

#[test]
fn tickets_exclude_and_lose_no_unlock() {
    exclusion::<RawTicketLock<Bounded>>(&[2, 2], None);
    exclusion::<RawTicketLock<Bounded>>(&[1, 1, 1], Some(2));
}

#[test]
fn trying_test_and_set_excludes() {
    trying::<RawTasLock<Bounded>>();
}

#[test]
fn trying_for_a_ticket_excludes() {
    trying::<RawTicketLock<Bounded>>();
}

/// Whoever stood in line when the lock was released has had it before the releaser gets it again.
#[test]
fn tickets_are_served_in_order_of_arrival() {
    loom::model(|| {
        let guarded = Guarded::<RawTicketLock<Bounded>>::shared();
        guarded.lock.acquire();
        let waiter = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.locked_add())
        };
        let stood_in_line = guarded.lock.queue_length() == 2;
        Lock::release(&guarded.lock);
        guarded.lock.acquire();
        if stood_in_line {
            assert_eq!(guarded.get(), 1, "overtaken");
        }
        Lock::release(&guarded.lock);
        waiter.join().unwrap();
    });
}

/// The same with two in line: the second never gets the lock before the first.
#[test]
fn tickets_of_two_waiters_are_served_in_order_of_arrival() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let guarded = Guarded::<RawTicketLock<Bounded>>::shared();
        guarded.lock.acquire();
        let first = {
            let guarded = guarded.clone();
            thread::spawn(move || {
                guarded.lock.acquire();
                let found = guarded.get();
                guarded.add_one();
                Lock::release(&guarded.lock);
                found
            })
        };
        let first_stood_in_line = guarded.lock.queue_length() == 2;
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
