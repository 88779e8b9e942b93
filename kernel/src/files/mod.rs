//! Files of a FAT volume on a disk that is read in the background.
//!
//! Everything is read from a [`cache::Cache`]; what is not there yet ends the operation with [`FileError::Missing`], which says what to read from the disk before it is tried again.
//! So nothing ever waits for a disk while it could do something else, and reading ahead is a matter of asking early.
//!
//! - [`cache`]: chunks of the disk, and which of them are being read
//! - [`volume`]: paths, folders, files

pub mod cache;
mod entry;
pub mod volume;

use core::fmt;

use cache::Chunk;

/// Why something can't be said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileError {
    /// This part of the disk must be read first; then try again.
    Missing(Chunk),
    /// There is nothing of that name.
    NotFound,
    /// The disk could not be read, or what it holds makes no sense.
    Broken,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing(_) => "that part of the disk was not read yet",
            Self::NotFound => "there is nothing of that name",
            Self::Broken => "the disk can't be read, or holds no FAT volume in its first partition",
        })
    }
}

impl core::error::Error for FileError {}

#[cfg(test)]
pub(crate) mod tests;
