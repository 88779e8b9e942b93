//! A run of bytes between a disk and memory: at once if all goes well, else in ever smaller pieces, up to the block that is bad.
//!
//! A disk says only that something of a request failed. A drive has to say which sector, and has to deliver those before it.

use crate::storage::buffer::IoBuffer;
use crate::storage::disk::{ByteRange, DiskError};
use crate::storage::request::DiskOp;

/// What a drive asks of its disk.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) op: DiskOp,
    pub(super) buffer: IoBuffer,
}

/// What is done with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Read,
    Write {
        /// It ends when the data is safe.
        through: bool,
    },
    Verify,
}

/// The run. Offsets are the disk's, in bytes.
#[derive(Debug)]
pub(super) struct Batch {
    deed: Deed,
    buffer: IoBuffer,
    start: u64,
    /// Where it stands.
    at: u64,
    end: u64,
    /// Bytes of the smallest piece.
    block: u64,
    /// Bytes of the next piece, at most.
    limit: u64,
}

/// What comes after a piece.
#[derive(Debug)]
pub(super) enum After {
    /// Another one.
    More(Work),
    /// All bytes have been moved.
    Done,
    /// The block at this offset can't be.
    Bad(u64, DiskError),
}

impl Batch {
    /// `length` bytes at `start`, and as many in `buffer` (for [`Deed::Verify`] none), in blocks of `block` bytes.
    pub(super) fn new(deed: Deed, start: u64, length: u64, buffer: IoBuffer, block: u64) -> Self {
        let end = start.saturating_add(length);
        Self { deed, buffer, start, at: start, end, block: block.max(1), limit: u64::MAX }
    }

    /// The next piece.
    pub(super) fn work(&self) -> Work {
        let range = ByteRange::new(self.at, self.piece());
        let op = match self.deed {
            Deed::Read => DiskOp::Read(range),
            Deed::Write { through } => DiskOp::Write { range, through },
            Deed::Verify => DiskOp::Verify(range),
        };
        let buffer = match self.deed {
            Deed::Verify => IoBuffer::none(),
            _ => self.buffer.part(self.at - self.start, range.length),
        };
        Work { op, buffer }
    }

    fn piece(&self) -> u64 {
        self.limit.min(self.end - self.at)
    }

    /// A piece has ended.
    pub(super) fn ended(&mut self, result: Result<(), DiskError>) -> After {
        let piece = self.piece();
        match result {
            Ok(()) => self.at += piece,
            Err(error) if piece <= self.block => return After::Bad(self.at, error),
            Err(_) => self.limit = (piece / 2).next_multiple_of(self.block),
        }
        if self.at < self.end { After::More(self.work()) } else { After::Done }
    }

    /// Bytes that were moved.
    pub(super) fn moved(&self) -> u64 {
        self.at - self.start
    }

    /// The memory.
    pub(super) fn buffer(&self) -> &IoBuffer {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends all pieces, those with the bad block in them badly.
    fn run(mut batch: Batch, bad: Option<u64>) -> (After, u32) {
        let (mut work, mut pieces) = (batch.work(), 0);
        loop {
            pieces += 1;
            let DiskOp::Read(range) = work.op else { panic!("a read") };
            assert_eq!(work.buffer.len(), range.length);
            let hit = bad.is_some_and(|bad| (range.offset..range.end()).contains(&bad));
            match batch.ended(if hit { Err(DiskError::Short) } else { Ok(()) }) {
                After::More(next) => work = next,
                after => return (after, pieces),
            }
        }
    }

    fn batch(blocks: usize) -> Batch {
        let buffer = IoBuffer::owned(vec![0; blocks * 512]);
        Batch::new(Deed::Read, 1024, blocks as u64 * 512, buffer, 512)
    }

    #[test]
    fn what_goes_well_is_one_piece() {
        assert!(matches!(run(batch(256), None), (After::Done, 1)));
    }

    #[test]
    fn the_bad_block_is_found_wherever_it_is() {
        for blocks in [1, 2, 3, 7, 256] {
            for bad in 0..blocks {
                let at = 1024 + bad as u64 * 512;
                let (after, pieces) = run(batch(blocks), Some(at));
                assert!(matches!(after, After::Bad(found, DiskError::Short) if found == at));
                assert!(pieces < 200, "{pieces} pieces for {blocks} blocks");
            }
        }
    }
}
