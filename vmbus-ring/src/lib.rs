//! The ring buffer of Hyper-V's VMBus: both ends, over any memory.
//!
//! A VMBus channel has two rings in memory that guest and host share, one for each direction. In each, one end produces
//! packets and the other consumes them; indices in a control page say how far each has come. This crate is both ends,
//! as Hyper-V and Linux (`drivers/hv/ring_buffer.c`) speak it, for guests and hosts alike.
//!
//! | item | what for |
//! | --- | --- |
//! | [`RingSender`], [`Batch`], [`OutgoingPacket`] | the producer's end |
//! | [`RingReceiver`], [`Packet`] | the consumer's end |
//! | [`gpa`] | ranges of guest memory, in packets and in GPADL messages |
//! | [`RingMemory`] | what a ring lies in: [`FlatMemory`], [`PagedMemory`], [`LocalMemory`] for tests |
//! | [`Signal`] | whether the other end must be signalled; how, is the caller's business |

#![no_std]
#![deny(missing_docs)]

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod extent;
pub mod gpa;
mod memory;
mod packet;
mod receiver;
mod sender;
mod signal;
mod sync;

pub use error::{ReceiveError, RingError, SendError};
pub use extent::MAX_DATA_BYTES;
pub use gpa::GpaRange;
pub use memory::{Control, MemoryError, RingMemory};
#[cfg(not(loom))]
pub use memory::{FlatMemory, copy};
#[cfg(all(not(loom), feature = "alloc"))]
pub use memory::{LocalMemory, PagedMemory};
pub use packet::{OutgoingKind, OutgoingPacket, Packet, PacketError, TransferPages};
pub use receiver::RingReceiver;
pub use sender::{Batch, RingSender};
pub use signal::Signal;
