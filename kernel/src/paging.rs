//! Building page tables: an identity map in 2 MiB pages, split into 4 KiB pages where protections differ.

use x86_64::structures::paging::PageTableFlags as Flags;

use crate::PAGE_SIZE;
use crate::memory_map::Range;

/// Bytes in a large page.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;
const ENTRIES: u64 = 512;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// What every entry above the leaves carries: leaves alone decide.
const TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE);

/// Frames that hold page tables.
pub trait TableMemory {
    /// A new table whose entries are all zero; its physical address.
    fn allocate(&mut self) -> Option<u64>;
    /// Entry `index` (0 to 511) of the table at `table`.
    fn read(&self, table: u64, index: u64) -> u64;
    /// Replaces that entry.
    fn write(&mut self, table: u64, index: u64, entry: u64);
}

/// Why a mapping can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// No frame for a table.
    NoMemory,
    /// The range is not whole pages, or beyond the lower half of the address space.
    BadRange,
}

/// An address space in which every virtual address is the physical one.
pub struct IdentityMap<M> {
    memory: M,
    root: u64,
}

impl<M: TableMemory> IdentityMap<M> {
    /// An address space with nothing in it.
    ///
    /// # Errors
    /// [`MapError::NoMemory`].
    pub fn new(mut memory: M) -> Result<Self, MapError> {
        let root = memory.allocate().ok_or(MapError::NoMemory)?;
        Ok(Self { memory, root })
    }

    /// Physical address of the topmost table, for CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `range` with `flags`, whatever was there; present is added.
    ///
    /// # Errors
    /// [`MapError`]; part of the range may be mapped then.
    pub fn map(&mut self, range: Range, flags: Flags) -> Result<(), MapError> {
        self.set(range, Some(flags | Flags::PRESENT))
    }

    /// Takes `range` out of the map.
    ///
    /// # Errors
    /// [`MapError`]; part of the range may be unmapped then.
    pub fn unmap(&mut self, range: Range) -> Result<(), MapError> {
        self.set(range, None)
    }

    /// Maps the frame at `physical` at the 4 KiB page `address`, whatever was there; present is added. What was
    /// there, as flags.
    ///
    /// # Errors
    /// [`MapError`]; nothing has changed then.
    pub fn map_page(
        &mut self,
        address: u64,
        physical: u64,
        flags: Flags,
    ) -> Result<Flags, MapError> {
        let aligned = address.is_multiple_of(PAGE_SIZE) && physical & !ADDRESS == 0;
        if !aligned || address >= 1 << 47 {
            return Err(MapError::BadRange);
        }
        let directory = self.directory(address)?;
        let table = self.split(directory, address)?;
        let before = self.memory.read(table, index(address, 1));
        let entry = physical | (flags | Flags::PRESENT).bits();
        self.memory.write(table, index(address, 1), entry);
        Ok(Flags::from_bits_truncate(before))
    }

    /// Changes the flags of the 4 KiB page `address`; present is added.
    ///
    /// # Errors
    /// [`MapError::BadRange`] if no such page is mapped, [`MapError::NoMemory`]; nothing has changed then.
    pub fn protect_page(&mut self, address: u64, flags: Flags) -> Result<(), MapError> {
        self.flags(address).ok_or(MapError::BadRange)?;
        let directory = self.directory(address)?;
        let table = self.split(directory, address)?;
        let frame = self.memory.read(table, index(address, 1)) & ADDRESS;
        self.map_page(address & !(PAGE_SIZE - 1), frame, flags)?;
        Ok(())
    }

    /// Flags of the page at `address` (with `HUGE_PAGE` for a large one), if it is mapped.
    pub fn flags(&self, address: u64) -> Option<Flags> {
        let mut table = self.root;
        for level in (1..=4).rev() {
            let entry = self.memory.read(table, index(address, level));
            let flags = Flags::from_bits_truncate(entry);
            if !flags.contains(Flags::PRESENT) {
                return None;
            }
            if level == 1 || flags.contains(Flags::HUGE_PAGE) {
                return Some(flags);
            }
            table = entry & ADDRESS;
        }
        None
    }

