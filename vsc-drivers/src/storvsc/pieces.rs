//! Cuts a transfer into requests that the host takes: one range of pages each.
//!
//! **Theory.** A request's data is one range: an offset in the first page, a length, and the numbers of the pages, each but the first
//! and the last used in full (Linux: `virt_boundary_mask`; OpenVMM takes no second range). So bytes of two buffers go into one request only if the first
//! ends where a page ends and the second begins where one begins, or if they go on in the same place of a page.
//!
//! **Practice.** Every buffer has a whole number of blocks, so a request can end at any buffer's end. [`next_piece`] finds the largest request
//! from a position on; [`page_numbers`] translates it when it is sent.

use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;

use super::buffer::{Lent, Segment};

/// What one request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of a block; requests have whole blocks.
    pub(super) block_bytes: u32,
    /// Bytes of data.
    pub(super) max_bytes: u32,
}

/// A place in lent memory: the buffer and the byte in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) segment: usize,
    pub(super) offset: usize,
}

/// The data of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Piece {
    /// Where it begins.
    pub(super) start: Position,
    /// Its length.
    pub(super) bytes: u32,
}

impl Piece {
    /// The first `bytes` of lent memory.
    pub(super) fn whole(bytes: u32) -> Self {
        Self { start: Position::default(), bytes }
    }
}

/// The largest piece from `position` on, and the position behind it; `None` at the end of the memory.
pub(super) fn next_piece(
    lent: &Lent,
    position: Position,
    limits: Limits,
) -> Option<(Piece, Position)> {
    let mut at = skip_empty(lent, position)?;
    let start = at;
    let max_bytes = whole_blocks(limits.max_bytes as usize, limits.block_bytes)?;
    let mut bytes = 0;
    while let Some(segment) = lent.segment(at.segment) {
        let here = (segment.len - at.offset).min(max_bytes - bytes);
        bytes += here;
        at.offset += here;
        if at.offset < segment.len {
            break;
        }
        at = Position { segment: at.segment + 1, offset: 0 };
        match skip_empty(lent, at) {
            Some(next) if bytes < max_bytes && continues(segment, lent.segment(next.segment)?) => {
                at = next;
            }
            _ => break,
        }
    }
    Some((Piece { start, bytes: u32::try_from(bytes).ok()? }, at))
}

/// `bytes` rounded down to whole blocks; `None` if that is none.
fn whole_blocks(bytes: usize, block_bytes: u32) -> Option<usize> {
    let block = block_bytes as usize;
    bytes.checked_rem(block).map(|rest| bytes - rest).filter(|bytes| *bytes > 0)
}

/// `position`, or the start of the next buffer that has bytes.
fn skip_empty(lent: &Lent, mut position: Position) -> Option<Position> {
    while lent.segment(position.segment)?.len <= position.offset {
        position = Position { segment: position.segment + 1, offset: 0 };
    }
    Some(position)
}

/// Whether `next` may follow `segment` in the same range.
fn continues(segment: Segment, next: Segment) -> bool {
    let end = segment.address.addr().wrapping_add(segment.len);
    end.is_multiple_of(HV_PAGE_SIZE) && next.address.addr().is_multiple_of(HV_PAGE_SIZE)
}

/// Adds the numbers of the piece's pages to `pages`; where it begins in the first.
///
/// `None` if `gpa` does not know an address, or if the memory is shorter than the piece.
pub(super) fn page_numbers(
    lent: &Lent,
    piece: Piece,
    gpa: impl Fn(*const u8) -> Option<u64>,
    pages: &mut Vec<u64>,
) -> Option<u32> {
    let mut at = piece.start;
    let mut left = piece.bytes as usize;
    let mut byte_offset = None;
    while left > 0 {
        at = skip_empty(lent, at)?;
        let segment = lent.segment(at.segment)?;
        let address = segment.address.wrapping_add(at.offset);
        let in_page = address.addr() % HV_PAGE_SIZE;
        let here = (HV_PAGE_SIZE - in_page).min(segment.len - at.offset).min(left);
        byte_offset.get_or_insert(in_page as u32);
        pages.push(gpa(address)? / HV_PAGE_SIZE as u64);
        at.offset += here;
        left -= here;
    }
    Some(byte_offset.unwrap_or(0))
}

#[cfg(test)]
#[path = "pieces/tests.rs"]
mod tests;
