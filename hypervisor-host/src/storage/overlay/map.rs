//! Which clusters of an overlay are in its store: one bit each, and which of these bits the store does not know yet.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stats::lock;
use crate::storage::disk::ByteRange;

/// Bytes that have one bit.
pub const CLUSTER_BYTES: u64 = 4096;
/// Bytes of the disk whose bits are in one word.
pub const WORD_BYTES: u64 = CLUSTER_BYTES * 64;
/// Bytes of the map that are written at a time.
pub const PAGE_BYTES: u64 = 4096;
const PAGE_WORDS: usize = PAGE_BYTES as usize / 8;

/// The bits.
pub struct Map {
    words: Box<[AtomicU64]>,
    /// Pages with bits that are not in the store.
    dirty: Mutex<BTreeSet<usize>>,
}

/// A page of the map as it is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where in the map, in bytes.
    pub offset: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Clusters that adjoin and are in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterRun {
    /// The part of the range asked for.
    pub range: ByteRange,
    /// Whether it is in the store, else in the base.
    pub in_store: bool,
}

/// Bytes of the map of a disk: whole pages.
pub const fn map_bytes(disk_bytes: u64) -> u64 {
    disk_bytes.div_ceil(WORD_BYTES).saturating_mul(8).next_multiple_of(PAGE_BYTES)
}

/// The parts of a range that each have their bits in one word.
pub fn words(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    pieces(range, WORD_BYTES)
}

fn pieces(range: ByteRange, grain: u64) -> impl Iterator<Item = ByteRange> {
    let mut offset = range.offset;
    std::iter::from_fn(move || {
        let end = (offset / grain).saturating_add(1).saturating_mul(grain).min(range.end());
        let piece = ByteRange::new(offset, end.saturating_sub(offset));
        offset = end;
        (piece.length > 0).then_some(piece)
    })
}

impl Map {
    /// No cluster of a disk of so many bytes is in the store.
    pub fn empty(disk_bytes: u64) -> Self {
        Self::from_bytes(&[], disk_bytes)
    }

    /// A map as the store has it. What is missing is zero, what is too much is left out.
    pub fn from_bytes(bytes: &[u8], disk_bytes: u64) -> Self {
        let count = map_bytes(disk_bytes) / 8;
        let mut stored = bytes
            .chunks_exact(8)
            .map(|chunk| chunk.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte)));
        let words = (0..count).map(|_| AtomicU64::new(stored.next().unwrap_or(0))).collect();
        Self { words, dirty: Mutex::default() }
    }

    fn word(&self, offset: u64) -> Option<&AtomicU64> {
        self.words.get((offset / WORD_BYTES) as usize)
    }

    /// Whether all clusters that the range touches are in the store.
    pub fn all_set(&self, range: ByteRange) -> bool {
        words(range).all(|part| {
            let mask = mask(part);
            self.word(part.offset).is_some_and(|word| word.load(Ordering::Acquire) & mask == mask)
        })
    }

    /// All clusters that the range touches are in the store from now on.
    pub fn set(&self, range: ByteRange) {
        for part in words(range) {
            let Some(word) = self.word(part.offset) else { continue };
            // Pairs with the loads that decide where to read: who sees the bit finds the data.
            let old = word.fetch_or(mask(part), Ordering::AcqRel);
            if old & mask(part) != mask(part) {
                let index = (part.offset / WORD_BYTES) as usize;
                lock(&self.dirty).insert(index / PAGE_WORDS);
            }
        }
    }

    /// Where the parts of a range are, in order.
    pub fn runs(&self, range: ByteRange) -> Vec<ClusterRun> {
        let mut runs: Vec<ClusterRun> = Vec::new();
        for cluster in pieces(range, CLUSTER_BYTES) {
            let in_store = self.all_set(cluster);
            match runs.last_mut() {
                Some(last) if last.in_store == in_store => last.range.length += cluster.length,
                _ => runs.push(ClusterRun { range: cluster, in_store }),
            }
        }
        runs
    }

    /// The pages with bits that the store does not have, as they are now; it is taken to have them then.
    pub fn take_dirty(&self) -> Vec<Page> {
        let pages = std::mem::take(&mut *lock(&self.dirty));
        pages.into_iter().map(|page| self.page(page)).collect()
    }

    /// The store did not get these pages after all.
    pub fn put_back(&self, pages: &[Page]) {
        lock(&self.dirty).extend(pages.iter().map(|page| (page.offset / PAGE_BYTES) as usize));
    }

    fn page(&self, index: usize) -> Page {
        let first = index.saturating_mul(PAGE_WORDS);
        let words = self.words.iter().skip(first).take(PAGE_WORDS);
        let bytes = words.flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect();
        Page { offset: index as u64 * PAGE_BYTES, bytes }
    }
}

