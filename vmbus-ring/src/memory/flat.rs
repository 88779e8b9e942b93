//! A ring in one piece, as its guest has it.

#![expect(unsafe_code, reason = "reaches memory through a pointer")]

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::packet::RING_CONTROL_BYTES;

use super::{Control, MemoryError, RingMemory, copy};
use crate::extent::Extent;

/// A ring in one mapping: the control page and the data behind it.
///
/// `O` is whatever keeps the mapping alive.
pub struct FlatMemory<O> {
    base: NonNull<u8>,
    data_len: u32,
    owner: O,
}

// SAFETY: the memory may be used from any thread (contract of `new`), and the owner goes along.
unsafe impl<O: Send> Send for FlatMemory<O> {}
// SAFETY: shared references only reach the memory by atomics and copies that may race.
unsafe impl<O: Sync> Sync for FlatMemory<O> {}

impl<O> FlatMemory<O> {
    /// The ring in the `bytes` bytes from `base` on.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if that is no control page with whole pages of data behind it.
    ///
    /// # Safety
    ///
    /// From now until `owner` is dropped, all of it can be read and written, from any thread, and this program reaches it
    /// in no other way than through ring memories and atomics.
    pub unsafe fn new(base: NonNull<u8>, bytes: usize, owner: O) -> Result<Self, MemoryError> {
        if !base.addr().get().is_multiple_of(HV_PAGE_SIZE) {
            return Err(MemoryError::Misaligned);
        }
        let data_len = bytes.checked_sub(RING_CONTROL_BYTES).map(u32::try_from);
        let Some(Ok(data_len)) = data_len else { return Err(MemoryError::Length) };
        Extent::new(data_len).map_err(|_| MemoryError::Length)?;
        Ok(Self { base, data_len, owner })
    }

    /// What keeps the mapping alive.
    pub const fn owner(&self) -> &O {
        &self.owner
    }

    /// Gives the owner back.
    pub fn into_owner(self) -> O {
        self.owner
    }

    fn data(&self, offset: u32, length: usize) -> *mut u8 {
        assert!(
            (offset as usize).checked_add(length).is_some_and(|end| end <= self.data_len as usize),
            "outside the ring's data"
        );
        self.base.as_ptr().wrapping_add(RING_CONTROL_BYTES + offset as usize)
    }
}

impl<O> RingMemory for FlatMemory<O> {
    fn control(&self, word: Control) -> &AtomicU32 {
        let address = self.base.as_ptr().wrapping_add(word.offset());
        // SAFETY: the control page can be reached as long as `self` (contract of `new`), words are aligned in it.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    fn data_len(&self) -> u32 {
        self.data_len
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        let shared = self.data(offset, bytes.len());
        // SAFETY: `data` checked that it lies in the ring.
        unsafe { copy::load(shared, bytes) }
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        let shared = self.data(offset, bytes.len());
        // SAFETY: `data` checked that it lies in the ring.
        unsafe { copy::store(shared, bytes) }
    }
}

impl<O> fmt::Debug for FlatMemory<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlatMemory")
            .field("base", &self.base)
            .field("data_len", &self.data_len)
            .finish_non_exhaustive()
    }
}
