//! The frame allocator: one bit for each frame, written only once the frame is first handed out.
//!
//! *Theory.* A bitmap of all of RAM would have to be filled at boot, and every page of it that is touched
//! may cost an exit under a hypervisor. So each range of RAM keeps a mark: frames from the mark on were
//! never handed out and have no valid bit yet.
//!
//! *Practice.* An allocation takes the frames at the mark; only when the marks have reached their ends are
//! the bits searched for frames that came back.

use crate::PAGE_SIZE;
use crate::fixed::List;
use crate::memory_map::Range;

/// Most ranges of RAM.
pub const MAX_RANGES: usize = 32;

/// Why a frame can't be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeError {
    /// No frame of this allocator begins at the address.
    Unknown,
    /// The frame is not in use: it was never handed out, or given back already.
    NotInUse,
}

#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    /// First frame number.
    first: u64,
    /// Frames.
    count: u64,
    /// Frames from `first` on that were handed out at least once.
    marked: u64,
    /// Index of the first frame's bit.
    bit: u64,
    /// Frames below the mark that came back.
    returned: u64,
}

/// Hands out frames of RAM.
pub struct FrameAllocator<'a> {
    extents: List<Extent, MAX_RANGES>,
    bits: &'a mut [u64],
    free: u64,
}

impl<'a> FrameAllocator<'a> {
    /// Words of bitmap for `ranges`.
    pub fn bitmap_words(ranges: &[Range]) -> usize {
        let frames: u64 = ranges.iter().map(|range| range.inner_pages().len() / PAGE_SIZE).sum();
        frames.div_ceil(64) as usize
    }

    /// An allocator of the frames in `ranges`; what is beyond [`MAX_RANGES`] or beyond the bits
    /// is left out. The bits may have any value.
    pub fn new(ranges: &[Range], bits: &'a mut [u64]) -> Self {
        let mut extents = List::new();
        let mut total = 0;
        for range in ranges.iter().map(Range::inner_pages) {
            let room = bits.len() as u64 * 64 - total;
            let count = (range.len() / PAGE_SIZE).min(room);
            let first = range.start / PAGE_SIZE;
            if extents.push(Extent { first, count, bit: total, ..Extent::default() }).is_err() {
                break;
            }
            total += count;
        }
        Self { extents, bits, free: total }
    }

    /// Frames that can be handed out.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Hands out a frame and gives its address. Its content is whatever it is.
    pub fn allocate(&mut self) -> Option<u64> {
        self.allocate_contiguous(1, 1)
    }

    /// Hands out `count` frames in a row. The address of the first is a multiple of `align_frames`
    /// frames (a power of two).
    pub fn allocate_contiguous(&mut self, count: u64, align_frames: u64) -> Option<u64> {
        self.take_new(count, align_frames).or_else(|| self.reuse(count, align_frames))
    }

    fn take_new(&mut self, count: u64, align_frames: u64) -> Option<u64> {
        for index in 0..self.extents.len() {
            let extent = self.extents[index];
            let next = extent.first + extent.marked;
            let Some(start) = next.checked_next_multiple_of(align_frames) else { continue };
            let skipped = start - next;
            let Some(needed) = skipped.checked_add(count) else { continue };
            if count == 0 || needed > extent.count - extent.marked {
                continue;
            }
            let bit = extent.bit + extent.marked;
            for bit in bit..bit + skipped {
                self.set(bit, false);
            }
            for bit in bit + skipped..bit + needed {
                self.set(bit, true);
            }
            self.extents[index].marked += needed;
            self.extents[index].returned += skipped;
            self.free -= count;
            return Some(start * PAGE_SIZE);
        }
        None
    }

    fn reuse(&mut self, count: u64, align_frames: u64) -> Option<u64> {
        (0..self.extents.len()).find_map(|index| self.reuse_of(index, count, align_frames))
    }

    /// Frames in a row that came back to the extent `index`.
    fn reuse_of(&mut self, index: usize, count: u64, align_frames: u64) -> Option<u64> {
        let extent = self.extents[index];
        if count == 0 || extent.returned < count {
            return None;
        }
        let mut start = 0;
        for offset in 0..extent.marked {
            if self.get(extent.bit + offset) {
                start = offset + 1;
                continue;
            }
            // The first frame of the run that may be the first handed out.
            let first = (extent.first + start).checked_next_multiple_of(align_frames)?;
            let from = first - extent.first;
            if offset + 1 < from + count {
                continue;
            }
            for offset in from..from + count {
                self.set(extent.bit + offset, true);
            }
            self.extents[index].returned -= count;
            self.free -= count;
            return Some(first * PAGE_SIZE);
        }
        None
    }

