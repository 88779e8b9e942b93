//! A volume that `mkfs.vfat` and `mcopy` made, read through a cache that has to be filled.

use std::process::Command;
use std::string::String;
use std::vec::Vec;
use std::{env, format, fs, vec};

use super::cache::{CHUNK_BYTES, Cache, Chunk};
use super::volume::{Entry, Volume};
use super::*;

const SECTOR: usize = 512;
/// Where the partition begins, in sectors.
const FIRST: usize = 2048;

/// An image made by foreign tools; `None` where they are not installed.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
}

/// Bytes of the large file: a number that is no multiple of anything.
pub(crate) const LARGE_BYTES: usize = 1_234_567;

pub(crate) fn large() -> Vec<u8> {
    (0..LARGE_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

impl Image {
    pub(crate) fn make(name: &str) -> Option<Self> {
        let folder = env::temp_dir().join(format!("enlighten-fat-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("docs")).unwrap();
        let file = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        file("index.html", b"<h1>Hello</h1>");
        file("A file with a rather long name, in which there are spaces.txt", b"long");
        file("\u{dc}bung.txt", b"umlaut");
        file("large.bin", &large());
        file("empty", b"");
        file("docs/Read me first.md", b"# Read me");
        let volume = folder.join("volume.img");
        fs::write(&volume, vec![0; 16 << 20]).unwrap();
        let run = |program: &str, words: &[&str]| {
            let mut done = Command::new(program);
            done.args(words).arg("::").env("MTOOLS_SKIP_CHECK", "1");
            done.current_dir(&folder).status().is_ok_and(|status| status.success())
        };
        let path = env::var("PATH").unwrap_or_default();
        let made = Command::new("mkfs.vfat")
            .args(["-F", "16", "-s", "4", "volume.img"])
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .current_dir(&folder)
            .output()
            .is_ok_and(|output| output.status.success());
        let names = ["index.html", "large.bin", "empty", "docs", "\u{dc}bung.txt"];
        let mut words = vec!["-i", "volume.img", "-s"];
        words.extend(names);
        words.push("A file with a rather long name, in which there are spaces.txt");
        let copied = made && run("mcopy", &words);
        let volume = fs::read(&volume).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        copied.then(|| Self { bytes: [&partition_table(volume.len()), &volume[..]].concat() })
    }

    pub(crate) fn cache(&self, chunks: usize) -> Cache<Vec<u8>> {
        Cache::new((0..chunks).map(|_| vec![0; CHUNK_BYTES]), (self.bytes.len() / SECTOR) as u64)
    }

    /// What the disk does.
    pub(crate) fn read(&self, cache: &Cache<Vec<u8>>, chunk: Chunk) {
        let mut buffer = cache.claim(chunk).expect("a chunk that is missing can be read");
        let at = chunk.0 as usize * CHUNK_BYTES;
        let rest = &self.bytes[at..self.bytes.len().min(at + CHUNK_BYTES)];
        buffer[..rest.len()].copy_from_slice(rest);
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
fn partition_table(bytes: usize) -> Vec<u8> {
    let mut table = vec![0; FIRST * SECTOR];
    table[446 + 4] = 0x0E;
    table[446 + 8..446 + 12].copy_from_slice(&(FIRST as u32).to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&((bytes / SECTOR) as u32).to_le_bytes());
    table[510..512].copy_from_slice(&[0x55, 0xAA]);
    table
}

pub(crate) fn path(text: &str) -> Vec<String> {
    text.split('/').filter(|part| !part.is_empty()).map(String::from).collect()
}

#[test]
fn long_names_short_names_and_folders_are_found_in_any_case() {
    let Some(image) = Image::make("names") else { return };
    let cache = image.cache(4);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    for (name, bytes) in [
        ("a FILE with a rather long name, in which there are spaces.txt", 4),
        ("AFILEW~1.TXT", 4),
        ("/docs/read ME first.md", 9),
        ("\u{fc}BUNG.txt", 6),
        ("large.bin", LARGE_BYTES as u32),
        ("EMPTY", 0),
    ] {
        let opened = image.with(&cache, || volume.open_file(&path(name)));
        let file = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file.bytes, bytes, "{name}");
    }
    for name in ["nothing", "docs", "", "index.html/x", "docs/index.html", "docs/..", "..", "."] {
        let opened = image.with(&cache, || volume.open_file(&path(name)).map(|file| file.bytes));
        assert_eq!(opened, Err(FileError::NotFound), "{name}");
    }
    assert_eq!(image.with(&cache, || volume.is_folder(&path("DOCS"))), Ok(true));
    assert_eq!(image.with(&cache, || volume.is_folder(&path("empty"))), Ok(false));
}

#[test]
fn a_folder_is_listed_by_long_names() {
    let Some(image) = Image::make("list") else { return };
    let cache = image.cache(2);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    let listed = image.with(&cache, || volume.list(&path("docs"))).unwrap();
    let expected = Entry { name: "Read me first.md".into(), is_folder: false, bytes: 9 };
    assert_eq!(listed, [expected]);
    let names = image.with(&cache, || volume.list(&[])).unwrap();
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn a_file_is_read_whole_with_the_smallest_cache_and_by_two_at_the_same_time() {
    let Some(image) = Image::make("read") else { return };
    // One chunk for the table of clusters, two for a piece that crosses from one to the next.
    let cache = image.cache(3);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    let open = || image.with(&cache, || volume.open_file(&path("large.bin"))).unwrap();
    let (one, other) = (open(), open());
    let expected = large();
    let read = |file: &volume::File, at: usize| {
        let mut piece = [0; 10_000];
        let count = image.with(&cache, || volume.read(file, at as u32, &mut piece)).unwrap();
        assert_eq!(count, piece.len().min(LARGE_BYTES - at));
        assert!(piece[..count] == expected[at..at + count], "at {at}");
        count
    };
    let mut at = 0;
    while at < LARGE_BYTES {
        read(&other, LARGE_BYTES - 1 - at);
        at += read(&one, at);
    }
    read(&other, 17);
}

#[test]
fn a_disk_that_fails_is_told_once_and_then_tried_again() {
    let Some(image) = Image::make("fails") else { return };
    let cache = image.cache(4);
    let Some(FileError::Missing(chunk)) = Volume::open(&cache).err() else {
        panic!("nothing is there yet")
    };
    let buffer = cache.claim(chunk);
    assert_eq!(cache.claim(chunk), None, "it is on its way");
    cache.fail(chunk, buffer);
    assert_eq!(Volume::open(&cache).err(), Some(FileError::Broken));
    assert_eq!(Volume::open(&cache).err(), Some(FileError::Missing(chunk)));
    assert!(image.with(&cache, || Volume::open(&cache)).is_ok());
}

#[test]
fn what_is_no_volume_is_refused() {
    for fill in [0, 0xFF] {
        let image = Image { bytes: vec![fill; 1 << 20] };
        let cache = image.cache(2);
        assert_eq!(image.with(&cache, || Volume::open(&cache)).err(), Some(FileError::Broken));
    }
    // A partition that lies beyond the disk's end.
    let image = Image { bytes: partition_table(1 << 20) };
    let cache = image.cache(2);
    assert_eq!(image.with(&cache, || Volume::open(&cache)).err(), Some(FileError::Broken));
}

#[test]
fn the_chunk_that_was_not_used_for_the_longest_time_makes_room() {
    let image = Image { bytes: vec![7; 4 * CHUNK_BYTES] };
    let cache = image.cache(2);
    let block =
        |chunk: u64| cache.read_block(chunk * (CHUNK_BYTES / SECTOR) as u64, &mut [0; SECTOR]);
    image.read(&cache, Chunk(0));
    image.read(&cache, Chunk(1));
    assert_eq!(block(0), Ok(()));
    image.read(&cache, Chunk(2));
    assert_eq!(block(1), Err(cache::Fault::Missing(Chunk(1))));
    assert_eq!((block(0), block(2)), (Ok(()), Ok(())));
    assert_eq!(cache.last(), Some(Chunk(2)));
    assert_eq!(cache.claim(Chunk(4)), None, "beyond the end");
    assert_eq!(block(4), Err(cache::Fault::Unreadable));
    assert_eq!(Chunk(u64::MAX).following(3).count(), 0);
}
