//! The host's end of a network adapter, well-behaved until a test says otherwise.

mod rndis;

use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;
use std::vec::Vec;

use core::future::poll_fn;
use core::task::{Poll, Waker};

use hv_abi::nvsp::*;
use hv_abi::rndis::oid::Oid;
use hv_abi::vmbus::packet::PacketType;
use zerocopy::FromBytes;

use crate::bus::ChannelId;
use crate::fake::{FakeHost, FakeOffer, HostEnd, HostPacket};

pub(super) const MAC: [u8; 6] = [0x00, 0x15, 0x5d, 1, 2, 3];
/// Bytes of a part of the receive buffer.
pub(super) const PART_BYTES: u32 = 1728;

/// How the card answers a message.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Never.
    Silence,
    /// With these bytes, whatever they are.
    Bytes(Vec<u8>),
    /// As it should, and then again.
    Twice,
    /// By taking the channel back.
    Rescind,
}

/// A frame of the guest, with its RNDIS head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) channel: u16,
    pub(super) head: Vec<u8>,
    pub(super) frame: Vec<u8>,
    /// It came by guest pages.
    pub(super) directly: bool,
}

/// What a card is like, and what happened to it.
pub(super) struct State {
    pub(super) versions: RangeInclusive<NvspVersion>,
    pub(super) section_bytes: u32,
    pub(super) packing: (u32, u32),
    pub(super) receive_queues: u32,
    pub(super) objects: BTreeMap<u32, Vec<u8>>,
    pub(super) replies: BTreeMap<u32, Reply>,
    pub(super) object_replies: BTreeMap<u32, Reply>,
    /// Completions of frames wait for [`Card::complete_all`].
    pub(super) withhold: bool,
    pub(super) withheld: Vec<(u16, u64)>,
    /// Does nothing with requests.
    pub(super) mute: bool,
    /// Sends every frame back.
    pub(super) echo: bool,
    pub(super) receive_gpadl: u32,
    pub(super) send_gpadl: u32,
    /// All NVSP messages but frames, and all RNDIS requests, in order.
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) sent: Vec<Sent>,
    pub(super) packets: usize,
    /// Answers to our packets: transaction and status.
    pub(super) answers: Vec<(u64, u32)>,
    /// Parts of the receive buffer that the guest has, by transaction.
    pub(super) parts: BTreeMap<u64, Vec<u32>>,
    pub(super) free_parts: VecDeque<u32>,
    next_transaction: u64,
    ends: BTreeMap<u16, Arc<HostEnd>>,
    new_channels: Vec<(u16, ChannelId)>,
    waiting: Vec<Waker>,
}

/// A card. Clones are the same.
#[derive(Clone)]
pub(super) struct Card {
    pub(super) host: FakeHost,
    pub(super) channel: ChannelId,
    state: Arc<Mutex<State>>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

impl Card {
    pub(super) fn new() -> Self {
        let host = FakeHost::new();
        let channel = host.offer(FakeOffer::new(NVSP_INTERFACE).instance(instance()));
        let word = |oid: Oid, value: u32| (oid.0, value.to_le_bytes().to_vec());
        let objects = BTreeMap::from([
            (Oid::IEEE_802_3_PERMANENT_ADDRESS.0, MAC.to_vec()),
            word(Oid::GEN_MAXIMUM_FRAME_SIZE, 1500),
            word(Oid::GEN_MEDIA_CONNECT_STATUS, 0),
            word(Oid::GEN_LINK_SPEED, 100_000_000),
        ]);
        let state = State {
            versions: NvspVersion::V1..=NvspVersion::V6_1,
            section_bytes: 6144,
            packing: (8, 3),
            receive_queues: 1,
            objects,
            replies: BTreeMap::new(),
            object_replies: BTreeMap::new(),
            withhold: false,
            withheld: Vec::new(),
            mute: false,
            echo: false,
            receive_gpadl: 0,
            send_gpadl: 0,
            messages: Vec::new(),
            requests: Vec::new(),
            sent: Vec::new(),
            packets: 0,
            answers: Vec::new(),
            parts: BTreeMap::new(),
            free_parts: VecDeque::new(),
            next_transaction: 0x1000,
            ends: BTreeMap::new(),
            new_channels: vec![(0, channel)],
            waiting: Vec::new(),
        };
        Self { host, channel, state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the card is like.
    pub(super) fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.state());
        self
    }

