//! An open channel, as its provider has it.
//!
//! *Theory.* Two rings lie in the guest's memory, one for each direction. Whoever puts something into an empty ring signals the
//! other end, unless that one has set the ring's interrupt mask. *Practice.* A provider's loop takes packets with
//! [`HostChannel::receive`] until there are none, answers them with [`HostChannel::send`], and then sleeps in
//! [`HostChannel::wait`]. The guest's ring is masked except while `wait` sleeps, and what was taken is published when
//! the ring is found empty, or a quarter of it was taken: so busy channels need no system calls.
//!
//! - `link` is what bus and channel share
//! - `rings` are the rings in the guest's memory
//! - `wait` sleeps

pub(super) mod link;
pub(super) mod rings;
mod wait;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use hv_abi::vmbus::offer::VMBUS_USER_DEFINED_BYTES;
use hv_abi::vmbus::packet::PacketDescriptor;
use hv_abi::vmbus::version::VmbusVersion;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;
use vmbus_ring::{OutgoingPacket, Packet, ReceiveError, RingError, RingMemory, SendError};

use self::link::Link;
use self::rings::{Receiver, Rings, Sender};
pub(super) use self::wait::until_started;
use super::gpadl::Gpadl;
use super::ranges::RangesError;
use super::server::Bus;

const DESCRIPTOR_BYTES: usize = size_of::<PacketDescriptor>();

/// What a channel can't do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChannelError {
    /// It is closed, by guest or host. The provider returns.
    #[error("the channel is closed")]
    Closed,
    /// The host's ring has no room now; see [`HostChannel::wait_room`].
    #[error("the ring is full")]
    Full,
    /// The packet never has room in the ring the guest made.
    #[error("the packet is too large for the ring")]
    TooLarge,
    /// The guest broke a ring.
    #[error("the ring is corrupt: {0}")]
    Corrupt(RingError),
    /// The packet to send is malformed.
    #[error("{0}")]
    Packet(SendError),
    /// The guest lent no such memory to the channel.
    #[error("there is no GPADL {0:#x}")]
    NoSuchGpadl(u32),
    /// The guest's ranges are wrong.
    #[error("{0}")]
    Ranges(#[from] RangesError),
    /// The operating system can't wait.
    #[error("waiting fails with error {0}")]
    System(i32),
}

impl From<SendError> for ChannelError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::TooLarge => Self::TooLarge,
            SendError::Corrupt(error) => Self::Corrupt(error),
            other => Self::Packet(other),
        }
    }
}

impl From<RingError> for ChannelError {
    fn from(error: RingError) -> Self {
        Self::Corrupt(error)
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The guest has sent packets or made room.
    Guest,
    /// A [`Waker`] was used.
    Woken,
    /// This one of the other descriptors is readable (or has an error to tell).
    Other(usize),
    /// Nothing came in time.
    TimedOut,
    /// The channel is closed: the provider returns.
    Closed,
}

/// Wakes a channel's provider from any thread.
#[derive(Clone)]
pub struct Waker(Arc<Link>);

impl Waker {
    /// Has the provider's next (or present) [`HostChannel::wait`] return [`Wake::Woken`].
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Whether the channel is closed, so that nobody waits any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closing()
    }
}

/// An open channel.
pub struct HostChannel {
    id: u32,
    sub_channel_index: u16,
    version: VmbusVersion,
    open_data: [u8; VMBUS_USER_DEFINED_BYTES],
    memory: GuestMemoryMmap,
    receiver: Receiver,
    sender: Sender,
    link: Arc<Link>,
    bus: Arc<Bus>,
    /// Room for the largest packet that the guest's ring holds. Pages that no packet needed are never touched.
    buffer: Vec<u8>,
    /// Bytes received and not yet published.
    taken: u32,
    polled: Vec<libc::pollfd>,
}

/// What a channel was opened with.
pub(super) struct Opened {
    pub(super) id: u32,
    pub(super) sub_channel_index: u16,
    pub(super) version: VmbusVersion,
    pub(super) open_data: [u8; VMBUS_USER_DEFINED_BYTES],
    pub(super) rings: Rings,
    pub(super) link: Arc<Link>,
}

