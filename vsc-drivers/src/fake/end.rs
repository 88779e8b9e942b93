//! The host's end of an open channel.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::message::OpenChannel;
use hv_abi::vmbus::offer::VMBUS_USER_DEFINED_BYTES;
use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::{
    Control, FlatMemory, OutgoingPacket, Packet, RingMemory, RingReceiver, RingSender, SendError,
};

use core::sync::atomic::Ordering;

use super::memory::Allocation;
use super::{Machine, lock};
use crate::bus::ChannelId;

const PAGE: u64 = HV_PAGE_SIZE as u64;
/// Larger than any packet can be.
const BUFFER_BYTES: usize = 8 * 0x1_0000;

/// The host's end of an open channel, for whoever plays the device. It works until the guest closes the channel.
pub struct HostEnd {
    machine: Arc<Machine>,
    channel: ChannelId,
    serial: u64,
    message: OpenChannel,
    version: VmbusVersion,
    from_guest: Mutex<RingReceiver<FlatMemory<Arc<Allocation>>>>,
    to_guest: Mutex<RingSender<FlatMemory<Arc<Allocation>>>>,
}

/// A packet of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPacket {
    /// What it is.
    pub kind: PacketType,
    /// The guest's number for it.
    pub transaction_id: u64,
    /// Whether the guest wants a completion.
    pub completion_requested: bool,
    /// The payload, with zeros up to a multiple of 8 bytes.
    pub payload: Vec<u8>,
    /// The ranges of a GPA-direct packet.
    pub ranges: Vec<HostRange>,
}

/// Guest memory that a packet lends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRange {
    /// Bytes.
    pub bytes: u32,
    /// Where in the first page they begin.
    pub offset: u32,
    /// Page numbers.
    pub pages: Vec<u64>,
}

impl HostPacket {
    fn new(packet: Packet<'_>) -> Self {
        let ranges = if packet.kind() == PacketType::DATA_USING_GPA_DIRECT {
            let ranges = packet.gpa_ranges().expect("well-formed ranges");
            ranges
                .iter()
                .map(|range| HostRange {
                    bytes: range.byte_count,
                    offset: range.byte_offset,
                    pages: range.page_numbers().collect(),
                })
                .collect()
        } else {
            Vec::new()
        };
        Self {
            kind: packet.kind(),
            transaction_id: packet.transaction_id(),
            completion_requested: packet.completion_requested(),
            payload: packet.payload().to_vec(),
            ranges,
        }
    }

    /// Addresses and lengths of the memory that the packet lends, page by page.
    fn pieces(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.ranges.iter().flat_map(|range| {
            let mut left = range.bytes as usize;
            let mut offset = u64::from(range.offset);
            range.pages.iter().map(move |page| {
                let bytes = left.min((PAGE - offset) as usize);
                let address = page * PAGE + offset;
                left -= bytes;
                offset = 0;
                (address, bytes)
            })
        })
    }
}

