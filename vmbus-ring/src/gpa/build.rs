//! Building lists of ranges.

use hv_abi::vmbus::packet::GpaRangeHeader;
use zerocopy::{IntoBytes, transmute};

use super::{GpaError, PAGE_NUMBER_BYTES, RANGE_HEADER_BYTES, check_header, check_page};

/// A range of guest memory to send: `byte_count` bytes from `byte_offset` in the first of `pages` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpaRange<'a> {
    /// Bytes, at least one.
    pub byte_count: u32,
    /// Where in the first page they begin, in bytes; less than a page.
    pub byte_offset: u32,
    /// Page numbers (guest-physical addresses without their lowest 12 bits), exactly as many as the range touches.
    pub pages: &'a [u64],
}

impl GpaRange<'_> {
    /// Checks that the range is one.
    ///
    /// # Errors
    ///
    /// [`GpaError`] says why not.
    pub fn check(&self) -> Result<(), GpaError> {
        let pages = check_header(self.byte_count, self.byte_offset)?;
        if self.pages.len() != pages as usize {
            return Err(GpaError::PageCount);
        }
        self.pages.iter().try_for_each(|&page| check_page(page).map(drop))
    }

    pub(crate) const fn header(&self) -> GpaRangeHeader {
        GpaRangeHeader { byte_count: self.byte_count, byte_offset: self.byte_offset }
    }

    const fn bytes(&self) -> usize {
        RANGE_HEADER_BYTES + self.pages.len() * PAGE_NUMBER_BYTES
    }
}

/// Checks `ranges` and counts the bytes of their list.
///
/// # Errors
///
/// [`GpaError`] of the first range that is none; [`GpaError::NoRanges`].
pub fn encoded_bytes(ranges: &[GpaRange<'_>]) -> Result<usize, GpaError> {
    if ranges.is_empty() {
        return Err(GpaError::NoRanges);
    }
    ranges.iter().try_for_each(GpaRange::check)?;
    Ok(ranges.iter().map(GpaRange::bytes).sum())
}

/// Writes the list of `ranges` to the start of `buffer`; returns its bytes.
///
/// # Errors
///
/// As [`encoded_bytes`], and [`GpaError::Truncated`] if the buffer is too short.
pub fn encode(ranges: &[GpaRange<'_>], buffer: &mut [u8]) -> Result<usize, GpaError> {
    let length = encoded_bytes(ranges)?;
    let list = buffer.get_mut(..length).ok_or(GpaError::Truncated)?;
    for (bytes, word) in list.chunks_exact_mut(PAGE_NUMBER_BYTES).zip(words(ranges)) {
        bytes.copy_from_slice(word.as_bytes());
    }
    Ok(length)
}

/// The list of `ranges` in words of 64 bits, for whoever has to cut it into messages. Nothing is checked: see
/// [`encoded_bytes`].
pub fn words<'a>(ranges: &'a [GpaRange<'a>]) -> impl Iterator<Item = u64> + 'a {
    ranges.iter().flat_map(|range| {
        let header: u64 = transmute!(range.header());
        core::iter::once(header).chain(range.pages.iter().copied())
    })
}