    fn set(&mut self, range: Range, flags: Option<Flags>) -> Result<(), MapError> {
        let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
        if !aligned || range.start > range.end || range.end > 1 << 47 {
            return Err(MapError::BadRange);
        }
        let mut at = range.start;
        while at < range.end {
            let directory = self.directory(at)?;
            let large_end = (at & !(LARGE_PAGE_SIZE - 1)) + LARGE_PAGE_SIZE;
            let end = large_end.min(range.end);
            let whole = end - at == LARGE_PAGE_SIZE;
            if flags.is_none() && self.memory.read(directory, index(at, 2)) == 0 {
                // Nothing is there, and it takes no table to say so.
            } else if whole && !self.is_split(directory, at) {
                let entry = flags.map_or(0, |flags| at | (flags | Flags::HUGE_PAGE).bits());
                self.memory.write(directory, index(at, 2), entry);
            } else {
                self.set_small(directory, at, end, flags)?;
            }
            at = end;
        }
        Ok(())
    }

    fn set_small(
        &mut self,
        directory: u64,
        mut at: u64,
        end: u64,
        flags: Option<Flags>,
    ) -> Result<(), MapError> {
        let table = self.split(directory, at)?;
        while at < end {
            let entry = flags.map_or(0, |flags| at | flags.bits());
            self.memory.write(table, index(at, 1), entry);
            at += PAGE_SIZE;
        }
        Ok(())
    }

    fn is_split(&self, directory: u64, at: u64) -> bool {
        let entry = Flags::from_bits_truncate(self.memory.read(directory, index(at, 2)));
        entry.contains(Flags::PRESENT) && !entry.contains(Flags::HUGE_PAGE)
    }

    /// The table of 4 KiB pages for `at`, made from the large page or the nothing that was there.
    fn split(&mut self, directory: u64, at: u64) -> Result<u64, MapError> {
        let old = self.memory.read(directory, index(at, 2));
        if self.is_split(directory, at) {
            return Ok(old & ADDRESS);
        }
        let table = self.memory.allocate().ok_or(MapError::NoMemory)?;
        let flags = Flags::from_bits_truncate(old);
        if flags.contains(Flags::PRESENT) {
            let first = at & !(LARGE_PAGE_SIZE - 1);
            let flags = flags - Flags::HUGE_PAGE;
            for page in 0..ENTRIES {
                self.memory.write(table, page, (first + page * PAGE_SIZE) | flags.bits());
            }
        }
        self.memory.write(directory, index(at, 2), table | TABLE.bits());
        Ok(table)
    }

    /// The page directory for `at`.
    fn directory(&mut self, at: u64) -> Result<u64, MapError> {
        let mut table = self.root;
        for level in [4, 3] {
            let entry = self.memory.read(table, index(at, level));
            if entry != 0 {
                table = entry & ADDRESS;
                continue;
            }
            let new = self.memory.allocate().ok_or(MapError::NoMemory)?;
            self.memory.write(table, index(at, level), new | TABLE.bits());
            table = new;
        }
        Ok(table)
    }
}

