//! The device's thread: turns of the two processes, and sleep in between.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vm_memory::GuestMemoryMmap;

use super::Tulip;
use super::filter::Filter;
use super::receive::{Receiver, Turn, deliver};
use super::transmit::Transmitter;

/// What the thread has for itself.
pub(super) struct Worker {
    card: Arc<Tulip>,
    memory: GuestMemoryMmap,
    filter: Filter,
    transmitter: Transmitter,
    receiver: Receiver,
}

/// How long there is nothing to do, unless the guest or the network wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// There is something to do at once.
    pub more: bool,
    /// There is something to do then.
    pub until: Option<Instant>,
    /// Frames of the network are waited for.
    pub network: bool,
}

impl Worker {
    pub(super) fn new(card: Arc<Tulip>, memory: GuestMemoryMmap) -> Self {
        Self {
            card,
            memory,
            filter: Filter::default(),
            transmitter: Transmitter::default(),
            receiver: Receiver::default(),
        }
    }

    /// Does what there is to do now.
    pub(super) fn turn(&mut self, now: Instant) -> Rest {
        let Self { card, memory, filter, transmitter, receiver } = self;
        card.with(|registers| {
            registers.kicked = false;
            registers.tick(now);
        });
        let more_to_send = transmitter.turn(card, memory, filter, now, |frame, filter| {
            let mode = card.with(|registers| registers.mode());
            deliver(card, memory, filter, frame, mode & super::function::LOOPBACK);
        });
        card.backend.flush();
        let turn = receiver.turn(card, memory, filter, now);
        let held = match turn {
            Turn::Held(until) => Some(until),
            _ => None,
        };
        let next = card.with(|registers| registers.next_tick(now));
        Rest {
            more: more_to_send || turn == Turn::More,
            until: held.into_iter().chain(next).min(),
            network: turn == Turn::Idle,
        }
    }

    /// Works until the function is gone.
    pub(super) fn run(mut self) {
        while !self.card.stopped.load(Ordering::Acquire) {
            let rest = self.turn(Instant::now());
            if !rest.more {
                self.sleep(rest);
            }
        }
    }

    fn sleep(&self, rest: Rest) {
        let card = &self.card;
        let may_sleep = card.with(|registers| {
            registers.asleep = !registers.kicked;
            registers.asleep
        });
        if may_sleep {
            let network = rest.network.then(|| card.backend.readiness());
            let time = rest.until.map(|until| until.saturating_duration_since(Instant::now()));
            wait(&card.doorbell, network, time);
            card.with(|registers| registers.asleep = false);
        }
        // Nothing to read is fine too.
        let _ = card.doorbell.read();
    }
}

/// Waits for the doorbell, the network, or the end of `time`.
#[expect(unsafe_code, reason = "ppoll is a system call")]
fn wait(doorbell: &impl AsRawFd, network: Option<BorrowedFd<'_>>, time: Option<Duration>) {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is passed over (poll(2)).
    let network = network.map_or(-1, |fd| fd.as_raw_fd());
    let mut entries = [entry(doorbell.as_raw_fd()), entry(network)];
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = entries.len() as libc::nfds_t;
    // SAFETY: the pointers are to as many valid structures as the count says, to a valid time or none, and to no signal mask.
    unsafe { libc::ppoll(entries.as_mut_ptr(), count, time, std::ptr::null()) };
}
