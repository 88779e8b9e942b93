//! A disk in a file or on a block device, byte for byte.
//!
//! I/O goes through the operating system's page cache; a flush is `fdatasync`. The file is locked for as long as it is in use, so
//! that two machines don't write one image, by `flock`, which also holds between two disks of one machine.
#![expect(unsafe_code, reason = "buffers are handed to system calls by address")]

use std::fs::{File, FileType, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::buffer::IoBuffer;
use super::disk::{ByteRange, Direction, Disk, DiskError, DiskInfo, FilePart, SECTOR_BYTES};
use super::syscalls::{self, Hole, Through};

/// Bytes written at once where zeros have to be written by hand.
const ZEROS_AT_ONCE: u64 = 1 << 20;
/// How long to wait for somebody else's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Whether a disk may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No; others may read it too.
    ReadOnly,
    /// Yes; nobody else may use it.
    ReadWrite,
}

/// A file can't be a disk. The texts go behind "cannot use the disk FILE: ".
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system refuses.
    #[error("{0}")]
    Os(io::Error),
    /// It is something else.
    #[error("it is {0}, neither a regular file nor a block device; name one of these")]
    Kind(&'static str),
    /// There is nothing in it.
    #[error("it is empty; give it a size first, as by truncate -s 1G FILE")]
    Empty,
    /// It ends within a sector.
    #[error(
        "its size of {0} bytes is no multiple of {SECTOR_BYTES}; pad it, as by truncate -s %{SECTOR_BYTES} FILE"
    )]
    PartialSector(u64),
    /// Somebody else uses it.
    #[error("another machine or disk uses it; end that, or open both with ro or cow")]
    Locked,
}

impl OpenError {
    /// What to do about it, unless the text says so already.
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Os(error) = self else { return None };
        Some(match error.raw_os_error() {
            Some(libc::ENOENT) => "check the path",
            Some(libc::EACCES | libc::EPERM) => "check its permissions, or add ro",
            Some(libc::EROFS) => "add ro or cow",
            Some(libc::EBUSY) => "unmount it, or add ro",
            _ => "check that it can be read and written",
        })
    }
}

/// The disk.
pub struct FileDisk {
    file: File,
    block_device: bool,
    read_only: bool,
    discard: bool,
    bytes: AtomicU64,
    flush_lost: AtomicBool,
}

