//! Frames to the host: collected in sections of the send buffer, or left where they lie; given to the ring many at a time.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::array;

use hv_abi::HV_PAGE_SIZE;
use spin::MutexGuard;
use vmbus_ring::GpaRange;

use super::super::adapter::{Adapter, SendBuffer};
use super::super::buffer::TransmitBuffer;
use super::super::error::{NetError, TransmitError};
use super::super::outgoing::{Beside, Head, LENGTH_OFFSET, MAX_HEAD_BYTES};
use super::super::sections::Section;
use super::Queue;
use super::outstanding::{Outstanding, Ticket};
use super::packet::{Memory, NvspBytes, Packet, Pages, Place, outgoing};
use crate::channel::Channel;
use crate::hal::{DmaBuffer, Hal};

/// Packets of a channel, ready or under way, at most.
const MAX_PACKETS: usize = 1024;
/// Those of them that lie in memory of their own, at most.
const MAX_DIRECT: usize = 256;
/// Packets that are given to the ring at once.
const BATCH: usize = 16;

/// What a channel has to send, and has sent.
pub(super) struct Transmitter<H: Hal> {
    /// The section that frames are being put into.
    open: Option<Open>,
    /// Packets for the ring.
    ready: VecDeque<Packet<H>>,
    outstanding: Outstanding<Packet<H>>,
    /// How many packets, ready or outstanding, lie in memory of their own.
    direct: usize,
    /// Frames that the ring does not have yet.
    waiting_frames: u32,
    /// The send buffer, if there is one.
    buffer: Option<Arc<SendBuffer<H>>>,
}

struct Open {
    section: Section,
    used: usize,
    /// Where the last message begins, and how long it is.
    last: (usize, usize),
    frames: u32,
    bytes: u64,
}

impl<H: Hal> Transmitter<H> {
    pub(super) fn new() -> Self {
        Self {
            open: None,
            ready: VecDeque::new(),
            outstanding: Outstanding::new(MAX_PACKETS),
            direct: 0,
            waiting_frames: 0,
            buffer: None,
        }
    }

    pub(super) fn attach(&mut self, buffer: Option<Arc<SendBuffer<H>>>) {
        self.buffer = buffer;
    }

    /// The send buffer, if a frame of `bytes` with any head fits in a section of it.
    fn buffer_for(&self, bytes: usize) -> Option<Arc<SendBuffer<H>>> {
        self.buffer.clone().filter(|buffer| {
            let bytes = bytes.checked_add(MAX_HEAD_BYTES);
            bytes.is_some_and(|bytes| bytes <= buffer.sections.section_bytes() as usize)
        })
    }

    fn has_room(&self) -> bool {
        let open = usize::from(self.open.is_some());
        self.ready.len() + self.outstanding.len() + open < MAX_PACKETS
    }

    /// Makes a packet of the open section.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let place = Place::Section { section: open.section, bytes: open.used as u32 };
            self.ready.push_back(Packet { place, frames: open.frames, bytes: open.bytes });
        }
    }
}

impl<H: Hal> Queue<H> {
    /// Whether a frame of `bytes` would be taken now.
    pub(in super::super) fn has_room(&self, bytes: usize) -> bool {
        let transmitter = self.transmitter.lock();
        let has_place = match transmitter.buffer_for(bytes) {
            Some(buffer) => buffer.sections.any_free(),
            None => transmitter.direct < MAX_DIRECT,
        };
        has_place && transmitter.has_room()
    }

    /// Takes a frame, to be sent with the next batch.
    pub(in super::super) fn transmit(
        &self,
        adapter: &Adapter<H>,
        frame: &[u8],
        beside: &Beside,
    ) -> Result<(), TransmitError> {
        let head = Head::new(frame.len(), beside).ok_or(TransmitError::BadLength)?;
        let transmitter = self.transmitter.lock();
        match transmitter.buffer_for(frame.len()) {
            Some(buffer) => self.copy(adapter, transmitter, &buffer, &head, frame),
            None => {
                drop(transmitter);
                let mut own = TransmitBuffer::new(&self.buffers, frame.len());
                own.copy_from_slice(frame);
                self.send_directly(adapter, &head, own)
            }
        }
    }

