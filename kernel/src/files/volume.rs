//! Paths, folders and files of a FAT12, FAT16 or FAT32 volume (Microsoft, *FAT: General Overview of On-Disk Format*, 1.03), read only.
//! It lies in a disk's first partition, or is the whole disk.
//!
//! `embedded-sdmmc` can't be had: with the host's crates beside it, cargo gives its `thiserror` the feature `std` (docs/decisions.md, D8).

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Deref;

use super::FileError;
use super::cache::{BLOCK_BYTES, Cache, Fault};
use super::entry::{ENTRY_BYTES, Names, RawEntry};

/// Entries of a folder that are listed.
const MAX_ENTRIES: usize = 1000;
/// Blocks that a folder may have: 2 MiB (specification §6.1), so that a chain without an end has one.
const MAX_FOLDER_BLOCKS: u32 = 4096;

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The long name where there is one.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes of a file.
    pub bytes: u32,
}

/// An open file: costs nothing but itself.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Its length in bytes.
    pub bytes: u32,
    /// Date and time of its last change, as its entry has them.
    pub modified: u32,
    first: u32,
    /// The cluster that was read last, and its number within the file.
    near: Cell<(u32, u32)>,
}

impl File {
    /// Number of its first cluster: tells it from others of the same volume, empty ones aside.
    pub fn first_cluster(&self) -> u32 {
        self.first
    }
}

/// How the table has the cluster that follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

impl Kind {
    /// The number of clusters tells the two old kinds apart; FAT32 has no 16-bit length of its table. So Linux has it, and the
    /// specification where a volume is large enough for FAT32.
    fn of(clusters: u32, has_short_table: bool) -> Option<Self> {
        match clusters {
            0 => None,
            _ if !has_short_table => Some(Self::Fat32),
            1..4085 => Some(Self::Fat12),
            4085..65_525 => Some(Self::Fat16),
            _ => None,
        }
    }

    /// Clusters that a table of so many blocks has room for. The first two entries are no clusters', and the last numbers are
    /// none.
    fn most_clusters(self, table_blocks: u32) -> u64 {
        let bytes = u64::from(table_blocks) * BLOCK_BYTES as u64;
        let (entries, numbers) = match self {
            Self::Fat12 => (bytes * 2 / 3, LAST_12),
            Self::Fat16 => (bytes / 2, LAST_16),
            Self::Fat32 => (bytes / 4, LAST_32),
        };
        // One more number marks bad clusters.
        entries.min(u64::from(numbers) - 1).saturating_sub(2)
    }
}

/// From this number on an entry ends its chain.
const LAST_12: u32 = 0xFF8;
const LAST_16: u32 = 0xFFF8;
const LAST_32: u32 = 0x0FFF_FFF8;

#[derive(Clone, Copy)]
enum Folder {
    /// The root of the old kinds: so many blocks from there on.
    Fixed(u64, u32),
    Chain(u32),
}

/// A volume. Every operation may end with [`FileError::Missing`], and is then to be tried again.
pub struct Volume<'c, B> {
    cache: &'c Cache<B>,
    kind: Kind,
    cluster_blocks: u32,
    clusters: u32,
    table: u64,
    data: u64,
    root: Folder,
}

fn u16_at(bytes: &[u8; BLOCK_BYTES], at: usize) -> u32 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn u32_at(bytes: &[u8; BLOCK_BYTES], at: usize) -> u32 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

impl<'c, B: Deref<Target = [u8]>> Volume<'c, B> {
    /// The volume in the first partition.
    ///
    /// # Errors
    ///
    /// [`FileError::Broken`] if there is none.
    pub fn open(cache: &'c Cache<B>) -> Result<Self, FileError> {
        let mut block = [0; BLOCK_BYTES];
        read(cache, 0, &mut block)?;
        let is_volume = block[54..57] == *b"FAT" || block[82..85] == *b"FAT";
        let start = if is_volume { 0 } else { u64::from(u32_at(&block, 446 + 8)) };
        if u16_at(&block, 510) != 0xAA55 || (!is_volume && start == 0) {
            return Err(FileError::Broken);
        }
        read(cache, start, &mut block)?;
        Self::from_boot_sector(cache, start, &block).ok_or(FileError::Broken)
    }

