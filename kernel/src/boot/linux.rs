//! The Linux 64-bit boot protocol: `boot_params` (Linux, `Documentation/arch/x86/zero-page.rst`
//! and `boot.rst`).

use super::{BootError, BootInfo, Protocol, read_command_line};
use crate::fixed::Text;
use crate::memory_map::{MAX_ENTRIES, MemoryKind, MemoryMap};
use crate::phys::{PhysMemory, le32, le64};

/// `struct boot_params` is one page.
const BOOT_PARAMS_BYTES: usize = 4096;
const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_CMD_LINE_PTR: usize = 0x0C8;
const E820_ENTRIES: usize = 0x1E8;
const HEADER_MAGIC: usize = 0x202;
const CMD_LINE_PTR: usize = 0x228;
const E820_TABLE: usize = 0x2D0;
const E820_ENTRY_BYTES: usize = 20;

/// "HdrS", in the set-up header of every protocol since 2.00.
const MAGIC: u32 = u32::from_le_bytes(*b"HdrS");

/// Reads the boot parameters at `address`.
///
/// # Errors
/// [`BootError`] for anything that is not what the protocol says.
pub fn parse(memory: &impl PhysMemory, address: u64) -> Result<BootInfo, BootError> {
    let params = memory.bytes::<BOOT_PARAMS_BYTES>(address)?;
    let magic = le32(&params, HEADER_MAGIC);
    if magic != MAGIC {
        return Err(BootError::BadMagic(magic));
    }
    let pointer =
        u64::from(le32(&params, CMD_LINE_PTR)) | u64::from(le32(&params, EXT_CMD_LINE_PTR)) << 32;
    let command_line = match pointer {
        0 => Text::new(),
        at => read_command_line(memory, at)?,
    };
    let rsdp = Some(le64(&params, ACPI_RSDP_ADDR)).filter(|&at| at != 0);
    Ok(BootInfo { protocol: Protocol::Linux64, command_line, memory: read_map(&params)?, rsdp })
}

fn read_map(params: &[u8; BOOT_PARAMS_BYTES]) -> Result<MemoryMap, BootError> {
    let count = params[E820_ENTRIES];
    let error = BootError::MemoryMapEntries(count.into());
    if count == 0 || usize::from(count) > MAX_ENTRIES {
        return Err(error);
    }
    let mut map = MemoryMap::default();
    for index in 0..usize::from(count) {
        let at = E820_TABLE + index * E820_ENTRY_BYTES;
        let kind = MemoryKind(le32(params, at + 16));
        map.push(le64(params, at), le64(params, at + 8), kind).map_err(|_| error)?;
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

    /// Written by hand from `zero-page.rst`; the command line follows the page.
    fn image() -> Vec<u8> {
        let mut m = vec![0u8; 0x1100];
        m[0x070..0x074].copy_from_slice(&[0x00, 0x00, 0x0E, 0x00]);
        m[0x1E8] = 2;
        m[0x202..0x206].copy_from_slice(&[0x48, 0x64, 0x72, 0x53]);
        m[0x228..0x22A].copy_from_slice(&[0x00, 0x10]);
        m[0x2D8..0x2DC].copy_from_slice(&[0x00, 0xFC, 0x09, 0x00]);
        m[0x2E0] = 1;
        m[0x2E4..0x2F0].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0xF0, 0x0F]);
        m[0x2F4] = 1;
        m[0x1000..0x1004].copy_from_slice(b"list");
        m
    }

    #[test]
    fn boot_params_give_command_line_map_and_root_pointer() {
        let info = parse(&Slice(0, &image()), 0).unwrap();
        assert_eq!(info.command_line.as_str(), "list");
        assert_eq!(info.rsdp, Some(0xE0000));
        let ranges: Vec<_> = info.memory.entries().iter().map(|entry| entry.range).collect();
        assert_eq!(ranges, [Range { start: 0, end: 0x9FC00 }, Range::new(0x10_0000, 0xFF0_0000)]);
    }

    #[test]
    fn a_missing_header_is_named() {
        let mut m = image();
        m[0x202] = 0;
        assert_eq!(parse(&Slice(0, &m), 0).unwrap_err(), BootError::BadMagic(0x5372_6400));
    }

    #[test]
    fn absurd_entry_counts_are_errors() {
        for count in [0, 129, 255] {
            let mut m = image();
            m[0x1E8] = count;
            let result = parse(&Slice(0, &m), 0);
            assert_eq!(result.unwrap_err(), BootError::MemoryMapEntries(count.into()));
        }
    }

    #[test]
    fn pointers_beyond_memory_are_errors() {
        let mut m = image();
        m[0x0C8] = 1;
        assert_eq!(parse(&Slice(0, &m), 0).unwrap_err(), BootError::OutOfReach);
        assert_eq!(parse(&Slice(0, &image()[..4095]), 0).unwrap_err(), BootError::OutOfReach);
        assert_eq!(parse(&Slice(0, &image()), u64::MAX - 1).unwrap_err(), BootError::OutOfReach);
    }
}
