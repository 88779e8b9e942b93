//! Memory that is lent to the host while a request is in flight.
//!
//! **Theory.** The host writes into a read's memory whenever it likes until it has answered. A future may be dropped, or
//! forgotten, before that. So a future never holds the memory: it moves into the request's slot and comes back with the
//! answer. A slot whose future is gone keeps the memory until the host answers, or its channel has ended.
//!
//! **Practice.** [`IoBuffer`] owns memory of any origin whose address stays. Calls that take plain slices copy from and to one.

#![expect(unsafe_code, reason = "owns memory by address while the host may write to it")]

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use hv_abi::HV_PAGE_SIZE;

/// Bytes that can be lent to the host: page-aligned memory of its own, a vector's, or a `static`'s.
///
/// While the host has it, nothing in the guest refers to its content.
pub struct IoBuffer {
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Pages,
    Vector,
    Static,
}

// SAFETY: the value owns its bytes; they are plain data.
unsafe impl Send for IoBuffer {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for IoBuffer {}

impl IoBuffer {
    /// `len` zeros that begin at a page's start. `None` if there is no memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout has at least one page.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, len, capacity: layout.size(), origin: Origin::Pages })
    }

    /// Memory that lives for ever.
    pub fn from_static(bytes: &'static mut [u8]) -> Self {
        let (len, start) = (bytes.len(), NonNull::from(bytes).cast());
        Self { start, len, capacity: len, origin: Origin::Static }
    }

    fn layout(len: usize) -> Option<Layout> {
        let size = len.max(1).checked_next_multiple_of(HV_PAGE_SIZE)?;
        Layout::from_size_align(size, HV_PAGE_SIZE).ok()
    }

    /// The bytes as a vector: the one it was made from, or a copy.
    pub fn into_vec(self) -> Vec<u8> {
        if self.origin != Origin::Vector {
            return self.to_vec();
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: the parts are those of the vector that `From` took apart, and `this` is not dropped.
        unsafe { Vec::from_raw_parts(this.start.as_ptr(), this.len, this.capacity) }
    }

    /// Makes it shorter, or longer up to its [`IoBuffer::capacity`].
    pub(super) fn set_len(&mut self, len: usize) {
        debug_assert!(self.origin == Origin::Pages, "its whole capacity was initialised");
        self.len = len.min(self.capacity);
    }

    /// Bytes that it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where it lies.
    pub(super) fn address(&self) -> *const u8 {
        self.start.as_ptr()
    }
}

impl From<Vec<u8>> for IoBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        let (len, capacity) = (bytes.len(), bytes.capacity());
        // A vector's pointer is never null.
        let start = NonNull::new(bytes.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Self { start, len, capacity, origin: Origin::Vector }
    }
}

impl Deref for IoBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` on are owned and initialised, and not lent: then it lies in a slot.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for IoBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the reference is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for IoBuffer {
    fn drop(&mut self) {
        match self.origin {
            Origin::Pages => {
                if let Some(layout) = Self::layout(self.capacity) {
                    // SAFETY: `zeroed` took it with this layout, which depends on whole pages only.
                    unsafe { dealloc(self.start.as_ptr(), layout) }
                }
            }
            Origin::Vector => {
                // SAFETY: the parts are those of the vector that `From` took apart; this is the last use.
                drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), self.len, self.capacity) });
            }
            Origin::Static => {}
        }
    }
}

impl fmt::Debug for IoBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBuffer({:p}, {} bytes)", self.start, self.len)
    }
}

/// A page of zeros to write from.
#[repr(align(4096))]
struct ZeroPage([u8; HV_PAGE_SIZE]);

static ZEROS: ZeroPage = ZeroPage([0; HV_PAGE_SIZE]);

/// What a request lends to the host.
#[derive(Debug, Default)]
pub(super) enum Lent {
    /// Nothing.
    #[default]
    Nothing,
    /// One buffer, for this request alone.
    One(IoBuffer),
    /// Buffers that other requests of the same transfer lend, too.
    Shared(Arc<Vec<IoBuffer>>),
    /// One page of zeros, as often as needed. Only for writing to the disk.
    Zeros,
}

/// A run of bytes by address; what the host sees of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: *const u8,
    pub(super) len: usize,
}

impl Lent {
    /// The part of the lent memory numbered `index`.
    pub(super) fn segment(&self, index: usize) -> Option<Segment> {
        let of = |buffer: &IoBuffer| Segment { address: buffer.address(), len: buffer.len };
        match self {
            Self::Nothing => None,
            Self::One(buffer) => (index == 0).then(|| of(buffer)),
            Self::Shared(buffers) => buffers.get(index).map(of),
            Self::Zeros => Some(Segment { address: ZEROS.0.as_ptr(), len: HV_PAGE_SIZE }),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;

    use super::*;

    #[test]
    fn own_memory_is_zero_and_page_aligned() {
        let buffer = IoBuffer::zeroed(5000).unwrap();
        assert_eq!(buffer.address() as usize % HV_PAGE_SIZE, 0);
        assert_eq!((buffer.len(), buffer.capacity()), (5000, 8192));
        assert!(buffer.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn absurd_sizes_are_no_memory_instead_of_a_panic() {
        assert!(IoBuffer::zeroed(usize::MAX).is_none());
        assert!(IoBuffer::zeroed(isize::MAX as usize).is_none());
    }

    #[test]
    fn a_vector_comes_back_as_it_went_in_without_a_copy() {
        let mut vector = Vec::with_capacity(100);
        vector.extend_from_slice(b"contents");
        let address = vector.as_ptr();
        let mut buffer = IoBuffer::from(vector);
        buffer[0] = b'C';
        let vector = buffer.into_vec();
        assert_eq!((vector.as_ptr(), vector.capacity()), (address, 100));
        assert_eq!(vector, b"Contents");
    }

    #[test]
    fn other_memory_becomes_a_vector_by_copy() {
        let leaked: &'static mut [u8] = Box::leak(vec![7; 3].into_boxed_slice());
        assert_eq!(IoBuffer::from_static(leaked).into_vec(), [7; 3]);
        assert_eq!(IoBuffer::zeroed(2).unwrap().into_vec(), [0; 2]);
    }

    #[test]
    fn empty_buffers_of_every_origin_can_be_dropped() {
        drop(IoBuffer::zeroed(0));
        drop(IoBuffer::from(Vec::new()));
        drop(IoBuffer::from_static(&mut []));
    }

    #[test]
    fn length_changes_only_within_the_capacity() {
        let mut buffer = IoBuffer::zeroed(10).unwrap();
        buffer.set_len(1 << 20);
        assert_eq!(buffer.len(), 4096);
        buffer.set_len(1);
        assert_eq!(buffer.len(), 1);
    }
}