    fn from_boot_sector(cache: &'c Cache<B>, start: u64, boot: &[u8; BLOCK_BYTES]) -> Option<Self> {
        let cluster_blocks = u32::from(boot[13]);
        let (reserved, tables) = (u16_at(boot, 14), u32::from(boot[16]));
        let or = |short: u32, long: usize| if short != 0 { short } else { u32_at(boot, long) };
        let (blocks, table_blocks) = (or(u16_at(boot, 19), 32), or(u16_at(boot, 22), 36));
        let root_blocks = (u16_at(boot, 17) * ENTRY_BYTES as u32).div_ceil(BLOCK_BYTES as u32);
        let fits = u16_at(boot, 11) == BLOCK_BYTES as u32 && u16_at(boot, 510) == 0xAA55;
        if !fits || !cluster_blocks.is_power_of_two() || tables == 0 {
            return None;
        }
        let root = reserved.checked_add(tables.checked_mul(table_blocks)?)?;
        let data = root.checked_add(root_blocks)?;
        let clusters = blocks.checked_sub(data)? / cluster_blocks;
        let kind = Kind::of(clusters, u16_at(boot, 22) != 0)?;
        // What the table has no entry for is out of reach.
        let clusters = u64::from(clusters).min(kind.most_clusters(table_blocks)) as u32;
        if clusters == 0 || start.checked_add(blocks.into())? > cache.blocks() {
            return None;
        }
        let is_fat32 = kind == Kind::Fat32;
        // FAT32 may say that only one table is kept.
        let flags = if is_fat32 { u16_at(boot, 40) } else { 0 };
        let active = if flags & 0x80 != 0 { flags & 0xF } else { 0 };
        if active >= tables {
            return None;
        }
        Some(Self {
            cache,
            kind,
            cluster_blocks,
            clusters,
            table: start + u64::from(reserved) + u64::from(active) * u64::from(table_blocks),
            data: start + u64::from(data),
            root: if is_fat32 {
                Folder::Chain(u32_at(boot, 44))
            } else {
                Folder::Fixed(start + u64::from(root), root_blocks)
            },
        })
    }

