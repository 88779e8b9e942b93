//! Ranges of guest memory, in GPA-direct packets and in the messages that make a GPADL.
//!
//! A list is a number of ranges, one behind the other: a [`GpaRangeHeader`] and as many 64-bit page numbers as the range
//! touches pages. How many ranges there are, is said elsewhere. Behind the last there may be bytes that mean nothing: Linux's
//! `storvsc` reserves room for more pages than it needs and counts it to the list (`storvsc_do_io`).

mod build;
mod parse;
#[cfg(all(test, not(loom)))]
mod tests;

pub use build::{GpaRange, encode, encoded_bytes, words};
pub use parse::{GpaRanges, ParsedRange, Piece, Pieces, RangeIter};

use core::fmt;

use hv_abi::vmbus::packet::GpaRangeHeader;
use hv_abi::{HV_PAGE_SHIFT, HV_PAGE_SIZE};

/// Bytes before a range's page numbers.
pub const RANGE_HEADER_BYTES: usize = size_of::<GpaRangeHeader>();
/// Bytes of a page number.
pub const PAGE_NUMBER_BYTES: usize = size_of::<u64>();
/// The fewest bytes that a range takes: every range has at least one page.
pub const MIN_RANGE_BYTES: usize = RANGE_HEADER_BYTES + PAGE_NUMBER_BYTES;
/// The most pages of one range: its length has 32 bits, and it begins in its first page.
pub const MAX_RANGE_PAGES: u32 = pages(u32::MAX, MAX_BYTE_OFFSET);
/// The largest offset in the first page.
pub const MAX_BYTE_OFFSET: u32 = HV_PAGE_SIZE as u32 - 1;
/// The largest page number: the page's address has 64 bits.
pub const MAX_PAGE_NUMBER: u64 = u64::MAX >> HV_PAGE_SHIFT;

/// The pages that a range touches.
const fn pages(byte_count: u32, byte_offset: u32) -> u32 {
    (byte_count as u64 + byte_offset as u64).div_ceil(HV_PAGE_SIZE as u64) as u32
}

/// Ranges that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpaError {
    /// There is not one range.
    NoRanges,
    /// There are fewer bytes than so many ranges with so many pages take.
    Truncated,
    /// A range has no bytes.
    EmptyRange,
    /// A range begins at this offset, which is not in its first page.
    Offset(u32),
    /// A range has another number of pages than its bytes need.
    PageCount,
    /// There is no such page.
    PageNumber(u64),
}

impl fmt::Display for GpaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRanges => f.write_str("there is no range"),
            Self::Truncated => f.write_str("the ranges' list is cut off"),
            Self::EmptyRange => f.write_str("a range is empty"),
            Self::Offset(offset) => write!(f, "a range begins at {offset}, behind its first page"),
            Self::PageCount => f.write_str("a range's pages do not fit its bytes"),
            Self::PageNumber(page) => write!(f, "there is no page {page:#x}"),
        }
    }
}

impl core::error::Error for GpaError {}

/// Checks what a range says of itself; returns how many pages it has.
fn check_header(byte_count: u32, byte_offset: u32) -> Result<u32, GpaError> {
    if byte_count == 0 {
        return Err(GpaError::EmptyRange);
    }
    if byte_offset > MAX_BYTE_OFFSET {
        return Err(GpaError::Offset(byte_offset));
    }
    Ok(pages(byte_count, byte_offset))
}

fn check_page(page: u64) -> Result<u64, GpaError> {
    if page > MAX_PAGE_NUMBER { Err(GpaError::PageNumber(page)) } else { Ok(page) }
}
