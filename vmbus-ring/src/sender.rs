//! The producer's end.

mod batch;
#[cfg(all(test, not(loom)))]
mod tests;

pub use batch::Batch;

use hv_abi::vmbus::packet::FEAT_PENDING_SEND_SZ;

use crate::extent::{ALIGNMENT, Extent};
use crate::memory::{Control, RingMemory};
use crate::packet::OutgoingPacket;
use crate::sync::atomic::Ordering;
use crate::sync::full_barrier;
use crate::{RingError, SendError, Signal};

/// The producer's end of a ring.
///
/// The write index is its own: that in memory is only ever written.
///
/// **Waiting for room.** [`RingSender::await_room`] asks the consumer to signal once so many bytes are free. If there is
/// still too little room, wait for the signal and try again; when nobody waits any longer, call
/// [`RingSender::stop_awaiting`]. There is one such request, the last. If several tasks wait for one ring, each that ends
/// its wait has to wake the next.
#[derive(Debug)]
pub struct RingSender<M> {
    memory: M,
    extent: Extent,
    write: u32,
    /// The consumer's index when last looked at, checked.
    read: u32,
    corrupt: Option<RingError>,
}

impl<M: RingMemory> RingSender<M> {
    /// The producer's end of the ring in `memory`, at the indices that it finds there. Says that it will obey the request
    /// for room ([`FEAT_PENDING_SEND_SZ`]), and has none itself.
    ///
    /// # Errors
    ///
    /// [`RingError`] if the memory or the indices in it can be no ring's.
    pub fn new(memory: M) -> Result<Self, RingError> {
        let extent = Extent::new(memory.data_len())?;
        let write =
            extent.write_index(memory.control(Control::WriteIndex).load(Ordering::Relaxed))?;
        let read = extent.read_index(memory.control(Control::ReadIndex).load(Ordering::Acquire))?;
        memory.control(Control::PendingSendSize).store(0, Ordering::Relaxed);
        memory.control(Control::FeatureBits).store(FEAT_PENDING_SEND_SZ, Ordering::Relaxed);
        Ok(Self { memory, extent, write, read, corrupt: None })
    }

    /// Sends one packet.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the packet is then not in the ring.
    pub fn send(&mut self, packet: &OutgoingPacket<'_>) -> Result<Signal, SendError> {
        let mut batch = self.batch();
        batch.push(packet)?;
        Ok(batch.publish())
    }

    /// Begins a batch: several packets that become visible at once, with one decision about a signal.
    pub fn batch(&mut self) -> Batch<'_, M> {
        Batch::new(self)
    }

    /// Bytes that are free, in which packets have to fit with descriptors and trailers.
    ///
    /// # Errors
    ///
    /// [`RingError`] if the ring is corrupt.
    pub fn free_bytes(&mut self) -> Result<u32, RingError> {
        self.refresh()?;
        Ok(self.extent.room(self.write, self.read))
    }

    /// The most bytes that can ever be free.
    pub const fn capacity(&self) -> u32 {
        self.extent.capacity()
    }

    /// Asks the consumer to signal once `bytes` ([`OutgoingPacket::ring_bytes`]) are free, and looks again. `true`: they are
    /// now, and no signal may come.
    ///
    /// # Errors
    ///
    /// [`RingError`] if the ring is corrupt.
    pub fn await_room(&mut self, bytes: u32) -> Result<bool, RingError> {
        // More than there can be would never be free.
        let bytes = bytes.min(self.capacity()).next_multiple_of(ALIGNMENT);
        self.memory.control(Control::PendingSendSize).store(bytes, Ordering::Relaxed);
        // The consumer stores its index, then looks at the request; we the other way round. With a barrier between on
        // either side, one of the two sees the other.
        full_barrier();
        Ok(self.free_bytes()? >= bytes)
    }

    /// Takes the request for room back. Without, the consumer signals once more each time the ring was full.
    pub fn stop_awaiting(&mut self) {
        self.memory.control(Control::PendingSendSize).store(0, Ordering::Relaxed);
    }

    /// The memory.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Looks where the consumer is.
    fn refresh(&mut self) -> Result<(), RingError> {
        if let Some(error) = self.corrupt {
            return Err(error);
        }
        // Acquire: the consumer read what was there before we write over it.
        let index = self.memory.control(Control::ReadIndex).load(Ordering::Acquire);
        self.read = self.check_read(index).inspect_err(|error| self.corrupt = Some(*error))?;
        Ok(())
    }

    fn check_read(&self, index: u32) -> Result<u32, RingError> {
        let read = self.extent.read_index(index)?;
        // Forward, and not beyond what was published.
        if self.extent.distance(self.read, read) > self.extent.distance(self.read, self.write) {
            return Err(RingError::ReadIndexMoved(read));
        }
        Ok(read)
    }

    /// Makes everything up to `end` visible.
    fn publish(&mut self, end: u32) -> Signal {
        let before = core::mem::replace(&mut self.write, end);
        if before == end {
            return Signal::NONE;
        }
        // Release: the packets are there before the index says so.
        self.memory.control(Control::WriteIndex).store(end, Ordering::Release);
        // The consumer clears its mask, or stores its index, then looks at ours (Linux, `hv_signal_on_write`).
        full_barrier();
        if self.memory.control(Control::InterruptMask).load(Ordering::Acquire) != 0 {
            return Signal::NONE;
        }
        // Only who had read everything may sleep.
        let read = self.memory.control(Control::ReadIndex).load(Ordering::Relaxed);
        Signal::new(read == before)
    }
}
