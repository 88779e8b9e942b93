//! A channel and who does its disks' work.
//!
//! A guest's access begins the work and looks once whether it is done already, as reads of what the operating system has in its
//! cache are. Only what takes longer is waited for, by a thread of the channel's own, so no VP ever waits for a disk.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::channel::Channel;
use crate::stats::lock;
use crate::storage::engine::{Completed, Engines, Queue, Request};
use crate::storage::syscalls;

/// How often the thread looks whether it is still needed while a disk is at work.
const PATIENCE: Duration = Duration::from_millis(200);

/// Who does the work of disks.
pub(super) trait Worker: Send {
    /// Begins with a request.
    fn begin(&mut self, request: Request);
    /// Gives what has ended since the last call. `woken`: the worker's descriptor was readable.
    fn ended(&mut self, woken: bool, completed: &mut Vec<Completed>);
}

impl Worker for Queue {
    fn begin(&mut self, request: Request) {
        self.submit(request);
        self.start();
    }

    fn ended(&mut self, woken: bool, completed: &mut Vec<Completed>) {
        self.completions(woken, completed);
    }
}

/// Does everything at once: for tests and fuzzing.
#[derive(Default)]
pub(super) struct AtOnce(Vec<Completed>);

impl Worker for AtOnce {
    fn begin(&mut self, Request { tag, disk, op, buffer }: Request) {
        let result = op.execute(&*disk, &buffer);
        self.0.push(Completed { tag, op, result });
    }

    fn ended(&mut self, _: bool, completed: &mut Vec<Completed>) {
        completed.append(&mut self.0);
    }
}

/// The channel and its worker.
struct Inner {
    channel: Channel,
    worker: Box<dyn Worker>,
    /// The number of the request that is in flight.
    flight: Option<u64>,
    tag: u64,
    closed: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    /// There is a request in flight, or nothing more to do.
    changed: Condvar,
}

/// A channel that can be used.
pub(super) struct Station {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Station {
    /// With a queue of the machine's engines, and a thread that waits for it.
    ///
    /// # Errors
    /// The operating system has no descriptor or thread left.
    pub(super) fn new(channel: Channel, engines: &Engines) -> io::Result<Self> {
        let queue = engines.queue()?;
        let event = queue.event().try_clone_to_owned()?;
        let mut station = Self::with_worker(channel, Box::new(queue));
        let shared = station.shared.clone();
        let thread = thread::Builder::new().name("ide".into());
        station.thread = Some(thread.spawn(move || shared.wait_for_disks(&event))?);
        Ok(station)
    }

    /// With another worker, that needs nobody to wait for it.
    pub(super) fn with_worker(channel: Channel, worker: Box<dyn Worker>) -> Self {
        let inner = Inner { channel, worker, flight: None, tag: 0, closed: false };
        let shared = Shared { inner: Mutex::new(inner), changed: Condvar::new() };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// An access of the guest, and what follows from it.
    pub(super) fn access<T>(&self, access: impl FnOnce(&mut Channel) -> T) -> T {
        let mut inner = lock(&self.shared.inner);
        let result = access(&mut inner.channel);
        if inner.work(false) {
            self.shared.changed.notify_one();
        }
        result
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        lock(&self.shared.inner).closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Takes what has ended and begins what there is, until something takes longer. Whether something does.
    fn work(&mut self, woken: bool) -> bool {
        let mut completed = Vec::new();
        let mut woken = woken;
        loop {
            if self.flight.is_some() {
                self.worker.ended(std::mem::take(&mut woken), &mut completed);
            }
            for Completed { tag, op, result } in completed.drain(..) {
                if self.flight.take_if(|flight| *flight == tag).is_some() {
                    self.channel.disk_ended(&op, result);
                }
            }
            if self.flight.is_some() {
                return true;
            }
            let Some((work, unit)) = self.channel.take_work() else { return false };
            self.tag += 1;
            self.flight = Some(self.tag);
            let disk = unit.disk().clone();
            self.worker.begin(Request { tag: self.tag, disk, op: work.op, buffer: work.buffer });
        }
    }
}

impl Shared {
    fn wait_for_disks(&self, event: &OwnedFd) {
        let mut inner = lock(&self.inner);
        while !inner.closed {
            if inner.flight.is_none() {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(inner);
            let fd = event.as_raw_fd();
            let mut polled = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            syscalls::poll(&mut polled, PATIENCE);
            inner = lock(&self.inner);
            inner.work(true);
        }
    }
}
