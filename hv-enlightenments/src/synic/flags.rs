//! Event flags: bits that the hypervisor sets and the guest clears.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::synic::{HV_EVENT_FLAGS_COUNT, HV_SYNIC_SINT_COUNT};

use super::Sint;

const WORD_BITS: usize = 64;
const WORDS: usize = HV_EVENT_FLAGS_COUNT / WORD_BITS;

/// The page of event flags as both sides see it: 2048 flags of each source.
#[repr(C, align(4096))]
pub struct EventFlagsPage([[AtomicU64; WORDS]; HV_SYNIC_SINT_COUNT]);

const _: () = assert!(size_of::<EventFlagsPage>() == hv_abi::HV_PAGE_SIZE);

impl EventFlagsPage {
    /// A page without flags set.
    pub const fn new() -> Self {
        Self([const { [const { AtomicU64::new(0) }; WORDS] }; HV_SYNIC_SINT_COUNT])
    }

    /// Clears each flag of `sint` that is set and calls `each` with its number, in order.
    ///
    /// Ends however fast flags are set meanwhile: each word is looked at once, and a flag set behind that look
    /// comes with an interrupt of its own.
    pub fn take(&self, sint: Sint, mut each: impl FnMut(u16)) {
        for (index, word) in self.0[sint.index()].iter().enumerate() {
            // Most words are zero: no need to write to the line.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: what the flag announces was written before it was set.
            let mut flags = word.swap(0, Ordering::AcqRel);
            while flags != 0 {
                let bit = flags.trailing_zeros() as usize;
                flags &= flags - 1;
                each((index * WORD_BITS + bit) as u16);
            }
        }
    }

    /// Clears one flag; whether it was set. A flag from 2048 on never is.
    pub fn test_and_clear(&self, sint: Sint, flag: u16) -> bool {
        let Some((word, mask)) = self.find(sint, flag) else { return false };
        word.fetch_and(!mask, Ordering::AcqRel) & mask != 0
    }

    /// Whether a flag is set. A flag from 2048 on never is.
    pub fn is_set(&self, sint: Sint, flag: u16) -> bool {
        self.find(sint, flag).is_some_and(|(word, mask)| word.load(Ordering::Acquire) & mask != 0)
    }

    fn find(&self, sint: Sint, flag: u16) -> Option<(&AtomicU64, u64)> {
        let flag = usize::from(flag);
        let word = self.0[sint.index()].get(flag / WORD_BITS)?;
        Some((word, 1 << (flag % WORD_BITS)))
    }

    /// Sets a flag as the hypervisor does; whether it was clear. For tests and for hypervisors.
    pub fn set(&self, sint: Sint, flag: u16) -> bool {
        let Some((word, mask)) = self.find(sint, flag) else { return false };
        word.fetch_or(mask, Ordering::AcqRel) & mask == 0
    }

    pub(super) fn clear(&self) {
        self.0.iter().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl Default for EventFlagsPage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventFlagsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFlagsPage").finish_non_exhaustive()
    }
}
