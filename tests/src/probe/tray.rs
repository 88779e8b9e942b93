//! A CD-ROM drive's tray, by Linux's ioctls (`include/uapi/linux/cdrom.h`).

#![expect(unsafe_code, reason = "ioctls without a safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const CDROM_EJECT: libc::Ioctl = 0x5309;
const CDROM_CLOSE_TRAY: libc::Ioctl = 0x5319;
const CDROM_DRIVE_STATUS: libc::Ioctl = 0x5326;
/// The slot that is in use (`CDSL_CURRENT`).
const CURRENT: libc::c_int = libc::c_int::MAX;
const TRAY_OPEN: libc::c_int = 2;
const DISC_OK: libc::c_int = 4;

/// What is done with it, or must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tray {
    /// Move it out
    Open,
    /// Move it in
    Close,
    /// It must be out
    IsOpen,
    /// It must be in, with a medium
    IsLoaded,
}

impl Tray {
    fn request(self) -> libc::Ioctl {
        match self {
            Self::Open => CDROM_EJECT,
            Self::Close => CDROM_CLOSE_TRAY,
            Self::IsOpen | Self::IsLoaded => CDROM_DRIVE_STATUS,
        }
    }
}

/// Does it with the tray of a drive.
///
/// # Errors
///
/// The drive can't be opened, refuses, or is in another state.
pub fn tray(device: &Path, what: Tray) -> Result<()> {
    // A drive without a medium can be opened only so.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(device);
    let file = file.with_context(|| format!("cannot open {}", device.display()))?;
    let expected = match what {
        Tray::Open | Tray::Close => 0,
        Tray::IsOpen => TRAY_OPEN,
        Tray::IsLoaded => DISC_OK,
    };
    let answer = ask(&file, what.request()).with_context(|| format!("{what:?}"))?;
    // A command that the drive refuses is told by a number, too (`drivers/scsi/scsi_ioctl.c`, `ioctl_internal_command`).
    ensure!(answer == expected, "{what:?}: the answer is {answer}, not {expected}");
    Ok(())
}

fn ask(file: &File, request: libc::Ioctl) -> io::Result<libc::c_int> {
    // SAFETY: a descriptor of ours; these requests take a number and no memory.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request, CURRENT) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
