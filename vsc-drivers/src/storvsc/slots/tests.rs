//! The table against wrong answers, lost and abandoned requests.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use hv_abi::storvsp::VstorStatus;
use proptest::prelude::*;

use super::*;
use crate::storvsc::buffer::IoBuffer;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn waker() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), Waker::from(count))
}

fn request(deadline_100ns: u64) -> Request {
    Request {
        operation: Operation::EXECUTE_SRB,
        payload: [0; SRB_BYTES],
        address: Address::default(),
        piece: None,
        deadline_100ns,
    }
}

fn answer() -> Answer {
    let header =
        VstorHeader { operation: Operation::COMPLETE_IO, flags: 0, status: VstorStatus::SUCCESS };
    Answer { header, payload: [7; SRB_BYTES], len: SRB_BYTES }
}

fn lend() -> Lent {
    Lent::One(IoBuffer::zeroed(512).unwrap())
}

fn enter(slots: &mut Slots) -> Token {
    let (_, waker) = waker();
    let (token, fallout) = slots.enter(None, &request(100), &mut lend(), &waker).unwrap();
    fallout.settle();
    token
}

fn enter_and_send(slots: &mut Slots) -> Token {
    let token = enter(slots);
    assert!(slots.to_send().any(|(queued, ..)| queued == token));
    slots.sent();
    token
}

fn fetch(slots: &mut Slots, token: Token) -> Option<Outcome> {
    let (outcome, fallout) = slots.fetch(token, Waker::noop());
    fallout.settle();
    outcome
}

#[test]
fn an_answer_ends_its_request_and_brings_the_memory_back() {
    let mut slots = Slots::new(2);
    let (count, waker) = waker();
    let (token, _) = slots.enter(None, &request(100), &mut lend(), &waker).unwrap();
    slots.sent();
    slots.complete(token.transaction(), answer()).unwrap().settle();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    let outcome = fetch(&mut slots, token).unwrap();
    assert_eq!(outcome.result, Ok(answer()));
    assert!(matches!(outcome.lent, Some(Lent::One(_))));
    assert_eq!(slots.in_flight(), 0);
}

#[test]
fn transactions_are_never_zero_and_never_the_same_in_a_row() {
    let mut slots = Slots::new(1);
    let mut last = 0;
    for _ in 0..5 {
        let token = enter_and_send(&mut slots);
        assert!(token.transaction() != 0 && token.transaction() != last);
        last = token.transaction();
        slots.complete(last, answer()).unwrap().settle();
        fetch(&mut slots, token).unwrap();
    }
}

#[test]
fn answers_to_nothing_are_strays() {
    let mut slots = Slots::new(2);
    let token = enter_and_send(&mut slots);
    for transaction in [0, 1, 0xFFFF, u64::MAX, token.transaction() ^ (1 << 16), 1 << 48] {
        assert_eq!(slots.complete(transaction, answer()).err(), Some(Stray), "{transaction:#x}");
    }
    assert_eq!(slots.in_flight(), 1);
    assert!(fetch(&mut slots, token).is_none());
}

#[test]
fn a_second_answer_is_a_stray_before_and_after_the_first_was_fetched() {
    let mut slots = Slots::new(1);
    let token = enter_and_send(&mut slots);
    slots.complete(token.transaction(), answer()).unwrap().settle();
    assert_eq!(slots.complete(token.transaction(), answer()).err(), Some(Stray));
    fetch(&mut slots, token).unwrap();
    assert_eq!(slots.complete(token.transaction(), answer()).err(), Some(Stray));
}

#[test]
fn an_answer_before_the_request_was_sent_is_a_stray() {
    let mut slots = Slots::new(1);
    let token = enter(&mut slots);
    assert_eq!(slots.complete(token.transaction(), answer()).err(), Some(Stray));
}

#[test]
fn an_abandoned_request_keeps_its_memory_until_the_answer() {
    let mut slots = Slots::new(1);
    let token = enter_and_send(&mut slots);
    let fallout = slots.abandon(token);
    assert!(matches!(fallout.lent, Lent::Nothing));
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_none());
    let fallout = slots.complete(token.transaction(), answer()).unwrap();
    assert!(matches!(fallout.lent, Lent::One(_)));
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_some());
}

