//! Opening the disks that a user named.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::controller::{Controller, ControllerError, MAX_LUNS};
use super::disk::Disk;
use super::file::{Access, FileDisk, OpenError};
use super::options::{DiskMode, DiskOptions, IDE_POSITIONS, IdeOptions};
use super::overlay::{self, OverlayError};
use super::unit::{Unit, identity_of};

/// A disk can't be used.
#[derive(Debug, Error)]
pub enum UnusableDisk {
    /// Its file or device.
    #[error("cannot use the disk {}: {error}{}", path.display(), advice(error))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: OpenError,
    },
    /// Its overlay.
    #[error("cannot use the overlay {}: {error}", path.display())]
    Overlay {
        /// The file, or the folder for temporary ones.
        path: PathBuf,
        /// Why not.
        error: OverlayError,
    },
    /// Its number.
    #[error("cannot use the disk {}: {error}", path.display())]
    Lun {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: ControllerError,
    },
    /// Somebody else has its place.
    #[error("cannot use the disk {}: place {place} of the IDE controller is taken; give another ide=N", path.display())]
    PlaceTaken {
        /// The file.
        path: PathBuf,
        /// The place.
        place: u8,
    },
    /// All places are taken.
    #[error("cannot use the disk {}: the IDE controller has {IDE_POSITIONS} drives already; give fewer", path.display())]
    TooManyDrives {
        /// The file.
        path: PathBuf,
    },
    /// All numbers are taken.
    #[error("cannot use the disk {}: there are {MAX_LUNS} disks already; give fewer", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
}

fn advice(error: &OpenError) -> String {
    error.advice().map(|advice| format!("; {advice}")).unwrap_or_default()
}

/// Opens a disk, as it is to be used.
///
/// # Errors
/// A file can't be used so.
pub fn open(options: &DiskOptions) -> Result<Arc<dyn Disk>, UnusableDisk> {
    let access = match options.mode {
        DiskMode::ReadWrite => Access::ReadWrite,
        _ => Access::ReadOnly,
    };
    let path = &options.path;
    let file = FileDisk::open(path, access)
        .map_err(|error| UnusableDisk::Open { path: path.clone(), error })?;
    let file: Arc<dyn Disk> = Arc::new(file);
    let overlay = match &options.mode {
        DiskMode::ReadWrite | DiskMode::ReadOnly => return Ok(file),
        DiskMode::Throwaway => overlay::temporary(file)
            .map_err(|error| UnusableDisk::Overlay { path: std::env::temp_dir(), error }),
        DiskMode::Overlay(changes) => changed_ns(path)
            .map_err(OverlayError::Os)
            .and_then(|changed| overlay::open(file, changes, changed))
            .map_err(|error| UnusableDisk::Overlay { path: changes.clone(), error }),
    };
    Ok(Arc::new(overlay?))
}

/// When a file was changed last, in nanoseconds since 1970. Nobody knows of a device.
fn changed_ns(path: &Path) -> io::Result<i64> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(0);
    }
    Ok(metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()))
}

/// A unit with the disk, which has the same identity whenever the same file has the same number.
///
/// # Errors
/// A file can't be used so.
pub fn unit(options: &DiskOptions, lun: u8) -> Result<Arc<Unit>, UnusableDisk> {
    let disk = open(options)?;
    let name = std::fs::canonicalize(&options.path).unwrap_or_else(|_| options.path.clone());
    let identity = identity_of(name.as_os_str().as_bytes(), lun);
    Ok(Arc::new(Unit::new(&options.path.to_string_lossy(), identity, disk)))
}

/// A drive of the IDE controller.
#[derive(Clone)]
pub struct IdeUnit {
    /// Its disk or medium.
    pub unit: Arc<Unit>,
    /// A CD-ROM drive.
    pub cdrom: bool,
}

/// The drives of the IDE controller by their places. Those without a place get the first that nobody asks for, in order.
///
/// # Errors
/// A disk can't be used, two want the same place, or there are too many.
pub fn ide_units<'a>(
    disks: impl Iterator<Item = &'a DiskOptions>,
) -> Result<[Option<IdeUnit>; IDE_POSITIONS as usize], UnusableDisk> {
    let mut drives = [const { None }; IDE_POSITIONS as usize];
    let asked = |options: &DiskOptions| options.ide.unwrap_or_default();
    let (placed, others): (Vec<_>, Vec<_>) =
        disks.partition(|options| asked(options).position.is_some());
    for options in placed.into_iter().chain(others) {
        let IdeOptions { position, cdrom } = asked(options);
        let path = || options.path.clone();
        let free = (0..).zip(&drives).find(|(_, drive)| drive.is_none()).map(|(place, _)| place);
        let place =
            position.or(free).ok_or_else(|| UnusableDisk::TooManyDrives { path: path() })?;
        let taken = || UnusableDisk::PlaceTaken { path: path(), place };
        let slot: &mut Option<IdeUnit> =
            drives.get_mut(usize::from(place)).filter(|slot| slot.is_none()).ok_or_else(taken)?;
        *slot = Some(IdeUnit { unit: unit(options, place)?, cdrom });
    }
    Ok(drives)
}

