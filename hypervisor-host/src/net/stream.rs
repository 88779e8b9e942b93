//! Frames over a stream socket, each behind its length: 32 bits, big-endian, as QEMU's `-netdev stream` and `passt` do
//! (QEMU, `net/stream.c`; passt, `tap.c`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backend::{Backend, SendError};
use super::frame::{Frame, Received};
use crate::stats::lock;

mod address;
mod incoming;
mod outgoing;
mod poll;
mod socket;

pub use address::{StreamAddress, StreamError};
use incoming::Incoming;
use outgoing::Outgoing;
use poll::Poll;
use socket::Socket;

/// One end of a stream of frames.
pub struct Stream {
    socket: Socket,
    poll: Poll,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
    up: AtomicBool,
    what: String,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn connect(address: &StreamAddress) -> Result<Self, StreamError> {
        let socket = address.connect()?;
        Self::new(socket, address.to_string()).map_err(StreamError::setup(address))
    }

    /// Takes over a connected stream socket; `what` describes the other end.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn new(socket: OwnedFd, what: String) -> io::Result<Self> {
        let poll = Poll::new(socket.as_fd())?;
        Ok(Self {
            socket: Socket::new(socket)?,
            poll,
            incoming: Mutex::default(),
            outgoing: Mutex::default(),
            up: AtomicBool::new(true),
            what,
        })
    }

    fn write_out(&self, outgoing: &mut Outgoing) -> Result<(), SendError> {
        let result = outgoing.write(&self.socket);
        // Polled for room as long as something is left.
        self.poll.want_writable(self.socket.as_fd(), outgoing.is_waiting());
        result.map_err(|_| {
            // The socket stays readable, so that whoever receives is told too.
            self.up.store(false, Ordering::Release);
            SendError::Down
        })
    }

    /// Whoever receives knows that it is over.
    fn end<T>(&self, error: io::Error) -> io::Result<T> {
        self.up.store(false, Ordering::Release);
        self.poll.forget(self.socket.as_fd());
        Err(error)
    }
}

impl Backend for Stream {
    fn describe(&self) -> String {
        self.what.clone()
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        if !self.link_up() {
            return Err(SendError::Down);
        }
        let mut outgoing = lock(&self.outgoing);
        if outgoing.is_full() {
            self.write_out(&mut outgoing)?;
        }
        outgoing.push(frame.bytes)
    }

    fn flush(&self) {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.has_new() && self.link_up() {
            // Who sends next is told.
            let _ = self.write_out(&mut outgoing);
        }
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        if !self.link_up() {
            return self.end(io::ErrorKind::ConnectionAborted.into());
        }
        {
            let mut outgoing = lock(&self.outgoing);
            if outgoing.is_waiting() {
                let _ = self.write_out(&mut outgoing);
            }
        }
        match lock(&self.incoming).next(&self.socket, buffer) {
            Ok(length) => Ok(length.map(Received::plain)),
            Err(error) => self.end(error),
        }
    }

    fn link_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
