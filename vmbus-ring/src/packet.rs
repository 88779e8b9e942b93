//! Packets: those to send, and those received.

mod incoming;
mod outgoing;

pub(crate) use incoming::Shape;
pub use incoming::{Packet, PacketError, TransferPages};
pub(crate) use outgoing::Layout;
pub use outgoing::{OutgoingKind, OutgoingPacket};

use hv_abi::vmbus::packet::PacketDescriptor;

/// Bytes of a descriptor.
pub(crate) const DESCRIPTOR_BYTES: u32 = size_of::<PacketDescriptor>() as u32;
/// Offsets and lengths in descriptors count units of so many bytes.
pub(crate) const UNIT: u32 = 8;