impl HostChannel {
    pub(super) fn new(opened: Opened, bus: Arc<Bus>) -> Self {
        let Opened { id, sub_channel_index, version, open_data, rings, link } = opened;
        let Rings { receiver, sender, guest_bytes } = rings;
        receiver.mask();
        Self {
            id,
            sub_channel_index,
            version,
            open_data,
            memory: bus.memory().clone(),
            receiver,
            sender,
            link,
            bus,
            buffer: vec![0; guest_bytes as usize],
            taken: 0,
            polled: Vec::new(),
        }
    }

    /// Its number on the bus, as the guest knows it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// 0 for the primary channel, else the sub-channel's number.
    pub fn sub_channel_index(&self) -> u16 {
        self.sub_channel_index
    }

    /// The protocol version of the guest's connection.
    pub fn version(&self) -> VmbusVersion {
        self.version
    }

    /// What the guest's driver gave with the request to open.
    pub fn open_data(&self) -> &[u8; VMBUS_USER_DEFINED_BYTES] {
        &self.open_data
    }

    /// The guest's RAM.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Takes the next packet, copied out of the ring and checked. `None`: there is none now.
    ///
    /// # Errors
    /// The channel is closed, or the guest broke its ring.
    pub fn receive(&mut self) -> Result<Option<Packet<'_>>, ChannelError> {
        receive(&mut self.receiver, &self.link, &mut self.taken, &mut self.buffer)
    }

    /// The same into a buffer of the caller's, so that the channel can be used while the packet is. A buffer that is too small
    /// counts as a packet that is too large.
    ///
    /// # Errors
    /// The channel is closed, or the guest broke its ring.
    pub fn receive_into<'b>(
        &mut self,
        buffer: &'b mut [u8],
    ) -> Result<Option<Packet<'b>>, ChannelError> {
        receive(&mut self.receiver, &self.link, &mut self.taken, buffer)
    }

    /// Sends a packet, and signals the guest where it wants that.
    ///
    /// # Errors
    /// [`ChannelError::Full`] is no end; all others are.
    pub fn send(&mut self, packet: &OutgoingPacket<'_>) -> Result<(), ChannelError> {
        if self.link.is_closing() {
            return Err(ChannelError::Closed);
        }
        let signal = self.sender.send(packet)?;
        self.link.sent(1, packet_bytes(packet));
        self.link.signal_packets(signal);
        Ok(())
    }

    /// Several packets, published at once and with one signal at most.
    pub fn batch(&mut self) -> HostBatch<'_> {
        HostBatch { batch: self.sender.batch(), link: &self.link, packets: 0, bytes: 0 }
    }

    /// Bytes that a packet, with its descriptor and trailer, may take now.
    ///
    /// # Errors
    /// The guest broke the ring.
    pub fn free_bytes(&mut self) -> Result<u32, ChannelError> {
        Ok(self.sender.free_bytes()?)
    }

    /// Has the guest signal once there are `bytes` of room, until [`Self::wait_room`] is used. Tells whether there is room
    /// after all, so that there is nothing to wait for.
    ///
    /// # Errors
    /// The guest broke the ring.
    pub fn await_room(&mut self, bytes: u32) -> Result<bool, ChannelError> {
        Ok(self.sender.await_room(bytes)?)
    }

    /// Memory that the guest has lent to this channel (or to another of the same device).
    ///
    /// # Errors
    /// There is none with this number.
    pub fn gpadl(&self, id: u32) -> Result<Arc<Gpadl>, ChannelError> {
        self.bus.gpadl(self.id, id).ok_or(ChannelError::NoSuchGpadl(id))
    }

    /// Offers sub-channels to the guest, with the numbers behind those there are. Gives how many were offered: none before
    /// version 2.4 and on sub-channels, less than asked for if the bus has no channel numbers left.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn offer_sub_channels(&mut self, count: u16) -> Result<u16, ChannelError> {
        if self.link.is_closing() {
            return Err(ChannelError::Closed);
        }
        Ok(self.bus.offer_sub_channels(self.id, &self.link, count))
    }

    /// Sleeps until there is something to do. What the guest did comes first: with a guest that never stops, others
    /// are not looked at.
    ///
    /// # Errors
    /// The guest broke its ring, or the operating system can't wait.
    pub fn wait(
        &mut self,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Wake, ChannelError> {
        self.publish();
        if let Some(wake) = self.link.pending() {
            return Ok(wake);
        }
        if self.receiver.unmask()? {
            self.receiver.mask();
            return Ok(Wake::Guest);
        }
        let woken = wait::sleep(&self.link, others, timeout, &mut self.polled);
        self.receiver.mask();
        woken
    }

    /// Sleeps until there may be `bytes` of room to send in ([`Wake::Guest`]), or there is something else to do. Packets
    /// of the guest don't end it, so whoever can't answer need take no more.
    ///
    /// # Errors
    /// The guest broke a ring, or the operating system can't wait.
    pub fn wait_room(
        &mut self,
        bytes: u32,
        others: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<Wake, ChannelError> {
        self.publish();
        if let Some(wake) = self.link.pending() {
            return Ok(wake);
        }
        if self.sender.await_room(bytes)? {
            self.sender.stop_awaiting();
            return Ok(Wake::Guest);
        }
        let woken = wait::sleep(&self.link, others, timeout, &mut self.polled);
        self.sender.stop_awaiting();
        woken
    }

    /// Tells the guest what was taken from its ring. Happens by itself when the ring is found empty, and in [`Self::wait`].
    pub fn publish(&mut self) {
        publish(&mut self.receiver, &self.link, &mut self.taken);
    }

    /// For other threads.
    pub fn waker(&self) -> Waker {
        Waker(self.link.clone())
    }
}

/// Packets to the guest that are not visible yet. Dropped without [`HostBatch::publish`], they were never there.
#[must_use = "nothing is sent before `publish`"]
pub struct HostBatch<'c> {
    batch: rings::Batch<'c>,
    link: &'c Link,
    packets: u64,
    bytes: u64,
}

