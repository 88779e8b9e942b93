//! The ring under loom, which runs every interleaving of the two ends and every outcome their memory orderings allow:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p vmbus-ring --test loom --release
//! ```
//!
//! A signal that is lost is a wait without end, which loom reports; packets that are read before they are there, or written over
//! before they are read, are accesses to one cell at the same time, which it reports too.

#![cfg(loom)]
#![expect(unsafe_code, reason = "reaches what is in loom's cells")]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Notify};
use loom::thread;
use vmbus_ring::{
    Control, OutgoingPacket, RingMemory, RingReceiver, RingSender, SendError, Signal,
};

const DATA: usize = 4096;
/// Each packet takes one cell of the ring. Three fill it: one unit has to stay free.
const CELL: usize = 1024;
const CELLS: usize = DATA / CELL;
const PAYLOAD: usize = CELL - 24;

struct Memory {
    control: [AtomicU32; 5],
    data: [UnsafeCell<[u8; CELL]>; CELLS],
}

// SAFETY: loom's cells find accesses that race.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            control: std::array::from_fn(|_| AtomicU32::new(0)),
            data: std::array::from_fn(|_| UnsafeCell::new([0; CELL])),
        })
    }
}

/// Loom's `Arc` is none of ours.
#[derive(Clone)]
struct Shared(Arc<Memory>);

impl RingMemory for Shared {
    fn control(&self, word: Control) -> &AtomicU32 {
        &self.0.control[word as usize]
    }

    fn data_len(&self) -> u32 {
        DATA as u32
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        let (cell, at) = (offset as usize / CELL, offset as usize % CELL);
        self.0.data[cell].with(|data| {
            // SAFETY: loom reports who else writes it now.
            let data = unsafe { &*data };
            bytes.copy_from_slice(&data[at..at + bytes.len()]);
        });
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        let (cell, at) = (offset as usize / CELL, offset as usize % CELL);
        self.0.data[cell].with_mut(|data| {
            // SAFETY: loom reports who else has it now.
            let data = unsafe { &mut *data };
            data[at..at + bytes.len()].copy_from_slice(bytes);
        });
    }
}

/// Both ends' means to signal one another.
#[derive(Clone)]
struct Signals {
    consumer: Arc<Notify>,
    producer: Arc<Notify>,
}

fn notify(who: &Notify, signal: Signal) {
    if signal.needed() {
        who.notify();
    }
}

struct Producer {
    sender: RingSender<Shared>,
    signals: Signals,
}

impl Producer {
    fn send(&mut self, ids: core::ops::Range<u64>, batch: usize) {
        let mut next = ids.start;
        while next < ids.end {
            let mut packets = self.sender.batch();
            let mut full = false;
            for _ in 0..batch {
                match packets.push(&OutgoingPacket::in_band(next, &[&[next as u8; PAYLOAD]])) {
                    Ok(()) => next += 1,
                    Err(SendError::Full) => full = true,
                    Err(error) => panic!("{error}"),
                }
                if full || next == ids.end {
                    break;
                }
            }
            notify(&self.signals.consumer, packets.publish());
            if full && !self.sender.await_room(CELL as u32).unwrap() {
                self.signals.producer.wait();
            }
        }
    }
}

struct Consumer {
    receiver: RingReceiver<Shared>,
    signals: Signals,
}

impl Consumer {
    /// Takes packets up to `last`, at most `batch` before their room is given back.
    fn receive(&mut self, mut next: u64, last: u64, batch: u32) {
        let mut buffer = [0; PAYLOAD];
        while next < last {
            self.receiver.mask();
            let mut taken = 0;
            while let Some(packet) = self.receiver.receive(&mut buffer).unwrap() {
                assert_eq!(packet.transaction_id(), next);
                assert!(packet.payload().iter().all(|byte| *byte == next as u8));
                next += 1;
                taken += 1;
                if taken % batch == 0 {
                    notify(&self.signals.producer, self.receiver.release());
                }
            }
            notify(&self.signals.producer, self.receiver.release());
            if next < last && !self.receiver.unmask().unwrap() {
                self.signals.consumer.wait();
            }
        }
    }
}

/// How often a thread may be interrupted where it need not, in the larger trials. All interleavings of them take minutes, and showed
/// no more.
const PREEMPTIONS: Option<usize> = Some(3);

/// What is tried.
#[derive(Clone, Copy)]
struct Trial {
    /// In the ring from the start.
    before: u64,
    /// In all.
    packets: u64,
    send_batch: usize,
    release_batch: u32,
}

fn explore(preemptions: Option<usize>, trial: Trial) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let memory = Shared(Memory::new());
        let signals =
            Signals { consumer: Arc::new(Notify::new()), producer: Arc::new(Notify::new()) };
        let sender = RingSender::new(memory.clone()).unwrap();
        let receiver = RingReceiver::new(memory).unwrap();
        let mut producer = Producer { sender, signals: signals.clone() };
        let mut consumer = Consumer { receiver, signals };
        producer.send(0..trial.before, 1);
        let thread =
            thread::spawn(move || producer.send(trial.before..trial.packets, trial.send_batch));
        consumer.receive(0, trial.packets, trial.release_batch);
        thread.join().unwrap();
    });
}

#[test]
fn a_consumer_that_sleeps_is_woken() {
    explore(PREEMPTIONS, Trial { before: 0, packets: 2, send_batch: 1, release_batch: 1 });
}

#[test]
fn a_consumer_that_sleeps_is_woken_by_a_batch() {
    explore(None, Trial { before: 0, packets: 2, send_batch: 2, release_batch: 2 });
}

#[test]
fn a_producer_that_waits_for_room_is_woken() {
    explore(PREEMPTIONS, Trial { before: 3, packets: 4, send_batch: 1, release_batch: 1 });
}

#[test]
fn a_producer_that_waits_for_room_is_woken_after_a_batch() {
    explore(None, Trial { before: 3, packets: 4, send_batch: 1, release_batch: 3 });
}

#[test]
fn both_wait_in_turn() {
    explore(PREEMPTIONS, Trial { before: 2, packets: 6, send_batch: 2, release_batch: 2 });
}
