//! Images made by foreign tools, kept as what is not zero in them.
//!
//! `cargo test -p kernel make_fixtures -- --ignored` makes them anew, with `mkfs.vfat` and `mcopy`. A fixture is a list of runs of
//! sectors: first sector, number, and [`RAW`] with the bytes, [`LARGE`] with the first sector of the large file that lies there, or
//! [`COPY`] with the first sector of an earlier run that is the same; all numbers have 32 bits, little-endian. The first number is
//! that of the image's sectors.

use std::collections::BTreeMap;
use std::process::Command;
use std::string::String;
use std::vec::Vec;
use std::{env, format, fs, vec};

use crate::files::FileError;
use crate::files::cache::{CHUNK_BYTES, Cache, Chunk};

pub(crate) const SECTOR: usize = 512;
/// Where the partition of the image with a partition begins, in sectors.
pub(crate) const FIRST: usize = 2048;
/// Bytes of the large file: a number that is no multiple of anything.
pub(crate) const LARGE_BYTES: usize = 1_234_567;
pub(crate) const LONG_NAME: &str = "A file with a rather long name, in which there are spaces.txt";

const RAW: u32 = 0;
const LARGE: u32 = 1;
const COPY: u32 = 2;

const FAT12: &[u8] = include_bytes!("fixtures/fat12");
const FAT16: &[u8] = include_bytes!("fixtures/fat16");
const FAT32: &[u8] = include_bytes!("fixtures/fat32");

pub(crate) fn large() -> Vec<u8> {
    (0..LARGE_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The large file as it lies in sectors.
fn large_sectors() -> Vec<[u8; SECTOR]> {
    let mut bytes = large();
    bytes.resize(LARGE_BYTES.next_multiple_of(SECTOR), 0);
    bytes.as_chunks::<SECTOR>().0.to_vec()
}

/// A disk.
#[derive(Clone)]
pub(crate) struct Image {
    /// Sectors that are not all zero.
    pub(crate) sectors: BTreeMap<usize, [u8; SECTOR]>,
    /// All of them.
    pub(crate) count: usize,
}

impl Image {
    /// A floppy disk's volume, without a partition.
    pub(crate) fn fat12() -> Self {
        Self::unpack(FAT12)
    }

    /// In a partition of type 0x0E (FAT16, LBA).
    pub(crate) fn fat16() -> Self {
        let volume = Self::unpack(FAT16);
        let mut image = Self::of(&partition_table(volume.count * SECTOR));
        image.count += volume.count;
        image.sectors.extend(volume.sectors.into_iter().map(|(at, bytes)| (at + FIRST, bytes)));
        image
    }

    /// Without a partition.
    pub(crate) fn fat32() -> Self {
        Self::unpack(FAT32)
    }

    pub(crate) fn all() -> [Self; 3] {
        [Self::fat12(), Self::fat16(), Self::fat32()]
    }

    /// With these bytes, whole sectors.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let sectors = bytes.as_chunks::<SECTOR>().0;
        let full = sectors.iter().copied().enumerate().filter(|(_, bytes)| *bytes != [0; SECTOR]);
        Self { sectors: full.collect(), count: sectors.len() }
    }

    fn unpack(mut fixture: &[u8]) -> Self {
        let large = large_sectors();
        let mut next = || {
            let (number, rest) = fixture.split_first_chunk::<4>()?;
            fixture = rest;
            Some(u32::from_le_bytes(*number) as usize)
        };
        let mut image = Self { sectors: BTreeMap::new(), count: next().unwrap() };
        while let (Some(first), Some(count), Some(kind)) = (next(), next(), next()) {
            let from = if kind as u32 == RAW { 0 } else { next().unwrap() };
            for index in 0..count {
                let bytes = match kind as u32 {
                    LARGE => large[from + index],
                    COPY => image.sectors[&(from + index)],
                    _ => core::array::from_fn(|_| 0),
                };
                image.sectors.insert(first + index, bytes);
            }
            if kind as u32 == RAW {
                let words: Vec<_> =
                    (0..count * SECTOR / 4).map(|_| next().unwrap() as u32).collect();
                for (index, words) in words.chunks(SECTOR / 4).enumerate() {
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    image.sectors.insert(first + index, bytes.try_into().unwrap());
                }
            }
        }
        image
    }

    fn pack(&self) -> Vec<u8> {
        let large = large_sectors();
        let mut runs: Vec<(usize, usize, u32, usize)> = Vec::new();
        for (&at, bytes) in &self.sectors {
            let in_large = large.iter().position(|one| one == bytes);
            let earlier = self.sectors.range(..at).find(|(_, one)| *one == bytes);
            let (kind, from) = match (in_large, earlier) {
                (Some(from), _) => (LARGE, from),
                (_, Some((&from, _))) => (COPY, from),
                _ => (RAW, at),
            };
            match runs.last_mut() {
                Some((first, count, last, begin))
                    if *last == kind && *first + *count == at && *begin + *count == from =>
                {
                    *count += 1;
                }
                _ => runs.push((at, 1, kind, from)),
            }
        }
        let mut words = vec![self.count as u32];
        for (first, count, kind, from) in runs {
            words.extend([first as u32, count as u32, kind]);
            match kind {
                RAW => {
                    let bytes = (first..first + count).flat_map(|at| self.sectors[&at]);
                    let bytes: Vec<u8> = bytes.collect();
                    words.extend(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)));
                }
                _ => words.push(from as u32),
            }
        }
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    pub(crate) fn cache(&self, chunks: usize) -> Cache<Vec<u8>> {
        Cache::new((0..chunks).map(|_| vec![0; CHUNK_BYTES]), self.count as u64)
    }

    /// What the disk does.
    pub(crate) fn read(&self, cache: &Cache<Vec<u8>>, chunk: Chunk) {
        let mut buffer = cache.claim(chunk).expect("a chunk that is missing can be read");
        buffer.fill(0);
        let first = chunk.0 as usize * CHUNK_BYTES / SECTOR;
        for (at, bytes) in self.sectors.range(first..first + CHUNK_BYTES / SECTOR) {
            buffer[(at - first) * SECTOR..][..SECTOR].copy_from_slice(bytes);
        }
        cache.put(chunk, buffer);
    }

    /// Tries again until nothing is missing any more.
    pub(crate) fn with<T>(
        &self,
        cache: &Cache<Vec<u8>>,
        mut operation: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        loop {
            match operation() {
                Err(FileError::Missing(chunk)) => self.read(cache, chunk),
                other => return other,
            }
        }
    }
}

