//! Guest memory: all of this process's, at the addresses where it is.
//!
//! A guest's driver lends the host ordinary memory of its kernel, wherever that lies; here, the kernel's heap is the process's. So
//! the host is told that RAM is everything, and a guest-physical address is an address. What the host then reaches is what the guest
//! gave it, or this process dies: hostile guests are tried elsewhere.

#![expect(unsafe_code, reason = "memory by address")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use hv_abi::HV_PAGE_SIZE;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// Nothing of a process lies lower, or higher (Linux, `Documentation/x86/x86_64/mm.rst`).
const FIRST: usize = 0x1_0000;
const END: usize = 0x7FFF_FFFF_0000;

/// Guest memory.
pub struct Ram {
    memory: GuestMemoryMmap,
}

impl Ram {
    /// All there is.
    pub fn new() -> Self {
        let base = std::ptr::with_exposed_provenance_mut(FIRST);
        let builder = MmapRegionBuilder::new(END - FIRST)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_PRIVATE);
        // SAFETY: a region that is never unmapped; what in it is used is memory that the guest gave to the host.
        let builder = unsafe { builder.with_raw_mmap_pointer(base) };
        let region = builder.build().unwrap_or_else(|error| panic!("no region: {error}"));
        let region = GuestRegionMmap::new(region, GuestAddress(FIRST as u64));
        let region = region.expect("it does not end behind the last address");
        let memory = GuestMemoryMmap::from_regions(vec![region]);
        Self { memory: memory.unwrap_or_else(|error| panic!("no memory: {error}")) }
    }

    /// As the host sees it.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Takes so many pages of zeros in a row.
    pub fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        let layout = layout(pages)?;
        // SAFETY: the layout is not empty.
        let address = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        address.as_ptr().expose_provenance();
        Some(address)
    }

    /// As [`take`](Self::take), below 2 GiB, where 32 bits of addresses reach.
    pub fn take_low(&self, pages: usize) -> Option<NonNull<u8>> {
        let bytes = layout(pages)?.size();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new mapping, wherever there is room.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        address.expose_provenance();
        NonNull::new(address.cast()).filter(|_| address != libc::MAP_FAILED)
    }

    /// Gives pages back that [`take_low`](Self::take_low) gave.
    ///
    /// # Safety
    ///
    /// They are no longer used.
    pub unsafe fn give_back_low(&self, address: NonNull<u8>, pages: usize) {
        if let Some(layout) = layout(pages) {
            // SAFETY: mapped with this length; the caller says that nobody uses it.
            unsafe { libc::munmap(address.as_ptr().cast(), layout.size()) };
        }
    }

    /// Gives pages back that [`take`](Self::take) gave.
    ///
    /// # Safety
    ///
    /// They are no longer used.
    pub unsafe fn give_back(&self, address: NonNull<u8>, pages: usize) {
        if let Some(layout) = layout(pages) {
            // SAFETY: allocated with this layout; the caller says that nobody uses them.
            unsafe { dealloc(address.as_ptr(), layout) };
        }
    }
}

impl Default for Ram {
    fn default() -> Self {
        Self::new()
    }
}

fn layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_mul(HV_PAGE_SIZE).filter(|&bytes| bytes != 0)?;
    Layout::from_size_align(bytes, HV_PAGE_SIZE).ok()
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn the_host_finds_what_the_guest_has_on_its_heap() {
        let ram = Ram::new();
        let word = Box::new(0x1234_5678_u32);
        let gpa = GuestAddress((&raw const *word).expose_provenance() as u64);
        assert_eq!(ram.memory().read_obj::<u32>(gpa).unwrap(), 0x1234_5678);
    }

    #[test]
    fn no_pages_and_too_many_are_not_to_be_had() {
        let ram = Ram::new();
        assert_eq!(ram.take(0), None);
        assert_eq!(ram.take(usize::MAX / 2), None);
    }
}
