//! Reading and writing a stream socket without waiting, whatever its mode is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A connected stream socket.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(socket))
    }

    /// Bytes that were there; 0: the other end is closed; `None`: nothing is there yet.
    #[expect(unsafe_code, reason = "recv with flags is a system call")]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the buffer is valid for writes of its length.
        let result = unsafe { libc::recv(self.0.as_raw_fd(), start, length, libc::MSG_DONTWAIT) };
        outcome(result)
    }

    /// Bytes that were taken; `None`: there is no room.
    #[expect(unsafe_code, reason = "send with flags is a system call")]
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let (start, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the bytes are valid for reads of their length.
        let result = unsafe { libc::send(self.0.as_raw_fd(), start, length, flags) };
        outcome(result)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn outcome(result: isize) -> io::Result<Option<usize>> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(Some(count));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => Ok(None),
        _ => Err(error),
    }
}
