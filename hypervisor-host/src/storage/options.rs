//! `--disk`: what a user says of a disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::controller::MAX_LUNS;

/// A disk as a user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// Its file or device.
    pub path: PathBuf,
    /// Whether and how it is written.
    pub mode: DiskMode,
    /// Its number on the synthetic controller; `None`: the next that is free.
    pub lun: Option<u8>,
    /// Where it is on the emulated IDE controller; `None`: it is a synthetic disk.
    pub ide: Option<IdeOptions>,
}

/// A disk of the emulated IDE controller as a user wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdeOptions {
    /// Primary master, primary slave, secondary master or secondary slave, 0 to 3; `None`: the first that is free.
    pub position: Option<u8>,
    /// A CD-ROM drive with the file as its medium, not a disk.
    pub cdrom: bool,
}

/// Disks of an IDE controller.
pub const IDE_POSITIONS: u8 = 4;

/// Whether and how a disk is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskMode {
    /// As it is.
    ReadWrite,
    /// Not at all.
    ReadOnly,
    /// Changes go to a temporary file.
    Throwaway,
    /// Changes go to this file.
    Overlay(PathBuf),
}

/// Words that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionError {
    /// The path is missing.
    #[error("it names no file; give a path first, such as disk.img,ro")]
    NoPath,
    /// A word that there is not.
    #[error("{0:?} is no option of a disk; give ro, lun=N, cow, cow=FILE, ide, ide=N or cdrom")]
    Unknown(String),
    /// A word more than once, or two that exclude each other.
    #[error(
        "{0} does not go with what comes before it; give only one of ro, cow, cow=FILE and cdrom, and one of lun and ide"
    )]
    Conflict(String),
    /// Not a number of a disk.
    #[error("{0:?} is no number of a disk; give lun=N with N from 0 to {most}", most = MAX_LUNS - 1)]
    Lun(String),
    /// Not a place on the IDE controller.
    #[error("{0:?} is no place on the IDE controller; give ide=N with N from 0 to {most}", most = IDE_POSITIONS - 1)]
    Ide(String),
}

impl DiskOptions {
    /// Takes `PATH[,ro][,cow[=FILE]][,lun=N|,ide[=N]]` or `PATH,cdrom[,ide=N]` apart. Paths end at a comma.
    ///
    /// # Errors
    /// A word makes no sense.
    pub fn parse(text: &OsStr) -> Result<Self, OptionError> {
        let mut words = text.as_bytes().split(|&byte| byte == b',');
        let path = words.next().filter(|path| !path.is_empty()).ok_or(OptionError::NoPath)?;
        let (mut mode, mut lun) = (None, None);
        let (mut ide, mut cdrom) = (None, false);
        for word in words {
            let shown = || String::from_utf8_lossy(word).into_owned();
            let conflict = || OptionError::Conflict(shown());
            if let Some(number) = word.strip_prefix(b"lun=") {
                if lun.replace(parse_lun(number)?).is_some() || ide.is_some() || cdrom {
                    return Err(conflict());
                }
                continue;
            }
            if word == b"ide" || word.starts_with(b"ide=") {
                let position = word.strip_prefix(b"ide=").map(parse_position).transpose()?;
                if ide.replace(position).is_some() || lun.is_some() {
                    return Err(conflict());
                }
                continue;
            }
            if word == b"cdrom" {
                if std::mem::replace(&mut cdrom, true) || lun.is_some() || mode.is_some() {
                    return Err(conflict());
                }
                mode = Some(DiskMode::ReadOnly);
                continue;
            }
            let wanted = match word {
                b"ro" => DiskMode::ReadOnly,
                b"cow" => DiskMode::Throwaway,
                _ => match word.strip_prefix(b"cow=") {
                    Some(file) if !file.is_empty() => DiskMode::Overlay(path_of(file).into()),
                    _ => return Err(OptionError::Unknown(shown())),
                },
            };
            if mode.replace(wanted).is_some() {
                return Err(conflict());
            }
        }
        let ide = (ide.is_some() || cdrom).then(|| IdeOptions { position: ide.flatten(), cdrom });
        Ok(Self { path: path_of(path).into(), mode: mode.unwrap_or(DiskMode::ReadWrite), lun, ide })
    }

    /// The files that it needs.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let overlay = match &self.mode {
            DiskMode::Overlay(file) => Some(file.as_path()),
            _ => None,
        };
        std::iter::once(self.path.as_path()).chain(overlay)
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn parse_lun(bytes: &[u8]) -> Result<u8, OptionError> {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<u8>() {
        Ok(lun) if usize::from(lun) < MAX_LUNS => Ok(lun),
        _ => Err(OptionError::Lun(text.into_owned())),
    }
}

