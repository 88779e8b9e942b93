//! Virtual time.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::Waker;
use core::time::Duration;
use std::sync::Mutex;
use std::time::Instant;
use std::vec::Vec;

use super::lock;
use crate::SECOND_100NS;

/// A test that takes longer waits for what never comes.
const END_OF_TIME_100NS: u64 = 3600 * SECOND_100NS;

pub(super) struct Clock {
    now_100ns: AtomicU64,
    real: AtomicBool,
    start: Instant,
    alarms: Mutex<Vec<(u64, Waker)>>,
    /// What the host does later.
    events: Mutex<Vec<Event>>,
}

/// Something to do at a time.
type Event = (u64, std::boxed::Box<dyn FnOnce() + Send>);

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            now_100ns: AtomicU64::new(1),
            real: AtomicBool::new(false),
            start: Instant::now(),
            alarms: Mutex::new(Vec::new()),
            events: Mutex::new(Vec::new()),
        }
    }

    /// From now on time passes by itself, for tests with threads.
    pub(super) fn make_real(&self) {
        self.real.store(true, Ordering::SeqCst);
    }

    pub(super) fn now_100ns(&self) -> u64 {
        if self.real.load(Ordering::SeqCst) {
            return self.start.elapsed().as_nanos() as u64 / 100 + 1;
        }
        self.now_100ns.load(Ordering::SeqCst)
    }

    /// Keeps only the earliest deadline of a task, as a kernel may.
    pub(super) fn wake_at(&self, deadline: u64, waker: &Waker) {
        let mut alarms = lock(&self.alarms);
        match alarms.iter_mut().find(|(_, other)| other.will_wake(waker)) {
            Some((earliest, _)) => *earliest = deadline.min(*earliest),
            None => alarms.push((deadline, waker.clone())),
        }
    }

    pub(super) fn do_at(&self, deadline: u64, event: impl FnOnce() + Send + 'static) {
        lock(&self.events).push((deadline, std::boxed::Box::new(event)));
    }

    /// Lets virtual time pass until something happens, or a moment of real time.
    pub(super) fn idle(&self) {
        if self.real.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_micros(20));
        } else {
            let alarms = lock(&self.alarms).iter().map(|(deadline, _)| *deadline).min();
            let events = lock(&self.events).iter().map(|(deadline, _)| *deadline).min();
            let next = alarms.into_iter().chain(events).min();
            let next = next.expect("nothing is left that could ever happen");
            assert!(next < END_OF_TIME_100NS, "waited for an hour");
            self.now_100ns.fetch_max(next, Ordering::SeqCst);
        }
        self.fire();
    }

    fn fire(&self) {
        let now = self.now_100ns();
        let due: Vec<_> = lock(&self.alarms).extract_if(.., |alarm| alarm.0 <= now).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
        let due: Vec<_> = lock(&self.events).extract_if(.., |event| event.0 <= now).collect();
        due.into_iter().for_each(|(_, event)| event());
    }
}
