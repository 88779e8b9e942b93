//! The machine's memory map, as the boot information gives it, made fit for use.

use crate::PAGE_SIZE;
use crate::fixed::{Full, List};

/// Most entries that a boot protocol may hand over (Linux's `boot_params` has room for 128).
pub const MAX_ENTRIES: usize = 128;

/// What a range of the map is for. The numbers are those of e820 and of PVH alike (ACPI 6.5 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryKind(pub u32);

impl MemoryKind {
    /// RAM that the kernel may use.
    pub const USABLE: Self = Self(1);
    /// Not to be used.
    pub const RESERVED: Self = Self(2);
    /// ACPI tables, usable after they were read.
    pub const ACPI_RECLAIMABLE: Self = Self(3);
}

/// Addresses from `start` up to and without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address after the range.
    pub end: u64,
}

impl Range {
    /// The range of `length` bytes at `start`, cut off where addresses end.
    pub const fn new(start: u64, length: u64) -> Self {
        Self { start, end: start.saturating_add(length) }
    }

    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `other` has a byte in common with it.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether `address` lies in it.
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// The whole pages in it.
    pub const fn inner_pages(&self) -> Self {
        let start = match self.start.checked_next_multiple_of(PAGE_SIZE) {
            Some(start) => start,
            None => return Self { start: 0, end: 0 },
        };
        Self { start, end: self.end & !(PAGE_SIZE - 1) }
    }

    /// All pages that it touches.
    pub const fn outer_pages(&self) -> Self {
        let start = self.start & !(PAGE_SIZE - 1);
        match self.end.checked_next_multiple_of(PAGE_SIZE) {
            Some(end) => Self { start, end },
            None => Self { start, end: !(PAGE_SIZE - 1) },
        }
    }
}

/// One entry of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// Which addresses.
    pub range: Range,
    /// What for.
    pub kind: MemoryKind,
}

/// The map as handed over: any order, overlaps possible.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryMap {
    entries: List<Entry, MAX_ENTRIES>,
}

/// Usable memory: sorted, disjoint, whole pages.
pub type Usable = List<Range, MAX_ENTRIES>;

impl MemoryMap {
    /// Adds an entry; one without bytes is left out.
    ///
    /// # Errors
    /// [`Full`] after [`MAX_ENTRIES`].
    pub fn push(&mut self, start: u64, length: u64, kind: MemoryKind) -> Result<(), Full> {
        let range = Range::new(start, length);
        if range.is_empty() {
            return Ok(());
        }
        self.entries.push(Entry { range, kind })
    }

    /// The entries in the order in which they came.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Usable memory. Where entries contradict one another the one that forbids wins.
    ///
    /// # Errors
    /// [`Full`] if the contradictions leave more than [`MAX_ENTRIES`] pieces.
    pub fn usable(&self) -> Result<Usable, Full> {
        let mut usable = Usable::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == MemoryKind::USABLE) {
            add(&mut usable, entry.range.inner_pages())?;
        }
        for entry in self.entries.iter().filter(|entry| entry.kind != MemoryKind::USABLE) {
            subtract(&mut usable, entry.range.outer_pages())?;
        }
        Ok(usable)
    }
}

/// Unites `range` with sorted, disjoint `ranges`.
fn add(ranges: &mut Usable, range: Range) -> Result<(), Full> {
    if range.is_empty() {
        return Ok(());
    }
    let first = ranges.iter().position(|r| r.end >= range.start).unwrap_or(ranges.len());
    let touching = ranges[first..].iter().take_while(|r| r.start <= range.end).count();
    if touching == 0 {
        return ranges.insert(first, range);
    }
    let last = ranges[first + touching - 1].end;
    ranges[first].start = ranges[first].start.min(range.start);
    ranges[first].end = last.max(range.end);
    ranges[first + 1..].rotate_left(touching - 1);
    ranges.truncate(ranges.len() - (touching - 1));
    Ok(())
}

/// Takes `hole` out of sorted, disjoint `ranges`.
///
/// # Errors
/// [`Full`] if a range would have to be split and there is no room for another.
pub fn subtract(ranges: &mut Usable, hole: Range) -> Result<(), Full> {
    let mut index = 0;
    while let Some(&range) = ranges.get(index) {
        if hole.is_empty() || !range.overlaps(&hole) {
            index += 1;
            continue;
        }
        let before = Range { start: range.start, end: hole.start };
        let after = Range { start: hole.end, end: range.end };
        match (before.is_empty(), after.is_empty()) {
            (true, true) => {
                ranges[index..].rotate_left(1);
                ranges.truncate(ranges.len() - 1);
            }
            (false, true) => ranges[index] = before,
            (true, false) => ranges[index] = after,
            (false, false) => {
                ranges.insert(index + 1, after)?;
                ranges[index] = before;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(u64, u64, u32)]) -> MemoryMap {
        let mut map = MemoryMap::default();
        for &(start, length, kind) in entries {
            map.push(start, length, MemoryKind(kind)).unwrap();
        }
        map
    }

    fn range(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn unsorted_neighbours_are_sorted_and_merged() {
        let map = map(&[(0x3000, 0x1000, 1), (0x1000, 0x1000, 1), (0x2000, 0x1000, 1)]);
        assert_eq!(map.usable().unwrap()[..], [range(0x1000, 0x4000)]);
    }

    #[test]
    fn one_entry_that_covers_many_swallows_them() {
        let map =
            map(&[(0x1000, 0x1000, 1), (0x5000, 0x1000, 1), (0x9000, 0x1000, 1), (0, 0x8000, 1)]);
        assert_eq!(map.usable().unwrap()[..], [range(0, 0x8000), range(0x9000, 0xA000)]);
    }

    #[test]
    fn a_reserved_entry_wins_over_a_usable_one_whatever_the_order() {
        let map = map(&[(0x4800, 0x10, 2), (0, 0x10000, 1), (0xF000, 0x9000, 3)]);
        assert_eq!(map.usable().unwrap()[..], [range(0, 0x4000), range(0x5000, 0xF000)]);
    }

    #[test]
    fn partial_pages_are_not_usable() {
        let map = map(&[(0x800, 0x1000, 1), (0x2001, 0x1FFE, 1)]);
        assert!(map.usable().unwrap().is_empty());
    }

    #[test]
    fn lengths_that_wrap_are_cut_off_at_the_end_of_addresses() {
        let map = map(&[(0x1000, u64::MAX, 1), (0xFFFF_FFFF_FFFF_FFFF, u64::MAX, 1), (5, 0, 1)]);
        assert_eq!(map.usable().unwrap()[..], [range(0x1000, !0xFFF)]);
    }

    #[test]
    fn too_many_pieces_are_reported() {
        let mut map = map(&[(0, 0x1000_0000, 1)]);
        for hole in 0..MAX_ENTRIES as u64 - 1 {
            map.push(0x1000 + hole * 0x2000, 0x1000, MemoryKind::RESERVED).unwrap();
        }
        assert!(map.push(0, 1, MemoryKind::USABLE).is_err());
        assert_eq!(map.usable().unwrap().len(), MAX_ENTRIES);
        let mut usable = map.usable().unwrap();
        assert_eq!(subtract(&mut usable, range(0x0FFF_0000, 0x0FFF_1000)), Err(Full));
    }
}
