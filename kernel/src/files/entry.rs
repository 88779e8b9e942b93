//! Entries of FAT folders, and their long names (*FAT: General Overview of On-Disk Format*, 1.03).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 32;

const HIDDEN: u8 = 0x02;
const SYSTEM: u8 = 0x04;
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
/// First byte of the name of an entry that is no more.
const DELETED: u8 = 0xE5;
/// What stands for that byte in a name that really begins with it.
const ESCAPED: u8 = 0x05;
/// Flags of Windows NT and Linux (`CASE_LOWER_BASE`, `CASE_LOWER_EXT` in `fs/fat/fat.h`): the short name is shown in lower case.
const LOWER_BASE: u8 = 0x08;
const LOWER_ENDING: u8 = 0x10;
/// What the entries of a long name have for attributes.
const LONG: u8 = 0x0F;
const LAST: u8 = 0x40;
/// Where an entry of a long name has its units of UTF-16.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
/// Entries of the longest name: 255 units.
const MAX_PARTS: usize = 20;

/// An entry as it is on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEntry(pub(super) [u8; ENTRY_BYTES]);

impl RawEntry {
    pub(super) fn is_end(&self) -> bool {
        self.0[0] == 0
    }

    pub(super) fn is_folder(&self) -> bool {
        self.0[11] & FOLDER != 0
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.0[11] & (HIDDEN | SYSTEM) != 0
    }

    pub(super) fn bytes(&self) -> u32 {
        u32::from_le_bytes([self.0[28], self.0[29], self.0[30], self.0[31]])
    }

    /// The first cluster; its upper half is there on FAT32 only.
    pub(super) fn cluster(&self, is_fat32: bool) -> u32 {
        let high = if is_fat32 { self.half(20) } else { 0 };
        high << 16 | self.half(26)
    }

    /// Date and time of the last change, as the entry has them.
    pub(super) fn modified(&self) -> u32 {
        self.half(24) << 16 | self.half(22)
    }

    fn half(&self, at: usize) -> u32 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]]).into()
    }

    fn checksum(&self) -> u8 {
        self.0[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
    }

    fn short_name(&self) -> String {
        let text = |bytes: &[u8], is_lower: bool| {
            let case = |byte: u8| if is_lower { byte.to_ascii_lowercase() } else { byte };
            let bytes = bytes.trim_ascii_end().iter();
            bytes.map(|byte| char::from(case(*byte))).collect::<String>()
        };
        let mut base = [0; 8];
        base.copy_from_slice(&self.0[..8]);
        if base[0] == ESCAPED {
            base[0] = DELETED;
        }
        let flags = self.0[12];
        let mut name = text(&base, flags & LOWER_BASE != 0);
        let ending = text(&self.0[8..11], flags & LOWER_ENDING != 0);
        if !ending.is_empty() {
            name.push('.');
            name.push_str(&ending);
        }
        name
    }
}

/// The names of the entry that was seen last.
#[derive(Default)]
pub(super) struct Names {
    units: Vec<u16>,
    /// Parts that are still to come, the last of the name first.
    expected: usize,
    checksum: u8,
    long: Option<String>,
    short: String,
}

impl Names {
    /// Takes the next entry of a folder; whether it is something with a name, which is now known.
    pub(super) fn take(&mut self, entry: &RawEntry) -> bool {
        let RawEntry(bytes) = entry;
        if bytes[0] == DELETED {
            self.units.clear();
            return false;
        }
        if bytes[11] & 0x3F == LONG {
            self.part(bytes);
            return false;
        }
        let whole = self.expected == 0 && self.checksum == entry.checksum();
        let units = self.units.split(|unit| *unit == 0).next().unwrap_or_default();
        self.long = (whole && !units.is_empty()).then(|| String::from_utf16_lossy(units));
        self.units.clear();
        self.short = entry.short_name();
        bytes[11] & VOLUME == 0 && !matches!(&*self.short, "." | "..")
    }

    fn part(&mut self, bytes: &[u8; ENTRY_BYTES]) {
        let number = usize::from(bytes[0] & !LAST);
        if bytes[0] & LAST != 0 && (1..=MAX_PARTS).contains(&number) {
            self.units = vec![0; number * UNITS.len()];
            (self.expected, self.checksum) = (number, bytes[13]);
        }
        if number == 0 || number != self.expected || bytes[13] != self.checksum {
            self.units.clear();
            return;
        }
        self.expected -= 1;
        let place = self.units.chunks_mut(UNITS.len()).nth(self.expected).unwrap_or_default();
        for (unit, at) in place.iter_mut().zip(UNITS) {
            *unit = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        }
    }

    /// The name for a listing.
    pub(super) fn shown(&self) -> String {
        self.long.as_ref().unwrap_or(&self.short).clone()
    }

    /// Whether one of the names is `wanted`, in any case.
    pub(super) fn are(&self, wanted: &str) -> bool {
        self.long.as_deref().is_some_and(|long| same(long, wanted)) || same(&self.short, wanted)
    }
}

fn same(a: &str, b: &str) -> bool {
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}
