//! Linux's bzImage: the setup header and where the compressed kernel wants to be.
//!
//! Field offsets and meanings: "The Linux/x86 Boot Protocol" (`Documentation/x86/boot.rst`). The
//! real-mode code in front of the kernel is not used: the kernel is entered at its 64-bit entry.

use std::ops::Range;

use super::bytes::{u16_at, u32_at, u64_at};
use super::error::Problem;
use super::source::Source;
use crate::layout;

/// `boot_flag`, then the magic number of the header.
const BOOT_FLAG: usize = 0x1FE;
const MAGIC: usize = 0x202;
/// First byte of the setup header, in the file and in `boot_params` alike.
pub(super) const SETUP_HEADER_START: usize = 0x1F1;
/// Where `boot_params` has room for the setup header to end (`edd_mbr_sig_buffer`).
pub(super) const SETUP_HEADER_MAX_END: usize = 0x290;
/// End of `init_size`, the last field that is read here.
const SETUP_HEADER_MIN_END: usize = 0x264;

/// First protocol with `xloadflags`.
const OLDEST_VERSION: u16 = 0x020C;
const LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;
/// The 64-bit entry, from the load address on (boot.rst, "64-bit Boot Protocol").
const ENTRY_OFFSET: u64 = 0x200;
const SECTOR_BYTES: u64 = 512;
const DEFAULT_SETUP_SECTORS: u8 = 4;
const PAGE_BYTES: u64 = 4096;

/// A checked bzImage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BzImage {
    /// The setup header as the file has it, from [`SETUP_HEADER_START`] on.
    pub(super) setup_header: Vec<u8>,
    /// Where the kernel proper starts in the file; it goes to the end.
    pub(super) kernel_offset: u64,
    /// Its length in the file.
    pub(super) kernel_bytes: u64,
    /// Memory it needs before it has read the memory map; it is loaded at the start.
    pub(super) memory: Range<u64>,
    /// Highest address that the initrd's last byte may have.
    pub(super) initrd_max: u64,
    /// Most bytes of command line, without the terminating zero.
    pub(super) command_line_limit: usize,
}

impl BzImage {
    /// Whether `source` has the two magic numbers of a bzImage.
    pub(super) fn recognises(source: &Source<'_>) -> Result<bool, Problem> {
        if !source.contains(0, MAGIC as u64 + 4) {
            return Ok(false);
        }
        let mut bytes = [0; MAGIC + 4 - BOOT_FLAG];
        source.read_at(BOOT_FLAG as u64, &mut bytes)?;
        Ok(bytes.starts_with(&[0x55, 0xAA]) && bytes.ends_with(b"HdrS"))
    }

    /// Reads and checks the setup header.
    pub(super) fn parse(source: &Source<'_>) -> Result<Self, Problem> {
        if !source.contains(0, SETUP_HEADER_MAX_END as u64) {
            return Err(Problem::BzImageTruncated);
        }
        let mut head = [0; SETUP_HEADER_MAX_END];
        source.read_at(0, &mut head)?;
        check_version(&head)?;
        let (kernel_offset, kernel_bytes) = kernel_extent(source, &head)?;
        Ok(Self {
            setup_header: setup_header(&head)?,
            kernel_offset,
            kernel_bytes,
            memory: memory(&head, kernel_bytes)?,
            initrd_max: u64::from(u32_at(&head, 0x22C)),
            command_line_limit: u32_at(&head, 0x238) as usize,
        })
    }

    /// The 64-bit entry point.
    pub(super) fn entry(&self) -> Result<u64, Problem> {
        let entry = self.memory.start.saturating_add(ENTRY_OFFSET);
        if ENTRY_OFFSET >= self.kernel_bytes {
            return Err(Problem::EntryNotExecutable { entry });
        }
        if entry >= layout::HOLE_END {
            return Err(Problem::EntryTooHigh { entry });
        }
        Ok(entry)
    }
}

fn check_version(head: &[u8]) -> Result<(), Problem> {
    let version = u16_at(head, 0x206);
    if version < OLDEST_VERSION {
        return Err(Problem::BzImageTooOld(version));
    }
    if u16_at(head, 0x236) & XLF_KERNEL_64 == 0 {
        return Err(Problem::BzImageNot64Bit);
    }
    // Without this flag it is a zImage, made to run at 64 KiB.
    if head.get(0x211).is_none_or(|flags| flags & LOADED_HIGH == 0) {
        return Err(Problem::BzImageMalformed);
    }
    Ok(())
}

/// The setup header's own bytes; the byte at 0x201 says where it ends (the offset of a short jump).
fn setup_header(head: &[u8]) -> Result<Vec<u8>, Problem> {
    let jump = head.get(0x201).copied().map_or(0, usize::from);
    let end = (MAGIC + jump).min(SETUP_HEADER_MAX_END);
    if end < SETUP_HEADER_MIN_END {
        return Err(Problem::BzImageMalformed);
    }
    head.get(SETUP_HEADER_START..end).map(<[u8]>::to_vec).ok_or(Problem::BzImageMalformed)
}

fn kernel_extent(source: &Source<'_>, head: &[u8]) -> Result<(u64, u64), Problem> {
    let sectors = match head.get(SETUP_HEADER_START).copied() {
        None | Some(0) => DEFAULT_SETUP_SECTORS,
        Some(sectors) => sectors,
    };
    let offset = (u64::from(sectors) + 1) * SECTOR_BYTES;
    // syssize counts 16-byte units; a signature may follow, so the file may be longer.
    let least = u64::from(u32_at(head, 0x1F4)) * 16;
    if least == 0 || !source.contains(offset, least) {
        return Err(Problem::BzImageTruncated);
    }
    let bytes = source.bytes().checked_sub(offset).ok_or(Problem::BzImageTruncated)?;
    Ok((offset, bytes))
}

/// A 64-bit kernel runs at `pref_address` or higher wherever it is loaded, and needs `init_size`
/// bytes from there on, so loading it there asks for the least memory.
fn memory(head: &[u8], kernel_bytes: u64) -> Result<Range<u64>, Problem> {
    let start = u64_at(head, 0x258);
    if start < layout::HIGH_RAM_START.0 || !start.is_multiple_of(PAGE_BYTES) {
        return Err(Problem::BzImageMalformed);
    }
    let bytes = u64::from(u32_at(head, 0x260)).max(kernel_bytes);
    let end = start.checked_add(bytes).ok_or(Problem::BzImageMalformed)?;
    Ok(start..end)
}
