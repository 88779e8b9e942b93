//! The guest's receive buffer: parts of equal size, each of which holds one message on its way to the guest.
//!
//! All channels of a card share it. Which parts are free is a bit map of atomics, so that they need no lock; how many each
//! channel may take is limited, so that one whose driver does not answer leaves some to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_abi::nvsp::{NVSP_MAX_CHANNELS, NvspReceiveSection};

use super::rndis::MAX_HEAD;
use crate::net::frame::VLAN_TAG;
use crate::vmbus::{Gpadl, GuestRanges, RangesError};

/// The least size of a part, in bytes: what Hyper-V has, and Linux's default (`NETVSC_RECV_SECTION_SIZE`).
const MIN_PART: usize = 1728;
/// Most parts that are used.
const MAX_PARTS: u32 = 32_768;
/// Parts that data leave, at most.
const KEPT: u32 = 8;
const WORD: u32 = u64::BITS;

/// A receive buffer that the guest lent.
pub(super) struct ReceiveBuffer {
    /// The guest's number for it.
    pub(super) id: u16,
    /// Unlike any other buffer's.
    pub(super) serial: u64,
    section: NvspReceiveSection,
    ranges: GuestRanges,
    free: Box<[AtomicU64]>,
    /// Parts that each channel has.
    taken: [AtomicU32; NVSP_MAX_CHANNELS],
    /// Keeps the memory lent.
    _gpadl: Option<Arc<Gpadl>>,
}

impl ReceiveBuffer {
    /// Parts a buffer so that frames of `frame_bytes` fit. `None`: not one does.
    pub(super) fn new(
        id: u16,
        ranges: GuestRanges,
        gpadl: Option<Arc<Gpadl>>,
        frame_bytes: usize,
    ) -> Option<Self> {
        let part = (MAX_HEAD + frame_bytes + VLAN_TAG).next_multiple_of(64).max(MIN_PART);
        let part = u32::try_from(part).ok()?;
        let parts = u32::try_from(ranges.len() / u64::from(part)).unwrap_or(MAX_PARTS);
        let parts = parts.min(MAX_PARTS);
        if parts == 0 {
            return None;
        }
        let section = NvspReceiveSection {
            offset: 0,
            sub_alloc_size: part,
            num_sub_allocs: parts,
            end_offset: parts * part,
        };
        let word = |word: u32| match parts - word * WORD {
            rest @ 0..WORD => AtomicU64::new((1 << rest) - 1),
            _ => AtomicU64::new(u64::MAX),
        };
        let free = (0..parts.div_ceil(WORD)).map(word).collect();
        let taken = [const { AtomicU32::new(0) }; NVSP_MAX_CHANNELS];
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Some(Self { id, serial, section, ranges, free, taken, _gpadl: gpadl })
    }

    /// How it is parted.
    pub(super) fn section(&self) -> NvspReceiveSection {
        self.section
    }

    /// Number of parts.
    pub(super) fn parts(&self) -> u32 {
        self.section.num_sub_allocs
    }

    /// Bytes of a part.
    pub(super) fn part_bytes(&self) -> usize {
        self.section.sub_alloc_size as usize
    }

    /// Where a part begins.
    pub(super) fn offset(&self, part: u32) -> u32 {
        part * self.section.sub_alloc_size
    }

    /// Parts that a channel may have, of so many channels.
    pub(super) fn share(&self, channels: u16) -> u32 {
        // Some are kept for the answers to the guest's questions.
        let data = self.parts() - (self.parts() / 8).min(KEPT);
        (data / u32::from(channels.max(1))).max(1)
    }

    /// Whether a channel has that many parts or more.
    pub(super) fn has_taken(&self, channel: u16, parts: u32) -> bool {
        self.taken
            .get(usize::from(channel))
            .is_none_or(|taken| taken.load(Ordering::Relaxed) >= parts)
    }

    /// Takes a free part for a channel.
    pub(super) fn claim(&self, channel: u16) -> Option<u32> {
        let taken = self.taken.get(usize::from(channel))?;
        // Each channel begins elsewhere, so that they seldom want the same word.
        let share = self.free.len() / NVSP_MAX_CHANNELS;
        let part = self.find(usize::from(channel) * share.max(1))?;
        taken.fetch_add(1, Ordering::Relaxed);
        Some(part)
    }

