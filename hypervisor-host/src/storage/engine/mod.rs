//! Disk I/O that nobody waits for: requests go in, completions come out, and one descriptor says when to look.
//!
//! [`Engines`] belongs to a machine and says which kind of engine it has; each user of disks takes a [`Queue`] from it. Where the
//! kernel has io_uring, reads and writes of files go into a ring of the queue's own ([`ring`]), straight from and to the
//! guest's memory. All else, and everything where there is no io_uring, is done by threads that wait ([`pool`]).

pub mod pool;
pub mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::pool::Pool;
use self::ring::Ring;
use super::buffer::IoBuffer;
use super::disk::{Disk, DiskError};
use super::request::DiskOp;
use super::syscalls::{self, Event};
use crate::stats::lock;

/// Which kind of engine a user wants.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum, Default,
)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// io_uring where the kernel has it, else threads.
    #[default]
    Auto,
    /// io_uring.
    IoUring,
    /// Threads.
    Threads,
}

/// io_uring was asked for and is not there.
#[derive(Debug, Error)]
#[error("cannot use io_uring: {0}; give --disk-engine threads")]
pub struct EngineError(io::Error);

/// A machine's engines.
#[derive(Clone)]
pub struct Engines {
    uring: bool,
    pool: Arc<Pool>,
}

impl Engines {
    /// Finds out what the kernel has.
    ///
    /// # Errors
    /// It has no io_uring, and nothing else will do.
    pub fn new(choice: EngineChoice) -> Result<Self, EngineError> {
        let uring = match choice {
            EngineChoice::Threads => false,
            EngineChoice::Auto => ring::probe().is_ok(),
            EngineChoice::IoUring => ring::probe().map(|()| true).map_err(EngineError)?,
        };
        Ok(Self { uring, pool: Arc::new(Pool::default()) })
    }

    /// `io-uring` or `threads`.
    pub fn name(&self) -> &'static str {
        if self.uring { "io-uring" } else { "threads" }
    }

    /// A queue of one's own.
    ///
    /// # Errors
    /// The operating system has no descriptor left.
    pub fn queue(&self) -> io::Result<Queue> {
        let done = Arc::new(Done { list: Mutex::default(), event: Event::new()? });
        // The kernel may have no memory for one more ring; threads will do.
        let ring = self.uring.then(|| Ring::new(&done.event).ok()).flatten();
        Ok(Queue { ring, pool: self.pool.clone(), done, in_flight: 0 })
    }
}

/// A request with its memory and disk.
pub struct Request {
    /// Given back with the completion.
    pub tag: u64,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// What to do.
    pub op: DiskOp,
    /// The memory.
    pub buffer: IoBuffer,
}

/// What became of a request. Its memory is not touched any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The request's.
    pub tag: u64,
    /// The request's.
    pub op: DiskOp,
    /// Whether it was done.
    pub result: Result<(), DiskError>,
}

/// Where threads put their completions.
pub(crate) struct Done {
    list: Mutex<Vec<Completed>>,
    event: Event,
}

impl Done {
    /// Puts one more, and wakes the queue's owner unless that is on its way.
    fn push(&self, completed: Completed) {
        let mut list = lock(&self.list);
        list.push(completed);
        if list.len() == 1 {
            self.event.set();
        }
    }
}

/// Requests of one user.
pub struct Queue {
    ring: Option<Ring>,
    pool: Arc<Pool>,
    done: Arc<Done>,
    in_flight: usize,
}

impl Queue {
    /// Takes a request. It may not begin before [`Queue::start`].
    pub fn submit(&mut self, request: Request) {
        self.in_flight += 1;
        let request = match &mut self.ring {
            Some(ring) => ring.submit(request),
            None => Err(request),
        };
        if let Err(request) = request {
            self.pool.submit(request, self.done.clone());
        }
    }

    /// Begins with all that was submitted.
    pub fn start(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.start();
        }
    }

    /// Appends what has been completed since the last call. Doesn't wait. `woken`: [`Queue::event`] was found readable.
    pub fn completions(&mut self, woken: bool, completed: &mut Vec<Completed>) {
        let before = completed.len();
        if woken {
            self.done.event.clear();
        }
        let mut known = before;
        loop {
            self.look(completed);
            if completed.len() == known {
                break;
            }
            // What was found has set the event. Cleared before looking again: what comes later sets it anew.
            known = completed.len();
            self.done.event.clear();
        }
        self.in_flight = self.in_flight.saturating_sub(known - before);
    }

    fn look(&mut self, completed: &mut Vec<Completed>) {
        if let Some(ring) = &mut self.ring {
            for request in ring.completions(completed) {
                self.pool.submit(request, self.done.clone());
            }
        }
        completed.append(&mut lock(&self.done.list));
    }

    /// Requests that are not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Readable when there may be completions.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.done.event.as_fd()
    }

    /// Waits until nothing is in flight, `limit` at most; whether that came to be.
    pub fn drain(&mut self, limit: Duration, completed: &mut Vec<Completed>) -> bool {
        let end = Instant::now() + limit;
        self.start();
        loop {
            self.completions(true, completed);
            if self.in_flight == 0 {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.wait(left);
        }
    }

    /// Waits for [`Queue::event`].
    pub fn wait(&self, limit: Duration) {
        let fd = self.event().as_raw_fd();
        syscalls::poll(&mut [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }], limit);
    }
}

impl Drop for Queue {
    /// Gives what is in flight some time; what takes longer keeps its memory for itself.
    fn drop(&mut self) {
        const LIMIT: Duration = Duration::from_secs(5);
        self.drain(LIMIT, &mut Vec::new());
    }
}
