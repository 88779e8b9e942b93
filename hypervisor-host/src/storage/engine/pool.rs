//! Threads that do disk I/O and wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::{Completed, Done, Request};
use crate::stats::lock;
use crate::storage::disk::DiskError;

/// Threads, at most. More than disks like, because some requests may wait for long.
const MAX_THREADS: usize = 64;

/// The threads. They come as they are needed, and go with the pool when they have nothing left to do.
#[derive(Default)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Job {
    request: Request,
    done: Arc<Done>,
}

impl Pool {
    /// Has a thread do a request.
    pub(crate) fn submit(&self, request: Request, done: Arc<Done>) {
        let mut state = lock(&self.shared.state);
        state.jobs.push_back(Job { request, done });
        if state.jobs.len() <= state.idle {
            self.shared.work.notify_one();
            return;
        }
        if state.threads < MAX_THREADS && self.spawn() {
            state.threads += 1;
        }
        // Without any thread nobody would ever do it.
        if state.threads == 0
            && let Some(Job { request, done }) = state.jobs.pop_back()
        {
            let result = Err(DiskError::Os(libc::EAGAIN));
            done.push(Completed { tag: request.tag, op: request.op, result });
        }
    }

    fn spawn(&self) -> bool {
        let shared = self.shared.clone();
        thread::Builder::new().name("disk-io".into()).spawn(move || shared.run()).is_ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(Job { request, done }) = self.next() {
            let Request { tag, disk, op, buffer } = request;
            let result = op.execute(&*disk, &buffer);
            // Nothing of the request may be left when its owner learns of the end.
            drop((disk, buffer));
            done.push(Completed { tag, op, result });
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}
