//! System calls on files that the standard library lacks: vectored reads and writes at an offset, holes, sizes, events.
#![expect(unsafe_code, reason = "system calls")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::time::Duration;

use super::disk::{ByteRange, Direction};

/// Pieces that one call takes (`IOV_MAX`, `UIO_MAXIOV`).
pub(crate) const MAX_PIECES: usize = 1024;

/// Whether a write must have reached the disk before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// No: a flush will.
    No,
    /// Yes.
    Yes,
}

/// Moves all bytes of `pieces` from or to `file`. The pieces are used up.
///
/// # Errors
/// The operating system's, or [`io::ErrorKind::UnexpectedEof`] where the file ends.
///
/// # Safety
/// All pieces are mapped; those of a read are writable.
pub(crate) unsafe fn transfer(
    file: &File,
    direction: Direction,
    mut offset: u64,
    pieces: &mut [libc::iovec],
    through: Through,
) -> io::Result<()> {
    let mut left = pieces;
    while let Some(first) = left.first() {
        if first.iov_len == 0 {
            left = left.get_mut(1..).unwrap_or_default();
            continue;
        }
        let count = left.len().min(MAX_PIECES) as libc::c_int;
        let at = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let fd = file.as_raw_fd();
        let moved = match (direction, through) {
            // SAFETY: the caller promises mapped, writable pieces.
            (Direction::Read, _) => unsafe { libc::preadv(fd, left.as_ptr(), count, at) },
            // SAFETY: the caller promises mapped pieces.
            (Direction::Write, Through::No) => unsafe {
                libc::pwritev(fd, left.as_ptr(), count, at)
            },
            // SAFETY: the same.
            (Direction::Write, Through::Yes) => unsafe {
                libc::pwritev2(fd, left.as_ptr(), count, at, libc::RWF_DSYNC)
            },
        };
        match moved {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            moved if moved > 0 => {
                offset = offset.saturating_add(moved.unsigned_abs() as u64);
                left = advance(left, moved.unsigned_abs());
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// What is left of the pieces when so many bytes have been moved.
fn advance(mut pieces: &mut [libc::iovec], mut bytes: usize) -> &mut [libc::iovec] {
    while let Some(first) = pieces.first_mut() {
        if bytes < first.iov_len {
            first.iov_base = first.iov_base.wrapping_byte_add(bytes);
            first.iov_len -= bytes;
            break;
        }
        bytes -= first.iov_len;
        pieces = pieces.get_mut(1..).unwrap_or_default();
    }
    pieces
}

/// How [`allocate`] changes a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    /// Gives its space back; it reads as zeros.
    Punch,
    /// It reads as zeros; the space may stay.
    Zero,
}

/// `fallocate(2)`; the file's size stays.
///
/// # Errors
/// The operating system's: `EOPNOTSUPP` where the file system or device can't.
pub(crate) fn allocate(file: &File, hole: Hole, range: ByteRange) -> io::Result<()> {
    let mode = libc::FALLOC_FL_KEEP_SIZE
        | match hole {
            Hole::Punch => libc::FALLOC_FL_PUNCH_HOLE,
            Hole::Zero => libc::FALLOC_FL_ZERO_RANGE,
        };
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = libc::off_t::try_from(range.offset).map_err(invalid)?;
    let length = libc::off_t::try_from(range.length).map_err(invalid)?;
    loop {
        // SAFETY: the call takes no memory.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// An event to poll for: becomes readable by [`Event::set`].
pub(crate) struct Event(File);

impl Event {
    /// One that is clear.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, so nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        // Fails only if the counter overflows; it is readable then already.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        // Fails if it was clear.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `poll(2)`; a signal or an error ends it like the time limit does.
pub(crate) fn poll(descriptors: &mut [libc::pollfd], limit: Duration) {
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: the kernel reads and writes `count` entries of a slice that long.
    unsafe { libc::poll(descriptors.as_mut_ptr(), count, milliseconds) };
}

/// Size of a block device (`BLKGETSIZE64`).
///
/// # Errors
/// It is none.
pub(crate) fn block_device_bytes(file: &File) -> io::Result<u64> {
    const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
    let mut bytes = 0_u64;
    // SAFETY: the kernel writes 64 bits, which `bytes` has.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) } {
        0 => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_were_moved_are_used_up() {
        let piece = |base: usize, iov_len| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(base),
            iov_len,
        };
        let lengths = |bytes| {
            let mut pieces = [piece(0x1000, 4), piece(0x2000, 0), piece(0x3000, 8)];
            let left = advance(&mut pieces, bytes);
            left.iter().map(|it| (it.iov_base.addr(), it.iov_len)).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0), [(0x1000, 4), (0x2000, 0), (0x3000, 8)]);
        assert_eq!(lengths(3), [(0x1003, 1), (0x2000, 0), (0x3000, 8)]);
        assert_eq!(lengths(5), [(0x3001, 7)]);
        assert_eq!(lengths(12), []);
    }
}
