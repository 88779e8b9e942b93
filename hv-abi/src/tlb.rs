//! Flushing the virtual TLB and switching the address space (TLFS *Virtual MMU*, and the page of each call).
//!
//! | call | number | kind | needs |
//! | --- | --- | --- | --- |
//! | `HvCallSwitchVirtualAddressSpace` | 0x0001 | simple, fast | recommended: address-space switches |
//! | `HvCallFlushVirtualAddressSpace` | 0x0002 | simple | recommended: local or remote flushes |
//! | `HvCallFlushVirtualAddressList` | 0x0003 | rep | as above |
//! | `HvCallFlushVirtualAddressSpaceEx` | 0x0013 | simple, variable header | as above, and `Ex` masks |
//! | `HvCallFlushVirtualAddressListEx` | 0x0014 | rep, variable header | as above, and `Ex` masks |
//!
//! Input layouts agree with Linux 6.1, `include/asm-generic/hyperv-tlfs.h` (`hv_tlb_flush`, `hv_tlb_flush_ex`).

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::vp_set::HvVpSetHeader;

bitflags! {
    /// `HV_FLUSH_FLAGS` (TLFS, page of `HvCallFlushVirtualAddressSpace`; bit 3: Linux, same header).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct HvFlushFlags: u64 {
        /// `HV_FLUSH_ALL_PROCESSORS`: the processor mask is ignored.
        const ALL_PROCESSORS = 1 << 0;
        /// `HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES`: the address space is ignored.
        const ALL_VIRTUAL_ADDRESS_SPACES = 1 << 1;
        /// `HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY`: global mappings may stay. Not for lists.
        const NON_GLOBAL_MAPPINGS_ONLY = 1 << 2;
        /// `HV_FLUSH_USE_EXTENDED_RANGE_FORMAT`: ranges are [`HvGvaRange::extended`] ones.
        const USE_EXTENDED_RANGE_FORMAT = 1 << 3;
    }
}

/// Input of both plain calls; a list follows in the rep call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputFlushVirtualAddressSpace {
    /// CR3, bits that are not the table's address zero.
    pub address_space: u64,
    /// [`HvFlushFlags`].
    pub flags: u64,
    /// Bit *i*: the processor with index *i*.
    pub processor_mask: u64,
}

const _: () = assert!(size_of::<HvInputFlushVirtualAddressSpace>() == 24);

/// Fixed input of both `Ex` calls; the set's banks follow (the variable header), then the list in the rep call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputFlushVirtualAddressSpaceEx {
    /// CR3, bits that are not the table's address zero.
    pub address_space: u64,
    /// [`HvFlushFlags`].
    pub flags: u64,
    /// Which processors.
    pub processor_set: HvVpSetHeader,
}

const _: () = assert!(size_of::<HvInputFlushVirtualAddressSpaceEx>() == 32);

/// An element of a list: a number of pages from an address on (TLFS, page of `HvCallFlushVirtualAddressList`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvGvaRange(pub u64);

impl HvGvaRange {
    /// Most pages of one simple range.
    pub const MAX_PAGES: u64 = 4096;
    /// Most pages of one extended range.
    pub const MAX_EXTENDED_PAGES: u64 = 2048;
    /// Bit 11 of an extended range: its pages are large (Microsoft's `hvgdk_mini.h`, `HV_GVA_RANGE_EXTENDED`).
    const LARGE: u64 = 1 << 11;
    /// Bit 12 of a large range: 1 GiB instead of 2 MiB (same source).
    const GIGABYTE: u64 = 1 << 12;

    /// `pages` 4 KiB pages (1 to [`Self::MAX_PAGES`]; others are brought into these bounds) from `address` on, whose
    /// lowest 12 bits are dropped.
    ///
    /// Bits 63:12 page number, 11:0 pages beyond the first.
    pub const fn new(address: u64, pages: u64) -> Self {
        Self(address & !0xFFF | additional(pages, Self::MAX_PAGES))
    }

    /// As [`Self::new`] in the extended format: `pages` (1 to [`Self::MAX_EXTENDED_PAGES`]) of `size` from the
    /// address on, rounded down to such a page.
    ///
    /// Bits 10:0 pages beyond the first, 11 large; then 63:12 page number, or, if large, bit 12 the size and
    /// 63:21 number of the 2 MiB page, 20:13 zero.
    pub const fn extended(address: u64, pages: u64, size: HvGvaPageSize) -> Self {
        let count = additional(pages, Self::MAX_EXTENDED_PAGES);
        let base = address & !(size.bytes() - 1);
        Self(match size {
            HvGvaPageSize::Small => base | count,
            HvGvaPageSize::Large => base | Self::LARGE | count,
            HvGvaPageSize::Huge => base | Self::LARGE | Self::GIGABYTE | count,
        })
    }
}

const _: () = assert!(size_of::<HvGvaRange>() == 8);

const fn additional(pages: u64, most: u64) -> u64 {
    let pages = if pages > most { most } else { pages };
    pages.saturating_sub(1)
}

/// The size of the pages of an extended range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HvGvaPageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl HvGvaPageSize {
    /// Bytes in such a page.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Small => 1 << 12,
            Self::Large => 1 << 21,
            Self::Huge => 1 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_ranges_are_page_number_and_additional_pages() {
        // Linux 6.1, arch/x86/hyperv/mmu.c, fill_gva_list: the page's address, pages beyond it in the low bits.
        assert_eq!(HvGvaRange::new(0x7F00_1234_5678, 1).0, 0x7F00_1234_5000);
        assert_eq!(HvGvaRange::new(0x20_0000, 512).0, 0x20_01FF);
        assert_eq!(HvGvaRange::new(0x20_0000, 4096).0, 0x20_0FFF);
    }

    #[test]
    fn impossible_counts_never_reach_the_page_number() {
        assert_eq!(HvGvaRange::new(0x1000, 0).0, 0x1000);
        assert_eq!(HvGvaRange::new(0x1000, u64::MAX).0, 0x1FFF);
        assert_eq!(HvGvaRange::extended(0x1000, 4096, HvGvaPageSize::Small).0, 0x17FF);
    }

    #[test]
    fn extended_ranges_say_the_size_of_their_pages() {
        let (two_mib, gib) = (HvGvaPageSize::Large, HvGvaPageSize::Huge);
        assert_eq!(HvGvaRange::extended(0x5000, 2048, HvGvaPageSize::Small).0, 0x57FF);
        assert_eq!(HvGvaRange::extended(0x40_1000, 2, two_mib).0, 0x40_0801);
        assert_eq!(HvGvaRange::extended(0x8000_0000, 1, gib).0, 0x8000_1800);
        // Both formats agree on what fits in both.
        let small = HvGvaRange::extended(0x9000, 2048, HvGvaPageSize::Small);
        assert_eq!(small, HvGvaRange::new(0x9000, 2048));
    }
}
