//! What a disk is: bytes that can be read, written, flushed and given up, and what can go wrong.
//!
//! A [`Disk`]'s methods block and may be called from any thread at the same time; an [engine](super::engine) calls them, or
//! does what [`Disk::lower`] says instead. The order of requests that run at the same time is free. What was written and
//! acknowledged is read by whoever asks afterwards, and is safe once a later flush is acknowledged.

use std::io;
use std::os::fd::RawFd;

use thiserror::Error;

use super::buffer::IoBuffer;

/// Bytes of a logical sector. Every request to a disk of a guest is in whole ones.
pub const SECTOR_BYTES: u64 = 512;

/// What a disk is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskInfo {
    /// Its size.
    pub bytes: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Space can be given back by [`Disk::discard`].
    pub discard: bool,
}

/// Bytes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// The first.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl ByteRange {
    /// `length` bytes from `offset` on.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset, length }
    }

    /// The offset behind it, or the largest number if that is larger still.
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// Why a disk did not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DiskError {
    /// The operating system's error number.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Os(i32),
    /// There is no room for more data where the disk is kept.
    #[error("no space left")]
    NoSpace,
    /// Fewer bytes were moved than asked for.
    #[error("fewer bytes than asked for")]
    Short,
    /// The disk may not be written.
    #[error("read-only")]
    ReadOnly,
    /// The bytes are not on the disk.
    #[error("outside the disk")]
    Outside,
    /// Data compared differs, first at this byte of the range.
    #[error("the data differs at byte {0}")]
    Miscompare(u64),
    /// An earlier flush failed: the operating system forgets what it could not write, so no later one can be trusted.
    #[error("an earlier flush failed")]
    FlushLost,
    /// The disk can't do that.
    #[error("not supported")]
    Unsupported,
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::NoSpace,
            Some(libc::EROFS | libc::EBADF | libc::EPERM) => Self::ReadOnly,
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => Self::Unsupported,
            Some(number) => Self::Os(number),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Short,
            None => Self::Os(libc::EIO),
        }
    }
}

/// A part of a request that the kernel can do without a thread of ours waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePart {
    /// The file, which the disk keeps open.
    pub fd: RawFd,
    /// Where in the file.
    pub file_offset: u64,
    /// Where in the request's buffer.
    pub buffer_offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// A disk.
pub trait Disk: Send + Sync {
    /// What it is like now.
    fn info(&self) -> DiskInfo;

    /// Fills the buffer with what is on the disk from `offset` on.
    ///
    /// # Errors
    /// The buffer's content is unknown then.
    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError>;

    /// Writes the buffer to the disk from `offset` on.
    ///
    /// # Errors
    /// What is on the disk there is unknown then, sector by sector either old or new.
    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError>;

    /// Makes all that was acknowledged before safe against the loss of process, system and power.
    ///
    /// # Errors
    /// Some of it may be lost. Later calls fail as well.
    fn flush(&self) -> Result<(), DiskError>;

    /// As [`Disk::write`], and then safe as by [`Disk::flush`].
    ///
    /// # Errors
    /// Either's.
    fn write_through(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.write(offset, buffer)?;
        self.flush()
    }

    /// Gives space back; the bytes read as zeros.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] unless [`DiskInfo::discard`].
    fn discard(&self, range: ByteRange) -> Result<(), DiskError>;

    /// Writes zeros.
    ///
    /// # Errors
    /// As for [`Disk::write`].
    fn zero(&self, range: ByteRange) -> Result<(), DiskError>;

    /// Which parts of files to read or write to do the same as [`Disk::read`] or [`Disk::write`] for these bytes, if that is all
    /// there is to do. Any part may be done in any order, and again.
    fn lower(&self, _direction: Direction, _range: ByteRange) -> Option<Vec<FilePart>> {
        None
    }

    /// Makes the disk larger; [`Disk::refresh`] then tells the new size.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if its size is not ours to change, [`DiskError::Outside`] for a size that is smaller or not whole
    /// sectors.
    fn grow(&self, _bytes: u64) -> Result<(), DiskError> {
        Err(DiskError::Unsupported)
    }

    /// Looks whether the size has changed.
    ///
    /// # Errors
    /// The operating system does not tell.
    fn refresh(&self) -> Result<DiskInfo, DiskError> {
        Ok(self.info())
    }
}

/// Whether the range lies within the disk.
///
/// # Errors
/// [`DiskError::Outside`] if not.
pub fn check_range(range: ByteRange, bytes: u64) -> Result<(), DiskError> {
    match range.offset.checked_add(range.length) {
        Some(end) if end <= bytes => Ok(()),
        _ => Err(DiskError::Outside),
    }
}
