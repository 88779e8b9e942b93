//! A ring of descriptors with a buffer for each, in memory that the chip reaches.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::tulip::descriptor::{BUFFER1_MASK, CHAINED, Descriptor, END_OF_RING, OWN};
use vsc_drivers::{DmaBuffer, Hal};

/// Memory for each buffer.
const STRIDE: usize = 2048;
const PER_PAGE: usize = HV_PAGE_SIZE / STRIDE;
/// Bytes of a buffer that the chip may write: the largest number of whole longwords that a descriptor can say. Longer than any frame that the
/// watchdog lets pass whole, so that a good frame never needs a second one.
pub(super) const BUFFER_BYTES: usize = (BUFFER1_MASK & !3) as usize;
/// The chip has 32 bits of addresses.
const REACH: u64 = 1 << 32;

const _: () = assert!(BUFFER_BYTES <= STRIDE && super::LONGEST_FRAME <= BUFFER_BYTES);

/// Descriptors and buffers.
pub(super) struct Table<H: Hal> {
    /// The descriptors, then [`PER_PAGE`] buffers in each. Empty once it was leaked.
    memory: Vec<DmaBuffer<H>>,
    base: u32,
    /// A power of two.
    count: usize,
    chained: bool,
}

impl<H: Hal> Table<H> {
    /// `None` if there is no memory, or none that the chip reaches.
    pub(super) fn new(hal: &H, count: usize, chained: bool) -> Option<Self> {
        let bytes = count * size_of::<Descriptor>();
        let descriptors = reachable(hal, bytes.div_ceil(HV_PAGE_SIZE))?;
        let base = descriptors.gpa().0 as u32;
        let mut memory = Vec::from([descriptors]);
        for _ in 0..count.div_ceil(PER_PAGE) {
            memory.push(reachable(hal, 1)?);
        }
        Some(Self { memory, base, count, chained })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The address of the first descriptor.
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    fn word(&self, index: usize, word: usize) -> Option<&AtomicU32> {
        let offset = index % self.count * size_of::<Descriptor>() + word * size_of::<u32>();
        self.memory.first()?.word(offset).ok()
    }

    fn buffer(&self, index: usize) -> Option<(&DmaBuffer<H>, usize)> {
        let index = index % self.count;
        Some((self.memory.get(1 + index / PER_PAGE)?, index % PER_PAGE * STRIDE))
    }

    /// The first longword. What the chip wrote before it can be read after it.
    pub(super) fn status(&self, index: usize) -> u32 {
        self.word(index, 0).map_or(OWN, |word| u32::from_le(word.load(Ordering::Acquire)))
    }

    /// Copies the beginning of a buffer.
    pub(super) fn read(&self, index: usize, bytes: &mut [u8]) {
        if let Some((page, offset)) = self.buffer(index) {
            // The caller's lengths are a buffer's at most.
            let _ = page.read(offset, bytes);
        }
    }

    /// Fills the beginning of a buffer.
    pub(super) fn write(&self, index: usize, bytes: &[u8]) {
        if let Some((page, offset)) = self.buffer(index) {
            // As in `read`.
            let _ = page.write(offset, bytes);
        }
    }

    /// Gives a descriptor to the chip, anew: whatever stood in it. `control` without what says where the next one is.
    pub(super) fn give(&self, index: usize, control: u32) {
        self.fill(index, control);
        self.set_status(index, OWN);
    }

    /// As [`give`](Self::give), but the driver keeps it.
    pub(super) fn fill(&self, index: usize, control: u32) {
        let index = index % self.count;
        let is_last = index + 1 == self.count;
        let order = match self.chained {
            true => CHAINED,
            false if is_last => END_OF_RING,
            false => 0,
        };
        let next = (index + 1) % self.count * size_of::<Descriptor>();
        let buffer =
            self.buffer(index).map_or(0, |(page, offset)| page.gpa().0 as u32 + offset as u32);
        // The address of the next one also where nobody follows it, as parts that know only chains want it (Linux, `tulip.h`).
        for (word, value) in
            [(1, control | order), (2, buffer), (3, self.base.wrapping_add(next as u32))]
        {
            if let Some(place) = self.word(index, word) {
                place.store(value.to_le(), Ordering::Relaxed);
            }
        }
    }

    /// Sets the first longword, after all that was written before.
    pub(super) fn set_status(&self, index: usize, status: u32) {
        if let Some(word) = self.word(index, 0) {
            word.store(status.to_le(), Ordering::Release);
        }
    }

    /// Never frees the memory: the chip may still use it.
    pub(super) fn leak(&mut self) {
        core::mem::forget(core::mem::take(&mut self.memory));
    }
}

/// Pages that the chip reaches.
fn reachable<H: Hal>(hal: &H, pages: usize) -> Option<DmaBuffer<H>> {
    let buffer = DmaBuffer::new(hal, pages)?;
    let end = buffer.gpa().0.checked_add(buffer.byte_len() as u64)?;
    (end <= REACH).then_some(buffer)
}
