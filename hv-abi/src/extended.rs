//! Extended hypercalls: codes from 0x8000 on, which have their own list of capabilities (TLFS *Extended Hypercall
//! Interface*; each call is the page of its own name).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HvExtCallQueryCapabilities`, simple: output one [`ExtendedCapabilities`].
pub const HV_EXT_CALL_QUERY_CAPABILITIES: u16 = 0x8001;
/// `HvExtCallGetBootZeroedMemory`, simple: output [`HvExtOutputBootZeroedMemory`].
pub const HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY: u16 = 0x8002;
/// `HvExtCallMemoryHeatHint`, a rep call (Linux, `drivers/hv/hv_balloon.c`): input [`HvMemoryHint`], then elements
/// [`HvGpaPageRange`].
pub const HV_EXT_CALL_MEMORY_HEAT_HINT: u16 = 0x8003;

bitflags::bitflags! {
    /// Which extended calls there are (TLFS *HvExtCallQueryCapabilities*).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ExtendedCapabilities: u64 {
        /// [`HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY`].
        const BOOT_ZEROED_MEMORY = 1 << 0;
        /// [`HV_EXT_CALL_MEMORY_HEAT_HINT`].
        const MEMORY_HEAT_HINT = 1 << 1;
        /// [`HV_EXT_CALL_MEMORY_HEAT_HINT`] takes [`HvMemoryHint::COLD_DISCARD`] (Linux,
        /// `HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT`; the TLFS has the bit reserved).
        const MEMORY_COLD_DISCARD_HINT = 1 << 8;
    }
}

/// Most ranges in [`HvExtOutputBootZeroedMemory`].
pub const HV_BOOT_ZEROED_RANGES_MAX: usize = 255;

/// A range of pages that are known to hold zeros.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvBootZeroedRange {
    /// Number of the first guest-physical page.
    pub start_gpa_page: u64,
    /// Pages. They need not all exist, and ranges may overlap.
    pub page_count: u64,
}

const _: () = assert!(size_of::<HvBootZeroedRange>() == 16);

/// Output of `HvExtCallGetBootZeroedMemory`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvExtOutputBootZeroedMemory {
    /// Ranges that count, the best first; at most [`HV_BOOT_ZEROED_RANGES_MAX`].
    pub range_count: u64,
    /// Ranges.
    pub ranges: [HvBootZeroedRange; HV_BOOT_ZEROED_RANGES_MAX],
}

const _: () = assert!(size_of::<HvExtOutputBootZeroedMemory>() == 0xFF8);

/// Header of `HvExtCallMemoryHeatHint` (Linux, `struct hv_memory_hint`): bits 1:0 what is said of the ranges.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMemoryHint(pub u64);

impl HvMemoryHint {
    /// Not in use for now (Linux, `HV_EXTMEM_HEAT_HINT_COLD`).
    pub const COLD: Self = Self(0);
    /// In use (Linux, `HV_EXTMEM_HEAT_HINT_HOT`).
    pub const HOT: Self = Self(1);
    /// Free: the content may be dropped (Linux, `HV_EXTMEM_HEAT_HINT_COLD_DISCARD`).
    pub const COLD_DISCARD: Self = Self(2);
}

/// `HV_GPA_PAGE_RANGE` (Linux, `union hv_gpa_page_range`): bits 10:0 further pages, 11 large pages, 63:12 page number.
///
/// With large pages bit 12 chooses 1 GiB over 2 MiB, and bits 63:21 are the number of the 2 MiB page.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvGpaPageRange(pub u64);

impl HvGpaPageRange {
    /// Most 2 MiB pages in one range.
    pub const LARGE_PAGES_MAX: u64 = 1 << 11;

    /// `count` pages of 2 MiB from the one with number `first` on; `None` if it can't be said in one range.
    pub const fn large_pages(first: u64, count: u64) -> Option<Self> {
        if count == 0 || count > Self::LARGE_PAGES_MAX || first >= 1 << 43 {
            return None;
        }
        Some(Self((count - 1) | 1 << 11 | first << 21))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_large_pages_has_the_fields_of_linux() {
        let range = HvGpaPageRange::large_pages(3, 2).unwrap();
        assert_eq!(range.0, 1 | 1 << 11 | 3 << 21);
    }

    #[test]
    fn ranges_that_cannot_be_said_are_none() {
        for (first, count) in [(0, 0), (0, 2049), (1 << 43, 1)] {
            assert_eq!(HvGpaPageRange::large_pages(first, count), None, "{first} {count}");
        }
        assert!(HvGpaPageRange::large_pages((1 << 43) - 1, 2048).is_some());
    }
}
