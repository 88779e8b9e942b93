//! A guest's driver that does what a test says, right or wrong.

use std::sync::Arc;
use std::time::Duration;

use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::packet::{PacketType, TransferPageRange};
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::{GpaRange, OutgoingPacket, ReceiveError};

use super::super::{NetVsp, NetVspOptions};
use crate::net::backend::Offloads;
use crate::net::memory::{MemoryPeer, pair};
use crate::vmbus::testing::{TestChannel, TestGuest, wait_for};

/// Pages of each of a channel's rings.
pub(super) const RING_PAGES: u64 = 8;
/// The receive buffer's number.
pub(super) const RECEIVE_ID: u32 = 0xCAFE;
pub(super) const V6_1: u32 = 0x6_0001;

/// A machine with a card and the guest's driver of it.
pub(super) struct Driver {
    pub(super) guest: TestGuest,
    pub(super) card: Arc<NetVsp>,
    pub(super) peer: MemoryPeer,
    pub(super) offer: OfferChannel,
    pub(super) channel: TestChannel,
    pub(super) receive_pages: Vec<u64>,
    pub(super) receive_gpadl: u32,
    pub(super) send_pages: Vec<u64>,
    pub(super) send_gpadl: u32,
    next: u64,
}

/// A packet that the guest got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) kind: PacketType,
    pub(super) transaction: u64,
    pub(super) payload: Vec<u8>,
    /// Set of pages, and ranges in it.
    pub(super) ranges: Vec<TransferPageRange>,
    pub(super) set: u16,
}

impl Got {
    /// A 32-bit word of the payload.
    pub(super) fn word(&self, index: usize) -> u32 {
        word(&self.payload, index)
    }
}

pub(super) fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().unwrap())
}

pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Driver {
    /// A card that was just opened.
    pub(super) fn open(queues: u16) -> Self {
        let options = NetVspOptions { queues, mtu: 9000, ..NetVspOptions::new(0) };
        Self::with(options, VmbusVersion::V5_3)
    }

    pub(super) fn with(options: NetVspOptions, version: VmbusVersion) -> Self {
        let guest = TestGuest::new();
        let (backend, peer) = pair(Offloads::empty()).unwrap();
        let card = Arc::new(NetVsp::new(options, Box::new(backend)));
        guest.server.add(card.clone()).unwrap();
        let offer = guest.connect(version).remove(0);
        let channel = guest.open(&offer, RING_PAGES);
        let receive_pages = guest.pages(64);
        let receive_gpadl = guest.lend(offer.child_relid, &receive_pages);
        let send_pages = guest.pages(16);
        let send_gpadl = guest.lend(offer.child_relid, &send_pages);
        Self {
            guest,
            card,
            peer,
            offer,
            channel,
            receive_pages,
            receive_gpadl,
            send_pages,
            send_gpadl,
            next: 1,
        }
    }

    /// A card that is ready for frames, set up as Linux does it.
    pub(super) fn ready(queues: u16) -> Self {
        let mut driver = Self::open(queues);
        driver.set_up(V6_1);
        driver
    }

    /// From the version to the filter.
    pub(super) fn set_up(&mut self, version: u32) {
        assert_eq!(self.call(&[1, version, version]).word(3), 1);
        if version > 2 {
            self.tell(&[125, 1514, 0, 0x28, 0]);
        }
        self.tell(&[100, 6, 30]);
        assert_eq!(self.call(&[101, self.receive_gpadl, RECEIVE_ID]).word(1), 1);
        assert_eq!(self.call(&[104, self.send_gpadl, 0]).word(1), 1);
        self.start();
    }

    /// RNDIS, from its initialisation to the filter.
    pub(super) fn start(&mut self) {
        assert_eq!(word(&self.control(&[2, 24, 1, 1, 0, 0x4000]), 3), 0);
        let filter = [5, 32, 2, 0x0001_010E, 4, 20, 0, 0xD];
        assert_eq!(word(&self.control(&filter), 3), 0);
    }

    /// Sends a message that wants no completion.
    pub(super) fn tell(&mut self, message: &[u32]) {
        let bytes = padded(message);
        self.channel.send(&self.guest, &OutgoingPacket::in_band(0, &[&bytes]));
    }

    /// Sends a message that wants a completion; its transaction.
    pub(super) fn ask(&mut self, message: &[u32]) -> u64 {
        let bytes = padded(message);
        self.next += 1;
        let parts = [&bytes[..]];
        let packet = OutgoingPacket::in_band(self.next, &parts).with_completion();
        self.channel.send(&self.guest, &packet);
        self.next
    }

    /// The same, and its completion.
    pub(super) fn call(&mut self, message: &[u32]) -> Got {
        let transaction = self.ask(message);
        let got = self.next_packet();
        assert_eq!((got.kind, got.transaction), (PacketType::COMP, transaction), "{got:x?}");
        got
    }

    /// Sends RNDIS messages in guest memory; its transaction.
    pub(super) fn send_direct(&mut self, channel_type: u32, bytes: &[u8]) -> u64 {
        let pages = self.guest.pages((bytes.len() as u64).div_ceil(4096) + 1);
        // Not at the start of a page.
        let offset = 4000;
        let at = GuestAddress(pages[0] * 4096 + offset);
        self.guest.memory.write_slice(bytes, at).unwrap();
        let count = (offset as usize + bytes.len()).div_ceil(4096).max(1);
        let range = GpaRange {
            byte_count: bytes.len() as u32,
            byte_offset: offset as u32,
            pages: &pages[..count],
        };
        self.send_ranges(channel_type, u32::MAX, 0, &[range])
    }

    pub(super) fn send_ranges(
        &mut self,
        channel_type: u32,
        section: u32,
        section_bytes: u32,
        ranges: &[GpaRange<'_>],
    ) -> u64 {
        let message = padded(&[107, channel_type, section, section_bytes]);
        self.next += 1;
        let parts = [&message[..]];
        let packet = OutgoingPacket::gpa_direct(self.next, ranges, &parts).with_completion();
        self.channel.send(&self.guest, &packet);
        self.next
    }

    /// Puts RNDIS messages into a section of the send buffer and sends them; its transaction.
    pub(super) fn send_section(&mut self, section: u32, bytes: &[u8]) -> u64 {
        let at = GuestAddress(self.send_pages[0] * 4096 + u64::from(section) * 6144);
        self.guest.memory.write_slice(bytes, at).unwrap();
        self.ask(&[107, 0, section, bytes.len() as u32])
    }

    /// Asks something by RNDIS; the answer's bytes.
    pub(super) fn control(&mut self, message: &[u32]) -> Vec<u8> {
        let transaction = self.send_direct(1, &words(message));
        self.expect_completion(transaction, 1);
        let got = self.next_packet();
        assert_eq!((got.word(1), got.ranges.len()), (1, 1), "{got:x?}");
        let bytes = self.range(got.ranges[0]);
        self.complete(got.transaction);
        bytes
    }

    /// The next packet is the completion of an RNDIS packet.
    pub(super) fn expect_completion(&mut self, transaction: u64, status: u32) {
        let got = self.next_packet();
        assert_eq!((got.kind, got.transaction), (PacketType::COMP, transaction), "{got:x?}");
        assert_eq!((got.word(0), got.word(1)), (108, status), "{got:x?}");
    }

    /// Bytes in the receive buffer.
    pub(super) fn range(&self, range: TransferPageRange) -> Vec<u8> {
        let mut bytes = vec![0; range.byte_count as usize];
        let at = self.receive_pages[0] * 4096 + u64::from(range.byte_offset);
        self.guest.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Completes a packet of the host.
    pub(super) fn complete(&mut self, transaction: u64) {
        let message = words(&[108, 1]);
        self.channel.send(&self.guest, &OutgoingPacket::completion(transaction, &[&message]));
    }

    pub(super) fn next_packet(&mut self) -> Got {
        wait_for("a packet", || self.try_packet())
    }

    pub(super) fn try_packet(&mut self) -> Option<Got> {
        try_packet(&mut self.channel, &self.guest)
    }

    /// The next frames, completed, until there are so many.
    pub(super) fn frames(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while frames.len() < count {
            let got = self.next_packet();
            assert_eq!((got.kind, got.set), (PacketType::DATA_USING_XFER_PAGES, 0xCAFE));
            assert_eq!((got.word(0), got.word(1), got.word(2)), (107, 0, u32::MAX));
            frames.extend(got.ranges.iter().map(|range| frame_of(&self.range(*range))));
            self.complete(got.transaction);
        }
        frames
    }

    /// Nothing comes for a while.
    pub(super) fn expect_silence(&mut self) {
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(self.try_packet(), None);
    }

    /// The card gave the channel up, and says this of it.
    pub(super) fn expect_end(&self) {
        self.guest.expect_errors("provider", 1);
    }
}

pub(super) fn try_packet(channel: &mut TestChannel, guest: &TestGuest) -> Option<Got> {
    let mut buffer = vec![0; 1 << 15];
    let got = match channel.receiver.receive(&mut buffer) {
        Ok(packet) => packet.map(|packet| {
            let pages = packet.transfer_pages().ok();
            Got {
                kind: packet.kind(),
                transaction: packet.transaction_id(),
                payload: packet.payload().to_vec(),
                set: pages.map_or(0, |pages| pages.set_id),
                ranges: pages.map_or_else(Vec::new, |pages| pages.ranges().collect()),
            }
        }),
        Err(ReceiveError::BufferTooSmall { needed }) => panic!("{needed} bytes"),
        Err(error) => panic!("{error}"),
    };
    if channel.receiver.release().needed() {
        // The channel may be closed by now.
        let _ = channel.signal(guest);
    }
    got
}

/// The frame in a packet message; where it lies is checked.
pub(super) fn frame_of(message: &[u8]) -> Vec<u8> {
    assert_eq!((word(message, 0), word(message, 1) as usize), (1, message.len()));
    let (offset, length) = (word(message, 2) as usize, word(message, 3) as usize);
    assert_eq!(8 + offset + length, message.len());
    message[8 + offset..].to_vec()
}

/// A packet message without infos.
pub(super) fn packet_message(frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    [words(&[1, 44 + length, 36, length, 0, 0, 0, 0, 0, 0, 0]), frame.to_vec()].concat()
}

/// As Linux sends every message.
fn padded(message: &[u32]) -> Vec<u8> {
    let mut bytes = words(message);
    bytes.resize(40, 0);
    bytes
}
