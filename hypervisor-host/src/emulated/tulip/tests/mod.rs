//! The whole card without its thread: a guest that writes registers and memory, and a network.

mod frames;
mod hostile;
mod linux;
mod loopback;
mod properties;
mod registers;
mod thread;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_abi::tulip::csr::{Mode, Status};
use hv_abi::tulip::csr_offset;
use hv_abi::tulip::descriptor::{
    BUFFER2_SHIFT, CHAINED, END_OF_RING, OWN, TX_FS, TX_IC, TX_LS, TX_SET,
};
use hv_abi::tulip::setup::{FilterType, SETUP_FRAME_BYTES};
use vm_memory::{Bytes, GuestAddress};

use super::worker::{Rest, Worker};
use super::{Tulip, TulipFunction};
use crate::emulated::pci::testing::TestBus;
use crate::layout::pci_gsi;
use crate::net::backend::Offloads;
use crate::net::mac::MacAddress;
use crate::net::memory::{MemoryPeer, pair};

pub(super) const SLOT: u8 = 2;
pub(super) const RAM: usize = 1 << 20;
pub(super) const RX_RING: u32 = 0x1000;
pub(super) const TX_RING: u32 = 0x2000;
pub(super) const BUFFERS: u32 = 0x1_0000;
pub(super) const SETUP: u32 = 0x3000;
pub(super) const MAC: MacAddress = MacAddress::of_card(7);
pub(super) const BROADCAST: MacAddress = MacAddress([0xFF; 6]);

/// A machine with one card, whose worker has a turn when the test says so.
pub(super) struct Desk {
    pub bus: TestBus,
    pub card: Arc<Tulip>,
    pub worker: Worker,
    pub peer: MemoryPeer,
    pub now: Instant,
}

impl Desk {
    pub(super) fn new() -> Self {
        let (backend, peer) = pair(Offloads::empty()).unwrap();
        let card = Arc::new(Tulip::new(7, MAC, Box::new(backend)).unwrap());
        let mut bus = TestBus::new(RAM).unwrap();
        let (function, worker) =
            TulipFunction::without_thread(Arc::clone(&card), &bus.context(SLOT));
        bus.add(SLOT, 0, function).unwrap();
        Self { bus, card, worker, peer, now: Instant::now() }
    }

    /// With both lists, started, and receiving all that is for it.
    pub(super) fn started() -> Self {
        let mut desk = Self::new();
        desk.write(3, RX_RING);
        desk.write(4, TX_RING);
        desk.descriptor(TX_RING, 0, &[]);
        desk.descriptor(RX_RING, 0, &[]);
        desk.write(6, (Mode::SR | Mode::ST | Mode::PS).bits());
        desk.turn();
        desk.perfect(&[MAC, BROADCAST]);
        desk.write(5, u32::MAX);
        desk.write(4, TX_RING);
        desk
    }

    /// Sets the filter by a setup frame, in the first transmit descriptor.
    pub(super) fn perfect(&mut self, addresses: &[MacAddress]) {
        let mut frame = [0; SETUP_FRAME_BYTES];
        for (place, address) in frame.chunks_exact_mut(12).zip(addresses.iter().cycle()) {
            for (longword, half) in place.chunks_exact_mut(4).zip(address.0.chunks_exact(2)) {
                longword[..2].copy_from_slice(half);
            }
        }
        self.setup(FilterType::PERFECT, &frame);
    }

    pub(super) fn setup(&mut self, kind: FilterType, frame: &[u8]) {
        self.put(SETUP, frame);
        let control = TX_SET | kind.control() | frame.len() as u32;
        self.raw_descriptor(TX_RING, [OWN, control, SETUP, 0]);
        self.raw_descriptor(TX_RING + 16, [0; 4]);
        self.write(4, TX_RING);
        self.write(1, 0);
        self.turn();
        assert_eq!(self.status(TX_RING), 0x7FFF_FFFF, "the setup frame was taken");
    }

