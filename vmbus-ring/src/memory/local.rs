//! A ring in memory of this process, for tests.

use alloc::boxed::Box;
use core::array;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::{Control, MemoryError, RingMemory};
use crate::extent::Extent;

/// Words up to the last that has a meaning.
const WORDS: usize = Control::FeatureBits.offset() / size_of::<u32>() + 1;

/// A ring in memory of this process, without any `unsafe`, and slow. Both ends may borrow it.
#[derive(Debug)]
pub struct LocalMemory {
    control: [AtomicU32; WORDS],
    data: Box<[AtomicU8]>,
}

impl LocalMemory {
    /// A ring of zeros with `data_len` bytes of data.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Length`] if that is not whole pages, at least one.
    pub fn new(data_len: u32) -> Result<Self, MemoryError> {
        Extent::new(data_len).map_err(|_| MemoryError::Length)?;
        Ok(Self {
            control: array::from_fn(|_| AtomicU32::new(0)),
            data: (0..data_len).map(|_| AtomicU8::new(0)).collect(),
        })
    }

    fn bytes(&self, offset: u32, length: usize) -> &[AtomicU8] {
        &self.data[offset as usize..][..length]
    }
}

impl RingMemory for LocalMemory {
    fn control(&self, word: Control) -> &AtomicU32 {
        &self.control[word.offset() / size_of::<u32>()]
    }

    fn data_len(&self) -> u32 {
        // `new` took it as 32 bits.
        self.data.len() as u32
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        let shared = self.bytes(offset, bytes.len());
        for (byte, shared) in bytes.iter_mut().zip(shared) {
            *byte = shared.load(Ordering::Relaxed);
        }
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        let shared = self.bytes(offset, bytes.len());
        for (byte, shared) in bytes.iter().zip(shared) {
            shared.store(*byte, Ordering::Relaxed);
        }
    }
}
