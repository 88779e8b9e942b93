//! Parameters in memory.

use hv_abi::HV_PAGE_SIZE;

use super::CallError;
use crate::memory::{Gpa, MappedPage};

/// A page for the parameters of calls in memory. One call at a time.
#[derive(Debug)]
pub struct CallBuffer {
    pub(super) page: MappedPage,
}

/// Where a call's input and output lie.
pub(super) struct Blocks {
    pub(super) input_gpa: Gpa,
    pub(super) output_gpa: Gpa,
    pub(super) output_offset: usize,
}

impl CallBuffer {
    /// Uses `page` for parameters.
    pub fn new(page: MappedPage) -> Self {
        Self { page }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn page(&self) -> &MappedPage {
        &self.page
    }

    /// Lays the input, a block in pieces, at the start of the page and the output behind it, each 8-byte aligned. As
    /// both lie in one page, neither crosses a page.
    pub(super) fn fill(
        &mut self,
        pieces: &[&[u8]],
        output_bytes: usize,
    ) -> Result<Blocks, CallError> {
        let bytes = length(pieces).ok_or(CallError::TooLong)?;
        let output_offset = bytes.checked_next_multiple_of(8).ok_or(CallError::TooLong)?;
        let end = output_offset.checked_add(output_bytes).ok_or(CallError::TooLong)?;
        if end > HV_PAGE_SIZE {
            return Err(CallError::TooLong);
        }
        let mut offset = 0;
        for piece in pieces {
            self.page.write(offset, piece).ok_or(CallError::TooLong)?;
            offset += piece.len();
        }
        let gpa = self.page.gpa();
        // A block of no bytes has no address. The sums stay in the page.
        let block = |bytes, offset| if bytes == 0 { Gpa(0) } else { Gpa(gpa.0 + offset as u64) };
        Ok(Blocks {
            input_gpa: block(bytes, 0),
            output_gpa: block(output_bytes, output_offset),
            output_offset,
        })
    }

    /// Copies the output of a call that succeeded.
    pub(super) fn read(&self, blocks: &Blocks, output: &mut [u8]) -> Result<(), CallError> {
        self.page.read(blocks.output_offset, output).ok_or(CallError::TooLong)
    }
}

/// Bytes in all pieces of a block.
pub(super) fn length(pieces: &[&[u8]]) -> Option<usize> {
    pieces.iter().try_fold(0_usize, |sum, piece| sum.checked_add(piece.len()))
}
