//! A bounded queue of frames that can be polled, for back ends within the process.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Mutex;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::backend::SendError;
use crate::stats::lock;

/// Frames that wait at most.
const MOST_FRAMES: usize = 1024;
/// Buffers that are kept for reuse.
const MOST_SPARE: usize = 256;

/// Frames in the order in which they came; what finds no room is lost.
pub(super) struct FrameQueue {
    inner: Mutex<Inner>,
    event: EventFd,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl FrameQueue {
    /// An empty queue.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { inner: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? })
    }

    /// Adds a copy of a frame.
    pub(super) fn push(&self, frame: &[u8]) -> Result<(), SendError> {
        let mut inner = lock(&self.inner);
        if inner.frames.len() >= MOST_FRAMES {
            return Err(SendError::Full);
        }
        let mut copy = inner.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        inner.frames.push_back(copy);
        if inner.frames.len() == 1 {
            // It can only fail if the counter is full, and then it is readable already.
            let _ = self.event.write(1);
        }
        Ok(())
    }

    /// Takes the oldest frame that fits; longer ones are lost. Length of the frame, or `None`.
    pub(super) fn pop(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut inner = lock(&self.inner);
        loop {
            let Some(frame) = inner.frames.pop_front() else {
                // Nothing to read is fine too.
                let _ = self.event.read();
                return None;
            };
            let length = frame.len();
            let fits = buffer.get_mut(..length).map(|place| place.copy_from_slice(&frame));
            if inner.spare.len() < MOST_SPARE {
                inner.spare.push(frame);
            }
            if fits.is_some() {
                return Some(length);
            }
        }
    }

    /// Readable while there are frames, or may be.
    pub(super) fn readiness(&self) -> BorrowedFd<'_> {
        borrow(&self.event)
    }
}

/// A file descriptor as lent by its owner.
#[expect(unsafe_code, reason = "the event file's type lends its descriptor only as a number")]
pub(super) fn borrow(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as its owner lives, which the lifetime of the result says.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::is_readable;

    #[test]
    fn frames_come_in_order_and_the_queue_is_readable_while_there_are_some() {
        let queue = FrameQueue::new().unwrap();
        let mut buffer = [0; 10];
        assert!(!is_readable(queue.readiness()));
        for byte in 0..3 {
            queue.push(&[byte; 3]).unwrap();
        }
        for byte in 0..3 {
            assert!(is_readable(queue.readiness()));
            assert_eq!(queue.pop(&mut buffer), Some(3));
            assert_eq!(buffer[..3], [byte; 3]);
        }
        assert_eq!(queue.pop(&mut buffer), None);
        assert!(!is_readable(queue.readiness()));
    }

    #[test]
    fn a_full_queue_takes_nothing_and_long_frames_are_lost() {
        let queue = FrameQueue::new().unwrap();
        queue.push(&[0; 11]).unwrap();
        for _ in 1..MOST_FRAMES {
            queue.push(&[1]).unwrap();
        }
        assert_eq!(queue.push(&[2]), Err(SendError::Full));
        let mut buffer = [0; 10];
        for _ in 1..MOST_FRAMES {
            assert_eq!(queue.pop(&mut buffer), Some(1));
        }
        assert_eq!(queue.pop(&mut buffer), None);
    }
}
