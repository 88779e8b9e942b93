//! What can be wrong: with the ring, with a packet to send, with a buffer to receive into.

use core::fmt;

use crate::gpa::GpaError;

/// The ring is corrupt: the other end broke the protocol. An end that found this stays so, for the position of everything
/// behind is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// This many bytes of data make no ring: it has whole pages, from one up to [`MAX_DATA_BYTES`](crate::MAX_DATA_BYTES).
    DataLength(u32),
    /// The write index is this, and the data ends before.
    WriteIndexOutside(u32),
    /// The write index is this, and no packet begins there: it is no multiple of 8.
    WriteIndexMisaligned(u32),
    /// The write index went to this, backwards or over what was not read yet.
    WriteIndexMoved(u32),
    /// The read index is this, and the data ends before.
    ReadIndexOutside(u32),
    /// The read index is this, and no packet begins there: it is no multiple of 8.
    ReadIndexMisaligned(u32),
    /// The read index went to this, backwards or over what was not written yet.
    ReadIndexMoved(u32),
    /// There are this many bytes, too few for any packet.
    PacketTruncated(u32),
    /// A packet's payload would begin at this offset in bytes: in its descriptor, or behind its end.
    PacketOffset(u32),
    /// A packet would have this many bytes, more than there are.
    PacketLength(u32),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataLength(bytes) => write!(f, "{bytes} bytes make no ring"),
            Self::WriteIndexOutside(index) => write!(f, "write index {index} is outside the ring"),
            Self::WriteIndexMisaligned(index) => write!(f, "write index {index} is misaligned"),
            Self::WriteIndexMoved(index) => {
                write!(f, "write index moved to {index}, where it may not go")
            }
            Self::ReadIndexOutside(index) => write!(f, "read index {index} is outside the ring"),
            Self::ReadIndexMisaligned(index) => write!(f, "read index {index} is misaligned"),
            Self::ReadIndexMoved(index) => {
                write!(f, "read index moved to {index}, where it may not go")
            }
            Self::PacketTruncated(bytes) => write!(f, "{bytes} bytes hold no packet"),
            Self::PacketOffset(offset) => write!(f, "a payload can't begin at byte {offset}"),
            Self::PacketLength(bytes) => write!(f, "a packet of {bytes} bytes is not there"),
        }
    }
}

impl core::error::Error for RingError {}

/// A packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// There is no room for it now.
    Full,
    /// It never has room in this ring, or in any.
    TooLarge,
    /// Its ranges are none.
    Ranges(GpaError),
    /// The ring is corrupt.
    Corrupt(RingError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::TooLarge => f.write_str("the packet is too large"),
            Self::Ranges(error) => error.fmt(f),
            Self::Corrupt(error) => write!(f, "the ring is corrupt: {error}"),
        }
    }
}

impl core::error::Error for SendError {}

impl From<RingError> for SendError {
    fn from(error: RingError) -> Self {
        Self::Corrupt(error)
    }
}

impl From<GpaError> for SendError {
    fn from(error: GpaError) -> Self {
        Self::Ranges(error)
    }
}

/// A packet was not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveError {
    /// The packet needs a larger buffer. It is still in the ring.
    BufferTooSmall {
        /// Bytes that it needs; a packet's length changes only if the other end breaks the protocol.
        needed: usize,
    },
    /// The ring is corrupt.
    Corrupt(RingError),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => write!(f, "the packet needs {needed} bytes"),
            Self::Corrupt(error) => write!(f, "the ring is corrupt: {error}"),
        }
    }
}

impl core::error::Error for ReceiveError {}

impl From<RingError> for ReceiveError {
    fn from(error: RingError) -> Self {
        Self::Corrupt(error)
    }
}
