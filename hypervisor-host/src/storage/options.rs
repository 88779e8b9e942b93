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
    /// Its number; `None`: the next that is free.
    pub lun: Option<u8>,
}

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
    #[error("{0:?} is no option of a disk; give ro, lun=N, cow or cow=FILE")]
    Unknown(String),
    /// A word more than once, or two that exclude each other.
    #[error(
        "{0} does not go with what comes before it; give only one of ro, cow and cow=FILE, and one lun"
    )]
    Conflict(String),
    /// Not a number of a disk.
    #[error("{0:?} is no number of a disk; give lun=N with N from 0 to {most}", most = MAX_LUNS - 1)]
    Lun(String),
}

impl DiskOptions {
    /// Takes `PATH[,ro][,lun=N][,cow[=FILE]]` apart. Paths end at a comma.
    ///
    /// # Errors
    /// A word makes no sense.
    pub fn parse(text: &OsStr) -> Result<Self, OptionError> {
        let mut words = text.as_bytes().split(|&byte| byte == b',');
        let path = words.next().filter(|path| !path.is_empty()).ok_or(OptionError::NoPath)?;
        let (mut mode, mut lun) = (None, None);
        for word in words {
            let shown = || String::from_utf8_lossy(word).into_owned();
            let conflict = || OptionError::Conflict(shown());
            if let Some(number) = word.strip_prefix(b"lun=") {
                if lun.replace(parse_lun(number)?).is_some() {
                    return Err(conflict());
                }
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
        Ok(Self { path: path_of(path).into(), mode: mode.unwrap_or(DiskMode::ReadWrite), lun })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<DiskOptions, OptionError> {
        DiskOptions::parse(text.as_ref())
    }

    fn options(path: &str, mode: DiskMode, lun: Option<u8>) -> DiskOptions {
        DiskOptions { path: path.into(), mode, lun }
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
        for text in ["", "d,x", "d,lun=99", "d,ro,ro"] {
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