/// Index of `address` in its table at `level` (1: of pages, 4: topmost).
fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    struct Tables {
        tables: Vec<[u64; 512]>,
        limit: usize,
    }

    impl TableMemory for Tables {
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            self.tables.push([0; 512]);
            Some(self.tables.len() as u64 * PAGE_SIZE)
        }

        fn read(&self, table: u64, index: u64) -> u64 {
            self.tables[(table / PAGE_SIZE) as usize - 1][index as usize]
        }

        fn write(&mut self, table: u64, index: u64, entry: u64) {
            self.tables[(table / PAGE_SIZE) as usize - 1][index as usize] = entry;
        }
    }

    fn identity(limit: usize) -> IdentityMap<Tables> {
        IdentityMap::new(Tables { tables: Vec::new(), limit }).unwrap()
    }

    const DATA: Flags = Flags::WRITABLE.union(Flags::NO_EXECUTE);

    #[test]
    fn aligned_memory_takes_large_pages_and_no_tables_of_small_ones() {
        let mut map = identity(3);
        map.map(Range::new(0, 1 << 30), DATA).unwrap();
        let flags = map.flags(0x1234_5678).unwrap();
        assert_eq!(flags, DATA | Flags::PRESENT | Flags::HUGE_PAGE);
        assert_eq!(map.memory.read(0x3000, 3), 0x8000_0000_0060_0083);
        assert_eq!(map.flags(1 << 30), None);
    }

    #[test]
    fn a_page_inside_a_large_one_can_differ() {
        let mut map = identity(8);
        map.map(Range::new(0, 4 << 20), DATA).unwrap();
        map.map(Range::new(0x20_1000, 0x1000), Flags::empty()).unwrap();
        map.unmap(Range::new(0, 0x1000)).unwrap();
        assert_eq!(map.flags(0xFFF), None);
        assert_eq!(map.flags(0x1000), Some(DATA | Flags::PRESENT));
        assert_eq!(map.flags(0x20_0000), Some(DATA | Flags::PRESENT));
        assert_eq!(map.flags(0x20_1FFF), Some(Flags::PRESENT));
        assert_eq!(map.memory.tables.len(), 5);
        let table = map.memory.read(0x3000, 1) & ADDRESS;
        assert_eq!(map.memory.read(table, 1), 0x20_1001);
        assert_eq!(map.memory.read(table, 511), 0x8000_0000_003F_F003);
    }

    #[test]
    fn a_range_that_ends_inside_large_pages_maps_nothing_beyond() {
        let mut map = identity(8);
        map.map(Range { start: 0x1F_F000, end: 0x40_1000 }, DATA).unwrap();
        for (address, mapped) in
            [(0x1F_E000, false), (0x1F_F000, true), (0x40_0FFF, true), (0x40_1000, false)]
        {
            assert_eq!(map.flags(address).is_some(), mapped, "{address:#x}");
        }
    }

    #[test]
    fn a_split_large_page_stays_split_and_is_rewritten_as_a_whole() {
        let mut map = identity(8);
        map.map(Range::new(0x1000, 0x1000), DATA).unwrap();
        map.map(Range::new(0, 2 << 20), Flags::empty()).unwrap();
        assert_eq!(map.flags(0x1000), Some(Flags::PRESENT));
        map.unmap(Range::new(0, 2 << 20)).unwrap();
        assert_eq!(map.flags(0x1000), None);
    }

    #[test]
    fn a_page_can_show_any_frame_and_keeps_it_when_its_protection_changes() {
        let mut map = identity(8);
        let at = (1 << 45) + 0x3000;
        assert_eq!(map.map_page(at, 0x9000, DATA), Ok(Flags::empty()));
        assert_eq!(map.map_page(at, 0xA000, DATA), Ok(DATA | Flags::PRESENT));
        map.protect_page(at, Flags::NO_EXECUTE).unwrap();
        assert_eq!(map.flags(at), Some(Flags::NO_EXECUTE | Flags::PRESENT));
        // Tables in order: root, two below it, the page table.
        assert_eq!(map.memory.read(0x4000, 3), 0x8000_0000_0000_A001);
        assert_eq!((map.flags(at - 0x1000), map.flags(at + 0x1000)), (None, None));
        map.unmap(Range::new(at, 0x1000)).unwrap();
        assert_eq!(map.flags(at), None);
    }

    #[test]
    fn protecting_a_page_splits_the_large_one_around_it() {
        let mut map = identity(8);
        map.map(Range::new(0, 2 << 20), DATA).unwrap();
        map.protect_page(0x5000, Flags::empty()).unwrap();
        assert_eq!(map.memory.read(0x4000, 5), 0x5001);
        assert_eq!(map.memory.read(0x4000, 6), 0x8000_0000_0000_6003);
    }

    #[test]
    fn pages_that_are_none_are_refused() {
        let mut map = identity(8);
        for (at, frame) in [(0x1001, 0), (1 << 47, 0), (0x1000, 0x10), (0x1000, 1 << 52)] {
            assert_eq!(
                map.map_page(at, frame, DATA),
                Err(MapError::BadRange),
                "{at:#x} {frame:#x}"
            );
        }
        assert_eq!(map.protect_page(0x1000, DATA), Err(MapError::BadRange));
        assert_eq!(identity(1).map_page(0, 0, DATA), Err(MapError::NoMemory));
    }

    #[test]
    fn bad_ranges_and_lack_of_tables_are_errors() {
        let mut map = identity(2);
        assert_eq!(map.map(Range::new(1, 0x1000), DATA), Err(MapError::BadRange));
        assert_eq!(map.map(Range { start: 0x2000, end: 0x1000 }, DATA), Err(MapError::BadRange));
        assert_eq!(map.map(Range::new(1 << 47, 0x1000), DATA), Err(MapError::BadRange));
        assert_eq!(map.map(Range::new(0, 0x1000), DATA), Err(MapError::NoMemory));
    }
}
