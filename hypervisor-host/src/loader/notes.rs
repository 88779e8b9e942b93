//! The PVH entry point in an ELF image's notes (`XEN_ELFNOTE_PHYS32_ENTRY`).
//!
//! Source: `xen/include/public/elfnote.h`; `arch/x86/platform/pvh/head.S` of Linux writes it with an
//! 8-byte value, other kernels with 4 bytes.

use super::bytes::u32_at;
use super::error::Problem;

const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
const XEN_NAME: &[u8] = b"Xen\0";
const NOTE_HEADER_BYTES: usize = 12;

/// Finds the PVH entry among `notes`, the content of note segment `index` with `p_align` `alignment`.
///
/// Every note must lie within the segment, the last one's padding excepted.
pub(super) fn pvh_entry(
    mut notes: &[u8],
    alignment: u64,
    index: u16,
) -> Result<Option<u32>, Problem> {
    // Names and values are padded to 4 bytes; linkers use 8 only where p_align says so.
    let alignment = if alignment == 8 { 8 } else { 4 };
    let mut found = None;
    while !is_padding(notes) {
        let (note, rest) = split_note(notes, alignment).ok_or(Problem::NotesMalformed(index))?;
        if note.kind == XEN_ELFNOTE_PHYS32_ENTRY && note.name == XEN_NAME {
            let entry = entry_value(note.value).ok_or(Problem::NotesMalformed(index))?;
            if found.is_some_and(|other| other != entry) {
                return Err(Problem::PvhEntriesDisagree);
            }
            found = Some(entry);
        }
        notes = rest;
    }
    Ok(found)
}

/// Whether too few bytes for a note are left, all zero: what a linker script's `ALIGN` leaves behind.
fn is_padding(rest: &[u8]) -> bool {
    rest.len() < NOTE_HEADER_BYTES && rest.iter().all(|&byte| byte == 0)
}

struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    value: &'a [u8],
}

/// The first note and what follows it, which is shorter by at least the note's header.
fn split_note(notes: &[u8], alignment: usize) -> Option<(Note<'_>, &[u8])> {
    let header: &[u8; NOTE_HEADER_BYTES] = notes.first_chunk()?;
    let name_bytes = usize::try_from(u32_at(header, 0)).ok()?;
    let value_bytes = usize::try_from(u32_at(header, 4)).ok()?;
    let name_end = NOTE_HEADER_BYTES.checked_add(name_bytes)?;
    let value_start = name_end.checked_next_multiple_of(alignment)?;
    let value_end = value_start.checked_add(value_bytes)?;
    let name = notes.get(NOTE_HEADER_BYTES..name_end)?;
    let value = if value_bytes == 0 { &[] } else { notes.get(value_start..value_end)? };
    let next = value_end.checked_next_multiple_of(alignment)?.min(notes.len());
    Some((Note { kind: u32_at(header, 8), name, value }, notes.get(next..)?))
}

/// A 4-byte or 8-byte little-endian address below 4 GiB.
fn entry_value(value: &[u8]) -> Option<u32> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(u32::from_le_bytes(bytes));
    }
    let bytes = <[u8; 8]>::try_from(value).ok()?;
    u32::try_from(u64::from_le_bytes(bytes)).ok()
}
