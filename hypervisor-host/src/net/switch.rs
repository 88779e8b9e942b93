//! A learning switch: cards of this process and of others that name it.
//!
//! *Within a process* a card's frames go straight into the queues of the others. *Among processes* one of them is the hub,
//! to which the others connect by a Unix socket; the frames there have the form of [`stream`](super::stream). Whoever
//! holds the lock file is the hub; when it ends, another takes its place (`link`). All connections form a star, so no
//! frame comes round.
//!
//! Where an address was last seen is remembered (`table`); frames to others go to all. What finds no room is lost.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use thiserror::Error;

use super::backend::{Backend, SendError};
use super::frame::{Frame, Received};
use super::mac::MacAddress;
use super::queue::FrameQueue;
use super::stream::Stream;

mod link;
mod place;
mod table;

use link::Link;
use place::Place;
use table::Table;

/// A switch can't be had.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// Its folder.
    #[error("cannot keep the switches' sockets in {path}: {error}; set XDG_RUNTIME_DIR to a folder of your own", path = .path.display())]
    Folder {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The operating system.
    #[error("cannot make a network switch: {0}; look at the limits of this process")]
    System(#[from] io::Error),
}

/// A switch.
pub struct Switch {
    ports: Arc<Ports>,
    /// Connects it with other processes.
    _link: Option<Mutex<Link>>,
}

/// What is plugged in.
struct Ports {
    all: RwLock<BTreeMap<PortId, Port>>,
    table: Table,
    next: AtomicU32,
    /// Frames were given to streams since the last flush.
    unflushed: AtomicBool,
}

/// Number of a port; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PortId(u32);

#[derive(Clone)]
enum Port {
    /// A card of this process.
    Card(Arc<FrameQueue>),
    /// Another process.
    Process(Arc<Stream>),
}

impl Switch {
    /// A switch that only this process knows.
    pub fn private() -> Arc<Self> {
        Arc::new(Self { ports: Arc::new(Ports::new()), _link: None })
    }

    /// The switch of this name, which other processes of this user may use too.
    ///
    /// # Errors
    /// The sockets' folder can't be used.
    pub fn shared(name: &str) -> Result<Arc<Self>, SwitchError> {
        Self::at(Place::of(name)?)
    }

    fn at(place: Place) -> Result<Arc<Self>, SwitchError> {
        let ports = Arc::new(Ports::new());
        let link = Link::start(place, Arc::clone(&ports))?;
        Ok(Arc::new(Self { ports, _link: Some(Mutex::new(link)) }))
    }

    /// A new port, for one card.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn plug_in(self: &Arc<Self>) -> Result<SwitchPort, SwitchError> {
        let queue = Arc::new(FrameQueue::new()?);
        let id = self.ports.add(Port::Card(Arc::clone(&queue)));
        Ok(SwitchPort { switch: Arc::clone(self), queue, id })
    }
}

impl Ports {
    fn new() -> Self {
        Self {
            all: RwLock::default(),
            table: Table::default(),
            next: AtomicU32::new(0),
            unflushed: AtomicBool::new(false),
        }
    }

    fn add(&self, port: Port) -> PortId {
        let id = PortId(self.next.fetch_add(1, Ordering::Relaxed));
        self.all.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, port);
        id
    }

    fn remove(&self, id: PortId) {
        self.all.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&id);
        self.table.forget(id);
    }

    /// Passes on a frame that came in by a port.
    fn forward(&self, from: PortId, frame: &[u8]) -> Result<(), SendError> {
        let (to, source) = MacAddress::destination(frame)
            .zip(MacAddress::source(frame))
            .ok_or(SendError::Refused)?;
        if !source.is_multicast() {
            self.table.learn(source, from);
        }
        let all = self.all.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = if to.is_multicast() { None } else { self.table.find(to) };
        match known.and_then(|id| all.get(&id).map(|port| (id, port))) {
            // It is on the side that it came from.
            Some((id, _)) if id == from => Ok(()),
            Some((_, port)) => self.give(port, frame),
            None => {
                // Somebody without room does not make the frame lost for the others.
                for (_, port) in all.iter().filter(|&(&id, _)| id != from) {
                    let _ = self.give(port, frame);
                }
                Ok(())
            }
        }
    }

    fn give(&self, port: &Port, frame: &[u8]) -> Result<(), SendError> {
        match port {
            Port::Card(queue) => queue.push(frame),
            Port::Process(stream) => {
                self.unflushed.store(true, Ordering::Release);
                stream.send(&Frame::complete(frame))
            }
        }
    }

    fn flush(&self) {
        if !self.unflushed.swap(false, Ordering::AcqRel) {
            return;
        }
        let all = self.all.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        for port in all.values() {
            if let Port::Process(stream) = port {
                stream.flush();
            }
        }
    }
}

/// A card's port.
pub struct SwitchPort {
    switch: Arc<Switch>,
    queue: Arc<FrameQueue>,
    id: PortId,
}

impl Backend for SwitchPort {
    fn describe(&self) -> String {
        "a switch".into()
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.switch.ports.forward(self.id, frame.bytes)
    }

    fn flush(&self) {
        self.switch.ports.flush();
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.queue.readiness()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        Ok(self.queue.pop(buffer).map(Received::plain))
    }
}

impl Drop for SwitchPort {
    fn drop(&mut self) {
        self.switch.ports.remove(self.id);
    }
}

#[cfg(test)]
mod tests;