    /// What a folder holds; hidden things are left out.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub fn list(&self, path: &[String]) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        self.each(self.folder(path)?, |entry, names| {
            if !entry.is_hidden() {
                let (is_folder, bytes) = (entry.is_folder(), entry.bytes());
                entries.push(Entry { name: names.shown(), is_folder, bytes });
            }
            entries.len() < MAX_ENTRIES
        })?;
        Ok(entries)
    }

    /// Whether the path is that of a folder.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`] if there is nothing at all.
    pub fn is_folder(&self, path: &[String]) -> Result<bool, FileError> {
        let Some((name, folder)) = path.split_last() else { return Ok(true) };
        Ok(self.entry(self.folder(folder)?, name)?.is_folder())
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`] also if it is a folder.
    pub fn open_file(&self, path: &[String]) -> Result<File, FileError> {
        let Some((name, folder)) = path.split_last() else { return Err(FileError::NotFound) };
        let entry = self.entry(self.folder(folder)?, name)?;
        if entry.is_folder() {
            return Err(FileError::NotFound);
        }
        let (bytes, first) = (entry.bytes(), self.cluster_of(&entry));
        // What is longer than the volume has no end to be found.
        if u64::from(bytes) > u64::from(self.clusters) * self.cluster_bytes() {
            return Err(FileError::Broken);
        }
        Ok(File { bytes, modified: entry.modified(), first, near: Cell::new((0, first)) })
    }

    fn cluster_of(&self, entry: &RawEntry) -> u32 {
        entry.cluster(self.kind == Kind::Fat32)
    }

    fn cluster_bytes(&self) -> u64 {
        u64::from(self.cluster_blocks) * BLOCK_BYTES as u64
    }

    /// Reads from `offset` on, as much as is in memory; gives the number of bytes, 0 only at the file's end.
    ///
    /// # Errors
    ///
    /// [`FileError`], if there is not even one byte.
    pub fn read(&self, file: &File, offset: u32, bytes: &mut [u8]) -> Result<usize, FileError> {
        let left = file.bytes.saturating_sub(offset) as usize;
        let count = bytes.len().min(left);
        let mut done = 0;
        while done < count {
            match self.read_some(file, u64::from(offset) + done as u64, &mut bytes[done..count]) {
                Ok(more) => done += more,
                Err(FileError::Missing(_)) if done != 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads no further than to the end of a cluster.
    fn read_some(&self, file: &File, at: u64, bytes: &mut [u8]) -> Result<usize, FileError> {
        let (number, within) = (at / self.cluster_bytes(), at % self.cluster_bytes());
        // A file's length has 32 bits.
        let cluster = self.seek(file, number as u32)?;
        let place = self.block_of(cluster)? * BLOCK_BYTES as u64 + within;
        let rest = usize::try_from(self.cluster_bytes() - within).unwrap_or(usize::MAX);
        let most = bytes.len().min(rest);
        self.cache.read_some(place, &mut bytes[..most]).map_err(error_of)
    }

    /// The file's cluster of that number; the chain leads forwards only.
    fn seek(&self, file: &File, number: u32) -> Result<u32, FileError> {
        let mut near = file.near.get();
        if near.0 > number {
            near = (0, file.first);
        }
        while near.0 < number {
            near = (near.0 + 1, self.next(near.1)?.ok_or(FileError::Broken)?);
            // What was found so far need not be found again when something is missing.
            file.near.set(near);
        }
        Ok(near.1)
    }

    fn block_of(&self, cluster: u32) -> Result<u64, FileError> {
        let index = cluster.checked_sub(2).filter(|index| *index < self.clusters);
        let index = index.ok_or(FileError::Broken)?;
        Ok(self.data + u64::from(index) * u64::from(self.cluster_blocks))
    }

    /// The cluster after this one, `None` at the end.
    fn next(&self, cluster: u32) -> Result<Option<u32>, FileError> {
        self.block_of(cluster)?;
        let number = u64::from(cluster);
        let (at, bytes) = match self.kind {
            // Two entries share three bytes.
            Kind::Fat12 => (number + number / 2, 2),
            Kind::Fat16 => (number * 2, 2),
            Kind::Fat32 => (number * 4, 4),
        };
        let mut entry = [0; 4];
        let place = self.table * BLOCK_BYTES as u64 + at;
        self.cache.read_all(place, &mut entry[..bytes]).map_err(error_of)?;
        let entry = u32::from_le_bytes(entry);
        let (value, last) = match self.kind {
            Kind::Fat12 if cluster % 2 == 1 => (entry >> 4, LAST_12),
            Kind::Fat12 => (entry & 0xFFF, LAST_12),
            Kind::Fat16 => (entry, LAST_16),
            Kind::Fat32 => (entry & 0x0FFF_FFFF, LAST_32),
        };
        Ok((value < last).then_some(value))
    }

    fn folder(&self, path: &[String]) -> Result<Folder, FileError> {
        path.iter().try_fold(self.root, |folder, name| {
            let entry = self.entry(folder, name)?;
            let cluster = entry.is_folder().then(|| self.cluster_of(&entry));
            cluster.map(Folder::Chain).ok_or(FileError::NotFound)
        })
    }

    /// The entry of that name, long or short, in any case.
    fn entry(&self, folder: Folder, wanted: &str) -> Result<RawEntry, FileError> {
        let mut found = None;
        self.each(folder, |entry, names| {
            found = names.are(wanted).then_some(entry);
            found.is_none()
        })?;
        found.ok_or(FileError::NotFound)
    }

    /// Hands entries with their names to `body` until it has enough.
    fn each(
        &self,
        folder: Folder,
        mut body: impl FnMut(RawEntry, &Names) -> bool,
    ) -> Result<(), FileError> {
        let mut block = [0; BLOCK_BYTES];
        let mut names = Names::default();
        let mut cluster = if let Folder::Chain(first) = folder { first } else { 0 };
        for number in 0..=MAX_FOLDER_BLOCKS {
            let place = match folder {
                Folder::Fixed(_, blocks) if number >= blocks => return Ok(()),
                Folder::Fixed(start, _) => start + u64::from(number),
                Folder::Chain(_) => {
                    let within = number % self.cluster_blocks;
                    if within == 0 && number != 0 {
                        let Some(next) = self.next(cluster)? else { return Ok(()) };
                        if number == MAX_FOLDER_BLOCKS {
                            return Err(FileError::Broken);
                        }
                        cluster = next;
                    }
                    self.block_of(cluster)? + u64::from(within)
                }
            };
            read(self.cache, place, &mut block)?;
            for bytes in block.as_chunks::<ENTRY_BYTES>().0 {
                let entry = RawEntry(*bytes);
                if entry.is_end() {
                    return Ok(());
                }
                if names.take(&entry) && !body(entry, &names) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn read<B: Deref<Target = [u8]>>(
    cache: &Cache<B>,
    index: u64,
    block: &mut [u8; BLOCK_BYTES],
) -> Result<(), FileError> {
    let position = index.checked_mul(BLOCK_BYTES as u64).ok_or(FileError::Broken)?;
    cache.read_all(position, block).map_err(error_of)
}

fn error_of(fault: Fault) -> FileError {
    match fault {
        Fault::Missing(chunk) => FileError::Missing(chunk),
        Fault::Unreadable => FileError::Broken,
    }
}
