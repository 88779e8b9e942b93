//! What can go wrong with a drive.

use core::fmt;

use hv_abi::ata::{error, status};

use super::packet::Sense;

/// What a drive was waited for to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// To end its reset.
    Reset,
    /// To be ready for a command.
    Ready,
    /// To have, or to want, a block of data.
    Data,
    /// To end a command.
    End,
}

impl Waited {
    fn words(self) -> &'static str {
        match self {
            Self::Reset => "end its reset",
            Self::Ready => "become ready for a command",
            Self::Data => "ask for data",
            Self::End => "end a command",
        }
    }
}

/// A drive's own word that a command failed: its status and error registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriveError {
    /// [`hv_abi::ata::status`].
    pub status: u8,
    /// [`hv_abi::ata::error`].
    pub error: u8,
}

impl DriveError {
    /// Whether the drive does not do such a command.
    pub fn is_abort(self) -> bool {
        self.error & error::ABRT != 0
    }

    /// Whether there is no such sector.
    pub fn is_not_found(self) -> bool {
        self.error & error::IDNF != 0
    }

    /// Whether the medium could not be read.
    pub fn is_uncorrectable(self) -> bool {
        self.error & error::UNC != 0
    }

    fn words(self) -> &'static str {
        match self {
            _ if self.status & status::DF != 0 => "device fault",
            _ if self.is_uncorrectable() => "uncorrectable data",
            _ if self.is_not_found() => "no such sector",
            _ if self.error & error::ICRC != 0 => "transfer error on the cable",
            _ if self.error & error::NM != 0 => "no medium",
            _ if self.is_abort() => "command aborted",
            _ => "unnamed error",
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdeError {
    /// The drive did not do it in time.
    Timeout(Waited),
    /// The drive says that it failed.
    Drive(DriveError),
    /// The drive's packet command failed.
    Sense(Sense),
    /// The drive's status is none that this command can have; its status register.
    Protocol(Waited, u8),
    /// The controller could not reach memory.
    BusMaster,
    /// DMA ended with more or less data than was asked for.
    Length,
    /// IDENTIFY's answer is damaged, or of something that this driver does not serve.
    Identify,
    /// Not on the medium.
    OutOfRange,
    /// Not a whole number of blocks.
    Misaligned,
    /// It can't be written to.
    ReadOnly,
    /// No memory, or none that the controller reaches.
    NoMemory,
    /// The drive or the controller can't do that.
    Unsupported,
}

impl fmt::Display for IdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(waited) => write!(f, "the drive did not {} in time", waited.words()),
            Self::Drive(at) => {
                write!(f, "{} (status {:#04x}, error {:#04x})", at.words(), at.status, at.error)
            }
            Self::Sense(sense) => write!(f, "the drive's command failed: {sense}"),
            Self::Protocol(waited, status) => {
                write!(f, "status {status:#04x} of a drive that was to {}", waited.words())
            }
            Self::BusMaster => f.write_str("the controller could not reach memory"),
            Self::Length => f.write_str("the drive moved more or less data than was asked for"),
            Self::Identify => f.write_str("the drive's description of itself is of no use"),
            Self::OutOfRange => f.write_str("not on the medium"),
            Self::Misaligned => f.write_str("not a whole number of blocks"),
            Self::ReadOnly => f.write_str("it can't be written to"),
            Self::NoMemory => f.write_str("no memory that the controller reaches"),
            Self::Unsupported => f.write_str("the drive or the controller can't do that"),
        }
    }
}

impl core::error::Error for IdeError {}

impl From<DriveError> for IdeError {
    fn from(error: DriveError) -> Self {
        Self::Drive(error)
    }
}