/// Bits of the clusters that a range within one word touches.
fn mask(range: ByteRange) -> u64 {
    let first = range.offset / CLUSTER_BYTES % 64;
    let last = range.end().saturating_sub(1) / CLUSTER_BYTES % 64;
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn range(offset: u64, length: u64) -> ByteRange {
        ByteRange::new(offset, length)
    }

    #[test]
    fn a_bit_stands_for_each_cluster_touched() {
        assert_eq!(mask(range(0, 1)), 1);
        assert_eq!(mask(range(4095, 2)), 3);
        assert_eq!(mask(range(4096, 4096)), 2);
        assert_eq!(mask(range(63 * 4096, 4096)), 1 << 63);
        assert_eq!(mask(range(0, WORD_BYTES)), u64::MAX);
        assert_eq!(mask(range(WORD_BYTES + 4096, 512)), 2);
    }

    #[test]
    fn maps_are_whole_pages() {
        assert_eq!(map_bytes(512), 4096);
        assert_eq!(map_bytes(GIB / 8), 4096);
        assert_eq!(map_bytes(GIB / 8 + 512), 8192);
        assert_eq!(Map::empty(GIB).words.len(), 4096);
    }

    #[test]
    fn runs_change_where_the_place_does() {
        let map = Map::empty(GIB);
        map.set(range(8192, 4096));
        map.set(range(WORD_BYTES - 4096, 8192));
        let places = |offset, length| {
            let runs = map.runs(range(offset, length));
            runs.iter()
                .map(|run| (run.range.offset, run.range.length, run.in_store))
                .collect::<Vec<_>>()
        };
        assert_eq!(places(512, 512), [(512, 512, false)]);
        assert_eq!(
            places(4096, 12288),
            [(4096, 4096, false), (8192, 4096, true), (12288, 4096, false)]
        );
        assert_eq!(places(WORD_BYTES - 1, 2), [(WORD_BYTES - 1, 2, true)]);
        assert!(places(512, 0).is_empty());
        assert!(!map.all_set(range(8191, 2)) && map.all_set(range(8192, 1)));
    }

    #[test]
    fn only_pages_with_new_bits_are_dirty() {
        let map = Map::empty(GIB);
        map.set(range(0, 512));
        map.set(range(GIB - 512, 512));
        let pages = map.take_dirty();
        let offsets: Vec<_> = pages.iter().map(|page| page.offset).collect();
        assert_eq!(offsets, [0, map_bytes(GIB) - PAGE_BYTES]);
        assert_eq!((pages[0].bytes[0], pages[1].bytes[4095]), (1, 0x80));
        map.set(range(0, 4096));
        assert!(map.take_dirty().is_empty());
        map.put_back(&pages[..1]);
        assert_eq!(map.take_dirty(), pages[..1]);
    }

    #[test]
    fn a_map_is_read_as_it_was_written() {
        let map = Map::empty(GIB / 8);
        map.set(range(70 * 4096, 512));
        let bytes = map.take_dirty().remove(0).bytes;
        let again = Map::from_bytes(&bytes, GIB / 8);
        assert!(again.all_set(range(70 * 4096, 4096)) && !again.all_set(range(69 * 4096, 1)));
        assert!(!Map::from_bytes(&bytes[..4], GIB / 8).all_set(range(70 * 4096, 1)));
    }
}
