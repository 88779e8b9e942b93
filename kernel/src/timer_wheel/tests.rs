//! The wheel against a sorted list, and the bounds on its work.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const TICK: u64 = 1 << TICK_SHIFT;

/// All timers due at `now`, by as many calls as it takes.
fn pop_all<const N: usize>(wheel: &mut TimerWheel<u32, N>, now: u64) -> Vec<u32> {
    core::iter::from_fn(|| wheel.pop(now, &mut u32::MAX.clone())).collect()
}

#[test]
fn an_empty_wheel_has_nothing() {
    let mut wheel = TimerWheel::<u32, 4>::new();
    assert_eq!(wheel.next_100ns(), None);
    assert_eq!(wheel.pop(u64::MAX, &mut 10), None);
}

#[test]
fn a_new_wheel_is_all_zeros() {
    let wheel = TimerWheel::<u32, 4>::new();
    assert_eq!(wheel.heads, [[0; SLOTS]; RINGS]);
    assert_eq!((wheel.free, wheel.used, wheel.tick), (0, 0, 0));
}

#[test]
fn a_timer_is_never_early_and_at_most_a_tick_late() {
    for deadline in [1, TICK, TICK + 1, 1_000_000, 123_456_789_012] {
        let mut wheel = TimerWheel::<u32, 4>::new();
        wheel.start(deadline, 7).unwrap();
        assert_eq!(pop_all(&mut wheel, deadline - 1), [], "{deadline}");
        assert_eq!(pop_all(&mut wheel, deadline + TICK - 1), [7], "{deadline}");
        assert_eq!(pop_all(&mut wheel, u64::MAX), []);
    }
}

#[test]
fn a_timer_of_the_past_is_due_at_once() {
    let mut wheel = TimerWheel::<u32, 4>::new();
    assert_eq!(pop_all(&mut wheel, 1_000_000), []);
    wheel.start(5, 1).unwrap();
    assert!(wheel.next_100ns().unwrap() <= 1_000_000);
    assert_eq!(pop_all(&mut wheel, 1_000_000), [1]);
}

#[test]
fn time_that_goes_backwards_does_no_harm() {
    let mut wheel = TimerWheel::<u32, 4>::new();
    pop_all(&mut wheel, 10_000_000);
    wheel.start(20_000_000, 1).unwrap();
    assert_eq!(pop_all(&mut wheel, 0), []);
    assert_eq!(pop_all(&mut wheel, 20_000_100), [1]);
}

#[test]
fn the_end_of_time_is_a_deadline_like_any_other() {
    let mut wheel = TimerWheel::<u32, 4>::new();
    wheel.start(u64::MAX, 1).unwrap();
    wheel.start(1000, 2).unwrap();
    assert_eq!(pop_all(&mut wheel, 2000), [2]);
    assert_eq!(wheel.next_100ns(), Some(LAST_TICK << TICK_SHIFT));
    assert_eq!(pop_all(&mut wheel, u64::MAX), [1]);
}

#[test]
fn a_cancelled_timer_is_not_given_out_and_its_place_is_free() {
    let mut wheel = TimerWheel::<u32, 2>::new();
    let first = wheel.start(1000, 1).unwrap();
    wheel.start(1000, 2).unwrap();
    assert_eq!(wheel.start(1000, 3), Err(Full));
    assert_eq!(wheel.cancel(first), Some(1));
    assert_eq!(wheel.cancel(first), None, "it is cancelled already");
    wheel.start(1000, 3).unwrap();
    assert_eq!(wheel.cancel(first), None, "its place is another's");
    let mut popped = pop_all(&mut wheel, 2000);
    popped.sort_unstable();
    assert_eq!(popped, [2, 3]);
    assert_eq!(wheel.next_100ns(), None);
}

#[test]
fn a_made_up_identity_cancels_nothing() {
    let mut wheel = TimerWheel::<u32, 2>::new();
    wheel.start(1000, 1).unwrap();
    for (index, generation) in [(0, 0), (0, 1), (2, 0), (3, 1), (u16::MAX, 1)] {
        assert_eq!(wheel.cancel(TimerId { index, generation }), None);
    }
}

