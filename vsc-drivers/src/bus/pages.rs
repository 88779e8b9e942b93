//! The pages by which guest and host signal without a call: the interrupt page, and the monitor pages.
//!
//! The interrupt page has a bit for each channel: the host's signals in the first half, the guest's in the second (Linux,
//! `vmbus_connect`). A monitor page has a bit for each trigger, which the host looks at from time to time (Linux, `struct
//! hv_monitor_page`); the first page is the host's, the second the guest's.

#![expect(unsafe_code, reason = "words of shared pages are atomics")]

use core::sync::atomic::{AtomicU32, Ordering};

use hv_abi::HV_PAGE_SIZE;

use super::ChannelId;
use crate::hal::{DmaBuffer, Gpa, Hal};

const PAGES: usize = 3;
const HALF_PAGE: usize = HV_PAGE_SIZE / 2;
/// Bytes of the interrupt page's first half that have channels' bits.
const INTERRUPT_BYTES: usize = 2048 / 8;
/// Where a monitor page has the first group of triggers; each has 32 bits *pending* and 32 bits *armed*.
const TRIGGER_GROUPS: usize = 8;
const TRIGGER_GROUP_BYTES: usize = 8;

/// The interrupt page, then the two monitor pages.
pub(crate) struct SignalPages<H: Hal>(DmaBuffer<H>);

impl<H: Hal> SignalPages<H> {
    pub(super) fn new(hal: &H) -> Option<Self> {
        DmaBuffer::new(hal, PAGES).filter(|buffer| buffer.pages() >= PAGES).map(Self)
    }

    fn gpa(&self, page: usize) -> Gpa {
        Gpa(self.0.gpa().0 + (page * HV_PAGE_SIZE) as u64)
    }

    pub(super) fn interrupt_page(&self) -> Gpa {
        self.gpa(0)
    }

    /// The host's monitor page and the guest's.
    pub(super) fn monitor_pages(&self) -> [Gpa; 2] {
        [self.gpa(1), self.gpa(2)]
    }

    /// Nothing is signalled.
    pub(super) fn clear(&self) {
        for offset in (0..PAGES * HV_PAGE_SIZE).step_by(size_of::<u32>()) {
            self.word(offset).store(0, Ordering::Relaxed);
        }
    }

    /// Takes the host's signals, and calls `each` with each channel's number.
    pub(super) fn take(&self, mut each: impl FnMut(u16)) {
        for offset in (0..INTERRUPT_BYTES).step_by(size_of::<u32>()) {
            let word = self.word(offset);
            // Reading first: mostly nothing is set, and reading does not take the line from the host.
            let mut set =
                if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::AcqRel) };
            while set != 0 {
                each((offset * 8) as u16 + set.trailing_zeros() as u16);
                set &= set - 1;
            }
        }
    }

    /// Sets the channel's bit for the host.
    pub(crate) fn set(&self, channel: ChannelId) {
        let bit = channel.relid() as usize;
        self.word(HALF_PAGE + bit / 32 * 4).fetch_or(1 << (bit % 32), Ordering::SeqCst);
    }

    /// Pulls a trigger of the guest's monitor page: 0 to 127.
    pub(crate) fn trigger(&self, monitor: u8) {
        let group = usize::from(monitor / 32).min(3);
        let pending = 2 * HV_PAGE_SIZE + TRIGGER_GROUPS + group * TRIGGER_GROUP_BYTES;
        self.word(pending).fetch_or(1 << (monitor % 32), Ordering::SeqCst);
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < self.0.byte_len());
        // SAFETY: every offset above lies in the three pages.
        let word = unsafe { self.0.address().add(offset) };
        // SAFETY: in the buffer and aligned, and reached only by atomics here; the host uses atomics, too.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The host may know the pages: they are not freed.
    pub(super) fn leak(self) {
        let _ = self.0.leak();
    }
}