    fn find(&self, first: usize) -> Option<u32> {
        let words = self.free.len();
        for step in 0..words {
            let index = (first + step) % words;
            let Some(word) = self.free.get(index) else { continue };
            let mut map = word.load(Ordering::Relaxed);
            while map != 0 {
                let bit = map & map.wrapping_neg();
                // Acquire: what the guest read there before is read before we write over it.
                map = word.fetch_and(!bit, Ordering::Acquire);
                if map & bit != 0 {
                    return Some(index as u32 * WORD + bit.trailing_zeros());
                }
                map &= !bit;
            }
        }
        None
    }

    /// Gives a part back that a channel claimed.
    pub(super) fn release(&self, channel: u16, part: u32) {
        let taken = self.taken.get(usize::from(channel));
        if let (Some(word), Some(taken)) = (self.free.get((part / WORD) as usize), taken) {
            taken.fetch_sub(1, Ordering::Relaxed);
            // Pairs with `find`.
            word.fetch_or(1 << (part % WORD), Ordering::Release);
        }
    }

    /// Writes to a part, from `at` on.
    pub(super) fn write(&self, part: u32, at: usize, bytes: &[u8]) -> Result<(), RangesError> {
        self.ranges.write(u64::from(self.offset(part)) + at as u64, bytes)
    }

    #[cfg(test)]
    pub(super) fn free_parts(&self) -> u32 {
        self.free.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_memory::{memory, ranges};
    use super::*;

    fn buffer(bytes: u32, frame_bytes: usize) -> Option<ReceiveBuffer> {
        ReceiveBuffer::new(0xCAFE, ranges(&memory(), 0x10_000, bytes), None, frame_bytes)
    }

    #[test]
    fn parts_hold_a_frame_with_all_that_comes_beside_it() {
        let section = buffer(0x10_0000, 1514).unwrap().section();
        assert_eq!((section.sub_alloc_size, section.num_sub_allocs), (1728, 606));
        assert_eq!((section.offset, section.end_offset), (0, 606 * 1728));
        let jumbo = buffer(0x10_0000, 9014).unwrap().section();
        assert!(jumbo.sub_alloc_size as usize >= 9014 + 4 + MAX_HEAD);
        assert!(jumbo.sub_alloc_size * jumbo.num_sub_allocs <= 0x10_0000);
        assert!(buffer(0x1000, 9014).is_none());
    }

    #[test]
    fn every_part_is_claimed_once_and_can_be_again() {
        let buffer = buffer(0x10_0000, 1514).unwrap();
        let mut claimed: Vec<_> = (0..606).map(|n| buffer.claim(n % 64).unwrap()).collect();
        assert_eq!((buffer.claim(0), buffer.free_parts()), (None, 0));
        claimed.sort_unstable();
        assert!(claimed.iter().copied().eq(0..606));
        buffer.release(5, 605);
        assert_eq!((buffer.claim(3), buffer.claim(3)), (Some(605), None));
        // No part that there is not is ever made free.
        buffer.release(0, 1 << 20);
        assert_eq!(buffer.claim(0), None);
        assert_eq!(buffer.claim(64), None);
    }

    #[test]
    fn a_channels_share_is_known() {
        let buffer = buffer(0x10_0000, 1514).unwrap();
        assert_eq!((buffer.share(1), buffer.share(4), buffer.share(0)), (598, 149, 598));
        let parts = [(); 3].map(|()| buffer.claim(2).unwrap());
        assert!(buffer.has_taken(2, 3) && !buffer.has_taken(2, 4) && !buffer.has_taken(1, 1));
        buffer.release(2, parts[0]);
        assert!(!buffer.has_taken(2, 3) && buffer.has_taken(64, 1000));
    }

    #[test]
    fn threads_never_share_a_part() {
        let buffer = buffer(0x10_0000, 1514).unwrap();
        let owned: Vec<_> = (0..606).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for channel in [0, 0, 40] {
                let (buffer, owned) = (&buffer, &owned);
                scope.spawn(move || {
                    for _ in 0..5000 {
                        let part = buffer.claim(channel).unwrap();
                        assert_eq!(owned[part as usize].fetch_add(1, Ordering::SeqCst), 0);
                        owned[part as usize].fetch_sub(1, Ordering::SeqCst);
                        buffer.release(channel, part);
                    }
                });
            }
        });
        assert_eq!(buffer.free_parts(), 606);
    }
}