impl HostBatch<'_> {
    /// Adds a packet.
    ///
    /// # Errors
    /// The packet is not in the batch, those before it still are. [`ChannelError::Full`] is no end; all others are.
    pub fn push(&mut self, packet: &OutgoingPacket<'_>) -> Result<(), ChannelError> {
        if self.link.is_closing() {
            return Err(ChannelError::Closed);
        }
        self.batch.push(packet)?;
        self.packets += 1;
        self.bytes += packet_bytes(packet);
        Ok(())
    }

    /// Makes all packets visible, and signals the guest where it wants that.
    pub fn publish(self) {
        let signal = self.batch.publish();
        if self.packets != 0 {
            self.link.sent(self.packets, self.bytes);
            self.link.signal_packets(signal);
        }
    }
}

/// Not a method, for the packet borrows the buffer alone.
fn receive<'b>(
    receiver: &mut Receiver,
    link: &Link,
    taken: &mut u32,
    buffer: &'b mut [u8],
) -> Result<Option<Packet<'b>>, ChannelError> {
    if link.is_closing() {
        return Err(ChannelError::Closed);
    }
    if *taken >= receiver.memory().data_len() / 4 {
        publish(receiver, link, taken);
    }
    match receiver.receive(buffer) {
        Ok(Some(packet)) => {
            let bytes = packet.payload().len();
            *taken = taken.saturating_add((DESCRIPTOR_BYTES + bytes) as u32);
            link.received(bytes as u64);
            Ok(Some(packet))
        }
        Ok(None) => {
            publish(receiver, link, taken);
            Ok(None)
        }
        Err(ReceiveError::BufferTooSmall { .. }) => Err(ChannelError::TooLarge),
        Err(ReceiveError::Corrupt(error)) => Err(ChannelError::Corrupt(error)),
    }
}

fn publish(receiver: &mut Receiver, link: &Link, taken: &mut u32) {
    if std::mem::take(taken) != 0 {
        link.signal_room(receiver.release());
    }
}

fn packet_bytes(packet: &OutgoingPacket<'_>) -> u64 {
    packet.payload.iter().map(|part| part.len() as u64).sum()
}
