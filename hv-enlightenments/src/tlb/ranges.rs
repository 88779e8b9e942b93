//! Pages as elements of a list.

use hv_abi::tlb::{HvGvaPageSize, HvGvaRange};

use super::RangeFormat;

/// Pages in a row, by the virtual address of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRange {
    /// Address in the first page.
    pub start: u64,
    /// Pages, of 4 KiB each.
    pub pages: u64,
}

/// The elements that cover a [`PageRange`], each exactly once.
///
/// The extended format is used only for large pages: an extended range of small pages holds half as many
/// as a simple one.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// Number of the next page.
    next: u64,
    left: u64,
    format: RangeFormat,
}

/// Pages of 4 KiB in one of 2 MiB.
const LARGE: u64 = HvGvaPageSize::Large.bytes() / HvGvaPageSize::Small.bytes();
/// Most page numbers there are.
const PAGE_NUMBERS: u64 = 1 << 52;

impl Ranges {
    /// The elements for `pages`, those beyond the end of the address space left out; in the extended format where
    /// it is `offered` and shorter.
    pub(super) fn new(pages: PageRange, offered: bool) -> Self {
        let next = pages.start >> 12;
        let left = pages.pages.min(PAGE_NUMBERS - next);
        let extended = Self { next, left, format: RangeFormat::Extended };
        let simple = Self { next, left, format: RangeFormat::Simple };
        if offered && extended.len() < simple.len() { extended } else { simple }
    }

    /// How the elements are written.
    pub fn format(&self) -> RangeFormat {
        self.format
    }

    /// Elements still to come, without going through them.
    pub fn len(&self) -> usize {
        let count = match self.format {
            RangeFormat::Simple => self.left.div_ceil(HvGvaRange::MAX_PAGES),
            RangeFormat::Extended => {
                let most = HvGvaRange::MAX_EXTENDED_PAGES;
                let before = (self.next.next_multiple_of(LARGE) - self.next).min(self.left);
                let large = (self.left - before) / LARGE;
                let after = (self.left - before) % LARGE;
                before.div_ceil(most) + large.div_ceil(most) + after.div_ceil(most)
            }
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Whether none are left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for Ranges {
    type Item = HvGvaRange;

    fn next(&mut self) -> Option<HvGvaRange> {
        if self.left == 0 {
            return None;
        }
        let address = self.next << 12;
        let (range, taken) = match self.format {
            RangeFormat::Simple => {
                let pages = self.left.min(HvGvaRange::MAX_PAGES);
                (HvGvaRange::new(address, pages), pages)
            }
            RangeFormat::Extended if self.next.is_multiple_of(LARGE) && self.left >= LARGE => {
                let large = (self.left / LARGE).min(HvGvaRange::MAX_EXTENDED_PAGES);
                (HvGvaRange::extended(address, large, HvGvaPageSize::Large), large * LARGE)
            }
            RangeFormat::Extended => {
                let to_large = self.next.next_multiple_of(LARGE) - self.next;
                let pages = if to_large == 0 { self.left } else { self.left.min(to_large) };
                (HvGvaRange::extended(address, pages, HvGvaPageSize::Small), pages)
            }
        };
        self.next += taken;
        self.left -= taken;
        Some(range)
    }
}
