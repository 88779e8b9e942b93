//! What a guest can do wrong, by name.

use thiserror::Error;

use crate::vmbus::channel::rings::RingsError;
use crate::vmbus::ranges::RangesError;
use vmbus_ring::gpa::GpaError;

/// A message that makes no sense. None of them ends more than what it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("a message is too short")]
    TooShort,
    #[error("a message has an unknown type")]
    UnknownType,
    #[error("a message came by the wrong connection")]
    WrongConnection,
    #[error("a message came without a connection")]
    NotConnected,
    #[error("a message needs a newer version")]
    TooEarly,
    #[error("a contact names no processor or source that there is")]
    Target,
    #[error("a contact names no page of RAM for interrupts")]
    InterruptPage,
    #[error("a contact names one monitor page, or none that are RAM")]
    MonitorPages,
    #[error("a contact asks for a client's number and has none")]
    Client,
    #[error("offers were requested before")]
    OffersSent,
    #[error("there is no such channel")]
    NoSuchChannel,
    #[error("the channel is open")]
    ChannelOpen,
    #[error("the channel is not open")]
    ChannelNotOpen,
    #[error("the channel was rescinded")]
    Rescinded,
    #[error("a GPADL has no valid ranges: {0}")]
    GpadlRanges(GpaError),
    #[error("a GPADL's number is in use, or 0")]
    GpadlNumber,
    #[error("there are too many GPADLs, or pages in them")]
    TooManyGpadls,
    #[error("a GPADL names a page twice")]
    GpadlOverlaps,
    #[error("a GPADL can't be used: {0}")]
    GpadlMemory(RangesError),
    #[error("there is no such GPADL")]
    NoSuchGpadl,
    #[error("rings can't be used: {0}")]
    Rings(RingsError),
    #[error("rings overlap those of another channel")]
    RingsOverlap,
    #[error("there is no such processor")]
    NoSuchVp,
    #[error("a connection for signals is taken or has too large a number")]
    SignalConnection,
    #[error("the host lacks descriptors or threads")]
    Resources,
}

impl Malformed {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::UnknownType => "unknown-type",
            Self::WrongConnection => "wrong-connection",
            Self::NotConnected => "not-connected",
            Self::TooEarly => "too-early",
            Self::Target => "target",
            Self::InterruptPage => "interrupt-page",
            Self::MonitorPages => "monitor-pages",
            Self::Client => "client",
            Self::OffersSent => "offers-sent",
            Self::NoSuchChannel => "no-such-channel",
            Self::ChannelOpen => "channel-open",
            Self::ChannelNotOpen => "channel-not-open",
            Self::Rescinded => "rescinded",
            Self::GpadlRanges(_) => "gpadl-ranges",
            Self::GpadlNumber => "gpadl-number",
            Self::TooManyGpadls => "too-many-gpadls",
            Self::GpadlOverlaps => "gpadl-overlaps",
            Self::GpadlMemory(_) => "gpadl-memory",
            Self::NoSuchGpadl => "no-such-gpadl",
            Self::Rings(_) => "rings",
            Self::RingsOverlap => "rings-overlap",
            Self::NoSuchVp => "no-such-vp",
            Self::SignalConnection => "signal-connection",
            Self::Resources => "resources",
        }
    }
}
