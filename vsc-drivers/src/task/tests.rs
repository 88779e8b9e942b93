use alloc::sync::Arc;
use alloc::task::Wake;
use core::cell::Cell;
use core::future::{pending, poll_fn, ready};
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Poll, Waker};
use std::vec::Vec;

use super::*;
use crate::SECOND_100NS;
use crate::fake::FakeHost;
use crate::hal::Hal;

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), Waker::from(count))
}

#[test]
fn a_ring_wakes_everybody_who_listens_once_for_each_ring() {
    let hal = FakeHost::new().hal();
    let bell = Bell::new();
    let all: Vec<_> = (0..20).map(|_| counted()).collect();
    all.iter().for_each(|(_, waker)| bell.listen(&hal, waker));
    all.iter().for_each(|(_, waker)| bell.listen(&hal, waker));
    bell.ring(&hal);
    assert!(all.iter().all(|(count, _)| count.0.load(Ordering::SeqCst) == 1));
}

#[test]
fn those_who_stopped_listening_make_room_for_others() {
    let hal = FakeHost::new().hal();
    let bell = Bell::new();
    for _ in 0..1000 {
        let (_, waker) = counted();
        bell.listen(&hal, &waker);
        bell.ring(&hal);
    }
    assert!(bell.len() <= 1);
}

#[test]
fn ringing_drops_and_clones_no_waker() {
    let hal = FakeHost::new().hal();
    let bell = Bell::new();
    let (count, waker) = counted();
    bell.listen(&hal, &waker);
    let owners = Arc::strong_count(&count);
    // `wake_by_ref` of an `Arc` waker clones it while it runs, but a kernel's need not; the bell itself keeps its own.
    bell.ring(&hal);
    assert_eq!(Arc::strong_count(&count), owners);
}

#[test]
fn the_background_is_polled_until_it_is_ready() {
    let hal = FakeHost::new().hal();
    let polls = Cell::new(0);
    let background = poll_fn(|context| {
        polls.set(polls.get() + 1);
        context.waker().wake_by_ref();
        if polls.get() == 3 { Poll::Ready(()) } else { Poll::Pending }
    });
    let wait = sleep_until(&hal, SECOND_100NS);
    block_on(&hal, background, wait);
    assert_eq!(polls.get(), 3);
}

#[test]
fn the_background_goes_on_for_as_long_as_the_main_future_and_may_end_before() {
    let hal = FakeHost::new().hal();
    let (ticks, ended) = (Cell::new(0), Cell::new(false));
    let clock = async {
        loop {
            sleep_until(&hal, hal.now_100ns() + SECOND_100NS).await;
            ticks.set(ticks.get() + 1);
        }
    };
    let short = async { ended.set(true) };
    let main = async {
        sleep_until(&hal, 5 * SECOND_100NS + 1).await;
        7
    };
    let background = both(clock, short);
    assert_eq!(block_on(&hal, pending::<()>(), beside(background, main)), 7);
    // The clock may go on between its being read and its being set.
    assert!((4..=5).contains(&ticks.get()) && ended.get(), "{} ticks", ticks.get());
}

#[test]
fn all_of_many_are_polled_until_each_is_ready() {
    let hal = FakeHost::new().hal();
    let order = core::cell::RefCell::new(Vec::new());
    let wait = |seconds: u64| {
        let (order, hal) = (&order, &hal);
        std::boxed::Box::pin(async move {
            sleep_until(hal, seconds * SECOND_100NS).await;
            order.borrow_mut().push(seconds);
        })
    };
    block_on(&hal, pending::<()>(), all([3, 1, 2].map(wait)));
    assert_eq!(*order.borrow(), [1, 2, 3]);
    block_on(&hal, pending::<()>(), all(Vec::<core::future::Ready<()>>::new()));
}

#[test]
fn waits_may_nest() {
    let hal = FakeHost::new().hal();
    let inner = async { block_on(&hal, pending::<()>(), sleep_until(&hal, 100)) };
    block_on(&hal, pending::<()>(), inner);
    assert!(hal.now_100ns() >= 100);
}

#[test]
fn wakers_of_past_waits_do_no_harm() {
    let hal = FakeHost::new().hal();
    let old =
        block_on(&hal, pending::<()>(), poll_fn(|context| Poll::Ready(context.waker().clone())));
    drop(old.clone());
    old.wake_by_ref();
    let mut polls = 0;
    block_on(&hal, pending::<()>(), async {
        let deadline = hal.now_100ns() + SECOND_100NS;
        poll_fn(|context| {
            polls += 1;
            old.wake_by_ref();
            hal.wake_at(deadline, context.waker());
            if polls > 10 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    old.wake();
    assert_eq!(polls, 11);
}

#[test]
fn a_limit_ends_a_wait_and_not_before() {
    let hal = FakeHost::new().hal();
    let start = hal.now_100ns();
    let over = block_on(&hal, pending::<()>(), within(&hal, SECOND_100NS, pending::<()>()));
    assert_eq!((over, hal.now_100ns() - start), (Err(Elapsed), SECOND_100NS));
    let in_time = within(&hal, SECOND_100NS, sleep_until(&hal, start + SECOND_100NS + 1));
    assert_eq!(block_on(&hal, pending::<()>(), in_time), Ok(()));
}

#[test]
fn what_is_ready_needs_no_time() {
    let hal = FakeHost::new().hal();
    assert_eq!(block_on(&hal, pending::<()>(), within(&hal, 0, ready(7))), Ok(7));
    assert_eq!(block_on(&hal, pending::<()>(), by(&hal, 0, pending::<()>())), Err(Elapsed));
    let never = within(&hal, u64::MAX, ready(()));
    assert_eq!(block_on(&hal, pending::<()>(), never), Ok(()));
}

#[test]
fn limits_of_one_task_do_not_hide_one_another() {
    // The clock keeps only the earliest deadline of a task.
    let hal = FakeHost::new().hal();
    let order = core::cell::RefCell::new(Vec::new());
    let wait = async |seconds: u64| {
        sleep_until(&hal, seconds * SECOND_100NS).await;
        order.borrow_mut().push(seconds);
    };
    let all = both(both(wait(3), wait(1)), both(wait(4), wait(2)));
    block_on(&hal, pending::<()>(), all);
    assert_eq!(*order.borrow(), [1, 2, 3, 4]);
}

#[test]
#[should_panic(expected = "nothing is left that could ever happen")]
fn a_test_that_waits_for_nothing_says_so() {
    let hal = FakeHost::new().hal();
    block_on(&hal, pending::<()>(), pending::<()>());
}
