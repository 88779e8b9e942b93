//! All that reads what a guest or the network wrote, driven by bytes: for the fuzzer, and for a test that it does something.

use std::sync::Arc;
use std::time::Duration;

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::RndisMessageType;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmbus_ring::gpa::GpaRanges;

use super::control::{self, Card};
use super::deliver::Deliverer;
use super::message::GuestMessage;
use super::negotiate::{self, Bus, Lent, Limits};
use super::session::Session;
use super::settings::Settings;
use super::transmit::{Transmit, send_frame};
use crate::net::backend::Offloads;
use crate::net::counters::{Counters, Counts};
use crate::net::frame::{ETHERNET_HEADER, VLAN_TAG};
use crate::net::mac::MacAddress;
use crate::net::memory::{MemoryBackend, MemoryPeer, pair};
use crate::vmbus::GuestRanges;

const MTU: u16 = 9000;
const QUEUES: u16 = 4;
/// Pages that the guest lends under the number 1; under 2 it lends one.
const PAGES: u32 = 64;
const RAM_BYTES: usize = 1 << 20;

/// Takes `bytes` for what a guest and a network do, one record after the other: what it is (8 bits), its length (16 bits), and
/// its bytes. Gives what the card counted.
pub fn run(bytes: &[u8]) -> Counts {
    let mut card = Fuzzed::new();
    let mut rest = bytes;
    while let Some((&[kind, low, high], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (record, next) = behind.split_at(length);
        card.record(kind, record);
        rest = next;
    }
    card.counters.read()
}

struct Fuzzed {
    settings: Settings,
    memory: GuestMemoryMmap,
    transmit: Transmit,
    deliverer: Deliverer,
    counters: Counters,
    backend: MemoryBackend,
    peer: MemoryPeer,
}

impl Bus for &GuestMemoryMmap {
    fn lent(&self, gpadl: u32) -> Option<Lent> {
        let pages = match gpadl {
            1 => PAGES,
            2 => 1,
            _ => return None,
        };
        let mut list = [pages << 12, 0].map(u32::to_le_bytes).concat();
        list.extend((0..u64::from(pages)).flat_map(|page| (page + 16).to_le_bytes()));
        let range = GpaRanges::parse(1, &list).ok()?.iter().next()?;
        Some((GuestRanges::of_range(self, range).ok()?, None))
    }

    fn offer_sub_channels(&mut self, count: u16) -> u16 {
        count
    }
}

impl Fuzzed {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_BYTES)]);
        let memory = memory.expect("a MiB of memory");
        let (backend, peer) = pair(Offloads::empty()).expect("two event files");
        Self {
            settings: Settings::new(MacAddress::of_card(0), MTU),
            transmit: Transmit::new(memory.clone()),
            memory,
            deliverer: Deliverer::new(QUEUES),
            counters: Counters::default(),
            backend,
            peer,
        }
    }

    fn record(&mut self, kind: u8, record: &[u8]) {
        match kind % 4 {
            0 => self.set_up(record),
            1 => self.control(record),
            2 => self.send(record),
            _ => self.receive(record),
        }
        assert!((1..=QUEUES).contains(&self.settings.channels));
        assert!(self.settings.frame_bytes <= usize::from(MTU) + ETHERNET_HEADER);
    }

    fn set_up(&mut self, record: &[u8]) {
        let limits = Limits { newest: NvspVersion::V6_1, mtu: MTU, queues: QUEUES };
        if let Ok(message) = GuestMessage::parse(record) {
            let mut bus = &self.memory;
            let answer = negotiate::handle(&limits, &mut self.settings, &mut bus, &message);
            if let Ok(answer) = answer {
                assert!(answer.as_bytes().len() <= 40);
            }
        }
    }

    fn control(&mut self, record: &[u8]) {
        let card = Card {
            address: MacAddress::of_card(0),
            mtu: MTU,
            queues: QUEUES,
            link_up: true,
            counts: self.counters.read(),
        };
        self.transmit.put(record);
        let settings = &mut self.settings;
        let each = |kind: RndisMessageType, message: &mut [u8]| {
            if let Ok(Some(answer)) = control::handle(&card, settings, kind, message) {
                assert!(answer.len() <= 1728, "it fits into any part of a receive buffer");
            }
            Ok(())
        };
        // What is malformed is found.
        let _ = self.transmit.messages(each);
    }

    fn send(&mut self, record: &[u8]) {
        self.transmit.put(record);
        let Self { backend, counters, settings, .. } = self;
        let _ =
            self.transmit.messages(|_, message| send_frame(&*backend, counters, settings, message));
        while let Some(frame) = self.peer.receive(Duration::ZERO) {
            assert!(frame.len() <= self.settings.frame_bytes + VLAN_TAG);
        }
    }

    fn receive(&mut self, record: &[u8]) {
        if self.peer.send(record).is_err() {
            return;
        }
        let session = Session::new(self.settings.clone(), QUEUES);
        let mut own = Vec::new();
        let turn = self.deliverer.turn(
            &self.backend,
            true,
            &self.settings,
            &session,
            &self.counters,
            &mut own,
        );
        assert!(turn.is_ok());
        let Some(buffer) = self.settings.receive.as_ref().map(Arc::clone) else { return };
        for delivery in own {
            assert!(delivery.bytes as usize <= buffer.part_bytes());
            buffer.release(0, delivery.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fuzzers_seeds_reach_frames_both_ways() {
        let seed = include_bytes!("../../../../tests/fuzz/seeds/rndis/linux");
        let counts = run(seed);
        assert!(counts.tx_frames >= 4 && counts.rx_frames >= 2, "{counts:?}");
        assert_eq!((counts.tx_large, counts.tx_invalid), (1, 0), "{counts:?}");
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        ) {
            let mut seed = include_bytes!("../../../../tests/fuzz/seeds/rndis/linux").to_vec();
            for (at, byte) in changes {
                let at = at.index(seed.len());
                seed[at] = byte;
            }
            run(&seed);
        }
    }
}
