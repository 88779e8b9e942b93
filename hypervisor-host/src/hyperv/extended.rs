//! Extended hypercalls (TLFS *Extended Hypercall Interface*): what there is of them, and the memory that is
//! zero anyway.
//!
//! Memory that the guest was given but that neither the loader nor anybody since has touched is known to be
//! zero, because the operating system will zero it when it is touched; `/proc/self/pagemap` tells which
//! (Linux, `Documentation/admin-guide/mm/pagemap.rst`). Heat hints are not offered.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::extended::{
    ExtendedCapabilities, HV_BOOT_ZEROED_RANGES_MAX, HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY,
    HV_EXT_CALL_QUERY_CAPABILITIES, HvBootZeroedRange, HvExtOutputBootZeroedMemory,
};
use hv_abi::hypercall::{HvError, HypercallInput};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};
use zerocopy::{FromZeros, IntoBytes};

/// The first call code that is an extended one.
pub const FIRST_CODE: u16 = 0x8000;

const PAGE_BYTES: u64 = HV_PAGE_SIZE as u64;
/// Entries of the page map that are read at once.
const ENTRIES: usize = 4096;

/// Answers an extended call of a guest that has the privilege; `output` is the address for its output.
///
/// # Errors
/// The status for the guest.
pub fn answer(input: HypercallInput, output: u64, memory: &GuestMemoryMmap) -> Result<(), HvError> {
    match input.code() {
        HV_EXT_CALL_QUERY_CAPABILITIES => {
            check(input, output, size_of::<ExtendedCapabilities>())?;
            let offered = ExtendedCapabilities::BOOT_ZEROED_MEMORY;
            write(memory, output, offered.bits().as_bytes())
        }
        HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY => {
            check(input, output, size_of::<HvExtOutputBootZeroedMemory>())?;
            // Where the page map can't be read, nothing is known to be zero.
            let ranges = untouched(memory).unwrap_or_default();
            write(memory, output, listed(ranges).as_bytes())
        }
        _ => Err(HvError::INVALID_HYPERCALL_CODE),
    }
}

/// Whether there is such a call at all.
pub fn is_known(code: u16) -> bool {
    [HV_EXT_CALL_QUERY_CAPABILITIES, HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY].contains(&code)
}

/// Simple calls with output in memory, which lies within a page (TLFS *Hypercall Inputs*, *Alignment*).
fn check(input: HypercallInput, output: u64, bytes: usize) -> Result<(), HvError> {
    let simple = input.rep_count() == 0 && input.rep_start() == 0;
    if input.0 & HypercallInput::RESERVED != 0
        || input.is_fast()
        || input.variable_header_qwords() != 0
        || !simple
    {
        return Err(HvError::INVALID_HYPERCALL_INPUT);
    }
    if !output.is_multiple_of(8) || output % PAGE_BYTES + bytes as u64 > PAGE_BYTES {
        return Err(HvError::INVALID_ALIGNMENT);
    }
    Ok(())
}

fn write(memory: &GuestMemoryMmap, output: u64, bytes: &[u8]) -> Result<(), HvError> {
    let written = memory.write_slice(bytes, GuestAddress(output));
    written.map_err(|_| HvError::INVALID_PARAMETER)
}

/// The largest ranges first, as many as fit.
fn listed(mut ranges: Vec<HvBootZeroedRange>) -> HvExtOutputBootZeroedMemory {
    ranges.sort_by_key(|range| (std::cmp::Reverse(range.page_count), range.start_gpa_page));
    ranges.truncate(HV_BOOT_ZEROED_RANGES_MAX);
    let mut output = HvExtOutputBootZeroedMemory::new_zeroed();
    output.range_count = ranges.len() as u64;
    output.ranges[..ranges.len()].copy_from_slice(&ranges);
    output
}

/// Ranges of guest RAM that nobody has touched.
fn untouched(memory: &GuestMemoryMmap) -> io::Result<Vec<HvBootZeroedRange>> {
    let page_map = File::open("/proc/self/pagemap")?;
    let mut ranges = Vec::new();
    for region in memory.iter() {
        let start = region.start_addr().raw_value() / PAGE_BYTES;
        let pages = region.len() / PAGE_BYTES;
        let host = region.as_ptr().addr() as u64 / PAGE_BYTES;
        collect(&page_map, host, start, pages, &mut ranges)?;
    }
    Ok(ranges)
}

