//! Several packets, published at once.

use hv_abi::vmbus::packet::PACKET_TRAILER_BYTES;
use zerocopy::IntoBytes;

use super::RingSender;
use crate::memory::RingMemory;
use crate::packet::{Layout, OutgoingPacket, UNIT};
use crate::{SendError, Signal};

/// Packets that are in the ring and not visible yet. Dropped without [`Batch::publish`], they were never there.
#[derive(Debug)]
#[must_use = "nothing is sent before `publish`"]
pub struct Batch<'s, M> {
    sender: &'s mut RingSender<M>,
    /// Behind the last packet.
    end: u32,
}

impl<'s, M: RingMemory> Batch<'s, M> {
    pub(super) fn new(sender: &'s mut RingSender<M>) -> Self {
        let end = sender.write;
        Self { sender, end }
    }

    /// Adds a packet.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the packet is then not in the batch, those before it still are.
    pub fn push(&mut self, packet: &OutgoingPacket<'_>) -> Result<(), SendError> {
        let layout = packet.layout()?;
        self.make_room(layout.ring_bytes())?;
        self.end = self.write(packet, layout);
        Ok(())
    }

    /// Makes all packets visible.
    pub fn publish(self) -> Signal {
        self.sender.publish(self.end)
    }

    fn make_room(&mut self, bytes: u32) -> Result<(), SendError> {
        if let Some(error) = self.sender.corrupt {
            return Err(error.into());
        }
        if bytes > self.sender.capacity() {
            return Err(SendError::TooLarge);
        }
        // The consumer's index is on a line that it writes: look only when the last one is not enough.
        if self.room() < bytes {
            self.sender.refresh()?;
            if self.room() < bytes {
                return Err(SendError::Full);
            }
        }
        Ok(())
    }

    fn room(&self) -> u32 {
        self.sender.extent.room(self.end, self.sender.read)
    }

    /// Writes the packet behind the others; returns where it ends.
    fn write(&self, packet: &OutgoingPacket<'_>, layout: Layout) -> u32 {
        let mut at = self.end;
        let mut put = |bytes: &[u8]| at = self.put(at, bytes);
        put(packet.descriptor(layout).as_bytes());
        packet.kind.header(&mut put);
        packet.payload.iter().for_each(|slice| put(slice));
        if layout.padding > 0 {
            put(&[0; UNIT as usize][..layout.padding as usize]);
        }
        put(&trailer(self.end));
        at
    }

    /// Writes `bytes` at `at`, around the ring's end if need be; returns what comes next. There is room.
    ///
    /// Inlined, because most pieces are as short as their lengths are known.
    #[inline(always)]
    fn put(&self, at: u32, bytes: &[u8]) -> u32 {
        let RingSender { memory, extent, .. } = &*self.sender;
        let (first, second) = extent.split(at, bytes.len());
        memory.write(at, &bytes[..first]);
        if second > 0 {
            memory.write(0, &bytes[first..]);
        }
        extent.advance(at, bytes.len() as u32)
    }
}

/// That of a packet that began at `start`.
fn trailer(start: u32) -> [u8; PACKET_TRAILER_BYTES] {
    (u64::from(start) << 32).to_le_bytes()
}
