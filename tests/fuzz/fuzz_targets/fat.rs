//! The guest kernel's reader of FAT volumes: any disk, read through a small cache. Nothing panics, and every operation ends.
//!
//! The input is the disk's beginning; what follows is zeros, enough of them for FAT32.

#![no_main]

use kernel::files::FileError;
use kernel::files::cache::{CHUNK_BYTES, Cache, Chunk};
use kernel::files::volume::Volume;
use libfuzzer_sys::fuzz_target;

const BLOCKS: u64 = 200_000;
/// Chunks that an operation may ask for before it is given up, as a server gives a connection up on which nothing moves.
const MISSES: usize = 100;

fn read(disk: &[u8], cache: &Cache<Vec<u8>>, chunk: Chunk) {
    let mut buffer = cache.claim(chunk).expect("a chunk that is missing can be read");
    buffer.fill(0);
    let rest = disk.get(chunk.0 as usize * CHUNK_BYTES..).unwrap_or_default();
    let count = rest.len().min(CHUNK_BYTES);
    buffer[..count].copy_from_slice(&rest[..count]);
    cache.put(chunk, buffer);
}

fn patiently<T>(
    disk: &[u8],
    cache: &Cache<Vec<u8>>,
    mut operation: impl FnMut() -> Result<T, FileError>,
) -> Option<T> {
    for _ in 0..MISSES {
        match operation() {
            Err(FileError::Missing(chunk)) => read(disk, cache, chunk),
            other => return other.ok(),
        }
    }
    None
}

fuzz_target!(|disk: &[u8]| {
    let cache = Cache::new((0..4).map(|_| vec![0; CHUNK_BYTES]), BLOCKS);
    let Some(volume) = patiently(disk, &cache, || Volume::open(&cache)) else { return };
    let mut folders = vec![Vec::new()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let Some(entries) = patiently(disk, &cache, || volume.list(&folder)) else { continue };
        for entry in entries.iter().take(8) {
            let mut path = folder.clone();
            path.push(entry.name.clone());
            if entry.is_folder && path.len() < 3 {
                folders.push(path);
                continue;
            }
            files += 1;
            let Some(file) = patiently(disk, &cache, || volume.open_file(&path)) else { continue };
            if files > 32 {
                return;
            }
            for at in [0, file.bytes.saturating_sub(100)] {
                let mut piece = [0; 2000];
                if let Some(count) = patiently(disk, &cache, || volume.read(&file, at, &mut piece)) {
                    assert!(count <= (file.bytes - at) as usize && count <= piece.len());
                }
            }
        }
    }
});