    /// Takes the frame at `address` back.
    ///
    /// # Errors
    /// [`FreeError`] if the frame is not out; nothing changes then.
    pub fn free(&mut self, address: u64) -> Result<(), FreeError> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(FreeError::Unknown);
        }
        let frame = address / PAGE_SIZE;
        let inside = |extent: &Extent| frame >= extent.first && frame - extent.first < extent.count;
        let index = self.extents.iter().position(inside).ok_or(FreeError::Unknown)?;
        let extent = self.extents[index];
        let offset = frame - extent.first;
        if offset >= extent.marked || !self.get(extent.bit + offset) {
            return Err(FreeError::NotInUse);
        }
        self.set(extent.bit + offset, false);
        self.extents[index].returned += 1;
        self.free += 1;
        Ok(())
    }

    fn get(&self, bit: u64) -> bool {
        self.bits[(bit / 64) as usize] & 1 << (bit % 64) != 0
    }

    fn set(&mut self, bit: u64, value: bool) {
        let word = &mut self.bits[(bit / 64) as usize];
        let mask = 1 << (bit % 64);
        *word = if value { *word | mask } else { *word & !mask };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec::Vec;

    use super::*;

    const RANGES: [Range; 2] =
        [Range { start: 0x1000, end: 0x4000 }, Range { start: 0x10_0000, end: 0x12_0000 }];

    #[test]
    fn every_frame_is_handed_out_once_and_then_no_more() {
        let mut bits = [u64::MAX; 1];
        assert_eq!(FrameAllocator::bitmap_words(&RANGES), 1);
        let mut frames = FrameAllocator::new(&RANGES, &mut bits);
        let all: HashSet<_> = std::iter::from_fn(|| frames.allocate()).collect();
        assert_eq!(all.len(), 35);
        assert!(all.iter().all(|&at| RANGES.iter().any(|range| range.contains(at))));
        assert_eq!(frames.free_frames(), 0);
    }

    #[test]
    fn returned_frames_come_again() {
        let mut bits = [0x5555_5555_5555_5555; 1];
        let mut frames = FrameAllocator::new(&RANGES, &mut bits);
        let all: Vec<_> = std::iter::from_fn(|| frames.allocate()).collect();
        for &frame in &all[3..9] {
            frames.free(frame).unwrap();
        }
        let again: HashSet<_> = std::iter::from_fn(|| frames.allocate()).collect();
        assert_eq!(again, all[3..9].iter().copied().collect());
    }

    #[test]
    fn double_and_foreign_frees_are_refused() {
        let mut bits = [u64::MAX; 1];
        let mut frames = FrameAllocator::new(&RANGES, &mut bits);
        let frame = frames.allocate().unwrap();
        assert_eq!(frames.free(frame + 1), Err(FreeError::Unknown));
        assert_eq!(frames.free(frame), Ok(()));
        assert_eq!(frames.free(frame), Err(FreeError::NotInUse));
        assert_eq!(frames.free(0x2000), Err(FreeError::NotInUse));
        assert_eq!(frames.free(0x4000), Err(FreeError::Unknown));
        assert_eq!(frames.free(0), Err(FreeError::Unknown));
        assert_eq!(frames.free_frames(), 35);
    }

    #[test]
    fn runs_are_aligned_and_what_alignment_skips_is_not_lost() {
        let mut bits = [u64::MAX; 1];
        let mut frames = FrameAllocator::new(&RANGES, &mut bits);
        assert_eq!(frames.allocate_contiguous(2, 2), Some(0x2000));
        assert_eq!(frames.allocate_contiguous(16, 16), Some(0x10_0000));
        assert_eq!(frames.allocate_contiguous(17, 1), None);
        assert_eq!(frames.allocate_contiguous(u64::MAX, 1), None);
        assert_eq!(frames.allocate_contiguous(0, 1), None);
        let rest: HashSet<_> = std::iter::from_fn(|| frames.allocate()).collect();
        assert_eq!(rest.len(), 17);
        assert!(rest.contains(&0x1000));
    }

    #[test]
    fn a_run_that_came_back_is_handed_out_again_and_a_shorter_one_is_not() {
        let mut bits = [u64::MAX; 1];
        let mut frames = FrameAllocator::new(&[Range::new(0x1000, 0xA000)], &mut bits);
        let all: Vec<_> = std::iter::from_fn(|| frames.allocate()).collect();
        assert_eq!((all[0], all.len()), (0x1000, 10));
        for at in [0x2000, 0x3000, 0x5000, 0x6000, 0x7000, 0x8000] {
            frames.free(at).unwrap();
        }
        assert_eq!(frames.allocate_contiguous(5, 1), None);
        assert_eq!(frames.allocate_contiguous(2, 4), None, "0x4000 is in use, 0x8000 the last");
        assert_eq!(frames.allocate_contiguous(3, 2), Some(0x6000));
        assert_eq!(frames.allocate_contiguous(2, 1), Some(0x2000));
        assert_eq!(frames.free_frames(), 1);
        assert_eq!(frames.allocate(), Some(0x5000));
        assert_eq!(frames.allocate(), None);
    }

    #[test]
    fn memory_beyond_the_bitmap_is_left_out() {
        let mut bits = [0; 1];
        let frames = FrameAllocator::new(&[Range::new(0, 1 << 40)], &mut bits);
        assert_eq!(frames.free_frames(), 64);
    }
}
