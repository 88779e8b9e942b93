//! A channel that the guest has opened.

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{
    MessageHeader, MessageType, OfferChannel, OpenChannel, OpenChannelResult,
};
use hv_abi::vmbus::packet::PacketType;
use vm_memory::GuestMemoryMmap;
use vmbus_ring::{OutgoingPacket, PagedMemory, RingReceiver, RingSender};

use super::{INTERRUPT_PAGE, TestGuest, wait_for};
use crate::vmbus::channel::rings::map_ring;

/// Memory of a ring.
type Memory = PagedMemory<GuestMemoryMmap>;

/// The guest's ends of an open channel.
pub(crate) struct TestChannel {
    pub(crate) id: u32,
    pub(crate) gpadl: u32,
    pub(crate) pages: Vec<u64>,
    pub(crate) sender: RingSender<Memory>,
    pub(crate) receiver: RingReceiver<Memory>,
    connection: u32,
}

/// What a packet held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) kind: PacketType,
    pub(crate) transaction_id: u64,
    pub(crate) completion_requested: bool,
    pub(crate) payload: Vec<u8>,
}

impl TestChannel {
    /// Lends rings of so many pages each and opens the channel.
    pub(crate) fn open(
        guest: &TestGuest,
        offer: &OfferChannel,
        ring_pages: u64,
        target_vp: u32,
    ) -> Self {
        let pages = guest.pages(2 * ring_pages);
        let gpadl = guest.lend(offer.child_relid, &pages);
        guest.post(&request(offer, gpadl, ring_pages as u32, target_vp));
        let result: OpenChannelResult = guest.take();
        assert_eq!((result.child_relid, result.openid), (offer.child_relid, 7));
        assert_eq!(result.status, 0, "{:?}", guest.server.report().errors);
        Self::map(guest, offer, gpadl, pages)
    }

    /// The rings in pages that the host knows already.
    pub(crate) fn map(
        guest: &TestGuest,
        offer: &OfferChannel,
        gpadl: u32,
        pages: Vec<u64>,
    ) -> Self {
        let (to_host, to_guest) = pages.split_at(pages.len() / 2);
        let ring = |pages| map_ring(&guest.memory, pages, guest.memory.clone()).unwrap();
        Self {
            id: offer.child_relid,
            gpadl,
            sender: RingSender::new(ring(to_host)).unwrap(),
            receiver: RingReceiver::new(ring(to_guest)).unwrap(),
            pages,
            connection: offer.connection_id,
        }
    }

    /// Sends a packet and signals the host if it wants that.
    pub(crate) fn send(&mut self, guest: &TestGuest, packet: &OutgoingPacket<'_>) {
        let signal = wait_for("room", || match self.sender.send(packet) {
            Err(vmbus_ring::SendError::Full) => None,
            result => Some(result.unwrap()),
        });
        if signal.needed() {
            self.signal(guest).unwrap();
        }
    }

    /// Signals the host as the version has it: by the channel's connection, or by the interrupt page and connection 2.
    pub(crate) fn signal(&self, guest: &TestGuest) -> Result<(), HvError> {
        if self.connection != 0 {
            return guest.signal(self.connection);
        }
        guest.set_bit(INTERRUPT_PAGE + 2048 + u64::from(self.id / 8), self.id % 8);
        guest.signal(2)
    }

    /// The next packet, if there is one; signals the host if it waits for room.
    pub(crate) fn try_receive(&mut self, guest: &TestGuest) -> Option<Received> {
        let mut buffer = vec![0; 1 << 16];
        let received = self.receiver.receive(&mut buffer).unwrap().map(|packet| Received {
            kind: packet.kind(),
            transaction_id: packet.transaction_id(),
            completion_requested: packet.completion_requested(),
            payload: packet.payload().to_vec(),
        });
        if self.receiver.release().needed() {
            // The channel may be closed by now.
            let _ = self.signal(guest);
        }
        received
    }

    pub(crate) fn receive(&mut self, guest: &TestGuest) -> Received {
        wait_for("a packet", || self.try_receive(guest))
    }

    /// Closes the channel and takes the memory back.
    pub(crate) fn close(self, guest: &TestGuest) {
        guest.post_close(self.id);
        guest.tear_down(self.id, self.gpadl);
    }
}

/// A request to open a channel.
pub(crate) fn request(
    offer: &OfferChannel,
    gpadl: u32,
    host_offset: u32,
    target_vp: u32,
) -> OpenChannel {
    OpenChannel {
        header: MessageHeader::new(MessageType::OPENCHANNEL),
        child_relid: offer.child_relid,
        openid: 7,
        ringbuffer_gpadlhandle: gpadl,
        target_vp,
        downstream_ringbuffer_pageoffset: host_offset,
        userdata: [0x5A; 120],
    }
}
