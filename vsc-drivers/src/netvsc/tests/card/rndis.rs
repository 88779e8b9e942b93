//! RNDIS messages, both ways.

use std::vec;
use std::vec::Vec;

use hv_abi::nvsp::*;
use hv_abi::rndis::*;
use hv_abi::vmbus::packet::TransferPageRange;
use vmbus_ring::{OutgoingKind, OutgoingPacket};
use zerocopy::FromBytes;

use super::{Card, PART_BYTES, Reply, Sent, message, words};
use crate::fake::{HostEnd, HostPacket};

impl Card {
    pub(in super::super) fn rndis(&self, channel: u16, end: &HostEnd, packet: &HostPacket) {
        let (head, _) = NvspSendRndisPacket::read_from_prefix(&packet.payload).unwrap();
        let mut bytes = Vec::new();
        if head.send_buf_section_index != NVSP_NO_SECTION {
            let state = self.state();
            let section = state.section_bytes as usize;
            assert!(head.send_buf_section_size as usize <= section, "more than a section");
            let (gpadl, at) = (state.send_gpadl, head.send_buf_section_index as usize * section);
            drop(state);
            bytes = end.read_gpadl(gpadl, at, head.send_buf_section_size as usize);
        }
        bytes.extend(end.read_ranges(packet));
        if head.channel_type == NvspChannelType::CONTROL {
            if self.state().mute {
                return;
            }
            // The request's page goes back first, as hosts do.
            end.complete(packet, &words(&[108, 1]));
            return self.request(end, &bytes);
        }
        let frames = self.frames(channel, &bytes, !packet.ranges.is_empty());
        let echo = self.state().echo;
        let mut state = self.state();
        state.packets += 1;
        state.sent.extend(frames.clone());
        if state.withhold {
            state.withheld.push((channel, packet.transaction_id));
        } else {
            drop(state);
            end.complete(packet, &words(&[108, 1]));
        }
        if echo {
            let frames: Vec<_> = frames.into_iter().map(|sent| (sent.frame, vec![])).collect();
            self.deliver(channel, &frames);
        }
    }

    /// Frames that lie one behind the other.
    fn frames(&self, channel: u16, mut bytes: &[u8], directly: bool) -> Vec<Sent> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (packet, _) = RndisPacket::read_from_prefix(bytes).expect("a whole head");
            assert_eq!(packet.header.ndis_msg_type, RndisMessageType::PACKET);
            let (message, rest) = bytes.split_at(packet.header.msg_len as usize);
            let start = 8 + packet.data_offset as usize;
            let frame = message[start..start + packet.data_len as usize].to_vec();
            frames.push(Sent { channel, head: message[..start].to_vec(), frame, directly });
            let alignment = 1 << self.state().packing.1;
            assert!(rest.is_empty() || message.len() % alignment == 0, "not aligned");
            bytes = rest;
        }
        assert!(frames.len() as u32 <= self.state().packing.0, "too many in one packet");
        frames
    }

    /// Completes all that was withheld.
    pub(in super::super) fn complete_all(&self) {
        let withheld = core::mem::take(&mut self.state().withheld);
        for (channel, transaction) in withheld {
            let payload = words(&[108, 1]);
            self.end(channel).send(&OutgoingPacket::completion(transaction, &[&payload]));
        }
    }

    fn request(&self, _: &HostEnd, request: &[u8]) {
        self.state().requests.push(request.to_vec());
        let word = |at: usize| u32::from_le_bytes(*request[at..].first_chunk().unwrap());
        let (kind, id) = (RndisMessageType(word(0)), word(8));
        assert_eq!(word(4) as usize, request.len());
        let (packets, alignment) = self.state().packing;
        let object = |kind: RndisMessageType| {
            let is_object = kind == RndisMessageType::QUERY || kind == RndisMessageType::SET;
            is_object.then(|| word(12))
        };
        let answer = match kind {
            RndisMessageType::INIT => {
                words(&[0x8000_0002, 52, id, 0, 1, 0, 1, 0, packets, 0x4000, alignment, 0, 0])
            }
            RndisMessageType::QUERY => self.query(id, word(12)),
            RndisMessageType::SET => words(&[0x8000_0005, 16, id, 0]),
            RndisMessageType::HALT => return,
            other => panic!("a request of type {other:?}"),
        };
        let reply = object(kind).and_then(|oid| self.state().object_replies.get(&oid).cloned());
        match reply {
            Some(Reply::Silence) => {}
            Some(Reply::Rescind) => self.host.rescind(self.channel),
            Some(Reply::Bytes(mut bytes)) => {
                bytes[8..12].copy_from_slice(&id.to_le_bytes());
                self.say(&bytes);
            }
            Some(Reply::Twice) => {
                self.say(&answer);
                self.say(&answer);
            }
            None => self.say(&answer),
        }
    }

    fn query(&self, id: u32, oid: u32) -> Vec<u8> {
        let Some(value) = self.state().objects.get(&oid).cloned() else {
            return words(&[0x8000_0004, 24, id, RndisStatus::NOT_SUPPORTED.0, 0, 0]);
        };
        let length = value.len() as u32;
        let mut answer = words(&[0x8000_0004, 24 + length, id, 0, length, 16]);
        answer.extend(value);
        answer
    }

    /// Sends an RNDIS message.
    pub(in super::super) fn say(&self, message: &[u8]) {
        self.deliver_messages(0, &[message.to_vec()]);
    }

    /// Sends frames, each with what shall stand beside it, in one packet.
    pub(in super::super) fn deliver(&self, channel: u16, frames: &[(Vec<u8>, Vec<u32>)]) -> u64 {
        let messages: Vec<_> = frames.iter().map(|(frame, infos)| message(frame, infos)).collect();
        self.deliver_messages(channel, &messages)
    }

    fn deliver_messages(&self, channel: u16, messages: &[Vec<u8>]) -> u64 {
        let mut ranges = Vec::new();
        let mut parts = Vec::new();
        for message in messages {
            assert!(message.len() <= PART_BYTES as usize);
            let part = self.state().free_parts.pop_front().expect("room in the receive buffer");
            parts.push(part);
            let offset = part * PART_BYTES;
            let gpadl = self.state().receive_gpadl;
            self.end(channel).write_gpadl(gpadl, offset as usize, message);
            ranges
                .push(TransferPageRange { byte_count: message.len() as u32, byte_offset: offset });
        }
        let transaction = self.transaction();
        self.state().parts.insert(transaction, parts);
        self.send_ranges(channel, transaction, NVSP_RECEIVE_BUFFER_ID, &ranges);
        transaction
    }

    pub(in super::super) fn transaction(&self) -> u64 {
        let mut state = self.state();
        state.next_transaction += 1;
        state.next_transaction
    }

    /// Sends a packet with any ranges of any set.
    pub(in super::super) fn send_ranges(
        &self,
        channel: u16,
        transaction: u64,
        set_id: u16,
        ranges: &[TransferPageRange],
    ) {
        let kind = OutgoingKind::TransferPages { set_id, sender_owns_set: false, ranges };
        let payload = words(&[107, 0, u32::MAX, 0]);
        let payload = [payload.as_slice()];
        let packet = OutgoingPacket::new(kind, transaction, &payload).with_completion();
        self.end(channel).send(&packet);
    }
}