#[test]
fn a_request_abandoned_before_it_was_sent_is_never_sent() {
    let mut slots = Slots::new(2);
    let (first, second) = (enter(&mut slots), enter(&mut slots));
    assert!(matches!(slots.abandon(first).lent, Lent::One(_)));
    assert_eq!(slots.to_send().next().unwrap().0, second);
}

#[test]
fn a_lost_request_ends_with_an_error_and_keeps_its_memory() {
    let mut slots = Slots::new(1);
    let token = enter_and_send(&mut slots);
    assert_eq!(slots.overdue(99), None);
    assert_eq!(slots.overdue(100), Some(Address::default()));
    assert_eq!(slots.lose(99, |_| true).len(), 0);
    slots.lose(100, |_| true).into_iter().for_each(Fallout::settle);
    let outcome = fetch(&mut slots, token).unwrap();
    assert_eq!(outcome.result, Err(DiskErrorKind::TimedOut));
    assert!(outcome.lent.is_none());
    // The future is done: dropping it changes nothing.
    slots.abandon(token).settle();
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_none());
    // It comes after all.
    assert!(matches!(slots.complete(token.transaction(), answer()).unwrap().lent, Lent::One(_)));
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_some());
}

#[test]
fn an_answer_between_loss_and_fetch_brings_the_memory_back() {
    let mut slots = Slots::new(1);
    let token = enter_and_send(&mut slots);
    slots.lose(100, |_| true).into_iter().for_each(Fallout::settle);
    slots.complete(token.transaction(), answer()).unwrap().settle();
    let outcome = fetch(&mut slots, token).unwrap();
    assert_eq!(outcome.result, Err(DiskErrorKind::TimedOut));
    assert!(outcome.lent.is_some());
}

#[test]
fn a_lost_request_without_memory_frees_its_slot() {
    let mut slots = Slots::new(1);
    let token = slots.enter(None, &request(1), &mut Lent::Nothing, Waker::noop()).unwrap().0;
    slots.sent();
    slots.lose(1, |_| true).into_iter().for_each(Fallout::settle);
    fetch(&mut slots, token).unwrap();
    assert_eq!(
        (slots.in_flight(), slots.complete(token.transaction(), answer()).err()),
        (0, Some(Stray))
    );
    enter(&mut slots);
}

#[test]
fn the_reserved_slot_is_there_when_all_others_are_taken() {
    let mut slots = Slots::new(2);
    enter_and_send(&mut slots);
    enter_and_send(&mut slots);
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_none());
    let token = slots.enter_reserved(&request(1), Waker::noop()).unwrap();
    assert!(slots.enter_reserved(&request(1), Waker::noop()).is_none());
    slots.sent();
    slots.complete(token.transaction(), answer()).unwrap().settle();
    fetch(&mut slots, token).unwrap();
    assert!(slots.enter_reserved(&request(1), Waker::noop()).is_some());
}

#[test]
fn those_who_wait_get_slots_in_order_and_nobody_overtakes_them() {
    let mut slots = Slots::new(1);
    let running = enter_and_send(&mut slots);
    let ((first_count, first), (second_count, second)) = (waker(), waker());
    let first_ticket = slots.wait(None, &first).0;
    let second_ticket = slots.wait(None, &second).0;
    slots.complete(running.transaction(), answer()).unwrap().settle();
    fetch(&mut slots, running).unwrap();
    assert_eq!(
        (first_count.0.load(Ordering::Relaxed), second_count.0.load(Ordering::Relaxed)),
        (1, 0)
    );
    assert!(slots.enter(None, &request(1), &mut lend(), Waker::noop()).is_none());
    assert!(slots.enter(Some(second_ticket), &request(1), &mut lend(), &second).is_none());
    assert!(slots.enter(Some(first_ticket), &request(1), &mut lend(), &first).is_some());
}

#[test]
fn who_leaves_the_line_passes_the_turn_on() {
    let mut slots = Slots::new(1);
    let running = enter_and_send(&mut slots);
    let ((_, first), (count, second)) = (waker(), waker());
    let first_ticket = slots.wait(None, &first).0;
    let second_ticket = slots.wait(None, &second).0;
    slots.complete(running.transaction(), answer()).unwrap().settle();
    fetch(&mut slots, running).unwrap();
    slots.leave(first_ticket).settle();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(slots.enter(Some(second_ticket), &request(1), &mut lend(), &second).is_some());
}