/// A table with one partition of type 0x0E (FAT16, LBA).
pub(crate) fn partition_table(bytes: usize) -> Vec<u8> {
    let mut table = vec![0; FIRST * SECTOR];
    table[446 + 4] = 0x0E;
    table[446 + 8..446 + 12].copy_from_slice(&(FIRST as u32).to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&((bytes / SECTOR) as u32).to_le_bytes());
    table[510..512].copy_from_slice(&[0x55, 0xAA]);
    table
}

/// Makes an image of so many KiB by foreign tools.
fn make(kib: usize, options: &[&str]) -> Image {
    let folder = env::temp_dir().join(format!("enlighten-fat-{}", std::process::id()));
    fs::create_dir_all(folder.join("docs")).unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    file("index.html", b"<h1>Hello</h1>");
    file(LONG_NAME, b"long");
    file("\u{dc}bung.txt", b"umlaut");
    file("large.bin", &large());
    file("empty", b"");
    file("docs/Read me first.md", b"# Read me");
    file("volume.img", &vec![0; kib << 10]);
    let run = |program: &str, words: &[&str]| {
        let path: String = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut command = Command::new(program);
        command.args(words).env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("MTOOLS_SKIP_CHECK", "1").current_dir(&folder);
        assert!(command.status().unwrap().success(), "{program}");
    };
    run("mkfs.vfat", &[options, &["-i", "0E1711E4", "volume.img"]].concat());
    let names = ["index.html", "large.bin", "empty", "docs", "\u{dc}bung.txt", LONG_NAME, "::"];
    run("mcopy", &[&["-i", "volume.img", "-s"], &names[..]].concat());
    let image = Image::of(&fs::read(folder.join("volume.img")).unwrap());
    fs::remove_dir_all(&folder).unwrap();
    image
}

#[test]
#[ignore = "makes the fixtures, with tools that not everybody has"]
fn make_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/files/tests/fixtures");
    for (name, kib, options) in [
        ("fat12", 1440, &["-F", "12"][..]),
        ("fat16", 16 << 10, &["-F", "16", "-s", "4"]),
        ("fat32", 36 << 10, &["-F", "32", "-s", "1"]),
    ] {
        fs::write(format!("{folder}/{name}"), make(kib, options).pack()).unwrap();
    }
}

#[test]
fn what_was_packed_is_unpacked() {
    let fixture = Image::unpack(FAT32);
    assert!(fixture.pack() == FAT32);
    assert!(Image::unpack(&fixture.pack()).sectors == fixture.sectors);
}
