//! ELF executables for x86, 64-bit or 32-bit: which bytes go where, and where the image may be entered.
//!
//! Parsing is pure: it looks at the file, never at guest memory, and allocates at most
//! [`MAX_PROGRAM_HEADERS`] segments and one note segment of [`MAX_NOTE_BYTES`]. Field offsets are
//! those of the System V ABI, "Object Files", and its i386 and x86-64 supplements.

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

/// Bytes of the larger of the two ELF headers and program headers, those of ELF64.
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const ELFCLASS32: u8 = 1;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const EV_CURRENT: u32 = 1;
const ET_EXEC: u16 = 2;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;

/// A checked ELF executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ElfImage {
    /// 32-bit or 64-bit.
    pub(super) class: Class,
    /// `e_entry`. Not checked yet: PVH doesn't use it.
    pub(super) entry: u64,
    /// Entry of the PVH protocol, if a note has one, or what is wrong with the notes: Multiboot needs none.
    pub(super) pvh_entry: Result<Option<u32>, Problem>,
    /// What to load, in file order; at least one, none overlapping.
    pub(super) segments: Vec<Segment>,
}

/// Which of the two formats a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// ELF32 for the 386.
    Elf32,
    /// ELF64 for x86-64.
    Elf64,
}

impl Class {
    fn header_bytes(self) -> usize {
        match self {
            Self::Elf32 => 52,
            Self::Elf64 => HEADER_BYTES,
        }
    }

    fn program_header_bytes(self) -> u16 {
        match self {
            Self::Elf32 => 32,
            Self::Elf64 => PROGRAM_HEADER_BYTES as u16,
        }
    }

    /// An address, offset or size: at `narrow` in ELF32, at `wide` in ELF64.
    fn word(self, bytes: &[u8], narrow: usize, wide: usize) -> u64 {
        match self {
            Self::Elf32 => u32_at(bytes, narrow).into(),
            Self::Elf64 => u64_at(bytes, wide),
        }
    }

    /// A 2-byte field.
    fn half(self, bytes: &[u8], narrow: usize, wide: usize) -> u16 {
        match self {
            Self::Elf32 => u16_at(bytes, narrow),
            Self::Elf64 => u16_at(bytes, wide),
        }
    }
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
    /// Virtual address: where the entry point counts from in some images.
    pub(super) virtual_address: u64,
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
        self.executable && self.has_bytes_at(address)
    }

    /// Whether a byte of the file lies at the physical `address`.
    pub(super) fn has_bytes_at(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|into| into < self.file_bytes)
    }
}

