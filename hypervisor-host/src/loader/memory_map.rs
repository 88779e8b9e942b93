//! The guest's RAM: what the memory map tells the kernel, and where there is room for an initrd.

use std::ops::Range;

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::layout;

const PAGE_BYTES: u64 = 4096;
/// End of conventional memory; the VGA window of a PC follows.
const CONVENTIONAL_END: u64 = 0xA_0000;

/// What a range is for. The numbers are those of e820 (ACPI 6.5 §15.3) and of PVH's memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Kind {
    /// The guest may use it.
    Ram = 1,
    /// The guest must leave it alone.
    Reserved = 2,
}

/// One range of the memory map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) range: Range<u64>,
    pub(super) kind: Kind,
}

/// The RAM of `memory`: sorted, adjacent regions merged.
pub(super) fn ram<M: GuestMemoryBackend>(memory: &M) -> Vec<Range<u64>> {
    let mut regions: Vec<Range<u64>> = memory
        .iter()
        .map(|region| {
            let start = region.start_addr().raw_value();
            start..start.saturating_add(region.len())
        })
        .collect();
    regions.sort_by_key(|region| region.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(regions.len());
    for region in regions {
        match merged.last_mut() {
            Some(last) if last.end == region.start => last.end = region.end,
            _ => merged.push(region),
        }
    }
    merged
}

/// Sum of the ranges' lengths.
pub(super) fn total_bytes(ram: &[Range<u64>]) -> u64 {
    ram.iter().fold(0, |sum, range| sum.saturating_add(range.end - range.start))
}

/// Whether `wanted` lies within one range of `ram`.
pub(super) fn contains(ram: &[Range<u64>], wanted: &Range<u64>) -> bool {
    ram.iter().any(|range| range.start <= wanted.start && wanted.end <= range.end)
}

/// The memory map of a machine with `ram`, sorted: RAM less the PC's area from 639 KiB to 1 MiB, of
/// which the parts that hold something are reserved.
pub(super) fn entries(ram: &[Range<u64>]) -> Vec<Entry> {
    let usable = ram.iter().flat_map(|range| {
        let low = range.start..range.end.min(layout::LOW_RAM_END);
        let high = range.start.max(layout::HIGH_RAM_START.0)..range.end;
        [low, high]
    });
    let mut entries: Vec<Entry> = usable
        .filter(|range| !range.is_empty())
        .map(|range| Entry { range, kind: Kind::Ram })
        .collect();
    let reserved =
        [layout::LOW_RAM_END..CONVENTIONAL_END, layout::ACPI_START.0..layout::ACPI_END.0];
    entries.extend(reserved.map(|range| Entry { range, kind: Kind::Reserved }));
    entries.sort_by_key(|entry| entry.range.start);
    entries
}

/// The highest page-aligned address of `bytes` free bytes of RAM above 1 MiB that end at or below
/// `limit` and touch none of the `taken` ranges.
pub(super) fn highest_gap(
    bytes: u64,
    limit: u64,
    ram: &[Range<u64>],
    taken: &[Range<u64>],
) -> Option<u64> {
    let is_free = |gap: &Range<u64>| {
        gap.start >= layout::HIGH_RAM_START.0
            && contains(ram, gap)
            && !taken.iter().any(|range| range.start < gap.end && gap.start < range.end)
    };
    // A highest gap ends where something else begins, so only those ends need a look.
    let ends = ram.iter().map(|range| range.end).chain(taken.iter().map(|range| range.start));
    ends.map(|end| end.min(limit))
        .filter_map(|end| {
            let start = end.checked_sub(bytes)?;
            let start = start - start % PAGE_BYTES;
            Some(start..start.checked_add(bytes)?)
        })
        .filter(is_free)
        .map(|gap| gap.start)
        .max()
}
