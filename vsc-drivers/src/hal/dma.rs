//! Memory that the host reaches too.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use hv_abi::HV_PAGE_SIZE;
use vmbus_ring::copy;

use super::{Gpa, Hal};

/// Pages from [`Hal::allocate`]: one run of memory under two addresses. Freeing them is the holder's business; [`DmaBuffer`]
/// does it by itself.
#[derive(Debug)]
pub struct DmaPages {
    address: NonNull<u8>,
    gpa: Gpa,
    pages: usize,
}

// SAFETY: the pages are this value's (contract of `new`), and any processor may reach them.
unsafe impl Send for DmaPages {}
// SAFETY: a shared reference gives addresses only.
unsafe impl Sync for DmaPages {}

impl DmaPages {
    /// `pages` pages at virtual `address`, which the hypervisor sees from `gpa` on; `None` if an address is not page-aligned, or
    /// if the pages would go past the end of an address space.
    ///
    /// # Safety
    ///
    /// The memory is valid for reads and writes, contiguous, the same under both addresses, and used by nobody else
    /// for as long as the value exists.
    pub unsafe fn new(address: NonNull<u8>, gpa: Gpa, pages: usize) -> Option<Self> {
        let bytes = pages.checked_mul(HV_PAGE_SIZE)?;
        let aligned = address.addr().get().is_multiple_of(HV_PAGE_SIZE) && gpa.is_page_aligned();
        address.addr().get().checked_add(bytes)?;
        gpa.0.checked_add(bytes as u64)?;
        // The host reaches the pages by their numbers.
        address.as_ptr().expose_provenance();
        (aligned && bytes <= isize::MAX as usize).then_some(Self { address, gpa, pages })
    }

    /// Where the guest sees the first byte.
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Where the hypervisor sees the first byte.
    pub fn gpa(&self) -> Gpa {
        self.gpa
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> usize {
        self.pages * HV_PAGE_SIZE
    }
}

/// An access past the end of a buffer; nothing was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("access past the end of the buffer")
    }
}

impl core::error::Error for OutOfRange {}

/// Pages that free themselves.
///
/// The host may write to them at any time, so there are no references into them: bytes are copied in and out.
pub struct DmaBuffer<H: Hal> {
    /// `None` only while the value is dropped or taken apart.
    pages: Option<DmaPages>,
    hal: H,
}

impl<H: Hal> DmaBuffer<H> {
    /// Allocates `pages` pages of zeros; `None` as [`Hal::allocate`].
    pub fn new(hal: &H, pages: usize) -> Option<Self> {
        let pages = hal.allocate(pages)?;
        Some(Self { pages: Some(pages), hal: hal.clone() })
    }

    fn parts(&self) -> (NonNull<u8>, Gpa, usize) {
        let whole = |pages: &DmaPages| (pages.address, pages.gpa, pages.pages);
        self.pages.as_ref().map_or((NonNull::dangling(), Gpa(0), 0), whole)
    }

    /// Where the guest sees the first byte. Whoever writes there knows that the host may, too.
    pub fn address(&self) -> NonNull<u8> {
        self.parts().0
    }

    /// Where the hypervisor sees the first byte.
    pub fn gpa(&self) -> Gpa {
        self.parts().1
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.parts().2
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> usize {
        self.pages() * HV_PAGE_SIZE
    }

    /// The numbers of the pages as the hypervisor counts them, in order.
    pub fn page_numbers(&self) -> impl ExactSizeIterator<Item = u64> + use<H> {
        let first = self.gpa().0 / HV_PAGE_SIZE as u64;
        (0..self.pages()).map(move |page| first + page as u64)
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        let target = self.range(offset, bytes.len())?;
        // SAFETY: `range` has checked that all bytes lie in the buffer, to which there are no references.
        unsafe { copy::store(target.as_ptr(), bytes) };
        Ok(())
    }

    /// Copies the bytes at `offset` to `bytes`.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`].
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        let source = self.range(offset, bytes.len())?;
        // SAFETY: `range` has checked that all bytes lie in the buffer, to which there are no references.
        unsafe { copy::load(source.as_ptr(), bytes) };
        Ok(())
    }

    /// The 32-bit word at `offset`, for what both sides read and write at once, such as who owns a descriptor. In the byte order of the
    /// processor.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`], also if `offset` is not a multiple of 4.
    pub fn word(&self, offset: usize) -> Result<&AtomicU32, OutOfRange> {
        let target = self.range(offset, size_of::<AtomicU32>())?.cast::<u32>();
        if !target.is_aligned() {
            return Err(OutOfRange);
        }
        // SAFETY: `range` has checked that the word lies in the buffer, which lives as long as the reference, and which is
        // reached by atomics and copies only.
        Ok(unsafe { AtomicU32::from_ptr(target.as_ptr()) })
    }

    fn range(&self, offset: usize, bytes: usize) -> Result<NonNull<u8>, OutOfRange> {
        let end = offset.checked_add(bytes).ok_or(OutOfRange)?;
        if end > self.byte_len() {
            return Err(OutOfRange);
        }
        // SAFETY: `offset` <= `end` <= `byte_len()`: the address stays in the buffer, or right behind it.
        Ok(unsafe { self.address().add(offset) })
    }

    /// Gives the pages out of the buffer's care, so that they are never freed: the host may still use them.
    pub fn leak(mut self) -> Option<DmaPages> {
        self.pages.take()
    }
}

impl<H: Hal> Drop for DmaBuffer<H> {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            // SAFETY: they came from this allocator. Buffers that a host knows are torn down first, or leaked.
            unsafe { self.hal.free(pages) };
        }
    }
}

impl<H: Hal> fmt::Debug for DmaBuffer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuffer").field("gpa", &self.gpa()).field("pages", &self.pages()).finish()
    }
}
