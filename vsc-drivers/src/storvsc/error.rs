//! What can go wrong with a disk, and with its controller.

use alloc::vec::Vec;
use core::fmt;

use hv_abi::storvsp::{Operation, VstorStatus};

use super::buffer::IoBuffer;
use super::sense::Sense;
use crate::bus::ChannelError;

/// Why a disk did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskError {
    /// What it was.
    pub kind: DiskErrorKind,
    /// What the disk said of it, if it did.
    pub sense: Sense,
}

/// The kinds of [`DiskError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskErrorKind {
    /// The controller was taken away, or its channel has ended.
    Gone,
    /// There is no such disk any longer.
    NoSuchLun,
    /// Blocks behind the disk's end.
    OutOfRange,
    /// A buffer is not a whole number of blocks.
    Misaligned,
    /// A buffer is in no memory that the hypervisor sees.
    NotMapped,
    /// The guest has no memory for it.
    NoMemory,
    /// The disk can't be written to.
    ReadOnly,
    /// The disk has no such command.
    Unsupported,
    /// The disk has no room left.
    NoSpace,
    /// Somebody else has reserved the disk.
    Reserved,
    /// The disk is not ready, for instance without a medium.
    NotReady,
    /// A block can't be read or written.
    Medium,
    /// The disk is broken.
    Hardware,
    /// The disk does not take the request.
    IllegalRequest,
    /// Something changed again and again.
    UnitAttention,
    /// Given up by the disk, again and again.
    Aborted,
    /// The disk had too much to do, again and again.
    Busy,
    /// No answer in time. The host may still execute the request; it was told to forget it.
    TimedOut,
    /// Fewer bytes came than were asked for.
    ShortTransfer,
    /// The host's answer makes no sense.
    BadReply,
    /// The host failed without saying why.
    Host,
}

impl DiskErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Gone => "the disk's controller is gone",
            Self::NoSuchLun => "the disk is gone",
            Self::OutOfRange => "the blocks lie behind the disk's end",
            Self::Misaligned => "the buffer is no whole number of blocks",
            Self::NotMapped => "the buffer is in no memory that the hypervisor sees",
            Self::NoMemory => "no memory is left",
            Self::ReadOnly => "the disk can't be written to",
            Self::Unsupported => "the disk has no such command",
            Self::NoSpace => "the disk has no room left",
            Self::Reserved => "somebody else has reserved the disk",
            Self::NotReady => "the disk is not ready",
            Self::Medium => "a block can't be read or written",
            Self::Hardware => "the disk is broken",
            Self::IllegalRequest => "the disk does not take the request",
            Self::UnitAttention => "the disk kept changing",
            Self::Aborted => "the disk kept giving the request up",
            Self::Busy => "the disk had too much to do for too long",
            Self::TimedOut => "the host did not answer in time",
            Self::ShortTransfer => "fewer bytes came than were asked for",
            Self::BadReply => "the host's answer makes no sense",
            Self::Host => "the host failed without saying why",
        }
    }
}

impl From<DiskErrorKind> for DiskError {
    fn from(kind: DiskErrorKind) -> Self {
        Self { kind, sense: Sense::NONE }
    }
}

impl fmt::Display for DiskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match self.sense.decode() {
            Some((key, code)) => write!(f, " (sense key {:x}, code {:04x})", key.0, code.0),
            None => Ok(()),
        }
    }
}

impl core::error::Error for DiskErrorKind {}
impl core::error::Error for DiskError {}

/// A transfer of lent memory that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: DiskError,
    /// The memory. Empty if the host may still write to it: it is then freed when the host has answered at last, or when
    /// the controller is gone.
    pub buffers: Vec<IoBuffer>,
}

impl From<Failed> for DiskError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for Failed {}

/// Why a storage controller could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// The channel could not be opened, or ended.
    Channel(ChannelError),
    /// The host refused a step of the initialization.
    Refused(Operation, VstorStatus),
    /// The host's answer to a step makes no sense.
    BadReply(Operation),
    /// The host speaks none of the versions that the driver may.
    NoVersion,
    /// The host does not answer.
    TimedOut(Operation),
    /// The channel ended meanwhile.
    Ended,
}

impl From<ChannelError> for StartError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => write!(f, "the storage channel failed: {error}"),
            Self::Refused(operation, status) => {
                write!(f, "the host refused operation {} ({:#x})", operation.0, status.0)
            }
            Self::BadReply(operation) => {
                write!(f, "the host's answer to operation {} makes no sense", operation.0)
            }
            Self::NoVersion => f.write_str("the host speaks no version of the protocol we know"),
            Self::TimedOut(operation) => {
                write!(f, "the host did not answer to operation {}", operation.0)
            }
            Self::Ended => f.write_str("the storage channel ended"),
        }
    }
}

impl core::error::Error for StartError {}