impl ElfImage {
    /// Reads and checks the headers of an ELF file, which has the right magic number.
    pub(super) fn parse(source: &Source<'_>) -> Result<Self, Problem> {
        let header = Header::read(source)?;
        let Header { class, entry, .. } = header;
        let mut image = Self { class, entry, pvh_entry: Ok(None), segments: Vec::new() };
        for index in 0..header.count {
            let program_header = header.program_header(source, index)?;
            match program_header.kind {
                PT_LOAD => image.segments.extend(segment(source, index, &program_header)?),
                PT_NOTE => image.add_notes(source, index, &program_header),
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err(Problem::NoSegments);
        }
        check_overlaps(&image.segments)?;
        Ok(image)
    }

    /// Checks that no segment lies where the host puts boot data and tables.
    pub(super) fn check_reserved(&self, reserved: &Range<u64>) -> Result<(), Problem> {
        check_reserved(&self.segments, reserved)
    }

    /// The entry as a physical address, whichever of the two `e_entry` is.
    pub(super) fn physical_entry(&self) -> u64 {
        let translated = self.segments.iter().find_map(|segment| {
            let into = self.entry.checked_sub(segment.virtual_address)?;
            (into < segment.file_bytes).then(|| segment.address.saturating_add(into))
        });
        translated.unwrap_or(self.entry)
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

    fn add_notes(&mut self, source: &Source<'_>, index: u16, header: &ProgramHeader) {
        let Ok(found) = self.pvh_entry else { return };
        self.pvh_entry = match (found, read_notes(source, index, header)) {
            (_, Err(problem)) => Err(problem),
            (Some(one), Ok(Some(other))) if one != other => Err(Problem::PvhEntriesDisagree),
            (found, Ok(entry)) => Ok(found.or(entry)),
        };
    }
}

/// The PVH entry in a note segment.
fn read_notes(
    source: &Source<'_>,
    index: u16,
    header: &ProgramHeader,
) -> Result<Option<u32>, Problem> {
    if !source.contains(header.offset, header.file_bytes) {
        return Err(Problem::SegmentOutsideFile(index));
    }
    if header.file_bytes > MAX_NOTE_BYTES {
        return Err(Problem::NotesTooLarge(index));
    }
    let length = usize::try_from(header.file_bytes).map_err(|_| Problem::NotesTooLarge(index))?;
    let mut bytes = vec![0; length];
    source.read_at(header.offset, &mut bytes)?;
    notes::pvh_entry(&bytes, header.alignment, index)
}

/// Checks that none of `segments` touches `reserved`.
pub(super) fn check_reserved(segments: &[Segment], reserved: &Range<u64>) -> Result<(), Problem> {
    let touches = |segment: &&Segment| {
        segment.address < reserved.end && reserved.start < segment.memory().end
    };
    match segments.iter().find(touches) {
        None => Ok(()),
        Some(&Segment { index, address, .. }) => {
            let (start, end) = (reserved.start, reserved.end);
            Err(Problem::SegmentInReservedMemory { index, address, start, end })
        }
    }
}

/// What the ELF header says about the program headers.
struct Header {
    class: Class,
    entry: u64,
    table: u64,
    count: u16,
}

impl Header {
    fn read(source: &Source<'_>) -> Result<Self, Problem> {
        let class = class(source)?;
        let mut bytes = [0; HEADER_BYTES];
        source.read_at(0, bytes.get_mut(..class.header_bytes()).unwrap_or_default())?;
        check_identity(&bytes, class)?;
        let header = Self {
            class,
            entry: class.word(&bytes, 24, 24),
            table: class.word(&bytes, 28, 32),
            count: class.half(&bytes, 44, 56),
        };
        let size = class.half(&bytes, 42, 54);
        if size != class.program_header_bytes() {
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
        let class = self.class;
        let size = class.program_header_bytes();
        let into = u64::from(index) * u64::from(size);
        let offset = self.table.checked_add(into).ok_or(Problem::ProgramHeadersOutsideFile)?;
        let mut bytes = [0; PROGRAM_HEADER_BYTES];
        source.read_at(offset, bytes.get_mut(..usize::from(size)).unwrap_or_default())?;
        let flags_at = if class == Class::Elf32 { 24 } else { 4 };
        Ok(ProgramHeader {
            kind: u32_at(&bytes, 0),
            flags: u32_at(&bytes, flags_at),
            offset: class.word(&bytes, 4, 8),
            virtual_address: class.word(&bytes, 8, 16),
            address: class.word(&bytes, 12, 24),
            file_bytes: class.word(&bytes, 16, 32),
            memory_bytes: class.word(&bytes, 20, 40),
            alignment: class.word(&bytes, 28, 48),
        })
    }
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    virtual_address: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    alignment: u64,
}

/// The class that `e_ident` tells, if the file has a header of its size.
fn class(source: &Source<'_>) -> Result<Class, Problem> {
    if !source.contains(0, 5) {
        return Err(Problem::ElfHeaderTruncated);
    }
    let mut identity = [0; 5];
    source.read_at(0, &mut identity)?;
    let class = match identity[4] {
        ELFCLASS32 => Class::Elf32,
        ELFCLASS64 => Class::Elf64,
        other => return Err(Problem::ElfClass(other)),
    };
    if !source.contains(0, class.header_bytes() as u64) {
        return Err(Problem::ElfHeaderTruncated);
    }
    Ok(class)
}

fn check_identity(bytes: &[u8; HEADER_BYTES], class: Class) -> Result<(), Problem> {
    let identity_version = u32::from(bytes[6]);
    let [kind, machine] = [16, 18].map(|offset| u16_at(bytes, offset));
    let version = u32_at(bytes, 20);
    let right_machine = match class {
        Class::Elf32 => EM_386,
        Class::Elf64 => EM_X86_64,
    };
    if bytes[5] != ELFDATA2LSB {
        Err(Problem::ElfEndian(bytes[5]))
    } else if identity_version != EV_CURRENT {
        Err(Problem::ElfVersion(identity_version))
    } else if (class, machine) == (Class::Elf32, EM_X86_64) {
        // The x32 ABI: 64-bit code with 32-bit pointers.
        Err(Problem::ElfClass(ELFCLASS32))
    } else if machine != right_machine {
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
    Ok(Some(Segment {
        index,
        offset: header.offset,
        file_bytes: header.file_bytes,
        address: header.address,
        virtual_address: header.virtual_address,
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
