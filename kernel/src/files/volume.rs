//! Paths, folders and files of a FAT16 or FAT32 volume (Microsoft, *FAT: General Overview of On-Disk Format*, 1.03), read only.
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
/// Blocks that a folder may have: 2 MiB, so that a chain without an end has one.
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
    first: u32,
    /// The cluster that was read last, and its number within the file.
    near: Cell<(u32, u32)>,
}

#[derive(Clone, Copy)]
enum Folder {
    /// FAT16's root: so many blocks from there on.
    Fixed(u64, u32),
    Chain(u32),
}

/// A volume. Every operation may end with [`FileError::Missing`], and is then to be tried again.
pub struct Volume<'c, B> {
    cache: &'c Cache<B>,
    is_fat32: bool,
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
        // The number of clusters alone tells the kinds apart; FAT12 is for floppies.
        let is_fat32 = clusters >= 65_525;
        if clusters < 4085 || start.checked_add(blocks.into())? > cache.blocks() {
            return None;
        }
        Some(Self {
            cache,
            is_fat32,
            cluster_blocks,
            clusters,
            table: start + u64::from(reserved),
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
        let first = entry.cluster();
        Ok(File { bytes: entry.bytes(), first, near: Cell::new((0, first)) })
    }

    /// Reads from `offset` on; gives the number of bytes, which is less than there is room for only at the file's end.
    ///
    /// # Errors
    ///
    /// [`FileError`]; what is in `bytes` then is nobody's.
    pub fn read(&self, file: &File, offset: u32, bytes: &mut [u8]) -> Result<usize, FileError> {
        let left = file.bytes.saturating_sub(offset) as usize;
        let count = bytes.len().min(left);
        let mut block = [0; BLOCK_BYTES];
        let mut done = 0;
        while done < count {
            let at = offset as usize + done;
            let number = (at / BLOCK_BYTES) as u32;
            let cluster = self.seek(file, number / self.cluster_blocks)?;
            let place = self.block_of(cluster)? + u64::from(number % self.cluster_blocks);
            read(self.cache, place, &mut block)?;
            let rest = &block[at % BLOCK_BYTES..];
            let piece = rest.len().min(count - done);
            bytes[done..done + piece].copy_from_slice(&rest[..piece]);
            done += piece;
        }
        Ok(count)
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
        let bytes = if self.is_fat32 { 4 } else { 2 };
        let at = cluster as usize * bytes;
        let mut block = [0; BLOCK_BYTES];
        read(self.cache, self.table + (at / BLOCK_BYTES) as u64, &mut block)?;
        let at = at % BLOCK_BYTES;
        let (value, last) = if self.is_fat32 {
            (u32_at(&block, at) & 0x0FFF_FFFF, 0x0FFF_FFF8)
        } else {
            (u16_at(&block, at), 0xFFF8)
        };
        Ok((value < last).then_some(value))
    }

    fn folder(&self, path: &[String]) -> Result<Folder, FileError> {
        path.iter().try_fold(self.root, |folder, name| {
            let entry = self.entry(folder, name)?;
            let cluster = entry.is_folder().then(|| entry.cluster());
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
        for number in 0..MAX_FOLDER_BLOCKS {
            let place = match folder {
                Folder::Fixed(_, blocks) if number >= blocks => return Ok(()),
                Folder::Fixed(start, _) => start + u64::from(number),
                Folder::Chain(_) => {
                    let within = number % self.cluster_blocks;
                    if within == 0 && number != 0 {
                        let Some(next) = self.next(cluster)? else { return Ok(()) };
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
    cache.read_block(index, block).map_err(|fault| match fault {
        Fault::Missing(chunk) => FileError::Missing(chunk),
        Fault::Unreadable => FileError::Broken,
    })
}
