//! GPADLs: guest memory that a guest lends for longer than one packet, under a number.

use vm_memory::GuestMemoryMmap;
use vmbus_ring::gpa::GpaRanges;

use super::ranges::{GuestRanges, RangesError};

/// Guest memory that the guest lends until it tears the GPADL down, and until the last of these has gone: only then is it told
/// that it may use the memory for something else.
pub struct Gpadl {
    id: u32,
    ranges: Vec<GuestRanges>,
    /// Page numbers of a GPADL that may be rings: one range of whole pages.
    pages: Option<Vec<u64>>,
    on_drop: Option<OnDrop>,
}

/// Told when nobody uses the memory any more.
pub(super) type OnDrop = Box<dyn FnOnce() + Send + Sync>;

impl Gpadl {
    pub(super) fn new(
        memory: &GuestMemoryMmap,
        id: u32,
        list: GpaRanges<'_>,
        on_drop: OnDrop,
    ) -> Result<Self, RangesError> {
        let ranges = list.iter().map(|range| GuestRanges::of_range(memory, range));
        let ranges = ranges.collect::<Result<_, _>>()?;
        let first = list.iter().next().filter(|range| list.count() == 1 && range.byte_offset == 0);
        let pages = first.map(|range| range.page_numbers().collect());
        Ok(Self { id, ranges, pages, on_drop: Some(on_drop) })
    }

    /// The guest's number for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its ranges, one at least.
    pub fn ranges(&self) -> &[GuestRanges] {
        &self.ranges
    }

    /// The first range, which for most is all.
    pub fn range(&self) -> Option<&GuestRanges> {
        self.ranges.first()
    }

    pub(super) fn ring_pages(&self) -> Option<&[u64]> {
        self.pages.as_deref()
    }
}

impl std::fmt::Debug for Gpadl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> = self.ranges.iter().map(GuestRanges::len).collect();
        f.debug_struct("Gpadl").field("id", &self.id).field("bytes", &lengths).finish()
    }
}

impl Drop for Gpadl {
    fn drop(&mut self) {
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}
