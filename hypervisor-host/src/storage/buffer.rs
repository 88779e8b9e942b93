//! The memory of a request: pieces anywhere, seen as one run of bytes, which the kernel reads and writes directly.
//!
//! The pieces are the guest's own pages, so nothing is copied on the way. Whatever keeps them mapped travels in the buffer.
#![expect(
    unsafe_code,
    reason = "memory that the guest changes at any time is reached by address only"
)]

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use vm_memory::VolatileSlice;

/// Pieces of memory that stay mapped for as long as this lives. What is in them may change at any time.
pub struct IoBuffer {
    pieces: Vec<libc::iovec>,
    bytes: u64,
    owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the pointers are addresses of memory that the owner keeps mapped wherever it is moved to, and that is accessed by
// volatile copies and by the kernel only.
unsafe impl Send for IoBuffer {}
// SAFETY: as above; shared access changes nothing but the memory, which is shared by nature.
unsafe impl Sync for IoBuffer {}

impl IoBuffer {
    /// No memory, for requests without data.
    pub fn none() -> Self {
        Self { pieces: Vec::new(), bytes: 0, owner: Arc::new(()) }
    }

    /// These pieces, in this order.
    ///
    /// # Safety
    /// The pieces are mapped, readable and writable for as long as `owner` lives, and no reference to them exists.
    pub unsafe fn new(pieces: Vec<libc::iovec>, owner: Arc<dyn Any + Send + Sync>) -> Self {
        let bytes = pieces.iter().map(|piece| piece.iov_len as u64).sum();
        Self { pieces, bytes, owner }
    }

    /// Memory of our own, for what does not come from a guest.
    pub fn owned(bytes: Vec<u8>) -> Self {
        let bytes = bytes.into_boxed_slice();
        let length = bytes.len();
        let base = Box::into_raw(bytes).cast::<u8>();
        let pieces = vec![libc::iovec { iov_base: base.cast(), iov_len: length }];
        let owner = Arc::new(Owned { base, length });
        // SAFETY: the owner alone has the memory, and gives it back when it goes.
        unsafe { Self::new(pieces, owner) }
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The pieces that `length` bytes from `offset` on lie in; fewer bytes if there are fewer.
    pub fn pieces(&self, offset: u64, length: u64) -> Vec<libc::iovec> {
        let mut found = Vec::with_capacity(self.pieces.len());
        let (mut skip, mut left) = (offset, length);
        for piece in &self.pieces {
            let here = piece.iov_len as u64;
            if skip >= here {
                skip -= here;
                continue;
            }
            let take = left.min(here - skip);
            if take == 0 {
                break;
            }
            found.push(libc::iovec {
                iov_base: piece.iov_base.wrapping_byte_add(skip as usize),
                iov_len: take as usize,
            });
            (skip, left) = (0, left - take);
        }
        found
    }

    /// `length` bytes from `offset` on as a buffer of their own; fewer if there are fewer.
    pub fn part(&self, offset: u64, length: u64) -> Self {
        let pieces = self.pieces(offset, length);
        let bytes = pieces.iter().map(|piece| piece.iov_len as u64).sum();
        Self { pieces, bytes, owner: self.owner.clone() }
    }

    /// Copies from the buffer, from `offset` on, into `bytes`, as far as there is something. Gives the number of bytes.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(offset, bytes.len() as u64) {
            let end = done + piece.iov_len;
            if let Some(part) = bytes.get_mut(done..end) {
                volatile(&piece).copy_to(part);
            }
            done = end;
        }
        done
    }

    /// Copies `bytes` into the buffer, from `offset` on, as far as there is room. Gives the number of bytes.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces(offset, bytes.len() as u64) {
            let end = done + piece.iov_len;
            if let Some(part) = bytes.get(done..end) {
                volatile(&piece).copy_from(part);
            }
            done = end;
        }
        done
    }

    /// The whole content.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes as usize];
        self.read(0, &mut bytes);
        bytes
    }
}

fn volatile(piece: &libc::iovec) -> VolatileSlice<'_> {
    // SAFETY: a piece of a buffer, whose owner keeps it mapped for as long as the caller's borrow of the buffer lasts.
    unsafe { VolatileSlice::new(piece.iov_base.cast(), piece.iov_len) }
}

impl fmt::Debug for IoBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBuffer({} bytes in {} pieces)", self.bytes, self.pieces.len())
    }
}

/// A boxed slice taken apart: while the kernel writes into it there must be no reference to its bytes.
struct Owned {
    base: *mut u8,
    length: usize,
}

// SAFETY: the memory is this value's own.
unsafe impl Send for Owned {}
// SAFETY: nothing is done with the pointer but freeing it.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.base, self.length);
        // SAFETY: it came from a box of that length, and nobody else frees it.
        drop(unsafe { Box::from_raw(slice) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One buffer of three pieces of 3, 1 and 4 bytes that don't adjoin.
    fn scattered() -> IoBuffer {
        let memory = Box::leak(vec![0_u8; 64].into_boxed_slice()).as_mut_ptr();
        let piece =
            |at: usize, iov_len| libc::iovec { iov_base: memory.wrapping_add(at).cast(), iov_len };
        let pieces = vec![piece(0, 3), piece(10, 1), piece(20, 4)];
        // SAFETY: leaked memory lives for ever.
        unsafe { IoBuffer::new(pieces, Arc::new(())) }
    }

    #[test]
    fn pieces_read_as_one_run() {
        let buffer = scattered();
        assert_eq!((buffer.len(), buffer.write(0, b"abcdefgh")), (8, 8));
        let mut part = [0; 4];
        assert_eq!(buffer.read(2, &mut part), 4);
        assert_eq!(&part, b"cdef");
        assert_eq!(buffer.to_vec(), b"abcdefgh");
    }

    #[test]
    fn what_lies_behind_the_end_is_left_out() {
        let buffer = scattered();
        assert_eq!(buffer.write(6, b"xyz"), 2);
        assert_eq!(buffer.read(8, &mut [0; 2]), 0);
        assert_eq!(buffer.read(u64::MAX, &mut [0; 2]), 0);
        let lengths = |offset, length| {
            let pieces = buffer.pieces(offset, length);
            pieces.iter().map(|piece| piece.iov_len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0, u64::MAX), [3, 1, 4]);
        assert_eq!(lengths(1, 2), [2]);
        assert_eq!(lengths(3, 2), [1, 1]);
        assert!(IoBuffer::none().pieces(0, 1).is_empty());
    }

    #[test]
    fn owned_memory_keeps_its_content() {
        assert_eq!(IoBuffer::owned(b"hello".to_vec()).to_vec(), b"hello");
        assert!(IoBuffer::owned(Vec::new()).is_empty());
    }
}
