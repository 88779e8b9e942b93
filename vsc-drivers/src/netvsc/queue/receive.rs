//! What comes from the host: frames, completions, and news.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::nvsp::{
    NVSP_RECEIVE_BUFFER_ID, NVSP_SEND_TABLE_ENTRIES, NvspMessageType, NvspSendIndirectionTable,
    NvspSendRndisPacketComplete, NvspStatus, NvspVersion,
};
use hv_abi::vmbus::packet::{PacketType, TransferPageRange};
use vmbus_ring::{OutgoingPacket, Packet};
use zerocopy::{FromBytes, IntoBytes};

use super::super::adapter::Adapter;
use super::super::control::Control;
use super::super::error::NetError;
use super::super::frame::Frame;
use super::super::message::{Malformed, Message, parse};
use super::Queue;
use crate::bus::ChannelError;
use crate::channel::{Channel, SharedBuffer};
use crate::hal::Hal;

/// Longest packet of a host: 562 ranges, Linux's limit, and the longest message (`NETVSC_MAX_PKT_SIZE`); rounded up.
const MAX_PACKET_BYTES: usize = 8192;
/// Longest range: an RNDIS message with the largest coalesced frame.
const MAX_RANGE_BYTES: usize = 72 << 10;
/// Packets that are answered before more are read.
const MAX_COMPLETIONS: usize = 256;
/// Where the send table is in messages of hosts up to version 6, whatever they say (Linux, `netvsc_send_table`).
const OLD_TABLE_OFFSET: usize = 40;

/// What receiving needs, for whoever does it at the moment.
pub(super) struct Receiver<H: Hal> {
    packet: Vec<u8>,
    /// Packets to answer.
    completions: VecDeque<(u64, NvspStatus)>,
    /// The receive buffer, shared with the host.
    pages: Option<Arc<SharedBuffer<H>>>,
}

/// What receiving works on.
struct Context<'a, H: Hal> {
    adapter: &'a Adapter<H>,
    pages: Option<&'a SharedBuffer<H>>,
}

/// How a round of receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Round {
    /// There was nothing.
    Nothing,
    /// There was something, and now there is nothing more.
    Emptied,
    /// There may be more.
    More,
}

impl<H: Hal> Receiver<H> {
    pub(super) fn new() -> Self {
        let packet = vec![0; MAX_PACKET_BYTES];
        Self { packet, completions: VecDeque::new(), pages: None }
    }

    pub(super) fn attach(&mut self, pages: Option<Arc<SharedBuffer<H>>>) {
        self.pages = pages;
    }
}

impl<H: Hal> Queue<H> {
    /// Reads at most `budget` packets, and answers them together.
    pub(in super::super) fn receive(
        &self,
        adapter: &Adapter<H>,
        budget: usize,
    ) -> Result<Round, NetError> {
        let channel = self.channel.get().ok_or(NetError::Stopped)?;
        let mut receiver = self.receiver.lock();
        let Receiver { packet: buffer, completions, pages } = &mut *receiver;
        let context = Context { adapter, pages: pages.as_deref() };
        let mut packets = 0;
        let mut round = Round::More;
        while packets < budget && completions.len() < MAX_COMPLETIONS {
            let handle = |packet: Packet<'_>| self.handle(&context, &packet);
            let Some(answer) = channel.try_receive(buffer, handle)? else {
                round = if packets == 0 { Round::Nothing } else { Round::Emptied };
                break;
            };
            completions.extend(answer);
            packets += 1;
        }
        answer(&channel, completions)?;
        drop(receiver);
        if round == Round::More {
            channel.release()?;
        }
        if packets != 0 {
            self.received.ring(&adapter.hal);
            self.room.ring(&adapter.hal);
        }
        Ok(round)
    }

    /// Answers what found no room in the ring, and waits for the room.
    pub(super) async fn answer_the_rest(&self, channel: &Channel<H>) -> Result<(), ChannelError> {
        loop {
            let next = self.receiver.lock().completions.pop_front();
            let Some((transaction, status)) = next else { return Ok(()) };
            let message = completion(status);
            channel.send(&OutgoingPacket::completion(transaction, &[message.as_bytes()])).await?;
        }
    }

    /// One packet from the host. What to answer, if anything.
    fn handle(&self, context: &Context<'_, H>, packet: &Packet<'_>) -> Option<(u64, NvspStatus)> {
        match packet.kind() {
            PacketType::DATA_USING_XFER_PAGES => {
                let status = match self.receive_pages(context, packet) {
                    Ok(status) => status,
                    Err(Malformed) => {
                        self.counters.malformed.increment();
                        NvspStatus::FAIL
                    }
                };
                Some((packet.transaction_id(), status))
            }
            PacketType::COMP => {
                self.completed(context.adapter, packet);
                None
            }
            PacketType::DATA_INBAND => {
                self.receive_news(context.adapter, packet.payload());
                None
            }
            _ => {
                self.counters.unknown.increment();
                None
            }
        }
    }

    /// Ranges of the receive buffer, each with an RNDIS message.
    fn receive_pages(
        &self,
        context: &Context<'_, H>,
        packet: &Packet<'_>,
    ) -> Result<NvspStatus, Malformed> {
        if message_type(packet.payload()) != Some(NvspMessageType::SEND_RNDIS_PKT) {
            return Err(Malformed);
        }
        let pages = packet.transfer_pages().map_err(|_| Malformed)?;
        if pages.set_id != NVSP_RECEIVE_BUFFER_ID {
            return Err(Malformed);
        }
        let mut status = NvspStatus::SUCCESS;
        for range in pages.ranges() {
            if self.receive_range(context, range).is_err() {
                self.counters.malformed.increment();
                status = NvspStatus::FAIL;
            }
        }
        Ok(status)
    }

