//! A TAP device of the host, with checksums and segmentation left to its kernel.
//!
//! Source of the calls: Linux, `Documentation/networking/tuntap.rst` and `include/uapi/linux/if_tun.h`.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use thiserror::Error;
use zerocopy::{FromZeros, IntoBytes};

use super::backend::{Backend, Offloads, SendError};
use super::checksum::fill_partial;
use super::frame::{Frame, Received, ReceivedChecksum};
use super::vnet::VnetHeader;

const DEVICE: &str = "/dev/net/tun";
/// Bytes of a name with its end (`IFNAMSIZ`).
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// A TAP device can't be used.
#[derive(Debug, Error)]
pub enum TapError {
    /// No name of a device.
    #[error(
        "{0:?} is no name of a network device; give 1 to 15 letters, digits, dots, dashes or underscores"
    )]
    Name(String),
    /// The kernel has no such devices, or this user may not.
    #[error("cannot open {DEVICE}: {0}; load the module tun, or run as a user who may open it")]
    Open(io::Error),
    /// The device is not there and this user may not make it, or it is in use.
    #[error(
        "cannot use the TAP device {name}: {error}; make it with: ip tuntap add dev {name} mode tap user $USER"
    )]
    Attach {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
}

/// A TAP device.
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Uses the device of this name; it is made if it is not there and this user may.
    ///
    /// # Errors
    /// It can't be used.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() >= NAME_BYTES || !name.bytes().all(good) {
            return Err(TapError::Name(name.into()));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(TapError::Open)?;
        let tap = Self { file, name: name.into() };
        tap.attach().map_err(|error| TapError::Attach { name: name.into(), error })?;
        Ok(tap)
    }

    fn attach(&self) -> io::Result<()> {
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        // A device that was made for several queues takes no other.
        self.set_interface(flags).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => self.set_interface(flags | libc::IFF_MULTI_QUEUE),
            _ => Err(error),
        })?;
        let bytes = size_of::<VnetHeader>() as libc::c_int;
        ioctl(&self.file, libc::TUNSETVNETHDRSZ, &raw const bytes as libc::c_ulong)?;
        // What this end takes: checksums left to it. Segments it does not, so the kernel cuts them.
        ioctl(&self.file, libc::TUNSETOFFLOAD, libc::c_ulong::from(libc::TUN_F_CSUM))
    }

    fn set_interface(&self, flags: libc::c_int) -> io::Result<()> {
        let mut request = InterfaceRequest::new_zeroed();
        for (place, byte) in request.name.iter_mut().zip(self.name.bytes()) {
            *place = byte;
        }
        // All flags of IFF_* lie in the lower half.
        request.flags = flags as u16;
        ioctl(&self.file, libc::TUNSETIFF, request.as_bytes().as_ptr() as libc::c_ulong)
    }
}

/// `struct ifreq` with its flags.
#[repr(C)]
#[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

#[expect(unsafe_code, reason = "ioctl is a system call")]
fn ioctl(file: &File, request: libc::Ioctl, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the three requests that are made either take a number or read a structure of their own type, which lives in
    // the caller.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Backend for Tap {
    fn describe(&self) -> String {
        format!("TAP device {}", self.name)
    }

    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn send(&self, frame: &Frame<'_>) -> Result<(), SendError> {
        let header = VnetHeader::of(frame.pending);
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(frame.bytes)];
        loop {
            return match (&self.file).write_vectored(&parts) {
                Ok(_) => Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN | libc::ENOBUFS) => Err(SendError::Full),
                    // The device is not up.
                    Some(libc::EIO | libc::ENETDOWN | libc::EBADFD) => Err(SendError::Down),
                    _ => Err(SendError::Refused),
                },
            };
        }
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let mut header = VnetHeader::default();
            let mut parts = [IoSliceMut::new(header.as_mut_bytes()), IoSliceMut::new(buffer)];
            let length = match (&self.file).read_vectored(&mut parts) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) => return Ok(None),
                    _ => return Err(error),
                },
            };
            // The kernel cuts off what does not fit.
            let Some(length) = length.checked_sub(size_of::<VnetHeader>()) else { continue };
            let Some(frame) = buffer.get_mut(..length) else { continue };
            return Ok(Some(Received { length, checksum: finish(frame, header) }));
        }
    }
}

/// Fills in a checksum that the kernel left out.
fn finish(frame: &mut [u8], header: VnetHeader) -> ReceivedChecksum {
    if header.flags & VnetHeader::NEEDS_CHECKSUM != 0 {
        let (start, field) = (usize::from(header.csum_start), usize::from(header.csum_offset));
        if fill_partial(frame, start, field) {
            return ReceivedChecksum::Valid;
        }
    } else if header.flags & VnetHeader::DATA_VALID != 0 {
        return ReceivedChecksum::Valid;
    }
    ReceivedChecksum::Unknown
}

#[cfg(test)]
mod tests;
