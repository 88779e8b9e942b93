//! The send buffer's sections: which are free.
//!
//! **Theory.** The host says how large a section is; the buffer holds as many as fit. A packet names one section, and it
//! is the host's from then until the completion. Channels send and complete at the same time on different processors.
//!
//! **Practice.** One bit for each section, taken and given back by atomic operations on 64 of them at a time. Nobody
//! waits: no free section means that the frame goes another way, or waits for a completion.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More than any buffer needs: 15 MiB, Linux's limit, in sections of 512 bytes.
const MAX_SECTIONS: u32 = 30_720;

/// Number of a section. It is taken, and goes back by [`Sections::free`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section(u32);

impl Section {
    /// As packets name it.
    pub(super) fn index(self) -> u32 {
        self.0
    }
}

/// Which sections are free.
#[derive(Debug)]
pub(super) struct Sections {
    /// A set bit: taken. Bits beyond the last section are set for ever.
    taken: Box<[AtomicU64]>,
    section_bytes: u32,
    /// Word in which to look first.
    hint: AtomicUsize,
}

impl Sections {
    /// A buffer of `buffer_bytes` in sections of `section_bytes`.
    ///
    /// `None` if that makes no section, or the section is smaller than `least_bytes`: the host's choice, so it may be anything.
    pub(super) fn new(buffer_bytes: usize, section_bytes: u32, least_bytes: u32) -> Option<Self> {
        if section_bytes < least_bytes.max(1) {
            return None;
        }
        let count = u32::try_from(buffer_bytes).unwrap_or(u32::MAX) / section_bytes;
        let count = count.min(MAX_SECTIONS);
        if count == 0 {
            return None;
        }
        let word = |word: u32| {
            let here = count.saturating_sub(word * u64::BITS).min(u64::BITS);
            AtomicU64::new(if here == u64::BITS { 0 } else { u64::MAX << here })
        };
        let taken = (0..count.div_ceil(u64::BITS)).map(word).collect();
        Some(Self { taken, section_bytes, hint: AtomicUsize::new(0) })
    }

    /// Bytes in a section.
    pub(super) fn section_bytes(&self) -> u32 {
        self.section_bytes
    }

    /// Where `section` begins in the buffer. It ends inside, too: there are only whole sections.
    pub(super) fn offset(&self, section: Section) -> usize {
        section.0 as usize * self.section_bytes as usize
    }

    /// Takes a free section.
    pub(super) fn take(&self) -> Option<Section> {
        let first = self.hint.load(Ordering::Relaxed);
        let words = self.taken.len();
        (0..words).map(|step| (first + step) % words).find_map(|word| self.take_in(word))
    }

    fn take_in(&self, word: usize) -> Option<Section> {
        let bits = self.taken.get(word)?;
        let mut seen = bits.load(Ordering::Relaxed);
        while seen != u64::MAX {
            let bit = seen.trailing_ones();
            // Acquire: what the last owner did with the section is over (pairs with `free`).
            let old = bits.fetch_or(1 << bit, Ordering::Acquire);
            if old & 1 << bit == 0 {
                self.hint.store(word, Ordering::Relaxed);
                return Some(Section(word as u32 * u64::BITS + bit));
            }
            seen = old;
        }
        None
    }

    /// Gives `section` back.
    pub(super) fn free(&self, section: Section) {
        let (word, bit) = (section.0 / u64::BITS, section.0 % u64::BITS);
        if let Some(bits) = self.taken.get(word as usize) {
            // Release: our use of the section is over for whoever takes it next.
            bits.fetch_and(!(1 << bit), Ordering::Release);
        }
    }

    /// Whether any is free at the moment.
    pub(super) fn any_free(&self) -> bool {
        self.taken.iter().any(|bits| bits.load(Ordering::Relaxed) != u64::MAX)
    }

    /// Sections that are free at the moment.
    #[cfg(test)]
    pub(super) fn free_count(&self) -> u32 {
        self.taken.iter().map(|bits| bits.load(Ordering::Relaxed).count_zeros()).sum()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn every_section_is_handed_out_once() {
        let sections = Sections::new(1 << 20, 6144, 68).unwrap();
        assert_eq!(sections.free_count(), 170);
        let taken: Vec<_> = core::iter::from_fn(|| sections.take()).collect();
        assert_eq!(taken.len(), 170);
        let distinct: BTreeSet<_> = taken.iter().map(|section| section.index()).collect();
        assert_eq!(distinct.len(), 170);
        let last = taken.iter().map(|section| sections.offset(*section) + 6144).max().unwrap();
        assert!(last <= 1 << 20);
        assert_eq!(sections.free_count(), 0);
    }

    #[test]
    fn a_freed_section_is_found_again() {
        let sections = Sections::new(64 * 128, 64, 64).unwrap();
        let taken: Vec<_> = core::iter::from_fn(|| sections.take()).collect();
        assert_eq!(taken.len(), 128);
        for section in [taken[3], taken[127], taken[64]] {
            sections.free(section);
            assert_eq!(sections.free_count(), 1);
            assert_eq!(sections.take(), Some(section));
        }
        assert_eq!(sections.take(), None);
    }

    #[test]
    fn sizes_that_make_no_sense_make_no_sections() {
        assert!(Sections::new(1 << 20, 0, 0).is_none());
        assert!(Sections::new(1 << 20, 67, 68).is_none());
        assert!(Sections::new(1 << 20, (1 << 20) + 1, 68).is_none());
        assert!(Sections::new(1 << 20, u32::MAX, 68).is_none());
        assert!(Sections::new(0, 68, 68).is_none());
    }

    #[test]
    fn tiny_sections_are_limited_in_number() {
        let sections = Sections::new(64 << 20, 1, 1).unwrap();
        assert_eq!(sections.free_count(), MAX_SECTIONS);
    }

    #[test]
    fn threads_never_share_a_section() {
        let sections = Sections::new(100 * 100, 100, 68).unwrap();
        let owners: Vec<_> = (0..100).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let (sections, owners) = (&sections, &owners);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let mine: Vec<_> = (0..30).filter_map(|_| sections.take()).collect();
                        for section in &mine {
                            let owner = &owners[section.index() as usize];
                            assert_eq!(owner.swap(thread, Ordering::Relaxed), 0);
                        }
                        for section in mine {
                            owners[section.index() as usize].store(0, Ordering::Relaxed);
                            sections.free(section);
                        }
                    }
                });
            }
        });
        assert_eq!(sections.free_count(), 100);
    }
}
