//! Memory for requests whose callers lend slices: used again, so that small requests allocate nothing.

use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use spin::Mutex;

use super::buffer::IoBuffer;

/// Bytes that a slice is copied by, at most.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Large buffers that are kept.
const LARGE: usize = 4;

/// Free buffers of a page, and of [`CHUNK_BYTES`].
pub(super) struct Pool {
    small: Mutex<Vec<IoBuffer>>,
    large: Mutex<Vec<IoBuffer>>,
    depth: usize,
}

impl Pool {
    /// Keeps as many small buffers as there can be requests.
    pub(super) fn new(depth: u16) -> Self {
        let (small, large) = (Mutex::new(Vec::new()), Mutex::new(Vec::with_capacity(LARGE)));
        Self { small, large, depth: usize::from(depth) }
    }

    /// A buffer of `len` bytes, with anything in it. `None` if there is no memory.
    pub(super) fn take(&self, len: usize) -> Option<IoBuffer> {
        let (list, capacity) = match len {
            0..=HV_PAGE_SIZE => (&self.small, HV_PAGE_SIZE),
            _ if len <= CHUNK_BYTES => (&self.large, CHUNK_BYTES),
            _ => return IoBuffer::zeroed(len),
        };
        let kept = list.lock().pop();
        let mut buffer = match kept {
            Some(buffer) => buffer,
            None => IoBuffer::zeroed(capacity)?,
        };
        buffer.set_len(len);
        Some(buffer)
    }

    /// Gives a buffer from here back.
    pub(super) fn give(&self, buffer: IoBuffer) {
        let (list, keep) = match buffer.capacity() {
            HV_PAGE_SIZE => (&self.small, self.depth),
            CHUNK_BYTES => (&self.large, LARGE),
            _ => return,
        };
        let mut list = list.lock();
        if list.len() < keep {
            list.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again() {
        let pool = Pool::new(2);
        let buffer = pool.take(512).unwrap();
        let address = buffer.address();
        pool.give(buffer);
        let again = pool.take(4096).unwrap();
        assert_eq!((again.address(), again.len()), (address, 4096));
    }

    #[test]
    fn no_more_are_kept_than_there_are_requests() {
        let pool = Pool::new(1);
        let (first, second) = (pool.take(1).unwrap(), pool.take(1).unwrap());
        pool.give(first);
        pool.give(second);
        assert_eq!(pool.small.lock().len(), 1);
    }

    #[test]
    fn sizes_beyond_the_largest_are_allocated_each_time() {
        let pool = Pool::new(1);
        let buffer = pool.take(CHUNK_BYTES + 1).unwrap();
        assert_eq!(buffer.len(), CHUNK_BYTES + 1);
        pool.give(buffer);
        assert!(pool.large.lock().is_empty());
        assert!(pool.take(usize::MAX).is_none());
    }
}