#[test]
fn work_is_bounded_by_the_budget_and_goes_on_where_it_stopped() {
    let mut wheel = TimerWheel::<u32, 16>::new();
    // All in one slot of an upper ring, so that each is moved before it is given out.
    let base = (SLOTS as u64) * 5 * TICK;
    for n in 0..16 {
        wheel.start(base + u64::from(n) * TICK, n).unwrap();
    }
    let now = base + 100 * TICK;
    let mut order = Vec::new();
    let mut calls = 0;
    while wheel.next_100ns().is_some() {
        let mut budget = 5;
        while let Some(n) = wheel.pop(now, &mut budget) {
            order.push(n);
        }
        calls += 1;
        assert!(calls < 100, "no progress");
    }
    assert_eq!(order, (0..16).collect::<Vec<_>>());
    assert_eq!(calls, 7, "sixteen moved, sixteen given out, five at a time");
}

#[test]
fn a_timer_moves_at_most_once_for_each_ring() {
    let mut wheel = TimerWheel::<u32, 1>::new();
    let far = LAST_TICK - 1;
    wheel.start(far << TICK_SHIFT, 1).unwrap();
    let mut budget = 1000;
    assert_eq!(wheel.pop(u64::MAX, &mut budget), Some(1));
    assert!(1000 - budget <= RINGS as u32, "{} steps", 1000 - budget);
}

#[derive(Debug, Clone)]
enum Step {
    Start(u64),
    Cancel(usize),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let spans = || prop_oneof![0..100_u64, 0..100_000_u64, 0..1_u64 << 40, any::<u64>()];
    let step = prop_oneof![
        4 => spans().prop_map(Step::Start),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (0..1_u64 << 34).prop_map(Step::Advance),
        3 => (0..5000_u64).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// The model is a list of deadlines; what is due is decided by tick, as the wheel rounds up to ticks.
    #[test]
    fn it_gives_out_what_a_sorted_list_would(steps in steps()) {
        const N: usize = 24;
        let mut wheel = TimerWheel::<u32, N>::new();
        let mut model = BTreeMap::new();
        let mut ids = Vec::new();
        let (mut now, mut next) = (0_u64, 0);
        for step in steps {
            match step {
                Step::Start(span) => {
                    let deadline = now.saturating_add(span);
                    match wheel.start(deadline, next) {
                        Ok(id) => {
                            let tick = deadline.div_ceil(TICK).min(LAST_TICK);
                            // A timer of the past is due now, and not before others that were due.
                            model.insert(next, tick.max(now / TICK));
                            ids.push((id, next));
                        }
                        Err(Full) => prop_assert_eq!(model.len(), N),
                    }
                    next += 1;
                }
                Step::Cancel(which) if !ids.is_empty() => {
                    let (id, value) = ids[which % ids.len()];
                    let expected = model.remove(&value).map(|_| value);
                    prop_assert_eq!(wheel.cancel(id), expected);
                }
                Step::Cancel(_) => {}
                Step::Advance(span) => {
                    now += span;
                    let is_due = |&(_, &tick): &(&u32, &u64)| tick <= now / TICK;
                    let due: Vec<_> = model.iter().filter(is_due).map(|(&value, _)| value).collect();
                    let mut popped = pop_all(&mut wheel, now);
                    prop_assert!(popped.iter().map(|value| model[value]).is_sorted());
                    popped.sort_unstable();
                    prop_assert_eq!(&popped, &due);
                    model.retain(|value, _| !due.contains(value));
                }
            }
            let earliest = model.values().min();
            let due = wheel.next_100ns().map(|next| next.max(now / TICK * TICK));
            let expected = earliest.map(|tick| (tick * TICK).max(now / TICK * TICK));
            prop_assert_eq!(due, expected);
        }
    }
}
