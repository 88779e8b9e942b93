//! Two threads and millions of bytes: no packet is lost, changed or out of order, and nobody sleeps for ever.

#![cfg(not(loom))]
#![expect(unsafe_code, reason = "makes rings of pages that it owns")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use vmbus_ring::{
    FlatMemory, LocalMemory, OutgoingPacket, PagedMemory, RingMemory, RingReceiver, RingSender,
    SendError,
};

const PAGE: usize = 4096;
const DATA_PAGES: usize = 4;
const PACKETS: u64 = 60_000;
/// A lost signal shows as a wait of this long.
const LOST: Duration = Duration::from_secs(20);

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Pages that live as long as the process: a test's few are no loss.
fn pages() -> NonNull<u8> {
    let pages: Vec<Page> = (0..=DATA_PAGES).map(|_| Page([0; PAGE])).collect();
    NonNull::from(pages.leak()).cast()
}

/// A generator for lengths and contents, the same on both sides.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    fn payload(&mut self, buffer: &mut Vec<u8>) {
        let length = match self.next() % 4 {
            0 => self.next() % 3000,
            _ => self.next() % 200,
        };
        buffer.clear();
        let word = self.next() as u32 | 1;
        buffer
            .extend((0..length as u32).map(|index| word.wrapping_mul(index + 1).to_le_bytes()[3]));
    }
}

/// Waits for a signal that must come.
fn wait() {
    let before = std::time::Instant::now();
    thread::park_timeout(LOST);
    assert!(before.elapsed() < LOST, "a signal was lost");
}

fn produce(memory: impl RingMemory, consumer: &Thread, batch: u64) -> u64 {
    let mut sender = RingSender::new(memory).unwrap();
    let mut random = Random(7);
    let mut payload = Vec::new();
    let (mut sent, mut bytes) = (0, 0);
    random.payload(&mut payload);
    while sent < PACKETS {
        let mut packets = sender.batch();
        let mut full = None;
        for _ in 0..batch.min(PACKETS - sent) {
            let (first, second) = payload.split_at(payload.len() / 3);
            let slices = [first, second];
            let packet = OutgoingPacket::in_band(sent, &slices);
            match packets.push(&packet) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    full = Some(packet.ring_bytes().unwrap());
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            sent += 1;
            bytes += payload.len() as u64;
            random.payload(&mut payload);
        }
        if packets.publish().needed() {
            consumer.unpark();
        }
        if let Some(needed) = full {
            while !sender.await_room(needed).unwrap() {
                wait();
            }
            sender.stop_awaiting();
        }
    }
    bytes
}

fn consume(memory: impl RingMemory, producer: &Thread, batch: u64) -> u64 {
    let mut receiver = RingReceiver::new(memory).unwrap();
    let mut random = Random(7);
    let (mut buffer, mut expected) = (vec![0; 8192], Vec::new());
    let (mut received, mut bytes) = (0, 0);
    while received < PACKETS {
        receiver.mask();
        let mut taken = 0;
        while let Some(packet) = receiver.receive(&mut buffer).unwrap() {
            random.payload(&mut expected);
            assert_eq!(packet.transaction_id(), received);
            assert_eq!(packet.payload()[..expected.len()], expected[..], "packet {received}");
            bytes += expected.len() as u64;
            received += 1;
            taken += 1;
            if taken % batch == 0 && receiver.release().needed() {
                producer.unpark();
            }
        }
        if receiver.release().needed() {
            producer.unpark();
        }
        if received < PACKETS && !receiver.unmask().unwrap() {
            wait();
        }
    }
    bytes
}

fn race<M: RingMemory + Send, N: RingMemory + Send>(ends: (M, N), batches: (u64, u64)) {
    let (to_consume, to_produce) = ends;
    let producer = thread::current();
    thread::scope(|scope| {
        let consumer = scope.spawn(move || consume(to_consume, &producer, batches.1));
        let sent = produce(to_produce, consumer.thread(), batches.0);
        let received = consumer.join().unwrap();
        assert_eq!(sent, received);
        assert!(sent > 20_000_000, "{sent}");
    });
}

fn flat(base: NonNull<u8>) -> FlatMemory<()> {
    // SAFETY: the pages live as long as the process, and only rings use them.
    unsafe { FlatMemory::new(base, (DATA_PAGES + 1) * PAGE, ()) }.unwrap()
}

/// The same ring as `flat`'s, or with its pages in another order.
fn paged(base: NonNull<u8>, order: [usize; DATA_PAGES]) -> PagedMemory<()> {
    let page = |index: usize| NonNull::new(base.as_ptr().wrapping_add(index * PAGE)).unwrap();
    let data = order.map(|index| page(index + 1));
    // SAFETY: the pages live as long as the process, and only rings use them.
    unsafe { PagedMemory::new(base, &data, ()) }.unwrap()
}

#[test]
fn packets_one_by_one() {
    let base = pages();
    race((flat(base), flat(base)), (1, 1));
}

#[test]
fn packets_in_batches() {
    let base = pages();
    race((flat(base), flat(base)), (8, 16));
}

#[test]
fn a_guest_with_one_mapping_and_a_host_with_pages() {
    let base = pages();
    race((paged(base, [0, 1, 2, 3]), flat(base)), (3, 5));
}

#[test]
fn pages_in_any_order() {
    let base = pages();
    let order = [2, 3, 0, 1];
    race((paged(base, order), paged(base, order)), (1, 4));
}

#[test]
fn without_unsafe() {
    let memory = Arc::new(LocalMemory::new((DATA_PAGES * PAGE) as u32).unwrap());
    race((memory.clone(), memory), (2, 2));
}