/// A controller with all synthetic disks. Those without a number get the lowest that nobody asks for, in order.
///
/// # Errors
/// A disk can't be used, or two want the same number.
pub fn controller(disks: &[DiskOptions]) -> Result<Controller, UnusableDisk> {
    let controller = Controller::default();
    let (numbered, others): (Vec<_>, Vec<_>) =
        disks.iter().filter(|disk| disk.ide.is_none()).partition(|disk| disk.lun.is_some());
    for options in numbered.into_iter().chain(others) {
        let path = || options.path.clone();
        let lun = options.lun.or_else(|| controller.free_lun());
        let lun = lun.ok_or_else(|| UnusableDisk::TooMany { path: path() })?;
        let plugged = controller.plug(lun, unit(options, lun)?);
        plugged.map_err(|error| UnusableDisk::Lun { path: path(), error })?;
    }
    Ok(controller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::buffer::IoBuffer;
    use crate::storage::test_folder::TestFolder;

    fn options(folder: &TestFolder, text: &str) -> DiskOptions {
        let path = folder.path("").to_string_lossy().into_owned();
        DiskOptions::parse(text.replace('@', &path).as_ref()).unwrap()
    }

    #[test]
    fn ide_drives_take_the_places_that_nobody_asks_for() {
        let folder = TestFolder::new();
        let open = |texts: &[&str]| {
            let disks: Vec<_> = texts.iter().map(|text| options(&folder, text)).collect();
            ide_units(disks.iter())
        };
        for name in ["a", "b", "c", "d", "e"] {
            folder.sparse(name, 4096);
        }
        let drives = open(&["@a,ide", "@b,cdrom", "@c,ide=0", "@d,ide=3"]).unwrap();
        let place = |drive: &Option<IdeUnit>| {
            let drive = drive.as_ref().unwrap();
            (drive.unit.name().chars().last().unwrap(), drive.cdrom)
        };
        let places = drives.each_ref().map(place);
        assert_eq!(places, [('c', false), ('a', false), ('b', true), ('d', false)]);
        drop(drives);
        let five = ["@a,ide", "@b,ide", "@c,ide", "@d,ide", "@e,ide"];
        let error = |texts: &[&str]| open(texts).err().unwrap().to_string();
        assert!(error(&five).contains("4 drives already; give fewer"));
        assert!(
            error(&["@a,ide=2", "@b,ide=2"]).contains("place 2 of the IDE controller is taken")
        );
    }

    #[test]
    fn numbers_are_given_around_those_that_were_asked_for() {
        let folder = TestFolder::new();
        let disks: Vec<_> = ["a", "b,lun=0", "c", "d,lun=5", "e"]
            .iter()
            .map(|text| {
                folder.sparse(&text[..1], 4096);
                options(&folder, &format!("@{text}"))
            })
            .collect();
        let controller = controller(&disks).unwrap();
        let numbers: Vec<_> = controller
            .report()
            .iter()
            .map(|disk| (disk.lun, disk.path.chars().last().unwrap()))
            .collect();
        assert_eq!(numbers, [(0, 'b'), (1, 'a'), (2, 'c'), (3, 'e'), (5, 'd')]);
    }

    #[test]
    fn every_mode_opens_as_it_says() {
        let folder = TestFolder::new();
        let base = folder.file("base", &[1; 4096]);
        for (text, writable) in [
            ("@base,ro", false),
            ("@base,cow", true),
            ("@base,cow=@changes", true),
            ("@base", true),
        ] {
            let disk = open(&options(&folder, text)).unwrap();
            let written = disk.write(0, &IoBuffer::owned(vec![2; 512])).is_ok();
            assert_eq!(written, writable, "{text}");
            let untouched = std::fs::read(&base).unwrap() == [1; 4096];
            assert_eq!(untouched, text != "@base", "{text}");
        }
        // The base has changed under the overlay now.
        let error = open(&options(&folder, "@base,cow=@changes")).err().unwrap().to_string();
        assert!(error.contains("has been changed") && error.contains("changes"), "{error}");
    }

    #[test]
    fn errors_name_the_file_and_say_what_to_do() {
        let folder = TestFolder::new();
        folder.sparse("disk", 4096);
        folder.file("empty", b"");
        folder.file("text", b"hello");
        let error = |texts: &[&str]| {
            let disks: Vec<_> = texts.iter().map(|text| options(&folder, text)).collect();
            controller(&disks).err().unwrap().to_string()
        };
        for (texts, parts) in [
            (&["@missing"][..], ["missing", "No such file"]),
            (&["@empty"], ["empty", "it is empty"]),
            (&["@text"], ["text", "5 bytes"]),
            (&["@"], ["disk", "a directory"]),
            (&["@disk,lun=3", "@disk,lun=3,ro"], ["disk", "another machine or disk"]),
            (&["@disk,ro,lun=3", "@disk,ro,lun=3"], ["disk", "number 3 already"]),
            (&["@disk,cow=@text"], ["the overlay", "no overlay"]),
            (&["@disk,cow=@no/where"], ["the overlay", "No such file"]),
        ] {
            let error = error(texts);
            assert!(error.contains("; "), "{error}");
            parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}"));
        }
        let many = vec!["@disk,ro"; 65];
        assert!(error(&many).contains("64 disks already"));
    }

    #[test]
    fn a_unit_is_the_same_the_next_time() {
        let folder = TestFolder::new();
        folder.sparse("disk", 4096);
        let identity =
            |text: &str, lun| unit(&options(&folder, text), lun).unwrap().info().identity;
        assert_eq!(identity("@disk,ro", 1), identity("@disk", 1));
        assert_ne!(identity("@disk", 1), identity("@disk", 2));
    }
}