impl FileDisk {
    /// Opens and locks a regular file or a block device.
    ///
    /// # Errors
    /// It is not there, is something else, has no size that a disk can have, or somebody else uses it.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let kind = std::fs::metadata(path).map_err(OpenError::Os)?.file_type();
        check_kind(kind)?;
        let block_device = kind.is_block_device();
        let write = access == Access::ReadWrite;
        // An exclusive open of a block device fails while it is mounted.
        let flags = if block_device && write { libc::O_EXCL } else { 0 };
        let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path);
        let file = file.map_err(OpenError::Os)?;
        lock(&file, access)?;
        let disk = Self::new(file, block_device, access)?;
        match disk.info().bytes {
            0 => Err(OpenError::Empty),
            bytes if !bytes.is_multiple_of(SECTOR_BYTES) => Err(OpenError::PartialSector(bytes)),
            _ => Ok(disk),
        }
    }

    /// A regular file of any size that is open and locked already.
    ///
    /// # Errors
    /// The operating system does not tell its size.
    pub fn from_file(file: File, access: Access) -> Result<Self, OpenError> {
        Self::new(file, false, access)
    }

    fn new(file: File, block_device: bool, access: Access) -> Result<Self, OpenError> {
        let disk = Self {
            discard: access == Access::ReadWrite && can_punch(&file, block_device),
            file,
            block_device,
            read_only: access == Access::ReadOnly,
            bytes: AtomicU64::new(0),
            flush_lost: AtomicBool::new(false),
        };
        let bytes = disk.present_bytes().map_err(OpenError::Os)?;
        disk.bytes.store(bytes, Ordering::Release);
        Ok(disk)
    }

    fn present_bytes(&self) -> io::Result<u64> {
        if self.block_device {
            syscalls::block_device_bytes(&self.file)
        } else {
            Ok(self.file.metadata()?.len())
        }
    }

    fn transfer(
        &self,
        direction: Direction,
        offset: u64,
        buffer: &IoBuffer,
        through: Through,
    ) -> Result<(), DiskError> {
        if direction == Direction::Write {
            self.check_writable()?;
        }
        let mut pieces = buffer.pieces(0, u64::MAX);
        // SAFETY: the buffer keeps its pieces mapped and writable.
        let moved =
            unsafe { syscalls::transfer(&self.file, direction, offset, &mut pieces, through) };
        Ok(moved?)
    }

    fn check_writable(&self) -> Result<(), DiskError> {
        if self.read_only { Err(DiskError::ReadOnly) } else { Ok(()) }
    }

    /// What has failed once to reach the disk is gone from the cache, and the next `fdatasync` would say that all is well.
    fn synced(&self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        if self.flush_lost.load(Ordering::Acquire) {
            return Err(DiskError::FlushLost);
        }
        if result.is_err() {
            self.flush_lost.store(true, Ordering::Release);
        }
        result
    }

    fn write_zeros(&self, range: ByteRange) -> Result<(), DiskError> {
        let zeros = IoBuffer::owned(vec![0; range.length.min(ZEROS_AT_ONCE) as usize]);
        let mut done = 0;
        while done < range.length {
            let length = (range.length - done).min(ZEROS_AT_ONCE);
            let mut pieces = zeros.pieces(0, length);
            let offset = range.offset.checked_add(done).ok_or(DiskError::Outside)?;
            // SAFETY: the buffer keeps its piece mapped.
            let written = unsafe {
                let (file, write) = (&self.file, Direction::Write);
                syscalls::transfer(file, write, offset, &mut pieces, Through::No)
            };
            written?;
            done += length;
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            bytes: self.bytes.load(Ordering::Acquire),
            read_only: self.read_only,
            discard: self.discard,
        }
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.transfer(Direction::Read, offset, buffer, Through::No)
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.transfer(Direction::Write, offset, buffer, Through::No)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.read_only {
            return Ok(());
        }
        self.synced(self.file.sync_data().map_err(DiskError::from))
    }

    fn write_through(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        match self.transfer(Direction::Write, offset, buffer, Through::Yes) {
            // Kernels and file systems without such writes.
            Err(DiskError::Unsupported) => {
                self.write(offset, buffer)?;
                self.flush()
            }
            Err(DiskError::ReadOnly) => Err(DiskError::ReadOnly),
            result => self.synced(result),
        }
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.check_writable()?;
        if range.length == 0 {
            return Ok(());
        }
        match syscalls::allocate(&self.file, Hole::Punch, range).map_err(DiskError::from) {
            Err(DiskError::Unsupported) => self.zero(range),
            result => result,
        }
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.check_writable()?;
        if range.length == 0 {
            return Ok(());
        }
        match syscalls::allocate(&self.file, Hole::Zero, range).map_err(DiskError::from) {
            Err(DiskError::Unsupported) => self.write_zeros(range),
            result => result,
        }
    }

    fn lower(&self, direction: Direction, range: ByteRange) -> Option<Vec<FilePart>> {
        if self.read_only && direction == Direction::Write {
            return None;
        }
        Some(vec![FilePart {
            fd: self.file.as_raw_fd(),
            file_offset: range.offset,
            buffer_offset: 0,
            length: range.length,
        }])
    }

    fn grow(&self, bytes: u64) -> Result<(), DiskError> {
        if self.block_device || self.read_only {
            return Err(DiskError::Unsupported);
        }
        if bytes < self.info().bytes || !bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(DiskError::Outside);
        }
        Ok(self.file.set_len(bytes)?)
    }

    fn refresh(&self) -> Result<DiskInfo, DiskError> {
        // What is left of a sector at the end can't be used.
        let bytes = self.present_bytes()? / SECTOR_BYTES * SECTOR_BYTES;
        self.bytes.store(bytes, Ordering::Release);
        Ok(self.info())
    }
}

fn check_kind(kind: FileType) -> Result<(), OpenError> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let names = [
        (kind.is_dir(), "a directory"),
        (kind.is_char_device(), "a character device"),
        (kind.is_fifo(), "a pipe"),
    ];
    let name = names.iter().find(|(is, _)| *is).map_or("something else", |(_, name)| name);
    Err(OpenError::Kind(name))
}

/// Locks a file: for us alone, or together with others who only read.
///
/// A process that was killed has its files for a moment longer than itself, until the kernel has ended what its io_uring had
/// begun; so somebody else's lock is waited for a little.
///
/// # Errors
/// [`OpenError::Locked`] if somebody else has it.
pub fn lock(file: &File, access: Access) -> Result<(), OpenError> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        let locked = match access {
            Access::ReadOnly => file.try_lock_shared(),
            Access::ReadWrite => file.try_lock(),
        };
        match locked {
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked),
            // Some network file systems have no locks; a disk on them is the user's risk.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

/// Whether holes can be punched. Asked behind the end, where there is nothing to lose.
fn can_punch(file: &File, block_device: bool) -> bool {
    if block_device {
        // There is no place to try; a device that can't is written with zeros instead.
        return true;
    }
    let Ok(metadata) = file.metadata() else { return false };
    let behind = metadata.len().next_multiple_of(4096);
    syscalls::allocate(file, Hole::Punch, ByteRange::new(behind, 4096)).is_ok()
}

#[cfg(test)]
mod tests;
