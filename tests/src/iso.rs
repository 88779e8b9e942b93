//! Writes ISO 9660 images for tests (ECMA-119, 4th edition): files in the root and in its folders, no extensions.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// Bytes of a sector, and of a logical block.
const SECTOR: usize = 2048;
/// Where the volume descriptors begin (§6.2.1), the path tables and the folders.
const DESCRIPTORS: usize = 16;
const PATH_TABLES: [usize; 2] = [18, 19];
const FOLDERS: usize = 20;
/// Flag of a directory record (§9.1.6): it is one of a directory.
const DIRECTORY: u8 = 2;
/// Names that stand for a directory itself and its parent (§6.8.2.2).
const ITSELF: &[u8] = &[0];
const PARENT: &[u8] = &[1];

/// Where something lies.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    sector: usize,
    bytes: usize,
}

/// An image with these files: `NAME.EXT` or `FOLDER/NAME.EXT`, in capitals, each with its content.
///
/// # Errors
/// A name is none of ISO 9660 level 1, or there are more in a folder than one sector has room for.
pub fn image(volume: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    // The root is the folder without a name: the first, as path tables want it.
    let mut folders: BTreeMap<&str, BTreeMap<&str, Extent>> =
        BTreeMap::from([("", BTreeMap::new())]);
    for (path, _) in files {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        ensure!(is_name(name) && (folder.is_empty() || is_part(folder)), "'{path}' is no name");
        folders.entry(folder).or_default().insert(name, Extent::default());
    }
    let mut image = vec![0; (FOLDERS + folders.len()) * SECTOR];
    for (path, content) in files {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let extent = Extent { sector: image.len() / SECTOR, bytes: content.len() };
        folders.entry(folder).or_default().insert(name, extent);
        image.extend_from_slice(content);
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    let places: BTreeMap<&str, Extent> = folders
        .keys()
        .zip(FOLDERS..)
        .map(|(name, sector)| (*name, Extent { sector, bytes: SECTOR }))
        .collect();
    for (folder, files) in &folders {
        let own = places[folder];
        let inside = directory(own, files, if folder.is_empty() { Some(&places) } else { None });
        put(&mut image, own.sector, &inside?)?;
    }
    let table =
        |big: bool| places.iter().flat_map(|(name, at)| path_record(name, *at, big)).collect();
    let tables: [Vec<u8>; 2] = [table(false), table(true)];
    for (sector, table) in PATH_TABLES.into_iter().zip(&tables) {
        put(&mut image, sector, table)?;
    }
    let sectors = image.len() / SECTOR;
    let primary = primary_descriptor(volume, sectors, tables[0].len(), places[""]);
    put(&mut image, DESCRIPTORS, &primary)?;
    put(&mut image, DESCRIPTORS + 1, b"\xFFCD001\x01")?;
    Ok(image)
}

/// Eight characters, a dot and three (§7.5 and §10.1).
fn is_name(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(name, rest)| is_part(name) && rest.len() <= 3 && is_part(rest))
}

fn is_part(part: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=8).contains(&part.len()) && part.bytes().all(good)
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) -> Result<()> {
    match image.get_mut(sector * SECTOR..).and_then(|rest| rest.get_mut(..bytes.len())) {
        Some(place) if bytes.len() <= SECTOR => place.copy_from_slice(bytes),
        _ => bail!("a folder or table is larger than a sector"),
    }
    Ok(())
}

