use std::sync::Arc;

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::PacketFilter;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::super::test_memory::{memory, ranges};
use super::*;
use crate::net::backend::Offloads;
use crate::net::counters::Counts;
use crate::net::mac::MacAddress;
use crate::net::memory::{MemoryBackend, MemoryPeer, pair};
use crate::net::offload::samples::tcp4;

const BUFFER: u64 = 0x10_0000;

/// A card with a receive buffer and everything open, and its network.
struct Card {
    memory: GuestMemoryMmap,
    settings: Settings,
    session: Session,
    counters: Counters,
    backend: MemoryBackend,
    peer: MemoryPeer,
    deliverer: Deliverer,
}

impl Card {
    fn new(buffer_bytes: u32) -> Self {
        let memory = memory();
        let mut settings = Settings::new(MacAddress([2, 0, 0, 0, 0, 2]), 1500);
        settings.version = Some(NvspVersion::V6_1);
        settings.capabilities = NvspCapabilities::IEEE8021Q;
        settings.initialized = true;
        settings.filter = PacketFilter::DIRECTED | PacketFilter::BROADCAST;
        let ranges = ranges(&memory, BUFFER, buffer_bytes);
        let buffer = ReceiveBuffer::new(1, ranges, None, settings.frame_bytes).unwrap();
        settings.receive = Some(Arc::new(buffer));
        let session = Session::new(settings.clone(), 1);
        let (backend, peer) = pair(Offloads::empty()).unwrap();
        let counters = Counters::default();
        Self { memory, settings, session, counters, backend, peer, deliverer: Deliverer::new(1) }
    }

    fn turn(&mut self, up: bool) -> (Turn, Vec<Delivery>) {
        let mut own = Vec::new();
        let turn = self.deliverer.turn(
            &self.backend,
            up,
            &self.settings,
            &self.session,
            &self.counters,
            &mut own,
        );
        (turn.unwrap(), own)
    }

    /// What the guest finds of one frame.
    fn receive(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.peer.send(frame).unwrap();
        let (turn, own) = self.turn(true);
        assert_eq!(turn, Turn::Idle);
        own.first().map(|delivery| self.bytes(*delivery))
    }

    fn bytes(&self, delivery: Delivery) -> Vec<u8> {
        let mut bytes = vec![0; delivery.bytes as usize];
        let offset = self.settings.receive.as_ref().unwrap().offset(delivery.part);
        self.memory.read_slice(&mut bytes, GuestAddress(BUFFER + u64::from(offset))).unwrap();
        bytes
    }

    fn counts(&self) -> Counts {
        self.counters.read()
    }
}

#[test]
fn a_frame_lies_in_the_buffer_behind_its_head() {
    let mut card = Card::new(0x10_0000);
    let frame = tcp4(b"hello");
    let bytes = card.receive(&frame).unwrap();
    assert_eq!(bytes[..4], [1, 0, 0, 0]);
    assert_eq!(bytes[4..8], (44 + 59_u32).to_le_bytes());
    assert_eq!(bytes[8..16], [36, 0, 0, 0, 59, 0, 0, 0]);
    assert_eq!(bytes[44..], frame);
    assert_eq!((card.counts().rx_frames, card.counts().rx_bytes), (1, 59));
}

#[test]
fn a_tag_and_a_good_checksum_come_beside_the_frame() {
    let mut card = Card::new(0x10_0000);
    card.peer.set_valid(true);
    let frame = tcp4(b"hello");
    let mut tagged = frame.clone();
    tagged.splice(12..12, [0x81, 0, 0xB1, 0x23]);
    let bytes = card.receive(&tagged).unwrap();
    assert_eq!(bytes[28..36], [36, 0, 0, 0, 32, 0, 0, 0]);
    let infos = [16_u32, 0, 12, 8, 16, 6, 12, 0x123D].map(u32::to_le_bytes).concat();
    assert_eq!(bytes[44..76], infos);
    assert_eq!(bytes[76..], frame);
    // A guest that knows nothing of tags beside a frame has it in the frame; one that checks itself is told nothing.
    card.settings.capabilities = NvspCapabilities::empty();
    card.settings.offloads.rx_checksum = false;
    assert_eq!(card.receive(&tagged).unwrap()[44..], tagged);
}

#[test]
fn frames_that_the_guest_does_not_want_are_kept_out() {
    let mut card = Card::new(0x10_0000);
    let mut other = tcp4(b"x");
    other[5] = 9;
    assert_eq!(card.receive(&other), None);
    card.settings.filter = PacketFilter::empty();
    assert_eq!(card.receive(&tcp4(b"x")), None);
    card.settings.filter = PacketFilter::PROMISCUOUS;
    assert!(card.receive(&other).is_some());
    card.peer.send(&other).unwrap();
    assert_eq!(card.turn(false), (Turn::Idle, vec![]), "the cable is out");
    card.settings.receive = None;
    assert_eq!(card.receive(&other), None);
    assert_eq!((card.counts().rx_filtered, card.counts().rx_frames), (4, 1));
}

#[test]
fn frames_of_the_wrong_length_are_counted() {
    let mut card = Card::new(0x10_0000);
    let long = [&tcp4(&[])[..], &[0; 1461]].concat();
    assert_eq!(card.receive(&long), None);
    assert_eq!(card.receive(&[0xFF; 13]), None);
    assert_eq!(card.counts().rx_invalid, 2);
    assert!(card.receive(&long[..1514]).is_some());
    let mut tagged = long[..1514].to_vec();
    tagged.splice(12..12, [0x81, 0, 0, 1]);
    assert_eq!(card.receive(&tagged).unwrap().len(), 44 + 16 + 1514);
}

#[test]
fn frames_wait_in_the_network_while_the_guest_has_no_room() {
    // Nine parts, of which one is kept for answers.
    let mut card = Card::new(0x4000);
    for _ in 0..20 {
        card.peer.send(&tcp4(b"x")).unwrap();
    }
    let (turn, deliveries) = card.turn(true);
    assert_eq!((turn, deliveries.len()), (Turn::Held, 8));
    assert_eq!(card.turn(true), (Turn::Held, vec![]));
    let buffer = card.settings.receive.clone().unwrap();
    deliveries.iter().for_each(|delivery| buffer.release(0, delivery.part));
    assert_eq!(card.turn(true).1.len(), 8);
    assert_eq!(card.counts().rx_no_buffer, 0);
}

#[test]
fn a_turn_ends_though_the_network_does_not() {
    let mut card = Card::new(0x10_0000);
    for _ in 0..100 {
        card.peer.send(&tcp4(b"x")).unwrap();
    }
    let (turn, deliveries) = card.turn(true);
    assert_eq!((turn, deliveries.len()), (Turn::More, 64));
    let (turn, deliveries) = card.turn(true);
    assert_eq!((turn, deliveries.len()), (Turn::Idle, 36));
}
