//! ELF64 executables for x86-64: which bytes go where, and where the image may be entered.
//!
//! Parsing is pure: it looks at the file, never at guest memory, and allocates at most
//! [`MAX_PROGRAM_HEADERS`] segments and one note segment of [`MAX_NOTE_BYTES`]. Field offsets are
//! those of the System V ABI, "Object Files" (ELF-64), and its x86-64 supplement.

use std::ops::Range;

use super::bytes::{u16_at, u32_at, u64_at};
use super::error::Problem;
use super::notes;
use super::source::Source;
use crate::layout;

/// More program headers than any kernel has (Linux has five).
pub(super) const MAX_PROGRAM_HEADERS: u16 = 128;
/// Largest note segment that is read.
pub(super) const MAX_NOTE_BYTES: u64 = 64 << 10;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const EV_CURRENT: u32 = 1;
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;

/// A checked ELF executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ElfImage {
    /// `e_entry`, taken as a physical address. Not checked yet: PVH doesn't use it.
    pub(super) entry: u64,
    /// Entry of the PVH protocol, if a note has one.
    pub(super) pvh_entry: Option<u32>,
    /// What to load, in file order; at least one, none overlapping, all at 1 MiB or higher.
    pub(super) segments: Vec<Segment>,
}

/// One `PT_LOAD` segment that takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Number of its program header.
    pub(super) index: u16,
    /// Where its bytes lie in the file.
    pub(super) offset: u64,
    /// How many bytes the file has; the rest of its memory is zero.
    pub(super) file_bytes: u64,
    /// Physical address.
    pub(super) address: u64,
    /// Size in memory, at least `file_bytes` and 1.
    pub(super) memory_bytes: u64,
    /// Whether it holds code.
    pub(super) executable: bool,
}

impl Segment {
    /// The physical addresses that it takes. Can't overflow: `segment` has checked the sum.
    pub(super) fn memory(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.memory_bytes)
    }

    fn has_code_at(&self, address: u64) -> bool {
        self.executable
            && address.checked_sub(self.address).is_some_and(|into| into < self.file_bytes)
    }
}

impl ElfImage {
    /// Reads and checks the headers of an ELF file, which has the right magic number.
    pub(super) fn parse(source: &Source<'_>) -> Result<Self, Problem> {
        let header = Header::read(source)?;
        let mut image = Self { entry: header.entry, pvh_entry: None, segments: Vec::new() };
        for index in 0..header.count {
            let program_header = header.program_header(source, index)?;
            match program_header.kind {
                PT_LOAD => image.segments.extend(segment(source, index, &program_header)?),
                PT_NOTE => image.add_notes(source, index, &program_header)?,
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err(Problem::NoSegments);
        }
        check_overlaps(&image.segments)?;
        Ok(image)
    }

    /// Checks that code from the file lies at `entry`, within reach of the first page tables.
    pub(super) fn check_entry(&self, entry: u64) -> Result<(), Problem> {
        if !self.segments.iter().any(|segment| segment.has_code_at(entry)) {
            return Err(Problem::EntryNotExecutable { entry });
        }
        if entry >= layout::HOLE_END {
            return Err(Problem::EntryTooHigh { entry });
        }
        Ok(())
    }

    fn add_notes(
        &mut self,
        source: &Source<'_>,
        index: u16,
        header: &ProgramHeader,
    ) -> Result<(), Problem> {
        if !source.contains(header.offset, header.file_bytes) {
            return Err(Problem::SegmentOutsideFile(index));
        }
        if header.file_bytes > MAX_NOTE_BYTES {
            return Err(Problem::NotesTooLarge(index));
        }
        let length =
            usize::try_from(header.file_bytes).map_err(|_| Problem::NotesTooLarge(index))?;
        let mut bytes = vec![0; length];
        source.read_at(header.offset, &mut bytes)?;
        if let Some(entry) = notes::pvh_entry(&bytes, header.alignment, index)? {
            if self.pvh_entry.is_some_and(|other| other != entry) {
                return Err(Problem::PvhEntriesDisagree);
            }
            self.pvh_entry = Some(entry);
        }
        Ok(())
    }
}

/// What the ELF header says about the program headers.
struct Header {
    entry: u64,
    table: u64,
    count: u16,
}

impl Header {
    fn read(source: &Source<'_>) -> Result<Self, Problem> {
        if source.bytes() < HEADER_BYTES as u64 {
            return Err(Problem::ElfHeaderTruncated);
        }
        let mut bytes = [0; HEADER_BYTES];
        source.read_at(0, &mut bytes)?;
        check_identity(&bytes)?;
        let header = Self {
            entry: u64_at(&bytes, 24),
            table: u64_at(&bytes, 32),
            count: u16_at(&bytes, 56),
        };
        let size = u16_at(&bytes, 54);
        if size != PROGRAM_HEADER_BYTES {
            return Err(Problem::ProgramHeaderSize(size));
        }
        if header.count == 0 || header.count > MAX_PROGRAM_HEADERS {
            return Err(Problem::ProgramHeaderCount(header.count));
        }
        if !source.contains(header.table, u64::from(header.count) * u64::from(size)) {
            return Err(Problem::ProgramHeadersOutsideFile);
        }
        Ok(header)
    }

