//! The socket's file.
#![expect(unsafe_code, reason = "the file's mode must be set before it is there")]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// The control socket can't be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A machine answers there.
    #[error("cannot use {path} as control socket: a running machine answers there; give another place by --control", path = .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("cannot use {path} as control socket: there is something else; give another place by --control", path = .0.display())]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("cannot make the control socket {path}: {error}; give another place by --control", path = .path.display())]
    System {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A control socket that is there, but nobody answers yet. Its file is removed with it.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that no other machine's socket is removed.
    identity: Option<(u64, u64)>,
}

impl ControlSocket {
    /// Makes the socket `path`, for this user only. One that a machine has left behind is replaced.
    ///
    /// # Errors
    /// A machine answers there, it is another kind of file, or the operating system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |error| SocketError::System { path: path.into(), error };
        make_room(path)?;
        let listener = listen(path).map_err(system)?;
        Ok(Self { listener, path: path.into(), identity: identity(path) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Removes a socket that nobody answers.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let system = |error| SocketError::System { path: path.into(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.into()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.into())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system)
        }
        Err(error) => Err(system(error)),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // The mode of the file that `bind` makes (Linux, `unix_bind`); later there would be a moment for others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    let address = address(path)?;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as told, and the call only reads it.
    let bound = unsafe { libc::bind(file.as_raw_fd(), (&raw const address).cast(), length) };
    check(bound)?;
    // SAFETY: the call takes no pointers.
    let listening = unsafe { libc::listen(file.as_raw_fd(), BACKLOG) };
    if let Err(error) = check(listening) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(UnixListener::from(OwnedFd::from(file)))
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let mut address =
        libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
    let bytes = path.as_os_str().as_bytes();
    // One more is the zero at the end.
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::other("the path of a socket has 107 bytes at most"));
    }
    if bytes.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(address)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