#[test]
fn the_end_wakes_everybody_and_gives_memory_back_only_if_the_host_is_done() {
    for host_is_done in [false, true] {
        let mut slots = Slots::new(4);
        let (sent, lost) = (enter_and_send(&mut slots), enter_and_send(&mut slots));
        let gone = enter_and_send(&mut slots);
        slots.lose(100, |_| true).into_iter().for_each(Fallout::settle);
        fetch(&mut slots, lost).unwrap();
        slots.abandon(gone).settle();
        let queued = enter(&mut slots);
        slots.end(DiskErrorKind::Gone, host_is_done).into_iter().for_each(Fallout::settle);
        let outcome = fetch(&mut slots, queued).unwrap();
        assert_eq!((outcome.result, outcome.lent.is_some()), (Err(DiskErrorKind::Gone), true));
        assert_eq!(fetch(&mut slots, sent).unwrap().lent.is_some(), host_is_done);
        assert_eq!(slots.take_lent().len(), if host_is_done { 0 } else { 3 });
        assert_eq!(slots.ended(), Some(DiskErrorKind::Gone));
    }
}

#[test]
fn late_requests_that_were_not_sent_end_with_their_memory() {
    let mut slots = Slots::new(2);
    let token = enter(&mut slots);
    assert_eq!(slots.expire_queued(99).len(), 0);
    slots.expire_queued(100).into_iter().for_each(Fallout::settle);
    let outcome = fetch(&mut slots, token).unwrap();
    assert_eq!((outcome.result, outcome.lent.is_some()), (Err(DiskErrorKind::TimedOut), true));
    assert_eq!(slots.queued(), 0);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    Send,
    Complete(usize),
    Fetch(usize),
    Abandon(usize),
    Lose,
    Forge(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        3 => Just(Step::Enter),
        3 => Just(Step::Send),
        3 => (0usize..8).prop_map(Step::Complete),
        2 => (0usize..8).prop_map(Step::Fetch),
        1 => (0usize..8).prop_map(Step::Abandon),
        1 => Just(Step::Lose),
        1 => any::<u64>().prop_map(Step::Forge),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    #[test]
    fn no_order_of_events_loses_a_slot_or_frees_memory_in_flight(steps in steps()) {
        const DEPTH: u16 = 4;
        let mut slots = Slots::new(DEPTH);
        // Requests whose future is there, and those that the host has.
        let (mut futures, mut host): (Vec<Token>, Vec<Token>) = Default::default();
        for step in steps {
            match step {
                Step::Enter => {
                    if let Some((token, fallout)) = slots.enter(None, &request(1), &mut lend(), Waker::noop()) {
                        fallout.settle();
                        futures.push(token);
                    }
                }
                Step::Send => {
                    let first = slots.to_send().next().map(|(token, _, lent)| (token, matches!(lent, Lent::One(_))));
                    if let Some((token, lends)) = first {
                        prop_assert!(lends);
                        slots.sent();
                        host.push(token);
                    }
                }
                Step::Complete(which) if which < host.len() => {
                    let token = host.swap_remove(which);
                    slots.complete(token.transaction(), answer()).unwrap().settle();
                }
                Step::Fetch(which) if which < futures.len() => {
                    if let Some(outcome) = fetch(&mut slots, futures[which]) {
                        let token = futures.swap_remove(which);
                        // Memory comes back exactly when the host has answered.
                        prop_assert_eq!(outcome.lent.is_some(), !host.contains(&token));
                    }
                }
                Step::Abandon(which) if which < futures.len() => {
                    let token = futures.swap_remove(which);
                    slots.abandon(token).settle();
                }
                Step::Lose => slots.lose(1, |_| true).into_iter().for_each(Fallout::settle),
                Step::Forge(forged) if host.iter().all(|token| token.transaction() != forged) => {
                    prop_assert!(slots.complete(forged, answer()).is_err());
                }
                _ => {}
            }
            prop_assert_eq!(slots.in_flight(), host.len());
        }
        for token in host {
            slots.complete(token.transaction(), answer()).unwrap().settle();
        }
        for token in futures {
            slots.abandon(token).settle();
        }
        for _ in 0..DEPTH {
            enter(&mut slots);
        }
    }
}
