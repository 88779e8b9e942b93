//! The card with its thread.

use hv_abi::tulip::csr::{BusMode, Mode, Status};

use super::*;

struct Machine {
    bus: TestBus,
    peer: MemoryPeer,
    card: Arc<Tulip>,
}

impl Machine {
    fn new() -> Self {
        let (backend, peer) = pair(Offloads::empty()).unwrap();
        let card = Arc::new(Tulip::new(0, MAC, Box::new(backend)).unwrap());
        let mut bus = TestBus::new(RAM).unwrap();
        let function = TulipFunction::new(Arc::clone(&card), &bus.context(SLOT)).unwrap();
        bus.add(SLOT, 0, function).unwrap();
        Self { bus, peer, card }
    }

    fn write(&self, number: u8, value: u32) {
        let port = self.bus.base(SLOT, 0, 0) as u16 + csr_offset(number) as u16;
        self.bus.write_port(port, &value.to_le_bytes());
    }

    fn put(&self, at: u32, longwords: [u32; 4]) {
        let bytes = longwords.map(u32::to_le_bytes).concat();
        self.bus.memory.write_slice(&bytes, GuestAddress(at.into())).unwrap();
    }

    fn wait(&self, what: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what(self) {
            assert!(Instant::now() < end, "{:?} {:?}", self.card.counts(), self.card.chip_counts());
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn frames_go_both_ways_and_interrupt() {
    let machine = Machine::new();
    machine.put(RX_RING, [OWN, END_OF_RING | 1536, BUFFERS, 0]);
    machine.put(TX_RING, [OWN, END_OF_RING | TX_FS | TX_LS | TX_IC | 60, BUFFERS + 0x1000, 0]);
    machine.write(3, RX_RING);
    machine.write(4, TX_RING);
    machine.write(7, (Status::RI | Status::TI | Status::NIS).bits());
    machine.write(6, (Mode::ST | Mode::SR | Mode::PR).bits());
    assert_eq!(machine.peer.receive(Duration::from_secs(20)), Some(vec![0; 60]));
    machine.wait(|machine| machine.bus.level(pci_gsi(SLOT, 1).into()));
    machine.write(5, u32::MAX);
    machine.peer.send(&frame(MAC, 60)).unwrap();
    machine.wait(|machine| machine.card.counts().rx_frames == 1);
    assert!(machine.bus.level(pci_gsi(SLOT, 1).into()));
    let report = serde_json::to_value(machine.card.report()).unwrap();
    assert_eq!((&report["name"], &report["rx_frames"]), (&"net0".into(), &1.into()));
    assert_eq!(report["interrupts"], 2);
}

#[test]
fn the_timer_fires_by_itself() {
    let machine = Machine::new();
    machine.write(7, (Status::GTE | Status::NIS).bits());
    machine.write(6, Mode::PS.bits());
    machine.write(11, 12);
    machine.wait(|machine| machine.bus.level(pci_gsi(SLOT, 1).into()));
}

#[test]
fn resets_in_the_middle_of_things_leave_nothing_behind() {
    let machine = Machine::new();
    for _ in 0..200 {
        for index in 0..64 {
            let end = if index == 63 { END_OF_RING } else { 0 };
            let control = end | TX_FS | TX_LS | 60;
            machine.put(TX_RING + 16 * index, [OWN, control, BUFFERS, 0]);
        }
        machine.write(4, TX_RING);
        machine.write(6, Mode::ST.bits());
        machine.write(1, 0);
        machine.write(0, BusMode::SWR.bits());
        let before = machine.card.chip_counts().tx_descriptors;
        machine.write(1, 0);
        machine.write(2, 0);
        assert_eq!(machine.card.chip_counts().tx_descriptors, before);
        while machine.peer.receive(Duration::ZERO).is_some() {}
    }
}