    pub(super) fn port(&self, number: u8) -> u16 {
        self.bus.base(SLOT, 0, 0) as u16 + csr_offset(number) as u16
    }

    pub(super) fn read(&self, number: u8) -> u32 {
        u32::from_le_bytes(self.bus.read_port(self.port(number)))
    }

    pub(super) fn write(&self, number: u8, value: u32) {
        assert!(self.bus.write_port(self.port(number), &value.to_le_bytes()));
    }

    pub(super) fn events(&self) -> Status {
        let all = Status::NORMAL | Status::ABNORMAL | Status::NIS | Status::AIS;
        Status::from_bits_retain(self.read(5)) & all
    }

    pub(super) fn states(&self) -> (u32, u32) {
        let csr5 = self.read(5);
        ((csr5 & Status::RS_MASK) >> Status::RS_SHIFT, (csr5 & Status::TS_MASK) >> Status::TS_SHIFT)
    }

    pub(super) fn turn(&mut self) -> Rest {
        self.worker.turn(self.now)
    }

    pub(super) fn line(&self) -> bool {
        self.bus.level(pci_gsi(SLOT, 1).into())
    }

    pub(super) fn put(&self, address: u32, bytes: &[u8]) {
        self.bus.memory.write_slice(bytes, GuestAddress(address.into())).unwrap();
    }

    pub(super) fn get(&self, address: u32, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.bus.memory.read_slice(&mut bytes, GuestAddress(address.into())).unwrap();
        bytes
    }

    pub(super) fn status(&self, descriptor: u32) -> u32 {
        u32::from_le_bytes(self.get(descriptor, 4).try_into().unwrap())
    }

    pub(super) fn raw_descriptor(&self, at: u32, longwords: [u32; 4]) {
        self.put(at, &longwords.map(u32::to_le_bytes).concat());
    }

    /// A descriptor with up to two buffers that the chip owns if there are any.
    pub(super) fn descriptor(&self, at: u32, control: u32, buffers: &[(u32, u32)]) {
        let (first, second) = (buffers.first(), buffers.get(1));
        let own = if first.is_some() { OWN } else { 0 };
        let (a, b) = (first.copied().unwrap_or_default(), second.copied().unwrap_or_default());
        self.raw_descriptor(at, [own, control | a.1 | b.1 << BUFFER2_SHIFT, a.0, b.0]);
    }

    /// `count` receive descriptors with a buffer of `bytes` each, of which the last closes the ring.
    pub(super) fn receive_ring(&self, count: u32, bytes: u32) {
        for index in 0..count {
            let control = if index + 1 == count { END_OF_RING } else { 0 };
            self.descriptor(RX_RING + 16 * index, control, &[(BUFFERS + 0x1000 * index, bytes)]);
        }
    }

    /// Sends one frame by one descriptor.
    pub(super) fn send(&mut self, frame: &[u8], control: u32) {
        self.put(BUFFERS, frame);
        let control = control | TX_FS | TX_LS | TX_IC;
        self.descriptor(TX_RING, control, &[(BUFFERS, frame.len() as u32)]);
        self.descriptor(TX_RING + 16, 0, &[]);
        self.write(4, TX_RING);
        self.write(1, 0);
        self.turn();
    }

    pub(super) fn sent(&self) -> Option<Vec<u8>> {
        self.peer.receive(Duration::ZERO)
    }
}

/// A frame of so many bytes.
pub(super) fn frame(to: MacAddress, bytes: usize) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend(MacAddress::of_card(9).0);
    frame.extend([0x08, 0x00]);
    frame.extend((frame.len()..bytes).map(|index| index as u8));
    frame.truncate(bytes);
    frame
}

/// A descriptor that leads to `next`.
pub(super) fn chained(desk: &Desk, at: u32, control: u32, buffer: (u32, u32), next: u32) {
    desk.raw_descriptor(at, [OWN, control | CHAINED | buffer.1, buffer.0, next]);
}
