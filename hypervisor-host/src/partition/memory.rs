//! Guest RAM: reserved address space, 2 MiB aligned so that the kernel can back it with large pages and
//! a nested page table needs few entries, and fenced so that it merges with no other mapping.
#![expect(unsafe_code, reason = "mapping memory")]

use std::io;
use std::ops::Range;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use thiserror::Error;
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::errno;

use crate::config::{ByteSize, RamSize};
use crate::layout::{HOLE_END, HOLE_START};

const LARGE_PAGE_BYTES: usize = 2 << 20;

/// The RAM of one machine.
pub struct GuestRam {
    guest: GuestMemoryMmap,
    parts: Vec<Part>,
}

/// A contiguous part: below the hole or above it.
struct Part {
    guest: u64,
    mapping: Mapping,
}

/// RAM could not be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The operating system gives no address space.
    #[error("cannot reserve {} of memory for the guest: {error}; ask for less by --memory", ByteSize(*.bytes))]
    Reserve {
        /// How much was asked for.
        bytes: u64,
        /// Why not.
        error: io::Error,
    },
    /// Ranges that can't lie where they should.
    #[error("cannot lay out {} of guest memory; ask for less by --memory", ByteSize(*.0))]
    Layout(u64),
}

impl GuestRam {
    /// Reserves `size` bytes. Pages cost nothing until the guest touches them.
    ///
    /// # Errors
    /// The operating system refuses that much address space.
    pub fn new(size: RamSize) -> Result<Self, MemoryError> {
        let layout_error = || MemoryError::Layout(size.bytes());
        let mut parts = Vec::new();
        let mut regions = Vec::new();
        for Range { start, end } in ranges(size.bytes()) {
            let bytes = usize::try_from(end - start).map_err(|_| layout_error())?;
            let mapping = Mapping::new(bytes)
                .map_err(|error| MemoryError::Reserve { bytes: size.bytes(), error })?;
            let region = mapping.region().map_err(|_| layout_error())?;
            regions
                .push(GuestRegionMmap::new(region, GuestAddress(start)).ok_or_else(layout_error)?);
            parts.push(Part { guest: start, mapping });
        }
        let guest = GuestMemoryMmap::from_regions(regions).map_err(|_| layout_error())?;
        Ok(Self { guest, parts })
    }

    /// The RAM as the guest addresses it. When `self` goes, clones of this read as zeros.
    pub fn guest(&self) -> &GuestMemoryMmap {
        &self.guest
    }

    /// Host addresses of the RAM.
    pub fn host_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.parts.iter().map(|part| {
            let start = part.mapping.start as u64;
            start..start + part.mapping.bytes as u64
        })
    }

    /// Gives the RAM to a machine.
    ///
    /// # Errors
    /// KVM refuses a memory slot.
    pub fn attach(&self, vm: &VmFd) -> Result<(), errno::Error> {
        for (slot, part) in (0..).zip(&self.parts) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: part.guest,
                memory_size: part.mapping.bytes as u64,
                userspace_addr: part.mapping.start as u64,
            };
            // SAFETY: the range is a mapping of ours that only guest memory lives in, and the machine
            // keeps `self` until its last VP has stopped.
            unsafe { vm.set_user_memory_region(region) }?;
        }
        Ok(())
    }
}

/// Guest addresses of so many bytes of RAM, around the hole.
fn ranges(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let low = bytes.min(HOLE_START);
    [0..low, HOLE_END..HOLE_END + (bytes - low)].into_iter().filter(|range| !range.is_empty())
}

/// An aligned mapping with inaccessible address space around it.
///
/// The address space is never given back, because clones of [`GuestMemoryMmap`] may outlive this; the
/// pages are.
struct Mapping {
    reserved: *mut libc::c_void,
    start: usize,
    bytes: usize,
}

// SAFETY: the pointer is an address only; all access goes through `vm-memory`'s volatile operations.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method reads or writes through the pointer.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // At least one page stays inaccessible on either side of the aligned part.
        let reserved_bytes = bytes
            .checked_next_multiple_of(LARGE_PAGE_BYTES)
            .and_then(|bytes| bytes.checked_add(2 * LARGE_PAGE_BYTES))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping wherever the kernel likes touches no existing one.
        let reserved = unsafe {
            libc::mmap(std::ptr::null_mut(), reserved_bytes, libc::PROT_NONE, flags, -1, 0)
        };
        if reserved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = (reserved as usize + 4096).next_multiple_of(LARGE_PAGE_BYTES);
        let mapping = Self { reserved, start, bytes };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies within the mapping just made, which nobody else knows.
        if unsafe { libc::mprotect(mapping.pointer(), bytes, access) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // A wish; kernels without large pages refuse it.
        // SAFETY: as above; the advice changes no content.
        unsafe { libc::madvise(mapping.pointer(), bytes, libc::MADV_HUGEPAGE) };
        // Guest RAM in a core dump helps nobody.
        // SAFETY: as above.
        unsafe { libc::madvise(mapping.pointer(), bytes, libc::MADV_DONTDUMP) };
        Ok(mapping)
    }

    fn pointer(&self) -> *mut libc::c_void {
        self.reserved.wrapping_byte_add(self.start - self.reserved as usize)
    }

    fn region(&self) -> Result<MmapRegion, MmapRegionError> {
        // SAFETY: the range is mapped and stays so until the process ends.
        let builder = unsafe {
            MmapRegionBuilder::new(self.bytes).with_raw_mmap_pointer(self.pointer().cast())
        };
        builder
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
            .build()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours; the advice turns its pages into zeros, which volatile readers of
        // guest memory must expect at any time.
        unsafe { libc::madvise(self.pointer(), self.bytes, libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend};

    #[test]
    fn ram_continues_above_the_hole() {
        let all = |bytes| ranges(bytes).map(|it| (it.start, it.end)).collect::<Vec<_>>();
        assert_eq!(all(256 << 20), [(0, 256 << 20)]);
        assert_eq!(all(HOLE_START), [(0, HOLE_START)]);
        let high = (HOLE_END, HOLE_END + 4096);
        assert_eq!(all(HOLE_START + 4096), [(0, HOLE_START), high]);
    }

    #[test]
    fn parts_are_aligned_for_large_pages() {
        let ram = GuestRam::new(RamSize::new(5 << 20).unwrap()).unwrap();
        let host: Vec<_> = ram.host_ranges().collect();
        assert_eq!(host.len(), 1);
        assert_eq!(host[0].start % LARGE_PAGE_BYTES as u64, 0);
        assert_eq!(host[0].end - host[0].start, 5 << 20);
        assert_eq!(ram.guest().last_addr(), GuestAddress((5 << 20) - 1));
    }

    #[test]
    fn clones_stay_readable_when_the_ram_is_gone() {
        let ram = GuestRam::new(RamSize::new(2 << 20).unwrap()).unwrap();
        let clone = ram.guest().clone();
        clone.write_obj(0x55_u8, GuestAddress(0)).unwrap();
        drop(ram);
        assert_eq!(clone.read_obj::<u8>(GuestAddress(0)).unwrap(), 0);
    }
}
