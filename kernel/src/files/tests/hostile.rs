//! Volumes that somebody has tampered with: whatever they hold, an operation ends, and reads nothing that is not on the disk.

use proptest::prelude::*;

use super::*;
use crate::files::cache::Cache;

/// Chunks that an operation may ask for before we give up, as a server does after a while.
const MISSES: usize = 300;

/// Tries again for as long as a server would.
fn patiently<T>(
    image: &Image,
    cache: &Cache<Vec<u8>>,
    mut operation: impl FnMut() -> Result<T, FileError>,
) -> Result<T, FileError> {
    for _ in 0..MISSES {
        match operation() {
            Err(FileError::Missing(chunk)) => image.read(cache, chunk),
            other => return other,
        }
    }
    Err(FileError::Broken)
}

/// Does everything that can be done with a volume: lists its folders, reads the beginning and the end of each file.
fn use_it(image: &Image) -> Result<(), FileError> {
    let cache = image.cache(8);
    let volume = patiently(image, &cache, || Volume::open(&cache))?;
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = patiently(image, &cache, || volume.list(&folder)) else { continue };
        for entry in entries.iter().take(20) {
            let mut path = folder.clone();
            path.push(entry.name.clone());
            if entry.is_folder && path.len() < 4 {
                folders.push(path);
                continue;
            }
            let Ok(file) = patiently(image, &cache, || volume.open_file(&path)) else { continue };
            for at in [0, file.bytes / 2, file.bytes.saturating_sub(100)] {
                let mut piece = [0; 3000];
                let read = patiently(image, &cache, || volume.read(&file, at, &mut piece));
                let left = (file.bytes - at) as usize;
                assert!(read.is_err() || read.is_ok_and(|count| count <= left.min(piece.len())));
            }
        }
    }
    Ok(())
}

/// The image with one number, so many bytes wide, written over.
fn tampered(image: &Image, sector: usize, at: usize, bytes: &[u8]) -> Image {
    let mut image = image.clone();
    image.sectors.entry(sector).or_insert([0; SECTOR])[at..at + bytes.len()].copy_from_slice(bytes);
    image
}

fn open(image: &Image) -> Result<(), FileError> {
    let cache = image.cache(8);
    image.with(&cache, || Volume::open(&cache)).map(|_| ())
}

fn large_of(image: &Image, at: u32) -> Result<usize, FileError> {
    let cache = image.cache(8);
    let volume = image.with(&cache, || Volume::open(&cache))?;
    let file = image.with(&cache, || volume.open_file(&path("large.bin")))?;
    image.with(&cache, || volume.read(&file, at, &mut [0; 100]))
}

/// Sector and place of the entry of a short name, by its 11 bytes.
fn entry(image: &Image, name: &[u8; 11]) -> (usize, usize) {
    let places = image.sectors.iter().flat_map(|(sector, bytes)| {
        let entries = bytes.as_chunks::<32>().0.iter().enumerate();
        entries.map(move |(index, bytes)| (*sector, index * 32, bytes))
    });
    let found = places.into_iter().find(|(_, _, bytes)| bytes.starts_with(name));
    found.map(|(sector, at, _)| (sector, at)).unwrap()
}

#[test]
fn a_boot_sector_that_makes_no_sense_is_refused() {
    let image = Image::fat12();
    for (at, bytes) in [
        (11, &[0, 0][..]),   // bytes of a sector
        (11, &[0, 16]),      // 4096 of them
        (13, &[0]),          // sectors of a cluster
        (13, &[3]),          // no power of two
        (14, &[0xFF, 0xFF]), // the tables begin behind the end
        (16, &[0]),          // no table
        (19, &[0, 0]),       // no sectors at all, in neither place
        (19, &[0xFF, 0xFF]), // more than the disk has
        (22, &[0xFF, 0xFF]), // the table is larger than the volume
        (510, &[0, 0]),      // no signature
    ] {
        assert_eq!(open(&tampered(&image, 0, at, bytes)), Err(FileError::Broken), "{at} {bytes:?}");
    }
    let image = Image::fat32();
    for (at, bytes) in [(32, &[0xFF; 4][..]), (36, &[0xFF; 4]), (36, &[0; 4]), (40, &[0x8F, 0])] {
        assert_eq!(open(&tampered(&image, 0, at, bytes)), Err(FileError::Broken), "{at} {bytes:?}");
    }
}

#[test]
fn a_table_that_is_too_short_hides_what_it_has_no_entry_for() {
    // One sector instead of 9: the data seem to begin earlier, so nothing is found, but nothing is read beyond the table.
    let image = tampered(&Image::fat12(), 0, 22, &[1, 0]);
    assert_eq!(open(&image), Ok(()));
    assert_eq!(use_it(&image), Ok(()));
}

#[test]
fn one_table_may_be_the_only_one_that_is_kept() {
    let image = Image::fat32();
    let table = u16::from_le_bytes([image.sectors[&0][14], image.sectors[&0][15]]).into();
    // The first is wiped, the flags name the second.
    let mut other = tampered(&image, 0, 40, &[0x81, 0]);
    (table..table + 200).for_each(|sector| {
        other.sectors.insert(sector, [0; SECTOR]);
    });
    assert_eq!(large_of(&other, 1_000_000), Ok(100));
    let first = tampered(&other, 0, 40, &[0x80, 0]);
    assert_eq!(large_of(&first, 1_000_000), Err(FileError::Broken));
}

