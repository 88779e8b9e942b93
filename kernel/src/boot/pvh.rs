//! The PVH boot protocol: `hvm_start_info` (Xen, `public/arch-x86/hvm/start_info.h`).

use super::{BootError, BootInfo, Protocol, read_command_line};
use crate::fixed::Text;
use crate::memory_map::{MAX_ENTRIES, MemoryKind, MemoryMap};
use crate::phys::{PhysMemory, le32, le64};

/// `XEN_HVM_START_MAGIC_VALUE`: "xEn3" with the high bit of the first character set.
const MAGIC: u32 = 0x336E_C578;
/// The first version with `memmap_paddr`.
const VERSION_WITH_MEMORY_MAP: u32 = 1;
/// `sizeof(struct hvm_start_info)`, version 1.
const START_INFO_BYTES: usize = 56;
/// `sizeof(struct hvm_memmap_table_entry)`.
const ENTRY_BYTES: u64 = 24;

/// Reads the start information at `address`.
///
/// # Errors
/// [`BootError`] for anything that is not what the protocol says.
pub fn parse(memory: &impl PhysMemory, address: u64) -> Result<BootInfo, BootError> {
    let info = memory.bytes::<START_INFO_BYTES>(address)?;
    let (magic, version) = (le32(&info, 0), le32(&info, 4));
    if magic != MAGIC {
        return Err(BootError::BadMagic(magic));
    }
    if version < VERSION_WITH_MEMORY_MAP {
        return Err(BootError::OldVersion(version));
    }
    let command_line = match le64(&info, 24) {
        0 => Text::new(),
        at => read_command_line(memory, at)?,
    };
    let rsdp = Some(le64(&info, 32)).filter(|&at| at != 0);
    let map = read_map(memory, le64(&info, 40), le32(&info, 48))?;
    Ok(BootInfo { protocol: Protocol::Pvh, command_line, memory: map, rsdp })
}

fn read_map(memory: &impl PhysMemory, at: u64, count: u32) -> Result<MemoryMap, BootError> {
    if count == 0 || count as usize > MAX_ENTRIES {
        return Err(BootError::MemoryMapEntries(count));
    }
    let mut map = MemoryMap::default();
    for index in 0..u64::from(count) {
        let at = at.checked_add(index * ENTRY_BYTES).ok_or(BootError::OutOfReach)?;
        let entry = memory.bytes::<{ ENTRY_BYTES as usize }>(at)?;
        let kind = MemoryKind(le32(&entry, 16));
        map.push(le64(&entry, 0), le64(&entry, 8), kind)
            .map_err(|_| BootError::MemoryMapEntries(count))?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::memory_map::Range;
    use crate::phys::Slice;

    /// Written by hand from Xen's header: two entries at 0x1100, the command line at 0x1200.
    fn image() -> Vec<u8> {
        let mut m = vec![0u8; 0x300];
        m[0..8].copy_from_slice(&[0x78, 0xC5, 0x6E, 0x33, 1, 0, 0, 0]);
        m[24..32].copy_from_slice(&[0, 0x12, 0, 0, 0, 0, 0, 0]);
        m[32..40].copy_from_slice(&[0xD0, 0x59, 0x0F, 0, 0, 0, 0, 0]);
        m[40..48].copy_from_slice(&[0, 0x11, 0, 0, 0, 0, 0, 0]);
        m[48] = 2;
        m[0x108..0x112].copy_from_slice(&[0, 0xFC, 9, 0, 0, 0, 0, 0, 1, 0]);
        m[0x118..0x12A].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]);
        m[0x200..0x208].copy_from_slice(b"log=warn");
        m
    }

    #[test]
    fn start_info_gives_command_line_map_and_root_pointer() {
        let info = parse(&Slice(0x1000, &image()), 0x1000).unwrap();
        assert_eq!(info.command_line.as_str(), "log=warn");
        assert_eq!(info.rsdp, Some(0xF59D0));
        let ranges: Vec<_> = info.memory.entries().iter().map(|entry| entry.range).collect();
        assert_eq!(ranges, [Range { start: 0, end: 0x9FC00 }, Range::new(0x10_0000, 0x100_0000)]);
    }

    #[test]
    fn wrong_magic_and_version_are_named() {
        let mut wrong = image();
        wrong[0] = 0;
        assert_eq!(parse(&Slice(0, &wrong), 0).unwrap_err(), BootError::BadMagic(0x336E_C500));
        let mut old = image();
        old[4] = 0;
        assert_eq!(parse(&Slice(0, &old), 0).unwrap_err(), BootError::OldVersion(0));
    }

    #[test]
    fn pointers_beyond_memory_are_errors() {
        for offset in [24, 40] {
            let mut m = image();
            m[offset..offset + 8].fill(0xFF);
            assert_eq!(parse(&Slice(0x1000, &m), 0x1000).unwrap_err(), BootError::OutOfReach);
        }
        assert_eq!(parse(&Slice(0, &image()), u64::MAX).unwrap_err(), BootError::OutOfReach);
        assert_eq!(parse(&Slice(0, &image()[..40]), 0).unwrap_err(), BootError::OutOfReach);
    }

    #[test]
    fn absurd_entry_counts_are_errors() {
        for count in [0u32, 129, u32::MAX] {
            let mut m = image();
            m[48..52].copy_from_slice(&count.to_le_bytes());
            let result = parse(&Slice(0x1000, &m), 0x1000);
            assert_eq!(result.unwrap_err(), BootError::MemoryMapEntries(count));
        }
    }

    #[test]
    fn a_command_line_must_end_and_be_utf8() {
        let mut m = image();
        m[0x200] = 0xFF;
        let result = parse(&Slice(0x1000, &m), 0x1000);
        assert_eq!(result.unwrap_err(), BootError::CommandLineEncoding);
        m.truncate(0x200);
        m.resize(0x200 + 2049, b'x');
        m.push(0);
        let result = parse(&Slice(0x1000, &m), 0x1000);
        assert_eq!(result.unwrap_err(), BootError::CommandLineTooLong);
        m.truncate(0x208);
        assert_eq!(parse(&Slice(0x1000, &m), 0x1000).unwrap_err(), BootError::OutOfReach);
    }
}
