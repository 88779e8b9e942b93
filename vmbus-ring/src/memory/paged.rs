//! A ring in pages that lie anywhere, as its host has it.

#![expect(unsafe_code, reason = "reaches memory through pointers")]

use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use hv_abi::HV_PAGE_SIZE;

use super::{Control, MemoryError, RingMemory, copy};
use crate::extent::Extent;

/// A ring in pages in any order: the control page, and those of the data.
///
/// Pages that follow one another in memory are copied in one go. `O` is whatever keeps the mappings alive.
pub struct PagedMemory<O> {
    control: NonNull<u8>,
    pages: Box<[Page]>,
    owner: O,
}

struct Page {
    address: NonNull<u8>,
    /// Bytes from its start up to where memory and ring no longer go on together.
    run: u32,
}

// SAFETY: the memory may be used from any thread (contract of `new`), and the owner goes along.
unsafe impl<O: Send> Send for PagedMemory<O> {}
// SAFETY: shared references only reach the memory by atomics and copies that may race.
unsafe impl<O: Sync> Sync for PagedMemory<O> {}

impl<O> PagedMemory<O> {
    /// The ring with the control page at `control`, and its data in `pages`. A page may be there twice; that is the
    /// guest's own trouble.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if some address is not that of a page, or if there are no pages or too many.
    ///
    /// # Safety
    ///
    /// From now until `owner` is dropped, all of these pages can be read and written, from any thread, and this program
    /// reaches them in no other way than through ring memories, atomics, and accesses that may race as well.
    pub unsafe fn new(
        control: NonNull<u8>,
        pages: &[NonNull<u8>],
        owner: O,
    ) -> Result<Self, MemoryError> {
        let aligned = |page: &NonNull<u8>| page.addr().get().is_multiple_of(HV_PAGE_SIZE);
        if !aligned(&control) || !pages.iter().all(aligned) {
            return Err(MemoryError::Misaligned);
        }
        let bytes = pages.len().checked_mul(HV_PAGE_SIZE).map(u32::try_from);
        let Some(Ok(bytes)) = bytes else { return Err(MemoryError::Length) };
        Extent::new(bytes).map_err(|_| MemoryError::Length)?;
        Ok(Self { control, pages: runs(pages), owner })
    }

    /// What keeps the mappings alive.
    pub const fn owner(&self) -> &O {
        &self.owner
    }

    /// The longest piece of at most `length` bytes from `offset` on that is in one run.
    fn piece(&self, offset: u32, length: usize) -> (*mut u8, usize) {
        let within = offset as usize % HV_PAGE_SIZE;
        // In every call, the piece lies in the ring; if not, this panics before anything is touched.
        let page = &self.pages[offset as usize / HV_PAGE_SIZE];
        let length = length.min(page.run as usize - within);
        (page.address.as_ptr().wrapping_add(within), length)
    }
}

fn runs(addresses: &[NonNull<u8>]) -> Box<[Page]> {
    let mut pages: Box<[Page]> =
        addresses.iter().map(|&address| Page { address, run: HV_PAGE_SIZE as u32 }).collect();
    for index in (1..pages.len()).rev() {
        let next = pages[index].address;
        let run = pages[index].run;
        let page = &mut pages[index - 1];
        if page.address.as_ptr().wrapping_add(HV_PAGE_SIZE) == next.as_ptr() {
            page.run += run;
        }
    }
    pages
}

impl<O> RingMemory for PagedMemory<O> {
    fn control(&self, word: Control) -> &AtomicU32 {
        let address = self.control.as_ptr().wrapping_add(word.offset());
        // SAFETY: the control page can be reached as long as `self` (contract of `new`), words are aligned in it.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    fn data_len(&self) -> u32 {
        // `new` checked that it fits.
        (self.pages.len() * HV_PAGE_SIZE) as u32
    }

    fn read(&self, mut offset: u32, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (shared, length) = self.piece(offset, bytes.len());
            let (piece, rest) = bytes.split_at_mut(length);
            // SAFETY: so many bytes are in one run of pages, which can be read (contract of `new`).
            unsafe { copy::load(shared, piece) }
            offset += length as u32;
            bytes = rest;
        }
    }

    fn write(&self, mut offset: u32, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (shared, length) = self.piece(offset, bytes.len());
            let (piece, rest) = bytes.split_at(length);
            // SAFETY: so many bytes are in one run of pages, which can be written (contract of `new`).
            unsafe { copy::store(shared, piece) }
            offset += length as u32;
            bytes = rest;
        }
    }
}

impl<O> fmt::Debug for PagedMemory<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedMemory")
            .field("control", &self.control)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}
