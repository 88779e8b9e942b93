//! Multiboot 1 kernels, which most small test kernels are.
//!
//! Source: "Multiboot Specification version 0.6.96" (GNU), whose section numbers are cited here. Where
//! it leaves a choice, this does what QEMU's loader does (`hw/i386/multiboot.c`), since test kernels are
//! written against that: the command line begins with the kernel's name, and so does a module's string.
//!
//! - [`header`]: what the image says of itself
//! - [`info`]: what the kernel is handed

mod header;
mod info;

use std::ops::Range;

pub(super) use self::header::Header;
pub(super) use self::info::write;
use super::elf::{ElfImage, Segment, check_reserved};
use super::error::Problem;
use super::source::Source;
use crate::layout;

/// What EAX holds when the kernel starts (§3.2).
pub const BOOTLOADER_MAGIC: u32 = 0x2BAD_B002;

/// Memory that boot data and the ACPI tables take; all else below 1 MiB is the kernel's.
const RESERVED: Range<u64> = layout::MULTIBOOT_DATA.0..layout::HIGH_RAM_START.0;

/// What to load and where to enter it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Physical address of the first instruction.
    pub(super) entry: u32,
    /// What to load.
    pub(super) segments: Vec<Segment>,
}

impl Kernel {
    /// The kernel in a file with `header`, which is an ELF file if `elf` is there.
    pub(super) fn parse(
        header: &Header,
        elf: Option<&ElfImage>,
        source: &Source<'_>,
    ) -> Result<Self, Problem> {
        header.check_flags()?;
        let (entry, segments) = match (&header.addresses, elf) {
            // The address fields win over ELF headers (§3.1.2, flag 16).
            (Some(addresses), _) => {
                (addresses.entry.into(), vec![addresses.segment(header.offset, source.bytes())?])
            }
            (None, Some(elf)) => (elf.physical_entry(), elf.segments.clone()),
            (None, None) => return Err(Problem::UnknownFormat),
        };
        check_reserved(&segments, &RESERVED)?;
        if !segments.iter().any(|segment| segment.has_bytes_at(entry)) {
            return Err(Problem::EntryNotExecutable { entry });
        }
        let entry = u32::try_from(entry).map_err(|_| Problem::EntryTooHigh { entry })?;
        Ok(Self { entry, segments })
    }
}