    /// Answers such NVSP messages otherwise.
    pub(super) fn replying(self, message: NvspMessageType, reply: Reply) -> Self {
        self.with(|state| drop(state.replies.insert(message.0, reply)))
    }

    /// Answers queries and sets of such an object otherwise: `Bytes` are whole RNDIS messages, in which the request's number is put.
    pub(super) fn object(self, oid: Oid, reply: Reply) -> Self {
        self.with(|state| drop(state.object_replies.insert(oid.0, reply)))
    }

    /// Can do all offloads that there are.
    pub(super) fn with_offloads(self) -> Self {
        let mut value = vec![0; 156];
        value[..4].copy_from_slice(&[0xA7, 3, 156, 0]);
        for (at, byte) in [(4, 2), (8, 0x54), (20, 2), (24, 0x55), (80, 2), (92, 2), (104, 5)] {
            value[at] = byte;
        }
        for at in [84, 96] {
            value[at..at + 4].copy_from_slice(&0xF000_u32.to_le_bytes());
        }
        let oid = Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES.0;
        self.with(|state| drop(state.objects.insert(oid, value)))
    }

    /// Has that many receive queues.
    pub(super) fn with_queues(self, queues: u8) -> Self {
        let value = vec![0x88, 2, 18, 0, 1, 3, 0, 0, 1, 0, 0, 0, queues, 0, 0, 0, 128, 0];
        self.with(|state| {
            state.receive_queues = queues.into();
            state.objects.insert(Oid::GEN_RECEIVE_SCALE_CAPABILITIES.0, value);
        })
    }