fn parse_position(bytes: &[u8]) -> Result<u8, OptionError> {
    let text = String::from_utf8_lossy(bytes);
    let position = text.parse::<u8>().ok().filter(|&position| position < IDE_POSITIONS);
    position.ok_or_else(|| OptionError::Ide(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<DiskOptions, OptionError> {
        DiskOptions::parse(text.as_ref())
    }

    fn options(path: &str, mode: DiskMode, lun: Option<u8>) -> DiskOptions {
        DiskOptions { path: path.into(), mode, lun, ide: None }
    }

    #[test]
    fn disks_of_the_ide_controller_have_a_place_there_or_take_the_next() {
        let ide = |text: &str| parse(text).map(|disk| (disk.ide, disk.mode));
        let at = |position, cdrom| Some(IdeOptions { position, cdrom });
        assert_eq!(ide("d,ide"), Ok((at(None, false), DiskMode::ReadWrite)));
        assert_eq!(ide("d,ro,ide=3"), Ok((at(Some(3), false), DiskMode::ReadOnly)));
        assert_eq!(ide("d,ide=0,cow"), Ok((at(Some(0), false), DiskMode::Throwaway)));
        assert_eq!(ide("d,cdrom"), Ok((at(None, true), DiskMode::ReadOnly)));
        assert_eq!(ide("d,cdrom,ide=2"), Ok((at(Some(2), true), DiskMode::ReadOnly)));
        assert_eq!(ide("d,ide=2,cdrom"), ide("d,cdrom,ide=2"));
        for text in ["d,ide=4", "d,ide=", "d,ide=-1", "d,ide=x"] {
            assert!(matches!(parse(text), Err(OptionError::Ide(_))), "{text}");
        }
        for (text, word) in [
            ("d,ide,ide=1", "ide=1"),
            ("d,ide,lun=1", "lun=1"),
            ("d,lun=1,ide", "ide"),
            ("d,lun=1,cdrom", "cdrom"),
            ("d,cdrom,lun=1", "lun=1"),
            ("d,cdrom,cow", "cow"),
            ("d,ro,cdrom", "cdrom"),
            ("d,cdrom,cdrom", "cdrom"),
        ] {
            assert_eq!(parse(text), Err(OptionError::Conflict(word.into())), "{text}");
        }
    }

    #[test]
    fn a_path_is_enough() {
        assert_eq!(parse("a b.img"), Ok(options("a b.img", DiskMode::ReadWrite, None)));
        assert_eq!(parse("/dev/sdb,ro"), Ok(options("/dev/sdb", DiskMode::ReadOnly, None)));
    }

    #[test]
    fn words_come_in_any_order() {
        let overlay = DiskMode::Overlay("o.cow".into());
        assert_eq!(parse("d,lun=63,cow=o.cow"), Ok(options("d", overlay.clone(), Some(63))));
        assert_eq!(parse("d,cow=o.cow,lun=0"), Ok(options("d", overlay, Some(0))));
        assert_eq!(parse("d,cow"), Ok(options("d", DiskMode::Throwaway, None)));
        let options = parse("d,cow=o").unwrap();
        assert_eq!(options.files().collect::<Vec<_>>(), [Path::new("d"), Path::new("o")]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", ",ro"] {
            assert_eq!(parse(text), Err(OptionError::NoPath));
        }
        for (text, word) in [("d,rw", "rw"), ("d,", ""), ("d,cow=", "cow="), ("d,RO", "RO")] {
            assert_eq!(parse(text), Err(OptionError::Unknown(word.into())));
        }
        for (text, word) in
            [("d,lun=64", "64"), ("d,lun=-1", "-1"), ("d,lun=", ""), ("d,lun=256", "256")]
        {
            assert_eq!(parse(text), Err(OptionError::Lun(word.into())));
        }
        for (text, word) in [
            ("d,ro,cow", "cow"),
            ("d,cow=a,cow=b", "cow=b"),
            ("d,lun=1,lun=1", "lun=1"),
            ("d,ro,ro", "ro"),
        ] {
            assert_eq!(parse(text), Err(OptionError::Conflict(word.into())));
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        for text in ["", "d,x", "d,lun=99", "d,ro,ro", "d,ide=9"] {
            let text = parse(text).unwrap_err().to_string();
            assert!(text.contains("; give "), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = DiskOptions::parse(OsStr::from_bytes(&bytes));
        }
    }
}
