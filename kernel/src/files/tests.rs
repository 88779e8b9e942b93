//! Volumes that `mkfs.vfat` and `mcopy` made, read through a cache that has to be filled.

mod hostile;
pub(crate) mod image;

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::cache::{CHUNK_BYTES, Chunk};
use super::volume::{Entry, Volume};
use super::*;
use image::{Image, LARGE_BYTES, LONG_NAME, SECTOR, large, partition_table};

pub(crate) fn path(text: &str) -> Vec<String> {
    text.split('/').filter(|part| !part.is_empty()).map(String::from).collect()
}

#[test]
fn long_names_short_names_and_folders_are_found_in_any_case() {
    Image::all().iter().for_each(names_are_found);
}

fn names_are_found(image: &Image) {
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
    Image::all().iter().for_each(folders_are_listed);
}

fn folders_are_listed(image: &Image) {
    let cache = image.cache(2);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    let listed = image.with(&cache, || volume.list(&path("docs"))).unwrap();
    let expected = Entry { name: "Read me first.md".into(), is_folder: false, bytes: 9 };
    assert_eq!(listed, [expected]);
    let names = image.with(&cache, || volume.list(&[])).unwrap();
    let names: Vec<_> = names.iter().map(|entry| &*entry.name).collect();
    // `empty` fits a short name, which mcopy writes with the flag for lower case.
    for name in ["index.html", "large.bin", "empty", "docs", "\u{dc}bung.txt", LONG_NAME] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn a_file_is_read_whole_with_the_smallest_cache_and_by_two_at_the_same_time() {
    Image::all().iter().for_each(a_file_is_read_whole);
}

fn a_file_is_read_whole(image: &Image) {
    // One chunk for the table of clusters, one for what is read.
    let cache = image.cache(2);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    let open = || image.with(&cache, || volume.open_file(&path("large.bin"))).unwrap();
    let (one, other) = (open(), open());
    let expected = large();
    let read = |file: &volume::File, at: usize| {
        let mut piece = [0; 10_000];
        let count = image.with(&cache, || volume.read(file, at as u32, &mut piece)).unwrap();
        assert!(count != 0 && count <= piece.len());
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
    let image = Image::fat16();
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
        let image = Image::of(&vec![fill; 1 << 20]);
        let cache = image.cache(2);
        assert_eq!(image.with(&cache, || Volume::open(&cache)).err(), Some(FileError::Broken));
    }
    // A partition that lies beyond the disk's end.
    let image = Image::of(&partition_table(1 << 20));
    let cache = image.cache(2);
    assert_eq!(image.with(&cache, || Volume::open(&cache)).err(), Some(FileError::Broken));
}

#[test]
fn the_chunk_that_was_not_used_for_the_longest_time_makes_room() {
    let image = Image::of(&vec![7; 4 * CHUNK_BYTES]);
    let cache = image.cache(2);
    let block = |chunk: u64| cache.read_all(chunk * CHUNK_BYTES as u64, &mut [0; SECTOR]);
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

#[test]
fn a_read_across_chunks_and_beyond_the_end_is_cut() {
    let mut bytes = vec![1; CHUNK_BYTES];
    bytes.resize(CHUNK_BYTES + SECTOR, 2);
    let image = Image::of(&bytes);
    let cache = image.cache(2);
    (0..2).for_each(|chunk| image.read(&cache, Chunk(chunk)));
    let end = (CHUNK_BYTES + SECTOR) as u64;
    let mut four = [0; 4];
    assert_eq!(cache.read_some(CHUNK_BYTES as u64 - 1, &mut four), Ok(1));
    assert_eq!(cache.read_all(CHUNK_BYTES as u64 - 1, &mut four), Ok(()));
    assert_eq!(four, [1, 2, 2, 2]);
    assert_eq!(cache.read_some(end - 3, &mut four), Ok(3));
    assert_eq!(cache.read_all(end - 3, &mut four), Err(cache::Fault::Unreadable));
    assert_eq!(cache.read_some(u64::MAX, &mut four), Err(cache::Fault::Unreadable));
}
