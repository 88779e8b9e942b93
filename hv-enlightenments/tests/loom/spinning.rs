//! Test-and-set and tickets.

use hv_enlightenments::lock::{RawTasLock, RawTicketLock};

use super::{Bounded, exclusion, in_order, trying, two_in_order};

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

/// Whether anybody stands in line behind the holder.
fn has_line(lock: &RawTicketLock<Bounded>) -> bool {
    lock.queue_length() == 2
}

#[test]
fn tickets_are_served_in_order_of_arrival() {
    in_order::<RawTicketLock<Bounded>>(has_line, None);
}

#[test]
fn tickets_of_two_waiters_are_served_in_order_of_arrival() {
    two_in_order::<RawTicketLock<Bounded>>(has_line);
}
