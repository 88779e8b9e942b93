//! What can go wrong.

use core::fmt;

use crate::bus::ChannelError;

/// The adapter can't do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetError {
    /// The channel is closed, rescinded or broken.
    Channel(ChannelError),
    /// No protocol version that both sides know.
    NoVersion,
    /// The kernel has no memory for a buffer.
    NoMemory,
    /// The host refused a request, with its status.
    Refused(u32),
    /// The host answered with something that makes no sense.
    Malformed,
    /// The host did not answer in time.
    TimedOut,
    /// The adapter was stopped.
    Stopped,
    /// The host has no such ability.
    Unsupported,
}

impl From<ChannelError> for NetError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => write!(f, "network adapter: {error}"),
            Self::NoVersion => {
                f.write_str("the host knows none of our versions of the network protocol")
            }
            Self::NoMemory => f.write_str("no memory for the network adapter's buffers"),
            Self::Refused(status) => {
                write!(f, "the host refused a network request with status {status:#x}")
            }
            Self::Malformed => f.write_str("the host's answer to a network request makes no sense"),
            Self::TimedOut => f.write_str("the host did not answer a network request in time"),
            Self::Stopped => f.write_str("the network adapter was stopped"),
            Self::Unsupported => f.write_str("the host's network adapter can't do that"),
        }
    }
}

impl core::error::Error for NetError {}

/// A frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitError {
    /// No room at the moment: the host has not completed enough of what it was given.
    Full,
    /// Longer than the adapter sends, or shorter than an Ethernet header.
    BadLength,
    /// Not a TCP segment that the host can cut.
    NotSegmentable,
    /// The adapter ended.
    Ended,
}

impl fmt::Display for TransmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room for a frame at the moment",
            Self::BadLength => {
                "a frame's length is not between an Ethernet header's and the adapter's limit"
            }
            Self::NotSegmentable => "the host can't cut this frame into segments",
            Self::Ended => "the network adapter ended",
        })
    }
}

impl core::error::Error for TransmitError {}
