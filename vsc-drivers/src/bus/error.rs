//! What can go wrong on the bus and with a channel.

use core::fmt;

use hv_abi::hypercall::HvError;
use vmbus_ring::RingError;

/// What the host was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Request {
    /// `INITIATE_CONTACT`.
    Contact,
    /// `REQUEST_OFFERS`, up to `ALL_OFFERS_DELIVERED`.
    Offers,
    /// `OPENCHANNEL`.
    Open,
    /// `GPADL_HEADER` and its bodies.
    Gpadl,
    /// `GPADL_TEARDOWN`.
    Teardown,
    /// `MODIFYCHANNEL`.
    Modify,
    /// `UNLOAD`.
    Unload,
    /// A sub-channel that a device's own protocol asked for.
    SubChannel,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contact => "first contact",
            Self::Offers => "all offers",
            Self::Open => "opening a channel",
            Self::Gpadl => "sharing memory",
            Self::Teardown => "taking shared memory back",
            Self::Modify => "moving a channel's signals",
            Self::Unload => "ending the connection",
            Self::SubChannel => "a sub-channel",
        })
    }
}

/// Why something that concerns the whole bus failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusError {
    /// There is no connection, or no longer.
    Disconnected,
    /// There is a connection already, or one is being made or ended.
    Busy,
    /// The kernel has no memory.
    NoMemory,
    /// The host has none of the versions, or the options leave none.
    NoVersion,
    /// The host has the version, but makes no connection: its [`connection_state`](hv_abi::vmbus::message::connection_state).
    Refused(u8),
    /// The host did not answer in time.
    NoAnswer(Request),
    /// The hypervisor did not take a message.
    Post(HvError),
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("there is no connection to the host"),
            Self::Busy => f.write_str("a connection exists, or is being made or ended"),
            Self::NoMemory => f.write_str("no memory"),
            Self::NoVersion => f.write_str("no protocol version that the host has, too"),
            Self::Refused(state) => write!(f, "the host refuses a connection (state {state})"),
            Self::NoAnswer(request) => write!(f, "the host did not answer: {request}"),
            Self::Post(error) => write!(f, "the hypervisor did not take a message: {error}"),
        }
    }
}

impl core::error::Error for BusError {}

/// Why something that concerns one channel failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// The host offers no such channel.
    NoChannel,
    /// Somebody has opened the channel, or is opening or closing it.
    Busy,
    /// The host took the channel back.
    Rescinded,
    /// The connection to the host ended.
    Disconnected,
    /// The guest closed the channel.
    Closed,
    /// The kernel has no memory.
    NoMemory,
    /// A size is 0, is no multiple of a page, or is more than can be told to the host.
    BadSize,
    /// The packet can't ever fit in the ring.
    TooLarge,
    /// The version of the connection has no such thing.
    NotInVersion,
    /// The ring has no room at the moment.
    Full,
    /// The caller's buffer is shorter than the next packet, which stays in the ring.
    BufferTooSmall {
        /// Bytes it takes.
        needed: usize,
    },
    /// The host broke the ring; the channel is of no use any longer.
    Corrupt(RingError),
    /// The host refused, with this status.
    Refused(Request, u32),
    /// The host did not answer in time.
    NoAnswer(Request),
    /// The hypervisor did not take a message.
    Post(HvError),
    /// The hypervisor did not take a signal.
    Signal(HvError),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChannel => f.write_str("no such channel"),
            Self::Busy => f.write_str("the channel is in use"),
            Self::Rescinded => f.write_str("the host took the channel back"),
            Self::Disconnected => BusError::Disconnected.fmt(f),
            Self::Closed => f.write_str("the channel is closed"),
            Self::NoMemory => BusError::NoMemory.fmt(f),
            Self::BadSize => f.write_str("a size that can't be shared"),
            Self::TooLarge => f.write_str("a packet that never fits in the ring"),
            Self::NotInVersion => f.write_str("not in this version of the protocol"),
            Self::Full => f.write_str("the ring is full"),
            Self::BufferTooSmall { needed } => write!(f, "the next packet has {needed} bytes"),
            Self::Corrupt(error) => write!(f, "the host broke the ring: {error}"),
            Self::Refused(request, status) => {
                write!(f, "the host refuses with status {status:#x}: {request}")
            }
            Self::NoAnswer(request) => BusError::NoAnswer(*request).fmt(f),
            Self::Post(error) => BusError::Post(*error).fmt(f),
            Self::Signal(error) => write!(f, "the hypervisor did not take a signal: {error}"),
        }
    }
}

impl core::error::Error for ChannelError {}

impl From<BusError> for ChannelError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Disconnected | BusError::NoVersion | BusError::Refused(_) => {
                Self::Disconnected
            }
            BusError::Busy => Self::Busy,
            BusError::NoMemory => Self::NoMemory,
            BusError::NoAnswer(request) => Self::NoAnswer(request),
            BusError::Post(error) => Self::Post(error),
        }
    }
}
