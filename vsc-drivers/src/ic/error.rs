//! Why a component's channel is given up.

use core::fmt;

use crate::bus::ChannelError;

/// Why a component's channel is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IcError {
    /// The channel is gone, or can't be had.
    Channel(ChannelError),
    /// A packet of another kind than in-band.
    PacketKind,
    /// A packet without room for the headers.
    TooShort(usize),
    /// The pipe header is not that of data.
    PipeType(u32),
    /// The pipe header tells of more or fewer bytes than can be.
    PipeLength {
        /// Bytes it tells of.
        told: u32,
        /// Bytes behind it.
        present: usize,
    },
    /// The message's header tells of more bytes than the packet has.
    MessageLength {
        /// Bytes it tells of.
        told: u16,
        /// Bytes behind it.
        present: usize,
    },
    /// Marked as an answer, which a host never gives.
    NoRequest(u8),
    /// A request before versions were agreed on.
    NotNegotiated,
    /// More versions than a host can have, or more than the message has room for.
    VersionCount {
        /// Versions of the framework.
        framework: u16,
        /// Versions of the message.
        message: u16,
    },
    /// The message is too short.
    MessageShort {
        /// Bytes that are there.
        present: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// A text or number has a size that can't be.
    Size(u32),
    /// A value has a type that there is not.
    ValueType(u32),
    /// A time that no clock has.
    Time(u64),
}

impl fmt::Display for IcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(error) => error.fmt(f),
            Self::PacketKind => f.write_str("a packet of a kind that has no place here"),
            Self::TooShort(bytes) => write!(f, "a packet of {bytes} bytes is too short"),
            Self::PipeType(number) => write!(f, "pipe packet of type {number}"),
            Self::PipeLength { told, present } => {
                write!(f, "the pipe header tells of {told} bytes, where there are {present}")
            }
            Self::MessageLength { told, present } => {
                write!(f, "the message's header tells of {told} bytes, where there are {present}")
            }
            Self::NoRequest(flags) => write!(f, "flags {flags:#x} are not a request's"),
            Self::NotNegotiated => f.write_str("a request before versions were agreed on"),
            Self::VersionCount { framework, message } => {
                write!(f, "{framework} and {message} versions in a message that has not so many")
            }
            Self::MessageShort { present, needed } => {
                write!(f, "a message of {present} bytes, where {needed} are needed")
            }
            Self::Size(bytes) => write!(f, "a text or number of {bytes} bytes"),
            Self::ValueType(number) => write!(f, "a value of type {number}"),
            Self::Time(time) => write!(f, "a time that no clock has: {time}"),
        }
    }
}

impl core::error::Error for IcError {}

impl From<ChannelError> for IcError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}