    /// Waits until the card has got so far.
    pub(super) async fn until(&self, look: impl Fn(&State) -> bool) {
        poll_fn(|context| {
            let mut state = self.state();
            state.waiting.push(context.waker().clone());
            if look(&state) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until the guest has answered a packet of ours; with what.
    pub(super) async fn answer_to(&self, transaction: u64) -> u32 {
        let is_it = |answer: &&(u64, u32)| answer.0 == transaction;
        self.until(|state| state.answers.iter().any(|answer| is_it(&answer))).await;
        self.state().answers.iter().find(is_it).expect("just seen").1
    }

    pub(super) fn end(&self, channel: u16) -> Arc<HostEnd> {
        self.state().ends.get(&channel).expect("an open channel").clone()
    }

    /// Plays the card for ever, also if it is opened again.
    pub(super) async fn serve(&self) {
        let mut tasks: Vec<Task> = Vec::new();
        poll_fn(|context| -> Poll<()> {
            loop {
                let new = core::mem::take(&mut self.state().new_channels);
                let any = !new.is_empty();
                for (index, channel) in new {
                    tasks.push(Box::pin(self.clone().serve_channel(index, channel)));
                }
                tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
                if !any {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    async fn serve_channel(self, index: u16, channel: ChannelId) {
        loop {
            let end = Arc::new(self.host.opened(channel).await);
            self.state().ends.insert(index, end.clone());
            while let Some(packet) = end.receive().await {
                self.handle(index, &end, &packet);
                let waiting = core::mem::take(&mut self.state().waiting);
                waiting.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Handles what the primary channel has, now.
    pub(super) fn play(&self) {
        let end = self.end(0);
        while let Some(packet) = end.try_receive() {
            self.handle(0, &end, &packet);
        }
    }

    fn handle(&self, channel: u16, end: &HostEnd, packet: &HostPacket) {
        let message = &packet.payload;
        let kind = NvspMessageType(u32::read_from_prefix(message).expect("a message").0);
        if packet.kind == PacketType::COMP {
            let (answer, _) = NvspSendRndisPacketComplete::read_from_prefix(message).unwrap();
            let mut state = self.state();
            state.answers.push((packet.transaction_id, answer.status.0));
            let parts = state.parts.remove(&packet.transaction_id).unwrap_or_default();
            state.free_parts.extend(parts);
            return;
        }
        assert_eq!(message.len(), NVSP_MESSAGE_BYTES_6_1, "as long as Linux's");
        if kind == NvspMessageType::SEND_RNDIS_PKT {
            return self.rndis(channel, end, packet);
        }
        self.state().messages.push(message.clone());
        let reply = self.state().replies.get(&kind.0).cloned();
        let answer = self.answer(kind, message);
        match (reply, answer) {
            (Some(Reply::Silence), _) => {}
            (Some(Reply::Rescind), _) => self.host.rescind(self.channel),
            (Some(Reply::Bytes(bytes)), _) => end.complete(packet, &bytes),
            (Some(Reply::Twice), Some(answer)) => {
                end.complete(packet, &answer);
                end.complete(packet, &answer);
            }
            (_, Some(answer)) => end.complete(packet, &answer),
            (_, None) => assert!(!packet.completion_requested, "{kind:?} is not answered"),
        }
    }

    fn answer(&self, kind: NvspMessageType, message: &[u8]) -> Option<Vec<u8>> {
        match kind {
            NvspMessageType::INIT => Some(self.initialize(message)),
            NvspMessageType::SEND_RECV_BUF => {
                let (buffer, _) = NvspSendReceiveBuffer::read_from_prefix(message).unwrap();
                let pages = self.host.gpadl(buffer.gpadl_handle).expect("a GPADL").len() as u32;
                let count = pages * 4096 / PART_BYTES;
                let mut state = self.state();
                state.receive_gpadl = buffer.gpadl_handle;
                state.free_parts = (0..count).collect();
                let msg_type = NvspMessageType::SEND_RECV_BUF_COMPLETE;
                Some(words(&[msg_type.0, 1, 1, 0, PART_BYTES, count, count * PART_BYTES]))
            }
            NvspMessageType::SEND_SEND_BUF => {
                let (buffer, _) = NvspSendSendBuffer::read_from_prefix(message).unwrap();
                let mut state = self.state();
                state.send_gpadl = buffer.gpadl_handle;
                Some(words(&[105, 1, state.section_bytes]))
            }
            NvspMessageType::SUBCHANNEL => {
                let (request, _) = NvspSubchannelRequest::read_from_prefix(message).unwrap();
                let count = request.num_subchannels.min(self.state().receive_queues - 1);
                for index in 1..=count as u16 {
                    self.offer_sub_channel(index);
                }
                Some(words(&[133, 1, count]))
            }
            _ => None,
        }
    }

    pub(super) fn offer_sub_channel(&self, index: u16) {
        let offer = FakeOffer::new(NVSP_INTERFACE).instance(instance()).sub_channel(index);
        let channel = self.host.offer(offer);
        self.state().new_channels.push((index, channel));
    }

    fn initialize(&self, message: &[u8]) -> Vec<u8> {
        let (init, _) = NvspInit::read_from_prefix(message).unwrap();
        assert_eq!(init.min_protocol_ver, init.max_protocol_ver, "one at a time, as Linux");
        let known = self.state().versions.contains(&init.min_protocol_ver);
        words(&[2, 2, 34, if known { 1 } else { 2 }])
    }
}

/// Little-endian words.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A frame with its RNDIS head.
pub(super) fn message(frame: &[u8], infos: &[u32]) -> Vec<u8> {
    let info_bytes = infos.len() as u32 * 4;
    let (data, length) = (36 + info_bytes, frame.len() as u32);
    let offset = if infos.is_empty() { 0 } else { 36 };
    let mut message =
        words(&[1, 8 + data + length, data, length, 0, 0, 0, offset, info_bytes, 0, 0]);
    message.extend(words(infos));
    message.extend(frame);
    message
}

fn instance() -> hv_abi::guid::Guid {
    hv_abi::guid::Guid::new(0x1234, 5, 6, 7)
}

impl State {
    /// The value that an object was last set to.
    pub(super) fn set_value(&self, oid: Oid) -> Option<Vec<u8>> {
        let is_it = |request: &&Vec<u8>| {
            request.starts_with(&5_u32.to_le_bytes()) && request[12..16] == oid.0.to_le_bytes()
        };
        self.requests.iter().rev().find(is_it).map(|request| request[28..].to_vec())
    }

    /// Numbers of the NVSP messages, in order.
    pub(super) fn message_types(&self) -> Vec<u32> {
        self.messages.iter().map(|message| u32::from(message[0])).collect()
    }
}
