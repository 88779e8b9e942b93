//! The consumer's end.

#[cfg(all(test, not(loom)))]
mod tests;

use hv_abi::vmbus::packet::{FEAT_PENDING_SEND_SZ, PACKET_TRAILER_BYTES, PacketDescriptor};
use zerocopy::{FromZeros, IntoBytes};

use crate::extent::Extent;
use crate::memory::{Control, RingMemory};
use crate::packet::{DESCRIPTOR_BYTES, Packet, Shape};
use crate::sync::atomic::Ordering;
use crate::sync::full_barrier;
use crate::{ReceiveError, RingError, Signal};

/// The consumer's end of a ring.
///
/// The read index is its own: that in memory is only ever written.
///
/// **The loop of a consumer.** [`mask`](Self::mask); [`receive`](Self::receive) until there is nothing, with a
/// [`release`](Self::release) after every batch, at the latest after the last; [`unmask`](Self::unmask); if that says so, once more;
/// else wait for a signal.
#[derive(Debug)]
pub struct RingReceiver<M> {
    memory: M,
    extent: Extent,
    /// Behind what was taken.
    read: u32,
    /// Behind what was given back.
    released: u32,
    /// The producer's index when last looked at, checked.
    write: u32,
    corrupt: Option<RingError>,
}

impl<M: RingMemory> RingReceiver<M> {
    /// The consumer's end of the ring in `memory`, at the indices that it finds there. Signals are wanted, until
    /// [`mask`](Self::mask).
    ///
    /// # Errors
    ///
    /// [`RingError`] if the memory or the indices in it can be no ring's.
    pub fn new(memory: M) -> Result<Self, RingError> {
        let extent = Extent::new(memory.data_len())?;
        let read = extent.read_index(memory.control(Control::ReadIndex).load(Ordering::Relaxed))?;
        let write =
            extent.write_index(memory.control(Control::WriteIndex).load(Ordering::Acquire))?;
        memory.control(Control::InterruptMask).store(0, Ordering::Relaxed);
        Ok(Self { memory, extent, read, released: read, write, corrupt: None })
    }

    /// Takes the next packet, and copies it to the start of `buffer`. `None`: the ring is empty.
    ///
    /// Its room in the ring is given back by [`release`](Self::release), not before.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; nothing is taken then.
    pub fn receive<'b>(
        &mut self,
        buffer: &'b mut [u8],
    ) -> Result<Option<Packet<'b>>, ReceiveError> {
        let Some(available) = self.available()? else { return Ok(None) };
        // Copied once; the ring is not asked again what stands there.
        let mut descriptor = PacketDescriptor::new_zeroed();
        let body_at = self.copy(self.read, descriptor.as_mut_bytes());
        let shape = Shape::check(&descriptor, available).map_err(|error| self.fail(error))?;
        let needed = shape.body as usize;
        let body = buffer.get_mut(..needed).ok_or(ReceiveError::BufferTooSmall { needed })?;
        self.copy(body_at, body);
        self.read = self.extent.advance(self.read, shape.ring_bytes());
        Ok(Some(Packet::new(descriptor, shape, body)))
    }

    /// Bytes to read, enough for a descriptor and a trailer; `None`: none.
    fn available(&mut self) -> Result<Option<u32>, RingError> {
        if let Some(error) = self.corrupt {
            return Err(error);
        }
        // The producer's index is on a line that it writes: look only when all up to the last one is read.
        if self.read == self.write {
            self.refresh()?;
        }
        match self.extent.distance(self.read, self.write) {
            0 => Ok(None),
            few if few < DESCRIPTOR_BYTES + PACKET_TRAILER_BYTES as u32 => {
                Err(self.fail(RingError::PacketTruncated(few)))
            }
            available => Ok(Some(available)),
        }
    }

    /// Gives back the room of what was taken; says whether the producer waits for it, and must be signalled.
    pub fn release(&mut self) -> Signal {
        let before = core::mem::replace(&mut self.released, self.read);
        if before == self.read {
            return Signal::NONE;
        }
        // Release: everything is read before the producer may write over it.
        self.memory.control(Control::ReadIndex).store(self.read, Ordering::Release);
        if !self.producer_asks_for_room() {
            return Signal::NONE;
        }
        // The producer stores its request, then looks at our index (Linux, `hv_pkt_iter_close`).
        full_barrier();
        match self.memory.control(Control::PendingSendSize).load(Ordering::Acquire) {
            0 => Signal::NONE,
            pending => Signal::new(self.room_came(before, pending)),
        }
    }

    /// Whether with what was released since `before` more than `pending` bytes became free. As many are not enough: one unit
    /// always stays free.
    fn room_came(&mut self, before: u32, pending: u32) -> bool {
        if self.refresh().is_err() {
            return false;
        }
        let now = self.extent.bytes() - self.extent.distance(self.released, self.write);
        // The producer may have filled some of it already.
        let earlier = now.saturating_sub(self.extent.distance(before, self.released));
        earlier <= pending && pending < now
    }

    /// Whether the producer asks for a signal when it waits for room ([`FEAT_PENDING_SEND_SZ`]); else it looks
    /// again by itself. It says so in the ring that it sends in, and obeys such requests then, too.
    pub fn producer_asks_for_room(&self) -> bool {
        let features = self.memory.control(Control::FeatureBits).load(Ordering::Relaxed);
        features & FEAT_PENDING_SEND_SZ != 0
    }

    /// Tells the producer not to signal.
    pub fn mask(&self) {
        self.memory.control(Control::InterruptMask).store(1, Ordering::Relaxed);
    }

    /// Tells the producer to signal, and looks again. `true`: something is there, for which no signal may come.
    ///
    /// [`release`](Self::release) comes before, as the producer sees only by the index given back that all was read. With something
    /// taken and not given back, this says `true`.
    ///
    /// # Errors
    ///
    /// [`RingError`] if the ring is corrupt.
    pub fn unmask(&mut self) -> Result<bool, RingError> {
        debug_assert_eq!(self.read, self.released, "release what was received before waiting");
        self.memory.control(Control::InterruptMask).store(0, Ordering::Relaxed);
        // The producer stores its index, then looks at the mask.
        full_barrier();
        self.refresh()?;
        Ok(self.released != self.write)
    }

    /// The memory.
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Looks where the producer is.
    fn refresh(&mut self) -> Result<(), RingError> {
        if let Some(error) = self.corrupt {
            return Err(error);
        }
        // Acquire: the packets are there.
        let index = self.memory.control(Control::WriteIndex).load(Ordering::Acquire);
        self.write = self.check_write(index).map_err(|error| self.fail(error))?;
        Ok(())
    }

    fn check_write(&self, index: u32) -> Result<u32, RingError> {
        let write = self.extent.write_index(index)?;
        // Forward, and not beyond what was given back: then it would seem to be behind where it was.
        let from = self.released;
        if self.extent.distance(from, write) < self.extent.distance(from, self.write) {
            return Err(RingError::WriteIndexMoved(write));
        }
        Ok(write)
    }

    fn fail(&mut self, error: RingError) -> RingError {
        *self.corrupt.get_or_insert(error)
    }

    /// Copies what is at `at`, around the ring's end if need be; returns what comes next.
    fn copy(&self, at: u32, bytes: &mut [u8]) -> u32 {
        let (first, second) = self.extent.split(at, bytes.len());
        let next = self.extent.advance(at, bytes.len() as u32);
        let (first, second_bytes) = bytes.split_at_mut(first);
        self.memory.read(at, first);
        if second > 0 {
            self.memory.read(0, second_bytes);
        }
        next
    }
}
