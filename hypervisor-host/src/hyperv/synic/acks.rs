//! A thread that waits for guests to end interrupts and messages of sources with message routes.
//!
//! It starts with the first such route, since most machines have none.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use super::Sint;
use super::state::Parts;
use crate::stats::lock;

const STACK_BYTES: usize = 64 << 10;
/// Stands for the event that ends the thread; no [`Sint`] has this number.
const STOP: u64 = u64::MAX;

/// The thread, once it runs.
#[derive(Default)]
pub(super) struct Acks(Mutex<Option<Running>>);

struct Running {
    epoll: Arc<Epoll>,
    stop: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acks {
    /// Has `parts` told when `event` becomes readable.
    pub(super) fn watch(
        &self,
        sint: Sint,
        event: &EventFd,
        parts: &Arc<Parts>,
    ) -> Result<(), errno::Error> {
        let mut running = lock(&self.0);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(Running::start(parts.clone())?),
        };
        // Edge-triggered: the counter of the event need not be read back.
        let interest = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let watched = EpollEvent::new(interest, encode(sint));
        let result = running.epoll.ctl(ControlOperation::Add, event.as_raw_fd(), watched);
        result.map_err(errno::Error::from)
    }

    /// Takes that back.
    pub(super) fn forget(&self, event: &EventFd) {
        if let Some(running) = &*lock(&self.0) {
            // It was added, so it can be taken away.
            let nothing = EpollEvent::default();
            let _ = running.epoll.ctl(ControlOperation::Delete, event.as_raw_fd(), nothing);
        }
    }
}

impl Running {
    fn start(parts: Arc<Parts>) -> Result<Self, errno::Error> {
        let epoll = Arc::new(Epoll::new()?);
        let stop = Arc::new(EventFd::new(libc::EFD_NONBLOCK)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let event = EpollEvent::new(EventSet::IN, STOP);
        epoll.ctl(ControlOperation::Add, stop.as_raw_fd(), event)?;
        let thread = {
            let (epoll, stopping) = (epoll.clone(), stopping.clone());
            let builder = Builder::new().name("synic".into()).stack_size(STACK_BYTES);
            builder.spawn(move || wait(&epoll, &stopping, &parts))?
        };
        Ok(Self { epoll, stop, stopping, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Fails only if the counter overflows.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

fn wait(epoll: &Epoll, stopping: &AtomicBool, parts: &Parts) {
    let mut events = [EpollEvent::default(); 16];
    while !stopping.load(Ordering::Acquire) {
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        for event in events.iter().take(count) {
            if let Some(sint) = decode(event.data()) {
                parts.acknowledged(sint);
            }
        }
    }
}

fn encode(sint: Sint) -> u64 {
    u64::from(sint.vp) << 8 | u64::from(sint.number)
}

fn decode(data: u64) -> Option<Sint> {
    let vp = u32::try_from(data >> 8).ok()?;
    Some(Sint { vp, number: data as u8 })
}