impl HostEnd {
    /// The end of a channel that is open and that nobody serves.
    pub(super) fn take(machine: &Arc<Machine>, channel: ChannelId) -> Option<Self> {
        let mut host = lock(&machine.host);
        let version = host.version()?;
        let opened = host.devices.get_mut(&channel.relid())?.opened.as_mut()?;
        if core::mem::replace(&mut opened.served, true) {
            return None;
        }
        let (message, serial) = (opened.message, opened.serial);
        let pages = &host.gpadls.get(&message.ringbuffer_gpadlhandle)?.pages;
        let split = message.downstream_ringbuffer_pageoffset as usize;
        let (from_guest, to_guest) = pages.split_at(split);
        let from_guest = RingReceiver::new(ring(machine, from_guest));
        let to_guest = RingSender::new(ring(machine, to_guest));
        Some(Self {
            machine: machine.clone(),
            channel,
            serial,
            message,
            version,
            from_guest: Mutex::new(from_guest.expect("a ring")),
            to_guest: Mutex::new(to_guest.expect("a ring")),
        })
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The version of the connection.
    pub fn version(&self) -> VmbusVersion {
        self.version
    }

    /// What the guest's driver gave along when it opened the channel.
    pub fn user_data(&self) -> &[u8; VMBUS_USER_DEFINED_BYTES] {
        &self.message.userdata
    }

    /// The guest's message.
    pub fn open_message(&self) -> &OpenChannel {
        &self.message
    }

    /// Whether the guest has the channel open, still or this time.
    pub fn is_open(&self) -> bool {
        let host = lock(&self.machine.host);
        let device = host.devices.get(&self.channel.relid());
        let opened = device.and_then(|device| device.opened.as_ref());
        opened.is_some_and(|opened| opened.serial == self.serial)
    }

    /// The next packet, if there is one.
    pub fn try_receive(&self) -> Option<HostPacket> {
        if !self.is_open() {
            return None;
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut ring = lock(&self.from_guest);
        let packet = ring.receive(&mut buffer).expect("a ring in order").map(HostPacket::new);
        if packet.is_none() {
            let signal = ring.release();
            drop(ring);
            self.signal(signal);
        }
        packet
    }

    /// The next packet, also if it comes later; `None` when the channel is closed.
    pub async fn receive(&self) -> Option<HostPacket> {
        poll_fn(|context| {
            self.machine.wait_for_guest(context.waker());
            loop {
                if !self.is_open() {
                    return Poll::Ready(None);
                }
                if let Some(packet) = self.try_receive() {
                    return Poll::Ready(Some(packet));
                }
                if !lock(&self.from_guest).unmask().expect("a ring in order") {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Waits until the channel is closed, and leaves its packets alone.
    pub async fn closed(&self) {
        poll_fn(|context| {
            self.machine.wait_for_guest(context.waker());
            if self.is_open() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Sends a packet, and signals the guest if that is needed.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn try_send(&self, packet: &OutgoingPacket<'_>) -> Result<(), SendError> {
        let signal = lock(&self.to_guest).send(packet)?;
        self.signal(signal);
        Ok(())
    }

    /// Sends a packet, for which there has to be room.
    pub fn send(&self, packet: &OutgoingPacket<'_>) {
        self.try_send(packet).expect("room in the ring");
    }

    /// Sends the completion of a packet.
    pub fn complete(&self, packet: &HostPacket, payload: &[u8]) {
        self.send(&OutgoingPacket::completion(packet.transaction_id, &[payload]));
    }

    /// The bytes of the memory that a packet lends.
    pub fn read_ranges(&self, packet: &HostPacket) -> Vec<u8> {
        let mut all = Vec::new();
        for (address, bytes) in packet.pieces() {
            let at = all.len();
            all.resize(at + bytes, 0);
            self.machine.memory.read(address, &mut all[at..]);
        }
        all
    }

    /// Fills the memory that a packet lends, from its start; returns how many bytes there was room for.
    pub fn write_ranges(&self, packet: &HostPacket, bytes: &[u8]) -> usize {
        let mut done = 0;
        for (address, room) in packet.pieces() {
            let now = room.min(bytes.len() - done);
            self.machine.memory.write(address, &bytes[done..done + now]);
            done += now;
        }
        done
    }

    /// Reads `bytes` bytes at `offset` of a GPADL.
    pub fn read_gpadl(&self, gpadl: u32, offset: usize, bytes: usize) -> Vec<u8> {
        let mut all = vec![0; bytes];
        for (done, byte) in all.iter_mut().enumerate() {
            let address = self.gpadl_address(gpadl, offset + done);
            self.machine.memory.read(address, core::slice::from_mut(byte));
        }
        all
    }

    /// Writes bytes at `offset` of a GPADL.
    pub fn write_gpadl(&self, gpadl: u32, offset: usize, bytes: &[u8]) {
        for (done, byte) in bytes.iter().enumerate() {
            self.machine.memory.write(self.gpadl_address(gpadl, offset + done), &[*byte]);
        }
    }

    fn gpadl_address(&self, gpadl: u32, offset: usize) -> u64 {
        let host = lock(&self.machine.host);
        let pages = &host.gpadls.get(&gpadl).expect("a GPADL that the guest has made").pages;
        let page = pages.get(offset / HV_PAGE_SIZE).expect("an offset in the GPADL");
        page * PAGE + (offset % HV_PAGE_SIZE) as u64
    }

    /// Writes a control word of the ring to the guest, as a broken host might.
    pub fn break_ring(&self, word: Control, value: u32) {
        lock(&self.to_guest).memory().control(word).store(value, Ordering::SeqCst);
    }

    /// Writes a control word of the ring from the guest, as a broken host might.
    pub fn break_guests_ring(&self, word: Control, value: u32) {
        lock(&self.from_guest).memory().control(word).store(value, Ordering::SeqCst);
    }

    /// A control word of the ring from the guest.
    pub fn guests_control(&self, word: Control) -> u32 {
        lock(&self.from_guest).memory().control(word).load(Ordering::SeqCst)
    }

    /// Writes bytes into the data of the ring to the guest, as a broken host might.
    pub fn scribble(&self, offset: u32, bytes: &[u8]) {
        lock(&self.to_guest).memory().write(offset, bytes);
    }

    /// Signals the guest without a reason.
    pub fn interrupt(&self) {
        self.machine.interrupt_channel(self.channel.relid());
    }

    fn signal(&self, signal: vmbus_ring::Signal) {
        if signal.needed() {
            self.interrupt();
        }
    }
}

fn ring(machine: &Machine, pages: &[u64]) -> FlatMemory<Arc<Allocation>> {
    let (allocation, offset) = machine.memory.contiguous(pages).expect("rings in one piece");
    // SAFETY: `contiguous` has checked that the pages are in the allocation.
    let base = unsafe { allocation.address().add(offset) };
    // SAFETY: the allocation lives as long as the ring, and guest and host reach it by ring memories only.
    let ring = unsafe { FlatMemory::new(base, pages.len() * HV_PAGE_SIZE, allocation) };
    ring.expect("a control page and data")
}
