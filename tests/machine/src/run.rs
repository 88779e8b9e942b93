//! Polling futures on a thread, and waking them at a time.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::vp::lock;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread until it is ready.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// As [`block_on`], with a time limit for what must not hang.
///
/// # Panics
///
/// If the time is over.
pub fn block_on_within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let end = Instant::now() + limit;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{what} hangs: nothing came of it within {limit:?}");
        std::thread::park_timeout(left);
    }
}

/// Wakers and when they are due.
pub(crate) struct Alarms {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    all: Vec<(u64, Waker)>,
    stopped: bool,
}

impl Alarms {
    /// None yet. The thread ends when this is dropped.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let ringing = shared.clone();
        let thread = std::thread::Builder::new().name("alarms".into());
        thread.spawn(move || ringing.ring()).expect("threads are there for the asking");
        Self { shared }
    }

    pub(crate) fn set(&self, deadline_100ns: u64, waker: &Waker) {
        let mut state = lock(&self.shared.state);
        match state.all.iter_mut().find(|(_, known)| known.will_wake(waker)) {
            Some((earlier, _)) if *earlier <= deadline_100ns => return,
            Some((later, _)) => *later = deadline_100ns,
            None => state.all.push((deadline_100ns, waker.clone())),
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for Alarms {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        self.shared.changed.notify_one();
    }
}

/// The reference time of all machines of this process, in units of 100 ns.
pub fn reference_100ns() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    (BEGUN.get_or_init(Instant::now).elapsed().as_nanos() / 100) as u64
}

impl Shared {
    fn ring(&self) {
        let mut state = lock(&self.state);
        while !state.stopped {
            let now = reference_100ns();
            let due = state.all.extract_if(.., |(deadline, _)| *deadline <= now);
            due.for_each(|(_, waker)| waker.wake());
            let next = state.all.iter().map(|(deadline, _)| *deadline).min();
            let wait = next.map_or(Duration::from_secs(3600), |next| {
                Duration::from_nanos(next.saturating_sub(now).saturating_mul(100).max(100))
            });
            state = match self.changed.wait_timeout(state, wait) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