/// Both byte orders, one after the other (§7.2.3 and §7.3.3).
fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn both32(value: usize) -> [u8; 8] {
    let value = value as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// A folder's records: itself, its parent (which is the root, of the root too), and all in the order of their names.
fn directory(
    own: Extent,
    files: &BTreeMap<&str, Extent>,
    folders: Option<&BTreeMap<&str, Extent>>,
) -> Result<Vec<u8>> {
    let root = Extent { sector: FOLDERS, bytes: SECTOR };
    let mut named: BTreeMap<String, (Extent, u8)> = BTreeMap::new();
    for (name, at) in files {
        named.insert(format!("{name};1"), (*at, 0));
    }
    for (name, at) in folders.into_iter().flatten().filter(|(name, _)| !name.is_empty()) {
        named.insert((*name).to_owned(), (*at, DIRECTORY));
    }
    let mut bytes = record(ITSELF, own, DIRECTORY);
    bytes.extend(record(PARENT, root, DIRECTORY));
    for (name, (at, flags)) in named {
        bytes.extend(record(name.as_bytes(), at, flags));
    }
    Ok(bytes)
}

/// A directory record (§9.1), of the 1st of January 2026.
fn record(name: &[u8], at: Extent, flags: u8) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(at.sector));
    record.extend(both32(at.bytes));
    record.extend([126, 1, 1, 0, 0, 0, 0, flags, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    // An even number of bytes.
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

/// A record of a path table (§9.4); all folders lie in the root, number 1.
fn path_record(name: &str, at: Extent, big: bool) -> Vec<u8> {
    let name = if name.is_empty() { ITSELF } else { name.as_bytes() };
    let (sector, parent) = (at.sector as u32, 1_u16);
    let mut record = vec![name.len() as u8, 0];
    match big {
        true => record.extend(sector.to_be_bytes().iter().chain(&parent.to_be_bytes())),
        false => record.extend(sector.to_le_bytes().iter().chain(&parent.to_le_bytes())),
    }
    record.extend(name);
    record.resize(record.len().next_multiple_of(2), 0);
    record
}

/// The primary volume descriptor (§8.4).
fn primary_descriptor(volume: &str, sectors: usize, table_bytes: usize, root: Extent) -> Vec<u8> {
    let text = |text: &str, length: usize| format!("{text:length$}").into_bytes();
    let mut bytes = b"\x01CD001\x01\0".to_vec();
    bytes.extend(text("", 32));
    bytes.extend(text(volume, 32));
    bytes.extend([0; 8]);
    bytes.extend(both32(sectors));
    bytes.extend([0; 32]);
    bytes.extend([both16(1), both16(1), both16(SECTOR as u16)].concat());
    bytes.extend(both32(table_bytes));
    bytes.extend((PATH_TABLES[0] as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((PATH_TABLES[1] as u32).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(record(ITSELF, root, DIRECTORY));
    // Names of a set, a publisher, a preparer, an application and three files.
    bytes.extend(text("", 4 * 128 + 3 * 37));
    for _ in 0..4 {
        // No date.
        bytes.extend(b"0000000000000000\0");
    }
    bytes.push(1);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> usize {
        u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
    }

    /// Name and content of each file, as a reader finds them from the primary descriptor on.
    fn read(image: &[u8], record: &[u8], prefix: &str, found: &mut Vec<(String, Vec<u8>)>) {
        let (sector, bytes) = (number(&record[2..]), number(&record[10..]));
        let content = &image[sector * SECTOR..][..bytes];
        if record[25] & DIRECTORY == 0 {
            return found.push((prefix.to_owned(), content.to_vec()));
        }
        let mut rest = content;
        while rest[0] != 0 {
            let (record, after) = rest.split_at(usize::from(rest[0]));
            let name = &record[33..][..usize::from(record[32])];
            if name != ITSELF && name != PARENT {
                read(image, record, &format!("{prefix}/{}", String::from_utf8_lossy(name)), found);
            }
            rest = after;
        }
    }

    #[test]
    fn files_are_where_their_records_say() {
        let large = vec![7; 5000];
        let files: [(&str, &[u8]); 3] = [("B.TXT", b"bee"), ("A/C.BIN", &large), ("EMPTY.X", b"")];
        let image = image("X", &files).unwrap();
        let descriptor = &image[DESCRIPTORS * SECTOR..][..SECTOR];
        assert_eq!(number(&descriptor[80..]) * SECTOR, image.len());
        assert_eq!(&descriptor[881..883], &[1, 0], "§8.4.31: the version, at byte 882");
        let mut found = Vec::new();
        read(&image, &descriptor[156..190], "", &mut found);
        let expected = [
            ("/A/C.BIN;1".to_owned(), large.clone()),
            ("/B.TXT;1".to_owned(), b"bee".to_vec()),
            ("/EMPTY.X;1".to_owned(), Vec::new()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn names_of_other_systems_are_refused() {
        for bad in ["a.txt", "LONGERNAME.TXT", "X.LONG", "X", "A/B/C.X", ""] {
            assert!(image("X", &[(bad, b"")]).is_err(), "{bad}");
        }
    }
}
