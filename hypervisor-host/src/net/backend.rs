//! What every back end is to a card.

use std::io;
use std::os::fd::BorrowedFd;

use bitflags::bitflags;
use thiserror::Error;

use super::frame::{Frame, Received};

bitflags! {
    /// What a back end takes off the card's hands: frames with these wishes may be given to it as they are.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Offloads: u8 {
        /// Fills in the checksum of TCP and UDP.
        const CHECKSUM = 1;
        /// Cuts large TCP segments.
        const SEGMENT = 2;
    }
}

/// A frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no room; the network is slower than the guest.
    #[error("the network is busy")]
    Full,
    /// Nobody is there.
    #[error("the network is gone")]
    Down,
    /// The operating system refuses the frame.
    #[error("the network refuses the frame")]
    Refused,
}

/// The network's side of a card. Nothing here ever waits.
///
/// Frames are Ethernet's, from the destination address to the payload's end, without a frame check sequence.
pub trait Backend: Send + Sync {
    /// What it is, for a person.
    fn describe(&self) -> String;

    /// What it does by itself. Never changes.
    fn offloads(&self) -> Offloads {
        Offloads::empty()
    }

    /// Gives it a frame. From any thread; [`flush`](Self::flush) follows at the end of a batch.
    ///
    /// # Errors
    /// The frame is lost, as on any network.
    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError>;

    /// Sends what [`send`](Self::send) kept back.
    fn flush(&self) {}

    /// Readable when [`receive`](Self::receive) should be called again.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// Takes a frame, written to the start of `buffer`; `None`: there is none now. A frame longer than the buffer is lost.
    /// By one thread at a time.
    ///
    /// # Errors
    /// Nothing will come any more.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>>;

    /// Whether somebody is at the other end.
    fn link_up(&self) -> bool {
        true
    }
}
