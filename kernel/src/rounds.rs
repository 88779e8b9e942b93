//! Rounds in which one processor asks others to do something and goes on only once all have done it.
//!
//! *Theory.* Rounds are numbered, and there is one at a time. A processor that is asked notes the number it was asked for and,
//! when it has done it, the number it has done. It may be reached twice for the same round (by an interrupt, by an
//! NMI in the middle of that, or because it waits itself and looks), in any order: the number that is done only grows.
//!
//! *Practice.* [`Rounds::begin`] gives the number, [`Request::ask`] asks, [`Request::serve`] is what interrupts call, and
//! [`Request::is_done`] tells. An NMI is sent only where [`Request::may_send_nmi`] says so, and is ours if
//! [`Request::take_nmi`] says so; an NMI more or less is harmless then.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The latest round's number. Whoever begins one keeps others from it until all have done it.
#[derive(Debug, Default)]
pub struct Rounds(u64);

impl Rounds {
    /// No round yet.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Begins a round; its number, larger than any before.
    pub fn begin(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// What is asked of one processor.
#[derive(Debug, Default)]
pub struct Request {
    /// Number of the latest round it takes part in.
    wanted: AtomicU64,
    /// Number of the latest round it has done. Release in `serve` pairs with Acquire in `is_done`.
    done: AtomicU64,
    /// An NMI is on its way to it. SeqCst, as is `wanted`: whoever finds an NMI under way has asked before, and
    /// whoever takes it clears this before looking what is asked.
    nmi: AtomicBool,
}

impl Request {
    /// Nothing is asked.
    pub const fn new() -> Self {
        Self { wanted: AtomicU64::new(0), done: AtomicU64::new(0), nmi: AtomicBool::new(false) }
    }

    /// Asks for round `number`. What the round is about was written before.
    pub fn ask(&self, number: u64) {
        self.wanted.store(number, Ordering::SeqCst);
    }

    /// Whether it was asked for round `number`.
    pub fn is_asked(&self, number: u64) -> bool {
        self.wanted.load(Ordering::SeqCst) == number
    }

    /// Does what is asked, if that is still to do. On the processor itself.
    pub fn serve(&self, action: impl FnOnce()) {
        let wanted = self.wanted.load(Ordering::SeqCst);
        if self.done.load(Ordering::Relaxed) < wanted {
            action();
            // An NMI may have done a later round meanwhile.
            self.done.fetch_max(wanted, Ordering::Release);
        }
    }

    /// Whether it has done round `number`.
    pub fn is_done(&self, number: u64) -> bool {
        self.done.load(Ordering::Acquire) >= number
    }

    /// Whether to send an NMI: not while one is on its way, which will do as well.
    pub fn may_send_nmi(&self) -> bool {
        !self.nmi.swap(true, Ordering::SeqCst)
    }

    /// Whether an NMI that has come is one of ours. It is to serve then.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_request_is_served_once_however_often_it_is_looked_at() {
        let (request, times) = (Request::new(), Cell::new(0));
        let serve = || request.serve(|| times.set(times.get() + 1));
        serve();
        assert_eq!(times.get(), 0);
        request.ask(1);
        assert!(request.is_asked(1) && !request.is_done(1));
        serve();
        serve();
        assert!(request.is_done(1) && !request.is_done(2));
        assert_eq!(times.get(), 1);
    }

    #[test]
    fn a_round_that_an_nmi_did_in_the_middle_of_another_stays_done() {
        let request = Request::new();
        request.ask(1);
        request.serve(|| {
            // The NMI: it does this round, and the next one begins and is done before the interrupted code goes on.
            request.serve(|| {});
            request.ask(2);
            request.serve(|| {});
        });
        assert!(request.is_done(2));
    }

    #[test]
    fn one_nmi_at_a_time_and_only_ours() {
        let request = Request::new();
        assert!(!request.take_nmi());
        assert!(request.may_send_nmi());
        assert!(!request.may_send_nmi());
        assert!(request.take_nmi() && !request.take_nmi());
        assert!(request.may_send_nmi());
    }

    /// Each thread stands for a processor that begins rounds, and serves others while it waits for its turn. A round's
    /// subject must have reached everybody when the round ends.
    #[test]
    fn no_round_ends_early_and_none_is_lost() {
        const PROCESSORS: usize = 4;
        const EACH: u64 = 2_000;
        let rounds = Mutex::new(Rounds::new());
        let requests: Vec<Request> = (0..PROCESSORS).map(|_| Request::new()).collect();
        let subject = AtomicU64::new(0);
        let seen: Vec<AtomicU64> = (0..PROCESSORS).map(|_| AtomicU64::new(0)).collect();
        let finished = AtomicU64::new(0);
        let serve = |own: usize| {
            requests[own].serve(|| {
                seen[own].fetch_max(subject.load(Ordering::Relaxed), Ordering::Relaxed);
            });
        };
        let work = |own: usize| {
            for _ in 0..EACH {
                let mut rounds = loop {
                    if let Ok(rounds) = rounds.try_lock() {
                        break rounds;
                    }
                    serve(own);
                    std::thread::yield_now();
                };
                let number = rounds.begin();
                subject.store(number, Ordering::Relaxed);
                let others = || (0..PROCESSORS).filter(|&other| other != own);
                others().for_each(|other| requests[other].ask(number));
                for other in others() {
                    while !requests[other].is_done(number) {
                        std::thread::yield_now();
                    }
                    assert!(seen[other].load(Ordering::Relaxed) >= number, "it ended early");
                }
            }
            finished.fetch_add(1, Ordering::SeqCst);
            while finished.load(Ordering::SeqCst) < PROCESSORS as u64 {
                serve(own);
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            for own in 0..PROCESSORS {
                scope.spawn(move || work(own));
            }
        });
        assert_eq!(subject.load(Ordering::Relaxed), EACH * PROCESSORS as u64);
    }
}
