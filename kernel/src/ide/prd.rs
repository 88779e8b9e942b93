//! The table that tells a bus master where in memory the data goes (SFF-8038i, *Physical region descriptor*).

use alloc::vec::Vec;

use hv_abi::ata::bus_master::{BOUNDARY, END_OF_TABLE, Prd};
use hv_abi::{HV_PAGE_SIZE, ata::SECTOR_BYTES};

/// Regions that a table of one page holds.
pub const MAX_REGIONS: usize = HV_PAGE_SIZE / size_of::<Prd>();

/// A region as it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    address: u32,
    /// 1 to 65,536.
    bytes: u32,
}

/// The table for `data`, which lies in memory where `gpa` says for each page. `None` if a bus master does not reach it: it has 32 bits of address, of
/// which the last is zero, and [`MAX_REGIONS`].
pub fn table(data: &[u8], gpa: impl Fn(*const u8) -> Option<u64>) -> Option<Vec<Prd>> {
    if data.is_empty() || !data.len().is_multiple_of(2) {
        return None;
    }
    let mut regions: Vec<Region> = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let start = rest.as_ptr();
        let in_page = HV_PAGE_SIZE - start.addr() % HV_PAGE_SIZE;
        let (piece, others) = rest.split_at(in_page.min(rest.len()));
        rest = others;
        let address = gpa(start)?;
        let end = address.checked_add(piece.len() as u64)?;
        let fits = end <= 1 << 32 && address % 2 == 0 && piece.len().is_multiple_of(2);
        let address = u32::try_from(address).ok().filter(|_| fits)?;
        add(&mut regions, Region { address, bytes: piece.len() as u32 });
    }
    if regions.len() > MAX_REGIONS {
        return None;
    }
    let last = regions.len() - 1;
    let entries = regions.iter().enumerate();
    Some(entries.map(|(index, region)| region.entry(index == last)).collect())
}

/// Appends a piece of a page to the region before it, if it lies right behind and no boundary between.
fn add(regions: &mut Vec<Region>, piece: Region) {
    if let Some(last) = regions.last_mut()
        && last.address.checked_add(last.bytes) == Some(piece.address)
        && !piece.address.is_multiple_of(BOUNDARY)
    {
        last.bytes += piece.bytes;
        return;
    }
    regions.push(piece);
}

impl Region {
    fn entry(self, is_last: bool) -> Prd {
        // 65,536 is written as 0.
        let bytes = (self.bytes % BOUNDARY) as u16;
        let flags = if is_last { END_OF_TABLE } else { 0 };
        Prd { address: self.address.into(), bytes: bytes.into(), flags: flags.into() }
    }
}

/// Sectors at the beginning of `sectors` that surely fit into one table, wherever their pages lie.
pub const MAX_SCATTERED_SECTORS: u32 = ((MAX_REGIONS - 1) * HV_PAGE_SIZE / SECTOR_BYTES) as u32;

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    /// A buffer at a page's start, and that start.
    fn pages(count: usize) -> (Vec<u8>, usize) {
        let memory = vec![0; (count + 1) * HV_PAGE_SIZE];
        let start = memory.as_ptr().align_offset(HV_PAGE_SIZE);
        (memory, start)
    }

    fn shown(table: &[Prd]) -> Vec<(u32, u16, u16)> {
        table.iter().map(|it| (it.address.get(), it.bytes.get(), it.flags.get())).collect()
    }

    #[test]
    fn contiguous_memory_is_cut_at_64_kib_boundaries_only() {
        let (memory, start) = pages(32);
        let data = &memory[start..start + 32 * HV_PAGE_SIZE];
        let base = data.as_ptr().addr() as u64;
        let table = table(data, |at| Some(at.addr() as u64 - base + 0x1F000)).unwrap();
        let expected = [(0x1F000, 0x1000, 0), (0x20000, 0, 0), (0x30000, 0xF000, 0x8000)];
        assert_eq!(shown(&table), expected);
    }

    #[test]
    fn scattered_pages_are_regions_of_their_own_and_ends_may_be_anywhere() {
        let (memory, start) = pages(3);
        let data = &memory[start + 0x200..start + 0x2400];
        let base = memory[start..].as_ptr().addr();
        let page = |at: *const u8| (at.addr() - base) as u64;
        // The pages lie in descending order.
        let gpa = |at| Some(0x9000 - page(at) / 0x1000 * 0x2000 + page(at) % 0x1000);
        let table = table(data, gpa).unwrap();
        assert_eq!(
            shown(&table),
            [(0x9200, 0xE00, 0), (0x7000, 0x1000, 0), (0x5000, 0x400, 0x8000)]
        );
    }

    #[test]
    fn what_a_bus_master_can_not_reach_has_no_table() {
        let (memory, start) = pages(2);
        let data = &memory[start..start + HV_PAGE_SIZE];
        assert_eq!(table(data, |_| None), None);
        assert_eq!(table(data, |_| Some(1 << 32)), None);
        assert_eq!(table(data, |_| Some((1 << 32) - 0x800)), None, "its end does not fit");
        assert!(table(data, |_| Some((1 << 32) - 0x1000)).is_some());
        assert_eq!(table(data, |_| Some(u64::MAX)), None);
        assert_eq!(table(data, |_| Some(0x1001)), None, "odd");
        assert_eq!(table(&data[..3], |_| Some(0x1000)), None, "odd");
        assert_eq!(table(&[], |_| Some(0x1000)), None);
        let (memory, start) = pages(MAX_REGIONS + 1);
        let data = &memory[start..start + (MAX_REGIONS + 1) * HV_PAGE_SIZE];
        assert_eq!(table(data, |_| Some(0x1000)), None, "too many regions");
        assert!(table(&data[..MAX_REGIONS * HV_PAGE_SIZE], |_| Some(0x1000)).is_some());
    }

    proptest! {
        #[test]
        fn regions_cover_all_bytes_once_and_cross_no_boundary(
            offset in 0usize..2048,
            words in 1usize..20_000,
            frames in proptest::collection::vec(0u64..64, 12),
        ) {
            let (memory, start) = pages(11);
            let begin = start + offset * 2;
            let end = (begin + words * 2).min(memory.len() & !1);
            let data = &memory[begin..end];
            let base = memory[start..].as_ptr().addr();
            let gpa = |at: *const u8| {
                let at = at.addr() - base;
                Some(frames[at / HV_PAGE_SIZE] * 4096 + (at % HV_PAGE_SIZE) as u64)
            };
            let table = table(data, gpa).unwrap();
            let mut bytes = Vec::new();
            for (index, prd) in table.iter().enumerate() {
                let size = if prd.bytes.get() == 0 { 0x1_0000 } else { u32::from(prd.bytes.get()) };
                let first = prd.address.get();
                prop_assert_eq!(first / BOUNDARY, (first + size - 1) / BOUNDARY);
                prop_assert_eq!(prd.flags.get() == END_OF_TABLE, index + 1 == table.len());
                bytes.extend(first..first + size);
            }
            let expected: Vec<u32> =
                data.iter().map(|byte| gpa(byte).unwrap() as u32).collect();
            prop_assert_eq!(bytes, expected);
        }
    }
}
