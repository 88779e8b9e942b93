//! Reading lists of ranges that somebody else wrote.

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::packet::GpaRangeHeader;
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::{GpaError, check_header, check_page};

/// A checked list of ranges.
#[derive(Debug, Clone, Copy)]
pub struct GpaRanges<'a> {
    count: u32,
    list: &'a [u8],
}

impl<'a> GpaRanges<'a> {
    /// Checks the list of `count` ranges that `bytes` begins with.
    ///
    /// # Errors
    ///
    /// [`GpaError`] says what is wrong first.
    pub fn parse(count: u32, bytes: &'a [u8]) -> Result<Self, GpaError> {
        if count == 0 {
            return Err(GpaError::NoRanges);
        }
        let mut rest = bytes;
        // Every range takes bytes, so that a count that lies ends this soon.
        for _ in 0..count {
            let (range, behind) = split_range(rest)?;
            range.page_numbers().try_for_each(|page| check_page(page).map(drop))?;
            rest = behind;
        }
        let (list, _) = bytes.split_at(bytes.len() - rest.len());
        Ok(Self { count, list })
    }

    /// How many ranges there are, at least one.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the list itself.
    pub const fn list_bytes(&self) -> usize {
        self.list.len()
    }

    /// Bytes in all ranges together.
    pub fn byte_count(&self) -> u64 {
        self.iter().map(|range| u64::from(range.byte_count)).sum()
    }

    /// The ranges, in order.
    pub const fn iter(&self) -> RangeIter<'a> {
        RangeIter { list: self.list }
    }
}

impl<'a> IntoIterator for GpaRanges<'a> {
    type Item = ParsedRange<'a>;
    type IntoIter = RangeIter<'a>;

    fn into_iter(self) -> RangeIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &GpaRanges<'a> {
    type Item = ParsedRange<'a>;
    type IntoIter = RangeIter<'a>;

    fn into_iter(self) -> RangeIter<'a> {
        self.iter()
    }
}

fn split_range(bytes: &[u8]) -> Result<(ParsedRange<'_>, &[u8]), GpaError> {
    let (header, rest) =
        GpaRangeHeader::read_from_prefix(bytes).map_err(|_| GpaError::Truncated)?;
    let pages = check_header(header.byte_count, header.byte_offset)?;
    let (pages, rest) = <[U64]>::ref_from_prefix_with_elems(rest, pages as usize)
        .map_err(|_| GpaError::Truncated)?;
    let GpaRangeHeader { byte_count, byte_offset } = header;
    Ok((ParsedRange { byte_count, byte_offset, pages }, rest))
}

/// The ranges of a list.
#[derive(Debug, Clone)]
pub struct RangeIter<'a> {
    list: &'a [u8],
}

impl<'a> Iterator for RangeIter<'a> {
    type Item = ParsedRange<'a>;

    fn next(&mut self) -> Option<ParsedRange<'a>> {
        // The list was checked whole, and ends behind its last range.
        let (range, rest) = split_range(self.list).ok()?;
        self.list = rest;
        Some(range)
    }
}

/// A range of guest memory that somebody else named. Whether there is memory, is not known.
#[derive(Debug, Clone, Copy)]
pub struct ParsedRange<'a> {
    /// Bytes, at least one.
    pub byte_count: u32,
    /// Where in the first page they begin, in bytes; less than a page.
    pub byte_offset: u32,
    pages: &'a [U64],
}

impl<'a> ParsedRange<'a> {
    /// The numbers of its pages, as many as it touches.
    pub fn page_numbers(
        &self,
    ) -> impl ExactSizeIterator<Item = u64> + DoubleEndedIterator + use<'a> {
        self.pages.iter().map(|page| page.get())
    }

    /// Its bytes page by page.
    pub const fn pieces(&self) -> Pieces<'a> {
        Pieces { pages: self.pages, offset: self.byte_offset, left: self.byte_count }
    }
}

/// A part of a range that lies in one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The page's number.
    pub page: u64,
    /// Where in it the part begins, in bytes.
    pub offset: u32,
    /// Bytes, at least one; `offset + length` is at most a page's.
    pub length: u32,
}

impl Piece {
    /// The guest-physical address of its first byte.
    pub const fn address(&self) -> u64 {
        // Page numbers were checked, and an offset is less than a page.
        self.page.wrapping_mul(HV_PAGE_SIZE as u64).wrapping_add(self.offset as u64)
    }
}

/// The pieces of a range, in order.
#[derive(Debug, Clone)]
pub struct Pieces<'a> {
    pages: &'a [U64],
    offset: u32,
    left: u32,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let (page, rest) = self.pages.split_first()?;
        let offset = self.offset;
        let length = self.left.min(HV_PAGE_SIZE as u32 - offset);
        (self.pages, self.offset, self.left) = (rest, 0, self.left - length);
        Some(Piece { page: page.get(), offset, length })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.pages.len(), Some(self.pages.len()))
    }
}

impl ExactSizeIterator for Pieces<'_> {}
