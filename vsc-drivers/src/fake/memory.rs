//! Memory of the process, as guest memory.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hv_abi::HV_PAGE_SIZE;

use super::lock;
use crate::hal::{DmaPages, Gpa};

/// What guest-physical addresses are more than the guest's own, so that one is never taken for the other.
pub const GPA_OFFSET: u64 = 1 << 45;

const PAGE: u64 = HV_PAGE_SIZE as u64;

/// Pages that live until nobody uses them.
pub(super) struct Allocation {
    address: NonNull<u8>,
    layout: Layout,
}

// SAFETY: memory may be reached from any thread; it is only reached by volatile copies and ring memories.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    pub(super) fn address(&self) -> NonNull<u8> {
        self.address
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `Memory::allocate`, and nobody has it any longer.
        unsafe { dealloc(self.address.as_ptr(), self.layout) };
    }
}

pub(super) struct Memory {
    /// By first page.
    allocated: Mutex<BTreeMap<u64, Arc<Allocation>>>,
    /// Pages of ordinary memory that were lent.
    lent: Mutex<BTreeSet<u64>>,
    /// Allocations that succeed before one fails.
    left: Mutex<Option<usize>>,
}

impl Memory {
    pub(super) const fn new() -> Self {
        Self {
            allocated: Mutex::new(BTreeMap::new()),
            lent: Mutex::new(BTreeSet::new()),
            left: Mutex::new(None),
        }
    }

    pub(super) fn fail_after(&self, allocations: Option<usize>) {
        *lock(&self.left) = allocations;
    }

    pub(super) fn allocate(&self, pages: usize) -> Option<DmaPages> {
        if let Some(left) = lock(&self.left).as_mut() {
            *left = left.checked_sub(1)?;
        }
        let bytes = pages.checked_mul(HV_PAGE_SIZE).filter(|bytes| *bytes > 0)?;
        let layout = Layout::from_size_align(bytes, HV_PAGE_SIZE).ok()?;
        // SAFETY: the layout has bytes.
        let address = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let gpa = address.addr().get() as u64 + GPA_OFFSET;
        lock(&self.allocated).insert(gpa / PAGE, Arc::new(Allocation { address, layout }));
        // SAFETY: allocated just now; the host reaches the pages by `reach` only.
        unsafe { DmaPages::new(address, Gpa(gpa), pages) }
    }

    pub(super) fn free(&self, pages: &DmaPages) {
        let freed = lock(&self.allocated).remove(&(pages.gpa().0 / PAGE));
        assert!(freed.is_some_and(|freed| freed.layout.size() == pages.byte_len()), "freed twice");
    }

    /// Pages that are allocated.
    pub(super) fn pages_in_use(&self) -> usize {
        lock(&self.allocated).values().map(|one| one.layout.size() / HV_PAGE_SIZE).sum()
    }

    pub(super) fn lend(&self, address: u64) -> Gpa {
        let gpa = address + GPA_OFFSET;
        lock(&self.lent).insert(gpa / PAGE);
        Gpa(gpa)
    }

    /// The allocation that has all of `pages`, in a row, and where in it they begin.
    pub(super) fn contiguous(&self, pages: &[u64]) -> Option<(Arc<Allocation>, usize)> {
        let first = *pages.first()?;
        if !pages.iter().zip(first..).all(|(page, expected)| *page == expected) {
            return None;
        }
        let allocated = lock(&self.allocated);
        let (start, allocation) = allocated.range(..=first).next_back()?;
        let offset = (first - start) as usize * HV_PAGE_SIZE;
        let end = offset + pages.len() * HV_PAGE_SIZE;
        (end <= allocation.layout.size()).then(|| (allocation.clone(), offset))
    }

    /// The word of shared memory at `gpa`.
    pub(super) fn word(&self, gpa: u64) -> &AtomicU32 {
        // SAFETY: `reach` has checked the page, words do not straddle pages, and both sides use atomics.
        unsafe { AtomicU32::from_ptr(self.reach(gpa & !3).cast()) }
    }

    /// The byte at `gpa`, if the guest has or lends that page.
    fn reach(&self, gpa: u64) -> *mut u8 {
        let page = gpa / PAGE;
        let allocated = self.contiguous(&[page]);
        let lent = || lock(&self.lent).contains(&page);
        assert!(allocated.is_some() || lent(), "the guest has no page at {gpa:#x}");
        core::ptr::with_exposed_provenance_mut((gpa - GPA_OFFSET) as usize)
    }

    pub(super) fn read(&self, mut gpa: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let page = self.reach(gpa);
            let (now, rest) = bytes.split_at_mut(in_page(gpa, bytes.len()));
            for (index, byte) in now.iter_mut().enumerate() {
                // SAFETY: on the page that `reach` has checked; volatile, as the guest may write at the same time.
                *byte = unsafe { page.wrapping_add(index).read_volatile() };
            }
            gpa += now.len() as u64;
            bytes = rest;
        }
    }

    pub(super) fn write(&self, mut gpa: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let page = self.reach(gpa);
            let (now, rest) = bytes.split_at(in_page(gpa, bytes.len()));
            for (index, byte) in now.iter().enumerate() {
                // SAFETY: on the page that `reach` has checked; volatile, as the guest may read at the same time.
                unsafe { page.wrapping_add(index).write_volatile(*byte) };
            }
            gpa += now.len() as u64;
            bytes = rest;
        }
    }
}

/// How many of `bytes` from `gpa` on lie in its page.
fn in_page(gpa: u64, bytes: usize) -> usize {
    bytes.min((PAGE - gpa % PAGE) as usize)
}
