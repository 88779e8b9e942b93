//! A frame to be filled in.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};

use super::frame::BufferPool;
use super::outgoing::{Head, MAX_HEAD_BYTES};

/// A frame to be filled in, with room for the driver's headers in front of it: if it is large, the host takes it from here.
///
/// What it contains at first is anything: an older frame, for example.
pub struct TransmitBuffer {
    /// Head room, the frame, perhaps more.
    memory: Vec<u8>,
    frame_bytes: usize,
    pool: Arc<BufferPool>,
}

impl TransmitBuffer {
    pub(super) fn new(pool: &Arc<BufferPool>, frame_bytes: usize) -> Self {
        let memory = pool.take(MAX_HEAD_BYTES + frame_bytes);
        Self { memory, frame_bytes, pool: pool.clone() }
    }

    /// Writes `head` right in front of the frame; gives both together.
    pub(super) fn with_head(&mut self, head: &Head) -> &[u8] {
        let start = MAX_HEAD_BYTES - head.bytes().len();
        if let Some(room) = self.memory.get_mut(start..MAX_HEAD_BYTES) {
            room.copy_from_slice(head.bytes());
        }
        self.memory.get(start..MAX_HEAD_BYTES + self.frame_bytes).unwrap_or_default()
    }

    fn range(&self) -> Range<usize> {
        MAX_HEAD_BYTES..MAX_HEAD_BYTES + self.frame_bytes
    }
}

impl Deref for TransmitBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(self.range()).unwrap_or_default()
    }
}

impl DerefMut for TransmitBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        self.memory.get_mut(range).unwrap_or_default()
    }
}

impl Drop for TransmitBuffer {
    fn drop(&mut self) {
        self.pool.give(core::mem::take(&mut self.memory));
    }
}

impl fmt::Debug for TransmitBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransmitBuffer").field("bytes", &self.frame_bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::outgoing::Beside;
    use super::*;

    #[test]
    fn the_head_is_right_in_front_of_the_frame() {
        let mut buffer = TransmitBuffer::new(&BufferPool::new(2048), 60);
        buffer.fill(7);
        let head = Head::new(60, &Beside::default()).unwrap();
        let all = buffer.with_head(&head);
        assert_eq!(all[..44], *head.bytes());
        assert_eq!(all[44..], [7; 60]);
    }
}