    /// The same for a frame in memory of its own: the host takes it from there, if it is large.
    pub(in super::super) fn transmit_buffer(
        &self,
        adapter: &Adapter<H>,
        frame: TransmitBuffer,
        beside: &Beside,
    ) -> Result<(), TransmitError> {
        let head = Head::new(frame.len(), beside).ok_or(TransmitError::BadLength)?;
        let transmitter = self.transmitter.lock();
        match transmitter.buffer_for(frame.len()) {
            Some(buffer) => self.copy(adapter, transmitter, &buffer, &head, &frame),
            None => {
                drop(transmitter);
                self.send_directly(adapter, &head, frame)
            }
        }
    }

    /// Copies head and frame into a section, behind others if they fit.
    fn copy(
        &self,
        adapter: &Adapter<H>,
        mut transmitter: MutexGuard<'_, Transmitter<H>>,
        buffer: &SendBuffer<H>,
        head: &Head,
        frame: &[u8],
    ) -> Result<(), TransmitError> {
        let bytes = head.bytes().len() + frame.len();
        let packing = adapter.packing();
        let mut open = section(buffer, packing.alignment, &mut transmitter, bytes)?;
        let at = buffer.sections.offset(open.section) + open.used;
        // `section` has seen to it that both fit.
        let head_written = buffer.memory.write(at, head.bytes());
        let written = buffer.memory.write(at + head.bytes().len(), frame).and(head_written);
        open.last = (open.used, bytes);
        open.used += bytes;
        open.frames += 1;
        open.bytes += frame.len() as u64;
        let is_full = open.frames >= packing.packets;
        transmitter.open = Some(open);
        if is_full {
            transmitter.close();
        }
        self.taken(adapter, transmitter);
        written.map_err(|_| TransmitError::BadLength)
    }

    /// Leaves the frame where it is, for the host to take it from there.
    fn send_directly(
        &self,
        adapter: &Adapter<H>,
        head: &Head,
        mut frame: TransmitBuffer,
    ) -> Result<(), TransmitError> {
        let frame_bytes = frame.len() as u64;
        let message = frame.with_head(head);
        let (pages, memory) = match Pages::of(&adapter.hal, message) {
            Some(pages) => (pages, Memory::Lent(frame)),
            // The kernel can't say where the host sees it: its own memory can be told.
            None => {
                let (pages, copy) = copied(&adapter.hal, message).ok_or(TransmitError::Full)?;
                (pages, Memory::Copied(copy))
            }
        };
        let place = Place::Pages { pages, memory };
        let mut transmitter = self.transmitter.lock();
        if transmitter.direct >= MAX_DIRECT || !transmitter.has_room() {
            return Err(TransmitError::Full);
        }
        // Frames keep their order.
        transmitter.close();
        transmitter.direct += 1;
        transmitter.ready.push_back(Packet { place, frames: 1, bytes: frame_bytes });
        self.taken(adapter, transmitter);
        Ok(())
    }

    /// A frame was taken: the host gets it now if many have come together, else when the channel's task is next.
    fn taken(&self, adapter: &Adapter<H>, mut transmitter: MutexGuard<'_, Transmitter<H>>) {
        transmitter.waiting_frames += 1;
        let many = transmitter.waiting_frames >= adapter.options.batch_frames;
        drop(transmitter);
        // What goes wrong there, the channel's task will find too.
        if !(many && matches!(self.flush(), Ok(true))) {
            self.kick(&adapter.hal);
        }
    }

    /// Gives the ring all that was collected, as far as it has room. Whether it had room for all.
    pub(in super::super) fn flush(&self) -> Result<bool, NetError> {
        let mut transmitter = self.transmitter.lock();
        transmitter.close();
        if transmitter.ready.is_empty() {
            return Ok(true);
        }
        let channel = self.channel.get().ok_or(NetError::Stopped)?;
        self.counters.flushes.increment();
        while !transmitter.ready.is_empty() {
            if !self.send_batch(&channel, &mut transmitter)? {
                return Ok(false);
            }
        }
        transmitter.waiting_frames = 0;
        Ok(true)
    }

