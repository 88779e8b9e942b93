//! The card, driven by bytes: for the fuzzer, and for a test that it does something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::worker::Worker;
use super::{ChipCounts, Tulip, TulipFunction};
use crate::emulated::pci::testing::TestBus;
use crate::net::backend::Offloads;
use crate::net::counters::Counts;
use crate::net::mac::MacAddress;
use crate::net::memory::{MemoryPeer, pair};

const SLOT: u8 = 2;
const RAM_BYTES: usize = 64 << 10;

/// Takes `bytes` for what a guest and a network do, one record after the other: what it is (8 bits), where (16 bits), its
/// length (8 bits), and its bytes. Gives what the card counted.
pub fn run(bytes: &[u8]) -> (Counts, ChipCounts) {
    let mut fuzzed = Fuzzed::new();
    let mut rest = bytes;
    while let Some((&[kind, low, high, length], behind)) = rest.split_first_chunk() {
        let (record, next) = behind.split_at(usize::from(length).min(behind.len()));
        fuzzed.record(kind, u16::from_le_bytes([low, high]), record);
        rest = next;
    }
    (fuzzed.card.counts(), fuzzed.card.chip_counts())
}

struct Fuzzed {
    bus: TestBus,
    card: Arc<Tulip>,
    worker: Worker,
    peer: MemoryPeer,
    now: Instant,
    port: u16,
}

impl Fuzzed {
    fn new() -> Self {
        let (backend, peer) = pair(Offloads::empty()).expect("two event files");
        let card = Tulip::new(0, MacAddress::of_card(0), Box::new(backend));
        let card = Arc::new(card.expect("an event file"));
        let mut bus = TestBus::new(RAM_BYTES).expect("64 KiB of memory");
        let (function, worker) =
            TulipFunction::without_thread(Arc::clone(&card), &bus.context(SLOT));
        bus.add(SLOT, 0, function).expect("an empty slot");
        let port = bus.base(SLOT, 0, 0) as u16;
        Self { bus, card, worker, peer, now: Instant::now(), port }
    }

    fn record(&mut self, kind: u8, place: u16, record: &[u8]) {
        let port = self.port.saturating_add(place % 0x80);
        match kind % 8 {
            0 => _ = self.bus.write_port(port, record.get(..8).unwrap_or(record)),
            1 => _ = self.bus.read_port::<4>(port),
            // What hangs over the end of memory is the fuzzer's own matter.
            2 => _ = self.bus.memory.write_slice(record, GuestAddress(place.into())),
            3 => _ = self.peer.send(record),
            4 => _ = self.peer.send(&record.repeat(usize::from(place % 32))),
            5 => self.bus.write_config(SLOT, 0, 0x40, record.get(..4).unwrap_or(record)),
            6 => self.card.set_link(place & 1 != 0),
            _ => self.turn(place),
        }
    }

    fn turn(&mut self, microseconds: u16) {
        self.now += Duration::from_micros(microseconds.into());
        let rest = self.worker.turn(self.now);
        assert!(rest.until.is_none_or(|until| until >= self.now), "no busy waiting: {rest:?}");
        while let Some(frame) = self.peer.receive(Duration::ZERO) {
            assert!((60..=1518).contains(&frame.len()), "a frame of {} bytes", frame.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: &[u8] = include_bytes!("../../../../tests/fuzz/seeds/tulip/frames");

    #[test]
    fn the_fuzzers_seed_reaches_frames_both_ways() {
        let (counts, chip) = run(SEED);
        assert_eq!((counts.tx_frames, counts.rx_frames, chip.setup_frames), (1, 1, 1));
        assert_eq!(chip.bus_errors, 0);
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        ) {
            let mut seed = SEED.to_vec();
            for (at, byte) in changes {
                let at = at.index(seed.len());
                seed[at] = byte;
            }
            run(&seed);
        }
    }
}
