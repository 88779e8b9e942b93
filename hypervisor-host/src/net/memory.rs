//! A back end whose other end is in the same process, for tests.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::backend::{Backend, Offloads, SendError};
use super::frame::{Frame, MAX_FRAME, Received, ReceivedChecksum};
use super::queue::FrameQueue;

/// The card's end.
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

/// The test's end.
pub struct MemoryPeer {
    shared: Arc<Shared>,
}

struct Shared {
    to_network: FrameQueue,
    to_card: FrameQueue,
    up: AtomicBool,
    broken: AtomicBool,
    valid: AtomicBool,
    offloads: Offloads,
}

/// Two ends; the back end says that it can do `offloads`, and does nothing of it.
///
/// # Errors
/// The process has no file descriptors left.
pub fn pair(offloads: Offloads) -> io::Result<(MemoryBackend, MemoryPeer)> {
    let shared = Arc::new(Shared {
        to_network: FrameQueue::new()?,
        to_card: FrameQueue::new()?,
        up: AtomicBool::new(true),
        broken: AtomicBool::new(false),
        valid: AtomicBool::new(false),
        offloads,
    });
    Ok((MemoryBackend { shared: Arc::clone(&shared) }, MemoryPeer { shared }))
}

impl Backend for MemoryBackend {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn offloads(&self) -> Offloads {
        self.shared.offloads
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        if !self.link_up() {
            return Err(SendError::Down);
        }
        self.shared.to_network.push(frame.bytes)
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.shared.to_card.readiness()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        if self.shared.broken.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let checksum = match self.shared.valid.load(Ordering::Acquire) {
            true => ReceivedChecksum::Valid,
            false => ReceivedChecksum::Unknown,
        };
        Ok(self.shared.to_card.pop(buffer).map(|length| Received { length, checksum }))
    }

    fn link_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }
}

impl MemoryPeer {
    /// Gives the card a frame.
    ///
    /// # Errors
    /// The card does not keep up.
    pub fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        self.shared.to_card.push(frame)
    }

    /// A frame that the card sent, if there is one within the time.
    pub fn receive(&self, time: Duration) -> Option<Vec<u8>> {
        let mut buffer = vec![0; MAX_FRAME];
        if !wait_readable(self.shared.to_network.readiness(), time) {
            return None;
        }
        let length = self.shared.to_network.pop(&mut buffer)?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Plugs the cable in or out. The card looks when it is woken next.
    pub fn set_up(&self, up: bool) {
        self.shared.up.store(up, Ordering::Release);
    }

    /// From now on frames come with checksums that were found right.
    pub fn set_valid(&self, valid: bool) {
        self.shared.valid.store(valid, Ordering::Release);
    }

    /// The network fails for good.
    pub fn fail(&self) {
        self.shared.broken.store(true, Ordering::Release);
        let _ = self.shared.to_card.push(&[0]);
    }
}

/// Whether something can be read now.
#[cfg(test)]
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    wait_readable(fd, Duration::ZERO)
}

/// Waits until something can be read.
#[expect(unsafe_code, reason = "poll is a system call")]
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, time: Duration) -> bool {
    let mut fds = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is to one valid structure, and the count says so.
    let count = unsafe { libc::poll(&raw mut fds, 1, milliseconds) };
    count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_get_what_the_other_sends() {
        let (card, peer) = pair(Offloads::empty()).unwrap();
        card.send(&Frame::complete(&[1; 60])).unwrap();
        assert_eq!(peer.receive(Duration::from_secs(1)), Some(vec![1; 60]));
        assert_eq!(peer.receive(Duration::ZERO), None);
        peer.send(&[2; 70]).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(card.receive(&mut buffer).unwrap(), Some(Received::plain(70)));
        assert_eq!(card.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn a_cable_that_is_out_takes_nothing() {
        let (card, peer) = pair(Offloads::empty()).unwrap();
        peer.set_up(false);
        assert_eq!(card.send(&Frame::complete(&[1; 60])), Err(SendError::Down));
        peer.fail();
        assert!(card.receive(&mut [0; 10]).is_err());
    }
}
