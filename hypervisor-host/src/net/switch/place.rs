//! Where a switch's socket and lock file are.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::SwitchError;

/// The files of one switch.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    /// In this user's folder for such things: `$XDG_RUNTIME_DIR/enlighten`, or `enlighten-UID` among the temporary files.
    pub(super) fn of(name: &str) -> Result<Self, SwitchError> {
        let folder = match env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => Path::new(&folder).join("enlighten"),
            None => env::temp_dir().join(format!("enlighten-{}", user())),
        };
        Self::within(folder, name)
    }

    pub(super) fn within(folder: PathBuf, name: &str) -> Result<Self, SwitchError> {
        make_own_folder(&folder)
            .map_err(|error| SwitchError::Folder { path: folder.clone(), error })?;
        Ok(Self { folder, name: name.into() })
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!("switch-{}.sock", self.name))
    }

    /// Becomes the hub. `None`: another process is.
    pub(super) fn claim(&self) -> io::Result<Option<(File, UnixListener)>> {
        let path = self.folder.join(format!("switch-{}.lock", self.name));
        let lock = File::options().write(true).create(true).truncate(false).open(path)?;
        if !try_lock(&lock)? {
            return Ok(None);
        }
        // Left behind by a hub that was killed; nobody else has the lock.
        match fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Some((lock, UnixListener::bind(self.socket())?)))
    }

    /// Connects to the hub.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.socket())
    }
}

/// Makes the folder, for this user only; refuses one that belongs to another, who could listen in.
fn make_own_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    if metadata.is_dir() && metadata.uid() == user() && metadata.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other("it is not this user's own"))
    }
}

#[expect(unsafe_code, reason = "geteuid is a system call")]
fn user() -> u32 {
    // SAFETY: it has no conditions.
    unsafe { libc::geteuid() }
}

#[expect(unsafe_code, reason = "flock is a system call")]
fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EWOULDBLOCK | libc::EINTR) => Ok(false),
        _ => Err(error),
    }
}
