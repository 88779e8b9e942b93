//! Why a channel is given up.

use hv_abi::vmbus::packet::PacketType;
use thiserror::Error;

use crate::vmbus::ChannelError;

/// What ends a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StorvspError {
    /// It is closed or broken.
    #[error("{0}")]
    Channel(#[from] ChannelError),
    /// The operating system gives no descriptors for disk I/O.
    #[error("there are no descriptors for disk I/O: error {0}")]
    Queue(i32),
    /// The packet is neither data in the ring nor data in the guest's memory.
    #[error("a packet of type {} does not belong here", .0.0)]
    PacketKind(PacketType),
    /// An answer to something we never asked.
    #[error("an answer to nothing, with transaction {0:#x}")]
    UnexpectedCompletion(u64),
    /// Nobody wants to know what becomes of the request.
    #[error("a request that wants no answer")]
    NoCompletionRequested,
    /// The packet has not even a header.
    #[error("a packet of {0} bytes")]
    Short(usize),
}
