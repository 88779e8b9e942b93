//! Guest memory for tests.

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmbus_ring::gpa::GpaRanges;

use crate::vmbus::GuestRanges;

/// 4 MiB from address 0 on.
pub(super) fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap()
}

/// Whole pages from an address on, as one range.
pub(super) fn ranges(memory: &GuestMemoryMmap, address: u64, bytes: u32) -> GuestRanges {
    let mut list = [bytes, 0].map(u32::to_le_bytes).concat();
    for page in 0..u64::from(bytes.div_ceil(4096)) {
        list.extend((address / 4096 + page).to_le_bytes());
    }
    let parsed = GpaRanges::parse(1, &list).unwrap();
    GuestRanges::of_range(memory, parsed.iter().next().unwrap()).unwrap()
}
