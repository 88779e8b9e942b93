//! What ends a card's channel for good.

use hv_abi::nvsp::NvspMessageType;
use hv_abi::vmbus::packet::PacketType;
use thiserror::Error;

/// The guest's driver does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NetVspError {
    /// A packet of a kind that the protocol has no use for.
    #[error("a packet of type {} is none of NVSP's", .0.0)]
    PacketKind(PacketType),
    /// A packet too short for its message.
    #[error("message {} is too short", .0.0)]
    Truncated(NvspMessageType),
    /// A packet without a message.
    #[error("a packet has no message")]
    Empty,
    /// A message that there is not, or not from a guest.
    #[error("there is no message {} of a guest", .0.0)]
    Unknown(NvspMessageType),
    /// A message at the wrong time, or on the wrong channel.
    #[error("message {} does not belong there", .0.0)]
    OutOfOrder(NvspMessageType),
    /// A sub-channel was opened, and the primary channel is not.
    #[error("a sub-channel is opened without its primary channel")]
    NoPrimary,
}
