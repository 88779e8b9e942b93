//! Arithmetic of indices in the ring's data. No index gets here that was not checked.

use hv_abi::HV_PAGE_SIZE;

use crate::RingError;

/// The most bytes of data that a ring may have here, 1 GiB: sums of two offsets fit 32 bits. Rings are far smaller.
pub const MAX_DATA_BYTES: u32 = 1 << 30;

/// Every packet begins at a multiple of this.
pub(crate) const ALIGNMENT: u32 = 8;

/// Length of a ring's data in bytes: whole pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent(u32);

impl Extent {
    pub(crate) const fn new(bytes: u32) -> Result<Self, RingError> {
        let whole_pages = bytes.is_multiple_of(HV_PAGE_SIZE as u32);
        if bytes == 0 || bytes > MAX_DATA_BYTES || !whole_pages {
            return Err(RingError::DataLength(bytes));
        }
        Ok(Self(bytes))
    }

    pub(crate) const fn bytes(self) -> u32 {
        self.0
    }

    /// The most that can be in the ring: with not one packet's unit free, full would look like empty.
    pub(crate) const fn capacity(self) -> u32 {
        self.0 - ALIGNMENT
    }

    /// A write index that the other end may have written.
    pub(crate) const fn write_index(self, index: u32) -> Result<u32, RingError> {
        if index >= self.0 {
            Err(RingError::WriteIndexOutside(index))
        } else if !index.is_multiple_of(ALIGNMENT) {
            Err(RingError::WriteIndexMisaligned(index))
        } else {
            Ok(index)
        }
    }

    /// A read index that the other end may have written.
    pub(crate) const fn read_index(self, index: u32) -> Result<u32, RingError> {
        if index >= self.0 {
            Err(RingError::ReadIndexOutside(index))
        } else if !index.is_multiple_of(ALIGNMENT) {
            Err(RingError::ReadIndexMisaligned(index))
        } else {
            Ok(index)
        }
    }

    /// Bytes from one index forward to another.
    pub(crate) const fn distance(self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.0 - from + to }
    }

    /// `by` is at most the ring's length.
    pub(crate) const fn advance(self, index: u32, by: u32) -> u32 {
        let sum = index + by;
        if sum >= self.0 { sum - self.0 } else { sum }
    }

    /// How `length` bytes from `index` on divide into those before the end and those from the start on.
    pub(crate) fn split(self, index: u32, length: usize) -> (usize, usize) {
        let first = length.min((self.0 - index) as usize);
        (first, length - first)
    }

    /// Bytes that a producer may write.
    pub(crate) const fn room(self, write: u32, read: u32) -> u32 {
        self.capacity() - self.distance(read, write)
    }
}