#[test]
fn a_file_that_is_longer_than_its_chain_or_the_volume_breaks_off() {
    for image in Image::all() {
        let (sector, at) = entry(&image, b"LARGE   BIN");
        let longer =
            tampered(&image, sector, at + 28, &(LARGE_BYTES as u32 + 30_000).to_le_bytes());
        assert_eq!(large_of(&longer, 0), Ok(100));
        assert_eq!(large_of(&longer, LARGE_BYTES as u32 + 29_000), Err(FileError::Broken));
        let endless = tampered(&image, sector, at + 28, &[0xFF; 4]);
        assert_eq!(large_of(&endless, 0), Err(FileError::Broken));
        for cluster in [0, 1, 0xFFF7, 0xFFFF_u16] {
            let nowhere = tampered(&image, sector, at + 26, &cluster.to_le_bytes());
            let nowhere = tampered(&nowhere, sector, at + 20, &[0xFF, 0x0F]);
            if cluster < 2 || image.count < 66_000 {
                let told = large_of(&nowhere, 0);
                assert!(
                    told == Err(FileError::Broken) || image.count > 66_000,
                    "{cluster}: {told:?}"
                );
            }
        }
    }
}

#[test]
fn a_folder_that_leads_back_to_itself_ends() {
    for image in Image::all() {
        let cache = image.cache(8);
        let (sector, at) = entry(&image, b"DOCS       ");
        let first =
            u16::from_le_bytes([image.sectors[&sector][at + 26], image.sectors[&sector][at + 27]]);
        // Its only cluster is followed by itself, and is full of entries that are no more.
        let looping = with_next(&image, first.into(), first.into());
        let start = cluster_start(&looping, first.into());
        let mut looping = looping;
        for sector in start..start + usize::from(boot(&looping)[13]) {
            looping.sectors.insert(sector, [0xE5; SECTOR]);
        }
        let volume = looping.with(&cache, || Volume::open(&cache)).unwrap();
        let listed = looping.with(&cache, || volume.list(&path("docs")));
        assert_eq!(listed, Err(FileError::Broken));
        assert_eq!(use_it(&looping), Ok(()));
    }
}

/// The first sector of the volume.
fn volume_start(image: &Image) -> usize {
    if image.sectors[&0][54..57] == *b"FAT" || image.sectors[&0][82..85] == *b"FAT" {
        0
    } else {
        image::FIRST
    }
}

fn boot(image: &Image) -> &[u8; SECTOR] {
    &image.sectors[&volume_start(image)]
}

fn half(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8
}

fn cluster_start(image: &Image, cluster: usize) -> usize {
    let boot = boot(image);
    let table = if half(boot, 22) != 0 { half(boot, 22) } else { half(boot, 36) };
    let data = half(boot, 14) + usize::from(boot[16]) * table + half(boot, 17) * 32 / SECTOR;
    volume_start(image) + data + (cluster - 2) * usize::from(boot[13])
}

/// The image with another successor of a cluster.
fn with_next(image: &Image, cluster: usize, next: usize) -> Image {
    let start = (volume_start(image) + half(boot(image), 14)) * SECTOR;
    let sectors = image.count - half(boot(image), 14);
    let (at, bytes) = match (half(boot(image), 22), sectors) {
        (0, _) => (cluster * 4, (next as u32).to_le_bytes().to_vec()),
        (_, ..4000) => {
            let at = cluster + cluster / 2;
            let old = image.sectors[&((start + at) / SECTOR)];
            let old = half(&old, (start + at) % SECTOR);
            let odd = cluster % 2 == 1;
            let new = if odd { old & 0xF | next << 4 } else { old & 0xF000 | next };
            (at, (new as u16).to_le_bytes().to_vec())
        }
        _ => (cluster * 2, (next as u16).to_le_bytes().to_vec()),
    };
    tampered(image, (start + at) / SECTOR, (start + at) % SECTOR, &bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_written_over_it_ends(
        kind in 0_usize..3,
        changes in prop::collection::vec((0_usize..90, 0_usize..SECTOR - 4, any::<u32>(), 1_usize..5), 1..12),
    ) {
        let mut image = Image::all()[kind].clone();
        let places: Vec<_> = image.sectors.keys().copied().take(90).collect();
        for (sector, at, value, bytes) in changes {
            let sector = places[sector % places.len()];
            image = tampered(&image, sector, at, &value.to_le_bytes()[..bytes]);
        }
        let _ = use_it(&image);
    }

    #[test]
    fn a_boot_sector_of_any_numbers_ends(
        kind in 0_usize..3,
        changes in prop::collection::vec((11_usize..64, any::<u8>()), 1..6),
    ) {
        let image = &Image::all()[kind];
        let changed = changes.iter().fold(image.clone(), |image, (at, byte)| {
            let sector = volume_start(&image);
            tampered(&image, sector, *at, &[*byte])
        });
        let _ = use_it(&changed);
    }
}
