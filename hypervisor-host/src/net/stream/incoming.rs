//! Taking frames from the bytes of a stream.

use std::io;

use super::super::frame::MAX_FRAME;
use super::socket::Socket;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
const LENGTH: usize = 4;

/// Bytes that came and are not yet taken.
#[derive(Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// The next frame, written to `buffer`, and its length. Frames that do not fit are left out.
    ///
    /// # Errors
    /// The other end is closed, or what it sends is no frames.
    pub(super) fn next(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some(frame) = self.take()? {
                if let Some(place) = buffer.get_mut(..frame.len()) {
                    place.copy_from_slice(&self.bytes[frame.clone()]);
                    return Ok(Some(frame.len()));
                }
                continue;
            }
            self.make_room();
            match socket.read(&mut self.bytes[self.end..])? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => self.end += count,
                None => return Ok(None),
            }
        }
    }

    /// Where the next whole frame is.
    fn take(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        let Some(&head) = self.bytes[self.start..self.end].first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of absurd length"));
        }
        let first = self.start + LENGTH;
        if self.end - first < length {
            return Ok(None);
        }
        self.start = first + length;
        Ok(Some(first..self.start))
    }

    /// Moves what is left to the front, so that a whole frame fits behind it.
    fn make_room(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; CHUNK];
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.start < LENGTH + MAX_FRAME {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

const _: () = assert!(CHUNK >= 2 * (LENGTH + MAX_FRAME));
