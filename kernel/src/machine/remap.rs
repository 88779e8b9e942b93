//! Changing the address space while all processors use it.
//!
//! The kernel itself is mapped one to one and stays so; what changes is the protection of single pages, and
//! [`Window`]s: virtual pages beyond all RAM, into which any frame can be mapped for a while, with pages on both sides
//! that are never mapped. Whatever takes a right away returns only when no processor has the old one any more.

use alloc::vec::Vec;

use hv_enlightenments::tlb::PageRange;
use kernel::PAGE_SIZE;
use kernel::memory_map::Range;
use kernel::paging::MapError;
use spin::mutex::SpinMutex;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::{cpu, memory, shootdown};

/// Where windows begin: beyond all memory that is managed, in the lower half.
const WINDOWS_START: u64 = 1 << 45;
const WINDOWS_END: u64 = 1 << 46;

/// Address space for windows that nobody has.
static FREE: SpinMutex<Addresses> =
    SpinMutex::new(Addresses { next: WINDOWS_START, returned: Vec::new() });

/// Whether somebody takes or returns address space just now.
pub(crate) fn is_locked() -> bool {
    FREE.is_locked()
}

struct Addresses {
    /// Never handed out from here on.
    next: u64,
    /// Handed out and come back.
    returned: Vec<Range>,
}

/// What code may do with a page. None is both writable and executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    fn flags(self) -> Flags {
        let nx = if cpu::has_nx() { Flags::NO_EXECUTE } else { Flags::empty() };
        match self {
            Self::Read => nx,
            Self::Write => nx | Flags::WRITABLE,
        }
    }
}

/// Takes pages of the kernel's own memory out of the address space, on every processor.
///
/// # Errors
/// [`MapError`]: the pages may or may not be mapped.
pub(crate) fn unmap(range: Range) -> Result<(), MapError> {
    let result = memory::with_map(|map| map.unmap(range));
    flush(range);
    result
}

/// Forgets translations of a range, on every processor.
fn flush(range: Range) {
    shootdown::flush(PageRange { start: range.start, pages: range.len().div_ceil(PAGE_SIZE) });
}

/// Virtual pages of one's own, not mapped at first. They are taken out of the address space when dropped.
pub(crate) struct Window {
    range: Range,
}

impl Window {
    /// A window of `pages` pages; `None` if there is no room.
    pub(crate) fn new(pages: u64) -> Option<Self> {
        let bytes = pages.checked_mul(PAGE_SIZE)?;
        let mut free = FREE.lock();
        if let Some(index) = free.returned.iter().position(|range| range.len() == bytes) {
            return Some(Self { range: free.returned.swap_remove(index) });
        }
        // A page that is never mapped lies before each window, and so behind each.
        let start = free.next.checked_add(PAGE_SIZE)?;
        let end = start.checked_add(bytes)?.checked_add(PAGE_SIZE)?;
        if end > WINDOWS_END {
            return None;
        }
        free.next = end - PAGE_SIZE;
        Some(Self { range: Range::new(start, bytes) })
    }

    /// Address of the window's page `page`. Pages are counted from 0.
    pub(crate) fn address(&self, page: u64) -> u64 {
        self.range.start + page * PAGE_SIZE
    }

    /// Maps a frame at the window's page `page`, instead of what was there.
    ///
    /// # Errors
    /// [`MapError`]; nothing has changed then.
    pub(crate) fn map(&self, page: u64, frame: u64, access: Access) -> Result<(), MapError> {
        if self.map_unflushed(page, frame, access)?.contains(Flags::PRESENT) {
            flush(self.page(page)?);
        }
        Ok(())
    }

    /// As [`Window::map`], but whoever calls this flushes. What was there, as flags.
    ///
    /// # Errors
    /// [`MapError`]; nothing has changed then.
    pub(crate) fn map_unflushed(
        &self,
        page: u64,
        frame: u64,
        access: Access,
    ) -> Result<Flags, MapError> {
        let range = self.page(page)?;
        memory::with_map(|map| map.map_page(range.start, frame, access.flags()))
    }

    /// Changes what may be done with a page that is mapped.
    ///
    /// # Errors
    /// [`MapError::BadRange`] if it is not.
    pub(crate) fn protect(&self, page: u64, access: Access) -> Result<(), MapError> {
        let range = self.page(page)?;
        memory::with_map(|map| map.protect_page(range.start, access.flags()))?;
        flush(range);
        Ok(())
    }

    /// Takes a page out of the address space.
    ///
    /// # Errors
    /// [`MapError`] if it is not in the window.
    pub(crate) fn unmap(&self, page: u64) -> Result<(), MapError> {
        unmap(self.page(page)?)
    }

    fn page(&self, page: u64) -> Result<Range, MapError> {
        let inside = page < self.range.len() / PAGE_SIZE;
        if inside { Ok(Range::new(self.address(page), PAGE_SIZE)) } else { Err(MapError::BadRange) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Address space that can't be unmapped, for want of a table, is not used again.
        if unmap(self.range).is_ok() {
            FREE.lock().returned.push(self.range);
        }
    }
}
