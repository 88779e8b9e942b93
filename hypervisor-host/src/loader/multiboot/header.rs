//! The Multiboot header: where it is in a file and what it asks for (§3.1).

use super::super::bytes::u32_at;
use super::super::elf::Segment;
use super::super::error::Problem;
use super::super::source::Source;

/// The header lies within so many bytes (§3.1).
const SEARCH_BYTES: usize = 8192;
const MAGIC: u32 = 0x1BAD_B002;
/// Magic, flags and checksum; with addresses, five fields more.
const PLAIN_BYTES: usize = 12;
const ADDRESSED_BYTES: usize = 32;

/// Flags that a boot loader must obey or refuse the image: page-aligned modules, memory information, and
/// a video mode (§3.1.2).
const MUST_UNDERSTAND: u32 = 0xFFFF;
const PAGE_ALIGN: u32 = 1 << 0;
const MEMORY_INFO: u32 = 1 << 1;
const VIDEO_MODE: u32 = 1 << 2;
/// The address fields are valid.
const ADDRESSES: u32 = 1 << 16;

/// A Multiboot header whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Header {
    /// Where it lies in the file.
    pub(super) offset: u64,
    flags: u32,
    pub(super) addresses: Option<Addresses>,
}

/// Where a flat image goes (§3.1.3). All are physical addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    header: u32,
    load: u32,
    load_end: u32,
    bss_end: u32,
    pub(super) entry: u32,
}

impl Header {
    /// The first header of a file, if it has one. A magic number with a wrong checksum is none.
    pub(in super::super) fn find(source: &Source<'_>) -> Result<Option<Self>, Problem> {
        let mut head = [0; SEARCH_BYTES];
        let length = source.bytes().min(SEARCH_BYTES as u64) as usize;
        let head = head.get_mut(..length).unwrap_or_default();
        source.read_at(0, head)?;
        Ok((0..length).step_by(4).find_map(|offset| Self::at(head, offset)))
    }

    fn at(head: &[u8], offset: usize) -> Option<Self> {
        let bytes = head.get(offset..)?;
        let field = |index: usize| u32_at(bytes, index * 4);
        let sum = field(0).wrapping_add(field(1)).wrapping_add(field(2));
        if bytes.len() < PLAIN_BYTES || field(0) != MAGIC || sum != 0 {
            return None;
        }
        let flags = field(1);
        let has_addresses = flags & ADDRESSES != 0;
        if has_addresses && bytes.len() < ADDRESSED_BYTES {
            return None;
        }
        let addresses = has_addresses.then(|| Addresses {
            header: field(3),
            load: field(4),
            load_end: field(5),
            bss_end: field(6),
            entry: field(7),
        });
        Some(Self { offset: offset as u64, flags, addresses })
    }

    /// Whether the file needs no ELF headers.
    pub(in super::super) fn is_flat(&self) -> bool {
        self.addresses.is_some()
    }

    /// Checks that the image asks for nothing that this host has not.
    pub(super) fn check_flags(&self) -> Result<(), Problem> {
        let required = self.flags & MUST_UNDERSTAND;
        let unknown = required & !(PAGE_ALIGN | MEMORY_INFO | VIDEO_MODE);
        if unknown != 0 {
            Err(Problem::MultibootFlags(unknown))
        } else if required & VIDEO_MODE != 0 {
            Err(Problem::MultibootVideo)
        } else {
            Ok(())
        }
    }
}

impl Addresses {
    /// The one segment of a flat image of `file_bytes` whose header lies at `offset`.
    pub(super) fn segment(&self, offset: u64, file_bytes: u64) -> Result<Segment, Problem> {
        self.extent(offset, file_bytes).ok_or(Problem::MultibootAddresses)
    }

    fn extent(&self, offset: u64, file_bytes: u64) -> Option<Segment> {
        let into = u64::from(self.header.checked_sub(self.load)?);
        let start = offset.checked_sub(into)?;
        // 0 means: to the end of the file, and: no memory beyond that.
        let loaded = match self.load_end {
            0 => file_bytes.checked_sub(start)?,
            end => u64::from(end.checked_sub(self.load)?),
        };
        let memory_bytes = match self.bss_end {
            0 => loaded,
            end => u64::from(end.checked_sub(self.load)?),
        };
        let in_file = start.checked_add(loaded)? <= file_bytes;
        let in_reach = u64::from(self.load) + memory_bytes <= 1 << 32;
        (loaded > 0 && loaded <= memory_bytes && in_file && in_reach).then_some(Segment {
            index: 0,
            offset: start,
            file_bytes: loaded,
            address: self.load.into(),
            virtual_address: self.load.into(),
            memory_bytes,
            executable: true,
        })
    }
}