    /// Copies the range, once, and looks at the copy.
    fn receive_range(
        &self,
        context: &Context<'_, H>,
        range: TransferPageRange,
    ) -> Result<(), Malformed> {
        let Context { adapter, pages } = context;
        let (offset, bytes) = (range.byte_offset as usize, range.byte_count as usize);
        let shared = pages.ok_or(Malformed)?;
        let end = offset.checked_add(bytes).ok_or(Malformed)?;
        if bytes > MAX_RANGE_BYTES || end > shared.byte_len() {
            return Err(Malformed);
        }
        let mut copy = self.buffers.take(bytes);
        let message = copy.get_mut(..bytes).ok_or(Malformed)?;
        shared.read(offset, message).map_err(|_| Malformed)?;
        match parse(message) {
            Ok(Message::Data(mut data)) => {
                data.info.channel = self.index;
                let pool = self.buffers.clone();
                self.deliver(adapter, Frame::new(copy, data.start, data.end, data.info, pool));
                return Ok(());
            }
            Ok(Message::Answer { request, message }) => {
                if !adapter.control.answered(&adapter.hal, request, message) {
                    self.counters.malformed.increment();
                }
            }
            Ok(Message::Indication { status, detail }) => adapter.indicate(status, detail),
            Ok(Message::Other) => self.counters.unknown.increment(),
            Err(malformed) => {
                self.buffers.give(copy);
                return Err(malformed);
            }
        }
        self.buffers.give(copy);
        Ok(())
    }

    fn deliver(&self, adapter: &Adapter<H>, frame: Frame) {
        let bytes = frame.len() as u64;
        let refused = {
            let mut frames = self.frames.lock();
            if frames.len() < adapter.options.receive_queue_frames {
                frames.push_back(frame);
                None
            } else {
                Some(frame)
            }
        };
        if refused.is_some() {
            self.counters.receive_drops.increment();
        } else {
            self.counters.received_frames.increment();
            self.counters.received_bytes.add(bytes);
        }
    }

    fn completed(&self, adapter: &Adapter<H>, packet: &Packet<'_>) {
        let (transaction, payload) = (packet.transaction_id(), packet.payload());
        if Control::<H>::owns(transaction) {
            if !adapter.control.completed(&adapter.hal, transaction, payload) {
                self.counters.malformed.increment();
            }
            return;
        }
        let status = NvspSendRndisPacketComplete::read_from_prefix(payload)
            .ok()
            .filter(|(message, _)| message.msg_type == NvspMessageType::SEND_RNDIS_PKT_COMPLETE)
            .map(|(message, _)| message.status);
        if status.is_none() {
            self.counters.malformed.increment();
        }
        self.transmitted(transaction, status == Some(NvspStatus::SUCCESS));
    }

    /// A message that is no RNDIS message.
    fn receive_news(&self, adapter: &Adapter<H>, payload: &[u8]) {
        match message_type(payload) {
            Some(NvspMessageType::SEND_INDIRECTION_TABLE) => {
                let version = adapter.version.get().copied().unwrap_or(NvspVersion::V1);
                match send_table(version, payload) {
                    Some(entries) => adapter.send_table.set(entries),
                    None => self.counters.malformed.increment(),
                }
            }
            // A virtual function beside the adapter: this driver doesn't use it, and never says that it would.
            Some(NvspMessageType::SEND_VF_ASSOCIATION) => {}
            Some(_) => self.counters.unknown.increment(),
            None => self.counters.malformed.increment(),
        }
    }
}

/// Sends as many answers as the ring has room for, with at most one signal.
fn answer<H: Hal>(
    channel: &Channel<H>,
    completions: &mut VecDeque<(u64, NvspStatus)>,
) -> Result<(), ChannelError> {
    if completions.is_empty() {
        return Ok(());
    }
    let (good, bad) = (completion(NvspStatus::SUCCESS), completion(NvspStatus::FAIL));
    let (good, bad) = ([good.as_bytes()], [bad.as_bytes()]);
    let packets = completions.iter().map(|(transaction, status)| {
        let payload = if *status == NvspStatus::SUCCESS { &good } else { &bad };
        OutgoingPacket::completion(*transaction, payload)
    });
    let sent = channel.try_send_batch(packets)?;
    completions.drain(..sent.min(completions.len()));
    Ok(())
}

fn completion(status: NvspStatus) -> NvspSendRndisPacketComplete {
    NvspSendRndisPacketComplete { msg_type: NvspMessageType::SEND_RNDIS_PKT_COMPLETE, status }
}

fn message_type(payload: &[u8]) -> Option<NvspMessageType> {
    NvspMessageType::read_from_prefix(payload).ok().map(|(kind, _)| kind)
}

/// The entries of the host's send table.
fn send_table(version: NvspVersion, message: &[u8]) -> Option<impl Iterator<Item = u32>> {
    const TABLE_BYTES: usize = NVSP_SEND_TABLE_ENTRIES * 4;
    let (head, _) = NvspSendIndirectionTable::read_from_prefix(message).ok()?;
    if head.count as usize != NVSP_SEND_TABLE_ENTRIES {
        return None;
    }
    let old = version <= NvspVersion::V6 && message.len() >= OLD_TABLE_OFFSET + TABLE_BYTES;
    let offset = if old { OLD_TABLE_OFFSET } else { head.offset as usize };
    let table: [u8; TABLE_BYTES] = *message.get(offset..)?.first_chunk()?;
    let entry = move |index: usize| {
        table.get(index * 4..)?.first_chunk().map(|entry| u32::from_le_bytes(*entry))
    };
    Some((0..NVSP_SEND_TABLE_ENTRIES).map_while(entry))
}
