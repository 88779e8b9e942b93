//! The queue lock, spinning and idling.

use hv_enlightenments::lock::RawMcsLock;

use super::idling::Idling;
use super::{Bounded, exclusion, in_order, trying, two_in_order};

#[test]
fn queues_exclude_and_lose_no_unlock() {
    exclusion::<RawMcsLock<Bounded>>(&[2, 2], Some(4));
    exclusion::<RawMcsLock<Bounded>>(&[2, 1, 1], Some(3));
}

#[test]
fn trying_for_a_queue_lock_excludes() {
    trying::<RawMcsLock<Bounded>>();
}

#[test]
fn a_queue_serves_in_order_of_arrival() {
    in_order::<RawMcsLock<Bounded>>(RawMcsLock::has_queue, Some(3));
}

/// With two in the queue, the second never gets the lock before the first.
#[test]
fn two_in_a_queue_are_served_in_order_of_arrival() {
    two_in_order::<RawMcsLock<Bounded>>(RawMcsLock::has_queue);
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
