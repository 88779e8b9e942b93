//! Frames on their way out, gathered into few writes.

use std::io;

use super::super::backend::SendError;
use super::socket::Socket;

/// Bytes after which they are written without waiting for the end of the batch.
const BATCH: usize = 128 << 10;
/// Bytes that may wait for room.
const MOST: usize = 2 << 20;

/// Bytes that are not yet written.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    start: usize,
    /// There was no room for what is left.
    waiting: bool,
    new: bool,
}

impl Outgoing {
    /// Adds a frame.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let length = u32::try_from(frame.len()).map_err(|_| SendError::Refused)?;
        if self.len() + frame.len() > MOST {
            return Err(SendError::Full);
        }
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(frame);
        self.new = true;
        Ok(())
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether it should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= BATCH
    }

    /// Whether frames were added since the last write.
    pub(super) fn has_new(&self) -> bool {
        self.new
    }

    /// Whether what is left waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Writes as much as there is room for.
    pub(super) fn write(&mut self, socket: &Socket) -> io::Result<()> {
        self.new = false;
        while let Some(rest) = self.bytes.get(self.start..).filter(|rest| !rest.is_empty()) {
            match socket.write(rest)? {
                Some(count) => self.start += count,
                None => {
                    self.waiting = true;
                    // What is written must not pile up before what is not.
                    self.bytes.drain(..self.start);
                    self.start = 0;
                    return Ok(());
                }
            }
        }
        self.bytes.clear();
        self.start = 0;
        self.waiting = false;
        Ok(())
    }
}
