//! Both ends against a queue: what goes in comes out, in order, and room and signals are what the model says.

#![cfg(not(loom))]

use std::collections::VecDeque;

use hv_abi::vmbus::packet::{PacketType, TransferPageRange};
use proptest::collection::vec;
use proptest::prelude::*;
use vmbus_ring::{
    GpaRange, LocalMemory, OutgoingKind, OutgoingPacket, Packet, RingReceiver, RingSender,
    SendError,
};

const DATA: u32 = 4096;

/// A packet, owned.
#[derive(Debug, Clone)]
struct Owned {
    kind: u8,
    id: u64,
    completion: bool,
    payload: Vec<Vec<u8>>,
    numbers: Vec<u32>,
}

impl Owned {
    fn with<R>(&self, f: impl FnOnce(&OutgoingPacket<'_>) -> R) -> R {
        let payload: Vec<&[u8]> = self.payload.iter().map(Vec::as_slice).collect();
        let pages: Vec<u64> = self.numbers.iter().map(|number| (*number).into()).collect();
        let range =
            GpaRange { byte_count: pages.len() as u32 * 4096, byte_offset: 0, pages: &pages };
        let ranges: Vec<_> = self.numbers.iter().map(|number| transfer(*number)).collect();
        let kind = match self.kind {
            0 => OutgoingKind::InBand,
            1 => OutgoingKind::Completion,
            2 => OutgoingKind::GpaDirect(core::slice::from_ref(&range)),
            3 => OutgoingKind::TransferPages { set_id: 9, sender_owns_set: false, ranges: &ranges },
            4 => OutgoingKind::Gpadl(self.numbers[0]),
            _ => OutgoingKind::Cancel,
        };
        let packet = OutgoingPacket::new(kind, self.id, &payload);
        f(&if self.completion { packet.with_completion() } else { packet })
    }

    fn bytes(&self) -> u32 {
        self.with(|packet| packet.ring_bytes()).unwrap()
    }

    fn check(&self, packet: &Packet<'_>) {
        assert_eq!(packet.transaction_id(), self.id);
        assert_eq!(packet.completion_requested(), self.completion);
        let mut payload = self.payload.concat();
        payload.resize(payload.len().next_multiple_of(8), 0);
        assert_eq!(packet.payload(), payload);
        match self.kind {
            0 => assert_eq!(packet.kind(), PacketType::DATA_INBAND),
            1 => assert_eq!(packet.kind(), PacketType::COMP),
            2 => {
                let ranges = packet.gpa_ranges().unwrap();
                let pages = ranges.iter().flat_map(|range| range.page_numbers());
                assert!(pages.eq(self.numbers.iter().map(|number| u64::from(*number))));
            }
            3 => {
                let pages = packet.transfer_pages().unwrap();
                assert!(pages.ranges().eq(self.numbers.iter().map(|number| transfer(*number))));
            }
            4 => assert_eq!(packet.gpadl(), Ok(self.numbers[0])),
            _ => assert_eq!(packet.kind(), PacketType::CANCEL_REQUEST),
        }
    }
}

fn transfer(number: u32) -> TransferPageRange {
    TransferPageRange { byte_count: number, byte_offset: !number }
}

fn packet() -> impl Strategy<Value = Owned> {
    let payload = vec(vec(any::<u8>(), 0..300), 0..4);
    (0..6u8, any::<u64>(), any::<bool>(), payload, vec(any::<u32>(), 1..20)).prop_map(
        |(kind, id, completion, payload, numbers)| Owned { kind, id, completion, payload, numbers },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<Owned>),
    Receive(usize),
    Release,
    AwaitRoom(u32),
    Sleep,
    Mask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(packet(), 1..5).prop_map(Step::Send),
        4 => (1..6usize).prop_map(Step::Receive),
        2 => Just(Step::Release),
        1 => (0..DATA).prop_map(Step::AwaitRoom),
        1 => Just(Step::Sleep),
        1 => Just(Step::Mask),
    ]
}

/// What a ring should be.
#[derive(Default)]
struct Model {
    queue: VecDeque<Owned>,
    /// Bytes taken and not given back.
    taken: u32,
    masked: bool,
    pending: u32,
}

impl Model {
    fn used(&self) -> u32 {
        self.taken + self.queue.iter().map(Owned::bytes).sum::<u32>()
    }

    fn free(&self) -> u32 {
        DATA - 8 - self.used()
    }
}

struct Pair<'m> {
    sender: RingSender<&'m LocalMemory>,
    receiver: RingReceiver<&'m LocalMemory>,
    model: Model,
}

impl Pair<'_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Send(packets) => self.send(packets),
            Step::Receive(count) => (0..count).for_each(|_| self.receive()),
            Step::Release => self.release(),
            Step::AwaitRoom(bytes) => {
                let room = self.sender.await_room(bytes).unwrap();
                self.model.pending = bytes.min(DATA - 8).next_multiple_of(8);
                assert_eq!(room, self.model.free() >= bytes.min(DATA - 8));
            }
            Step::Sleep => {
                self.release();
                assert_eq!(self.receiver.unmask().unwrap(), !self.model.queue.is_empty());
                self.model.masked = false;
            }
            Step::Mask => {
                self.receiver.mask();
                self.model.masked = true;
            }
        }
        assert_eq!(self.sender.free_bytes().unwrap(), self.model.free());
    }

    fn send(&mut self, packets: Vec<Owned>) {
        let was_empty = self.model.used() == 0;
        let mut batch = self.sender.batch();
        let mut sent = 0;
        for packet in packets {
            let fits = packet.bytes() <= self.model.free();
            let expected = if fits { Ok(()) } else { Err(SendError::Full) };
            assert_eq!(packet.with(|packet| batch.push(packet)), expected);
            if fits {
                self.model.queue.push_back(packet);
                sent += 1;
            }
        }
        let signal = batch.publish().needed();
        assert_eq!(signal, sent > 0 && was_empty && !self.model.masked);
    }

    fn receive(&mut self) {
        let mut buffer = [0; DATA as usize];
        let packet = self.receiver.receive(&mut buffer).unwrap();
        let expected = self.model.queue.pop_front();
        assert_eq!(packet.is_some(), expected.is_some());
        if let (Some(packet), Some(expected)) = (packet, expected) {
            expected.check(&packet);
            self.model.taken += expected.bytes();
        }
    }

    fn release(&mut self) {
        let before = self.model.free();
        self.model.taken = 0;
        let pending = self.model.pending;
        let crossed = pending > 0 && before < pending && self.model.free() >= pending;
        assert_eq!(self.receiver.release().needed(), crossed);
    }
}

proptest! {
    #[test]
    fn the_ring_is_a_queue(start in 0..DATA / 8, steps in vec(step(), 1..120)) {
        let memory = LocalMemory::new(DATA).unwrap();
        for word in [vmbus_ring::Control::WriteIndex, vmbus_ring::Control::ReadIndex] {
            use vmbus_ring::RingMemory;
            memory.control(word).store(start * 8, std::sync::atomic::Ordering::Relaxed);
        }
        let sender = RingSender::new(&memory).unwrap();
        let receiver = RingReceiver::new(&memory).unwrap();
        let mut pair = Pair { sender, receiver, model: Model::default() };
        steps.into_iter().for_each(|step| pair.step(step));
    }
}
