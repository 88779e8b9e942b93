//! Connects the switches of several processes: one is the hub, the others its clients.
//!
//! A thread does it. As the hub it accepts clients, each of which becomes a port; as a client the hub is its one port. When
//! the hub ends, its lock is free and its connections close; each client then tries to become the hub.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::backend::Backend;
use super::super::frame::MAX_FRAME;
use super::super::queue::borrow;
use super::super::stream::Stream;
use super::place::Place;
use super::{Port, PortId, Ports};

/// After a failure nothing is tried for this long.
const PAUSE: Duration = Duration::from_millis(20);
/// Frames taken from one client before another's turn comes.
const TURN: usize = 256;
/// Clients of a hub at most.
const MOST_CLIENTS: usize = 256;

/// The running thread.
pub(super) struct Link {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    pub(super) fn start(place: Place, ports: Arc<Ports>) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        let worker = Worker { place, ports, stop: Arc::clone(&stop), buffer: vec![0; MAX_FRAME] };
        let thread = thread::Builder::new().name("switch".into()).spawn(|| worker.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    place: Place,
    ports: Arc<Ports>,
    stop: Arc<EventFd>,
    buffer: Vec<u8>,
}

/// A connection and its port.
struct Peer {
    stream: Arc<Stream>,
    port: PortId,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.place.claim() {
                Ok(Some((lock, listener))) => self.serve(Some((lock, listener)), Vec::new()),
                Ok(None) => {
                    if let Some(peer) = self.place.connect().ok().and_then(|s| self.add(s)) {
                        self.serve(None, vec![peer]);
                    }
                }
                Err(_) => {}
            }
            if wait(&[borrow(&*self.stop)], PAUSE).first() == Some(&true) {
                return;
            }
        }
    }

    fn add(&self, stream: UnixStream) -> Option<Peer> {
        let stream = Arc::new(Stream::new(stream.into(), "a switch".into()).ok()?);
        let port = self.ports.add(Port::Process(Arc::clone(&stream)));
        Some(Peer { stream, port })
    }

    /// Serves the connections until there is an end to it: the hub's when this switch goes, a client's when the hub goes.
    fn serve(&mut self, hub: Option<(File, UnixListener)>, mut peers: Vec<Peer>) {
        let listener = hub.as_ref().map(|(_, listener)| listener);
        while listener.is_some() || !peers.is_empty() {
            let ready = {
                let mut fds = vec![borrow(&*self.stop)];
                fds.extend(peers.iter().map(|peer| peer.stream.readiness()));
                fds.extend(listener.map(AsFd::as_fd));
                wait(&fds, Duration::MAX)
            };
            let Some((&stopped, ready)) = ready.split_first() else { continue };
            if stopped {
                break;
            }
            let of_peers = ready.to_vec();
            let mut index = 0;
            peers.retain(|peer| {
                let is_ready = of_peers.get(index) == Some(&true);
                index += 1;
                let alive = !is_ready || self.take_turn(peer);
                if !alive {
                    self.ports.remove(peer.port);
                }
                alive
            });
            self.ports.flush();
            if let Some(listener) = listener.filter(|_| of_peers.last() == Some(&true))
                && let Ok((stream, _)) = listener.accept()
                && peers.len() < MOST_CLIENTS
            {
                peers.extend(self.add(stream));
            }
        }
        for peer in peers {
            self.ports.remove(peer.port);
        }
    }

    /// Passes on what a peer sent. False: it is gone.
    fn take_turn(&mut self, peer: &Peer) -> bool {
        for _ in 0..TURN {
            match peer.stream.receive(&mut self.buffer) {
                Ok(Some(received)) => {
                    let Some(frame) = self.buffer.get(..received.length) else { continue };
                    // What finds no room is lost.
                    let _ = self.ports.forward(peer.port, frame);
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// Waits until something can be read; tells of each descriptor whether.
#[expect(unsafe_code, reason = "poll is a system call")]
fn wait(fds: &[BorrowedFd<'_>], time: Duration) -> Vec<bool> {
    let entry =
        |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = fds.iter().map(entry).collect();
    let milliseconds = i32::try_from(time.as_millis()).unwrap_or(-1);
    // SAFETY: the pointer is to as many valid structures as the count says.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
    entries.iter().map(|entry| entry.revents != 0).collect()
}