    fn program_header(&self, source: &Source<'_>, index: u16) -> Result<ProgramHeader, Problem> {
        let mut bytes = [0; PROGRAM_HEADER_BYTES as usize];
        let into = u64::from(index) * u64::from(PROGRAM_HEADER_BYTES);
        let offset = self.table.checked_add(into).ok_or(Problem::ProgramHeadersOutsideFile)?;
        source.read_at(offset, &mut bytes)?;
        Ok(ProgramHeader {
            kind: u32_at(&bytes, 0),
            flags: u32_at(&bytes, 4),
            offset: u64_at(&bytes, 8),
            address: u64_at(&bytes, 24),
            file_bytes: u64_at(&bytes, 32),
            memory_bytes: u64_at(&bytes, 40),
            alignment: u64_at(&bytes, 48),
        })
    }
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    alignment: u64,
}

fn check_identity(bytes: &[u8; HEADER_BYTES]) -> Result<(), Problem> {
    let identity_version = u32::from(bytes[6]);
    let [kind, machine] = [16, 18].map(|offset| u16_at(bytes, offset));
    let version = u32_at(bytes, 20);
    if bytes[4] != ELFCLASS64 {
        Err(Problem::ElfClass(bytes[4]))
    } else if bytes[5] != ELFDATA2LSB {
        Err(Problem::ElfEndian(bytes[5]))
    } else if identity_version != EV_CURRENT {
        Err(Problem::ElfVersion(identity_version))
    } else if machine != EM_X86_64 {
        Err(Problem::ElfMachine(machine))
    } else if kind != ET_EXEC {
        Err(Problem::ElfType(kind))
    } else if version != EV_CURRENT {
        Err(Problem::ElfVersion(version))
    } else {
        Ok(())
    }
}

/// The segment of a `PT_LOAD` header; `None` if it takes no memory.
fn segment(
    source: &Source<'_>,
    index: u16,
    header: &ProgramHeader,
) -> Result<Option<Segment>, Problem> {
    if header.file_bytes > header.memory_bytes {
        return Err(Problem::SegmentFileSize(index));
    }
    if header.offset.checked_add(header.file_bytes).is_none()
        || header.address.checked_add(header.memory_bytes).is_none()
    {
        return Err(Problem::SegmentWraps(index));
    }
    if !source.contains(header.offset, header.file_bytes) {
        return Err(Problem::SegmentOutsideFile(index));
    }
    if header.memory_bytes == 0 {
        return Ok(None);
    }
    if header.address < layout::HIGH_RAM_START.0 {
        return Err(Problem::SegmentInReservedMemory { index, address: header.address });
    }
    Ok(Some(Segment {
        index,
        offset: header.offset,
        file_bytes: header.file_bytes,
        address: header.address,
        memory_bytes: header.memory_bytes,
        executable: header.flags & PF_X != 0,
    }))
}

fn check_overlaps(segments: &[Segment]) -> Result<(), Problem> {
    let mut sorted: Vec<&Segment> = segments.iter().collect();
    sorted.sort_by_key(|segment| segment.address);
    for pair in sorted.windows(2) {
        if let [low, high] = pair
            && low.memory().end > high.address
        {
            let (first, second) = (low.index.min(high.index), low.index.max(high.index));
            return Err(Problem::SegmentsOverlap(first, second));
        }
    }
    Ok(())
}