fn collect(
    page_map: &File,
    host_page: u64,
    guest_page: u64,
    pages: u64,
    ranges: &mut Vec<HvBootZeroedRange>,
) -> io::Result<()> {
    const ENTRY_BYTES: usize = size_of::<u64>();
    let mut bytes = vec![0; ENTRIES * ENTRY_BYTES];
    let mut open: Option<HvBootZeroedRange> = None;
    for first in (0..pages).step_by(ENTRIES) {
        let count = (pages - first).min(ENTRIES as u64) as usize;
        let entries = &mut bytes[..count * ENTRY_BYTES];
        page_map.read_exact_at(entries, (host_page + first) * ENTRY_BYTES as u64)?;
        for (page, entry) in (guest_page + first..).zip(entries.chunks_exact(ENTRY_BYTES)) {
            if is_touched(entry) {
                ranges.extend(open.take());
            } else {
                let new = HvBootZeroedRange { start_gpa_page: page, page_count: 0 };
                open.get_or_insert(new).page_count += 1;
            }
        }
    }
    ranges.extend(open);
    Ok(())
}

/// Bit 63 of an entry says that the page is in memory, bit 62 that it is swapped out.
fn is_touched(entry: &[u8]) -> bool {
    entry.last().is_some_and(|&byte| byte & 0xC0 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RamSize;
    use crate::partition::memory::GuestRam;

    const QUERY: u64 = 0x8001;
    const ZEROED: u64 = 0x8002;

    fn ask(code: u64, output: u64, memory: &GuestMemoryMmap) -> Result<(), HvError> {
        answer(HypercallInput(code), output, memory)
    }

    #[test]
    fn boot_zeroed_memory_is_what_there_is() {
        let ram = GuestRam::new(RamSize::new(2 << 20).unwrap()).unwrap();
        ask(QUERY, 0x1000, ram.guest()).unwrap();
        assert_eq!(ram.guest().read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 1);
        assert!(is_known(0x8002) && !is_known(0x8003) && !is_known(0x8000));
    }

    #[test]
    fn ranges_hold_untouched_pages_only() {
        const PAGES: u64 = 16 << 20 >> 12;
        let ram = GuestRam::new(RamSize::new(16 << 20).unwrap()).unwrap();
        let touched = [0x10_0000, 0x80_0000, 0x1000];
        for address in touched {
            ram.guest().write_obj(1_u8, GuestAddress(address)).unwrap();
        }
        ask(ZEROED, 0x1000, ram.guest()).unwrap();
        let word = |at: u64| ram.guest().read_obj::<u64>(GuestAddress(0x1000 + at * 8)).unwrap();
        let count = word(0);
        let ranges: Vec<_> = (0..count).map(|at| (word(1 + at * 2), word(2 + at * 2))).collect();
        assert!(!ranges.is_empty());
        assert!(ranges.is_sorted_by_key(|&(_, pages)| std::cmp::Reverse(pages)));
        for &(start, pages) in &ranges {
            assert!(start + pages <= PAGES && pages != 0, "{ranges:x?}");
            let free = touched.iter().all(|at| !(start..start + pages).contains(&(at >> 12)));
            assert!(free, "{ranges:x?}");
        }
        // Large pages hide at most 2 MiB around each.
        let total: u64 = ranges.iter().map(|(_, pages)| pages).sum();
        assert!(total >= PAGES - 3 * 512, "{total}");
    }

    #[test]
    fn more_ranges_than_fit_keep_the_largest() {
        let ranges =
            (1..=300).map(|n| HvBootZeroedRange { start_gpa_page: n * 1000, page_count: n });
        let output = listed(ranges.collect());
        assert_eq!(output.range_count, 255);
        assert_eq!((output.ranges[0].page_count, output.ranges[254].page_count), (300, 46));
    }

    #[test]
    fn malformed_calls_are_refused_and_write_nothing() {
        let ram = GuestRam::new(RamSize::new(2 << 20).unwrap()).unwrap();
        let input = Err(HvError::INVALID_HYPERCALL_INPUT);
        for wrong in [1 << 16, 1 << 17, 1 << 27, 1 << 32, 1 << 48, 1 << 63] {
            assert_eq!(ask(QUERY | wrong, 0x1000, ram.guest()), input, "{wrong:#x}");
        }
        let alignment = Err(HvError::INVALID_ALIGNMENT);
        assert_eq!(ask(QUERY, 0x1004, ram.guest()), alignment);
        assert_eq!(ask(ZEROED, 0x1010, ram.guest()), alignment);
        assert_eq!(ask(ZEROED, 0x1008, ram.guest()), Ok(()), "0xFF8 bytes fit");
        let outside = Err(HvError::INVALID_PARAMETER);
        assert_eq!(ask(QUERY, 2 << 20, ram.guest()), outside);
        assert_eq!(ask(QUERY, !7, ram.guest()), outside);
        let unknown = Err(HvError::INVALID_HYPERCALL_CODE);
        assert_eq!(ask(0x8003, 0x1000, ram.guest()), unknown);
        assert_eq!(ask(0xFFFF, 0x1000, ram.guest()), unknown);
    }
}
