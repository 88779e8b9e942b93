//! Guest memory, and which of its pages are in use.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;

use hv_abi::HV_PAGE_SIZE;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::vp::lock;

/// Nothing is at the lowest addresses, so that 0 is never an address by mistake.
const FIRST_PAGE: u64 = 16;

/// Guest memory.
pub struct Ram {
    memory: GuestMemoryMmap,
    base: NonNull<u8>,
    bytes: usize,
    /// Free runs: first page and pages.
    free: Mutex<BTreeMap<u64, u64>>,
}

// SAFETY-free: the pointer is only compared and offset; see `hal` for its uses.
// The mapping belongs to `memory`, which lives as long.
#[expect(unsafe_code, reason = "a pointer to a mapping that is shared among threads anyway")]
// SAFETY: nothing is reached through the pointer here.
unsafe impl Send for Ram {}
#[expect(unsafe_code, reason = "a pointer to a mapping that is shared among threads anyway")]
// SAFETY: nothing is reached through the pointer here.
unsafe impl Sync for Ram {}

impl Ram {
    /// So many bytes of zeros from address 0 on.
    pub fn new(bytes: usize) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)])
            .unwrap_or_else(|error| panic!("no memory for a guest: {error}"));
        let base = memory.get_host_address(GuestAddress(0)).ok().and_then(NonNull::new);
        let base = base.expect("the range was just mapped");
        let pages = (bytes / HV_PAGE_SIZE) as u64 - FIRST_PAGE;
        let free = Mutex::new(BTreeMap::from([(FIRST_PAGE, pages)]));
        Self { memory, base, bytes, free }
    }

    /// As the host sees it.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Where the guest sees the byte at `gpa`.
    pub fn address(&self, gpa: u64) -> Option<NonNull<u8>> {
        let offset = usize::try_from(gpa).ok().filter(|&gpa| gpa < self.bytes)?;
        NonNull::new(self.base.as_ptr().wrapping_add(offset))
    }

    /// Where the host sees the byte at `address`.
    pub fn gpa(&self, address: *const u8) -> Option<u64> {
        let offset = address.addr().checked_sub(self.base.as_ptr().addr())?;
        (offset < self.bytes).then_some(offset as u64)
    }

    /// Takes so many pages in a row; the address of the first.
    pub fn take(&self, pages: usize) -> Option<u64> {
        let pages = Some(pages as u64).filter(|&pages| pages != 0)?;
        let mut free = lock(&self.free);
        let (&first, &run) = free.iter().find(|(_, run)| **run >= pages)?;
        free.remove(&first);
        if run > pages {
            free.insert(first + pages, run - pages);
        }
        Some(first * HV_PAGE_SIZE as u64)
    }

    /// Gives pages back.
    pub fn give_back(&self, gpa: u64, pages: usize) {
        let mut free = lock(&self.free);
        let (mut first, mut run) = (gpa / HV_PAGE_SIZE as u64, pages as u64);
        let before = free.range(..first).next_back().map(|(&first, &run)| (first, run));
        if let Some((earlier, earlier_run)) = before
            && earlier + earlier_run == first
        {
            free.remove(&earlier);
            (first, run) = (earlier, earlier_run + run);
        }
        if let Some(later) = free.remove(&(first + run)) {
            run += later;
        }
        free.insert(first, run);
    }

    /// Pages that nobody has.
    pub fn free_pages(&self) -> u64 {
        lock(&self.free).values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_come_back_join_their_neighbours() {
        let ram = Ram::new(1 << 20);
        let all = ram.free_pages();
        let pieces: Vec<_> = (0..4).map(|_| ram.take(10).unwrap()).collect();
        assert_eq!(ram.free_pages(), all - 40);
        for index in [1, 3, 0, 2] {
            ram.give_back(pieces[index], 10);
        }
        assert_eq!(ram.take(all as usize), Some(pieces[0]));
        assert_eq!(ram.take(1), None);
        assert_eq!(ram.take(0), None);
    }

    #[test]
    fn both_sides_find_the_same_byte() {
        let ram = Ram::new(1 << 20);
        let address = ram.address(0x1_2345).unwrap();
        assert_eq!(ram.gpa(address.as_ptr()), Some(0x1_2345));
        assert_eq!(ram.address(1 << 20), None);
        assert_eq!(ram.gpa(std::ptr::null()), None);
    }
}
