//! The memory that a ring lies in, and who may touch it how.
//!
//! Both ends have it mapped, and neither can stop the other from writing anywhere at any time. So a memory hands out its
//! control words as atomics and its data as copies.

#[cfg(not(loom))]
pub mod copy;
#[cfg(not(loom))]
mod flat;
#[cfg(all(not(loom), feature = "alloc"))]
mod local;
#[cfg(all(not(loom), feature = "alloc"))]
mod paged;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use flat::FlatMemory;
#[cfg(all(not(loom), feature = "alloc"))]
pub use local::LocalMemory;
#[cfg(all(not(loom), feature = "alloc"))]
pub use paged::PagedMemory;

use core::fmt;

use hv_abi::vmbus::packet::control;

use crate::sync::atomic::AtomicU32;

/// A word of the control page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Where the producer writes next. The producer's to write.
    WriteIndex,
    /// Where the consumer reads next. The consumer's.
    ReadIndex,
    /// Not 0: the consumer does not want to be signalled. The consumer's.
    InterruptMask,
    /// Bytes that the producer waits for, or 0. The producer's.
    PendingSendSize,
    /// What the producer knows. The producer's.
    FeatureBits,
}

impl Control {
    /// Where in the control page, in bytes.
    pub const fn offset(self) -> usize {
        match self {
            Self::WriteIndex => control::WRITE_INDEX,
            Self::ReadIndex => control::READ_INDEX,
            Self::InterruptMask => control::INTERRUPT_MASK,
            Self::PendingSendSize => control::PENDING_SEND_SZ,
            Self::FeatureBits => control::FEATURE_BITS,
        }
    }
}

/// The memory of one ring.
///
/// In every call from this crate `offset + length <= data_len()`; wrapping around is the ring's business. The other end
/// may write while these run: what is read is then anything, but nothing else may go wrong.
pub trait RingMemory {
    /// A word of the control page.
    fn control(&self, word: Control) -> &AtomicU32;

    /// Bytes of data behind the control page; always the same.
    fn data_len(&self) -> u32;

    /// Copies bytes at `offset` in the data into `bytes`, each byte once.
    fn read(&self, offset: u32, bytes: &mut [u8]);

    /// Copies `bytes` to `offset` in the data.
    fn write(&self, offset: u32, bytes: &[u8]);
}

impl<M: RingMemory + ?Sized> RingMemory for &M {
    fn control(&self, word: Control) -> &AtomicU32 {
        (**self).control(word)
    }

    fn data_len(&self) -> u32 {
        (**self).data_len()
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        (**self).read(offset, bytes);
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        (**self).write(offset, bytes);
    }
}

#[cfg(feature = "alloc")]
impl<M: RingMemory + ?Sized> RingMemory for alloc::sync::Arc<M> {
    fn control(&self, word: Control) -> &AtomicU32 {
        (**self).control(word)
    }

    fn data_len(&self) -> u32 {
        (**self).data_len()
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        (**self).read(offset, bytes);
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        (**self).write(offset, bytes);
    }
}

/// Memory that can be no ring's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryError {
    /// It does not begin where a page does.
    Misaligned,
    /// It is not a control page and at least one page of data, or more than [`MAX_DATA_BYTES`](crate::MAX_DATA_BYTES).
    Length,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Misaligned => "the ring's memory does not begin at a page",
            Self::Length => "the ring's memory has too few pages, or too many",
        })
    }
}

impl core::error::Error for MemoryError {}