    /// Gives the ring the next packets. Whether all of them had room.
    fn send_batch(
        &self,
        channel: &Channel<H>,
        transmitter: &mut Transmitter<H>,
    ) -> Result<bool, NetError> {
        let Transmitter { ready, outstanding, .. } = transmitter;
        let count = ready.len().min(BATCH);
        let tickets: [Option<Ticket>; BATCH] =
            array::from_fn(|index| if index < count { outstanding.reserve() } else { None });
        let message = |index: usize| ready.get(index).map_or([0; _], Packet::message);
        let messages: [NvspBytes; BATCH] = array::from_fn(message);
        let payloads = messages.each_ref().map(|message| [message.as_slice()]);
        let ranges: [Option<[GpaRange<'_>; 1]>; BATCH] =
            array::from_fn(|index| Some([ready.get(index)?.range()?]));
        let parts = tickets.iter().zip(&payloads).zip(&ranges);
        let packets = parts.map_while(|((ticket, payload), ranges)| {
            Some(outgoing((*ticket)?, payload, ranges.as_ref().map(<[_; 1]>::as_slice)))
        });
        let sent = channel.try_send_batch(packets);
        for (index, ticket) in tickets.into_iter().flatten().enumerate() {
            let packet =
                if index < *sent.as_ref().unwrap_or(&0) { ready.pop_front() } else { None };
            match packet {
                Some(packet) => {
                    self.count(&packet);
                    outstanding.fill(ticket, packet);
                }
                None => outstanding.cancel(ticket),
            }
        }
        Ok(sent? == count)
    }

    fn count(&self, packet: &Packet<H>) {
        self.counters.transmitted_frames.add(packet.frames.into());
        self.counters.transmitted_bytes.add(packet.bytes);
        self.counters.transmit_packets.increment();
        if packet.is_direct() {
            self.counters.transmitted_directly.increment();
        }
    }

    /// The host has done with a packet.
    pub(super) fn transmitted(&self, transaction: u64, succeeded: bool) {
        let packet = {
            let mut transmitter = self.transmitter.lock();
            let packet = transmitter.outstanding.remove(transaction);
            match packet.as_ref().map(|packet| &packet.place) {
                Some(Place::Pages { .. }) => transmitter.direct -= 1,
                Some(Place::Section { section, .. }) => {
                    if let Some(buffer) = &transmitter.buffer {
                        buffer.sections.free(*section);
                    }
                }
                None => {}
            }
            packet
        };
        match packet {
            Some(packet) if !succeeded => self.counters.transmit_drops.add(packet.frames.into()),
            Some(_) => {}
            None => self.counters.malformed.increment(),
        }
    }

    /// Frames that were taken, and that the host has not done with.
    pub(in super::super) fn is_idle(&self) -> bool {
        let transmitter = self.transmitter.lock();
        transmitter.open.is_none()
            && transmitter.ready.is_empty()
            && transmitter.outstanding.len() == 0
    }
}

/// The open section if `bytes` more fit into it, else a new one.
fn section<H: Hal>(
    buffer: &SendBuffer<H>,
    alignment: u32,
    transmitter: &mut Transmitter<H>,
    bytes: usize,
) -> Result<Open, TransmitError> {
    if let Some(open) = &mut transmitter.open {
        let aligned = open.used.next_multiple_of(alignment as usize);
        if aligned + bytes <= buffer.sections.section_bytes() as usize {
            pad(buffer, open, aligned);
            return transmitter.open.take().ok_or(TransmitError::Full);
        }
    }
    transmitter.close();
    if !transmitter.has_room() {
        return Err(TransmitError::Full);
    }
    let section = buffer.sections.take().ok_or(TransmitError::Full)?;
    Ok(Open { section, used: 0, last: (0, 0), frames: 0, bytes: 0 })
}

/// Has the last message in a section reach up to `aligned`, where the next one begins.
fn pad<H: Hal>(buffer: &SendBuffer<H>, open: &mut Open, aligned: usize) {
    let padding = aligned - open.used;
    if padding == 0 {
        return;
    }
    let base = buffer.sections.offset(open.section);
    let (start, bytes) = open.last;
    let length = ((bytes + padding) as u32).to_le_bytes();
    // Both places are in the section, see `section`.
    let _ = buffer.memory.write(base + start + LENGTH_OFFSET, &length);
    for at in open.used..aligned {
        let _ = buffer.memory.write(base + at, &[0]);
    }
    open.used = aligned;
}

/// `bytes` in pages from the kernel.
fn copied<H: Hal>(hal: &H, bytes: &[u8]) -> Option<(Pages, DmaBuffer<H>)> {
    let buffer = DmaBuffer::new(hal, bytes.len().div_ceil(HV_PAGE_SIZE))?;
    buffer.write(0, bytes).ok()?;
    Some((Pages::of_buffer(&buffer, bytes.len())?, buffer))
}
