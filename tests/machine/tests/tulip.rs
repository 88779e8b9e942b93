//! Our driver for DEC's 21140A against our host's, two cards of one process on a switch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use hv_abi::pci::{PCI_BASE_ADDRESS_0, PciAddress};
use hypervisor_host::emulated::pci::{DeviceContext, IrqLines, PciBus};
use hypervisor_host::emulated::tulip::{Tulip as Chip, TulipFunction};
use hypervisor_host::net::mac::MacAddress;
use hypervisor_host::net::switch::Switch;
use hypervisor_host::vmbus::ServerOptions;
use in_process::run::block_on_within;
use in_process::{InProcessHal, Machine};
use kernel::pci::Registers32;
use kernel::tulip::{Filter, Tulip, TulipDevice, TulipOptions};
use vsc_drivers::SECOND_100NS;
use vsc_drivers::task::{beside, both, within};

use self::stack::{Stack, bytes_each_way};

mod stack;

const LIMIT: Duration = Duration::from_secs(300);
const SLOT: u8 = 2;

type Card = Tulip<Ports, InProcessHal>;

/// The card's registers, where its bus has put them.
#[derive(Clone)]
struct Ports {
    bus: Arc<PciBus>,
    base: u16,
}

impl Registers32 for Ports {
    fn read(&self, offset: u16) -> u32 {
        let mut value = [0xFF; 4];
        self.bus.read_port(self.base + offset, &mut value);
        u32::from_le_bytes(value)
    }

    fn write(&self, offset: u16, value: u32) {
        self.bus.write_port(self.base + offset, &value.to_le_bytes());
    }
}

/// An interrupt line, and the thread that takes its interrupts.
#[derive(Default)]
struct Line {
    level: Mutex<bool>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Line {
    fn set(&self, level: bool) {
        *self.level.lock().expect("no panic") = level;
        self.changed.notify_all();
    }

    /// Calls `handler` for as long as the line is high.
    fn serve(&self, handler: impl Fn() -> bool) {
        while !self.ended.load(Ordering::SeqCst) {
            let level = self.level.lock().expect("no panic");
            let (level, _) = self
                .changed
                .wait_timeout_while(level, Duration::from_millis(50), |level| !*level)
                .expect("no panic");
            let is_high = *level;
            drop(level);
            if is_high {
                handler();
            }
        }
    }
}

/// A card of the host's, and the driver on it.
struct Nic {
    card: Card,
    ports: Ports,
    chip: Arc<Chip>,
    line: Arc<Line>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Nic {
    fn new(machine: &Machine, switch: &Arc<Switch>, index: u16, options: TulipOptions) -> Self {
        let port = switch.plug_in().expect("room in a new switch");
        let mac = MacAddress([2, 0x15, 0x5D, 0, 0, index as u8]);
        let chip = Arc::new(Chip::new(index, mac, Box::new(port)).expect("a card"));
        let line = Arc::new(Line::default());
        let wire = line.clone();
        let context = DeviceContext {
            memory: machine.hal().ram().memory().clone(),
            interrupts: IrqLines::new(move |_, level| wire.set(level)),
            slot: SLOT,
        };
        let function = TulipFunction::new(chip.clone(), &context).expect("a thread");
        let mut bus = PciBus::default();
        bus.add(SLOT, 0, Box::new(function)).expect("a free slot");
        let bus = Arc::new(bus);
        let mut bar = [0; 4];
        bus.read_config(PciAddress::new(0, SLOT, 0), PCI_BASE_ADDRESS_0.into(), &mut bar);
        let base = (u32::from_le_bytes(bar) & !3) as u16;
        let ports = Ports { bus, base };
        let card = start(machine, &ports, options);
        assert_eq!(card.mac(), [2, 0x15, 0x5D, 0, 0, index as u8]);
        let thread = Some(serve(&card, &line));
        Self { card, ports, chip, line, thread }
    }

    /// Ends the interrupt's thread.
    fn silence(&mut self) {
        self.line.ended.store(true, Ordering::SeqCst);
        self.line.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Stops the card, and starts the driver anew.
    fn restart(&mut self, machine: &Machine, options: TulipOptions) {
        self.card.stop();
        self.silence();
        self.line.ended.store(false, Ordering::SeqCst);
        self.card = start(machine, &self.ports, options);
        self.thread = Some(serve(&self.card, &self.line));
    }
}

fn start(machine: &Machine, ports: &Ports, options: TulipOptions) -> Card {
    let started = Tulip::start(ports.clone(), machine.hal().with_low_memory(), options);
    block_on_within(LIMIT, "the start", started).expect("a card")
}

fn serve(card: &Card, line: &Arc<Line>) -> std::thread::JoinHandle<()> {
    let (handler, line) = (card.clone(), line.clone());
    std::thread::spawn(move || line.serve(|| handler.on_interrupt()))
}

impl Drop for Nic {
    fn drop(&mut self) {
        self.silence();
    }
}

fn pair(options: TulipOptions) -> (Machine, [Nic; 2]) {
    let machine = Machine::new(ServerOptions::new(1), Vec::new());
    let switch = Switch::private();
    let nics = [1, 2].map(|index| Nic::new(&machine, &switch, index, options));
    (machine, nics)
}

fn frame(to: [u8; 6], from: [u8; 6], bytes: usize) -> Vec<u8> {
    let mut frame: Vec<_> = (0..bytes).map(|at| (at * 7 + bytes) as u8).collect();
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame
}

/// Sends all, in bursts of `burst`, and takes each before the next.
async fn pass(from: &Card, to: &Card, frames: &[Vec<u8>], burst: usize) {
    for burst in frames.chunks(burst) {
        for frame in burst {
            while from.transmit(frame).is_err() {
                from.flush();
                from.room().await.expect("a card");
            }
        }
        from.sent().await.expect("a card");
        for frame in burst {
            let came = within(to.hal(), 10 * SECOND_100NS, to.received()).await;
            let came = came.expect("every frame comes").expect("a card");
            assert_eq!(came[..], frame[..], "{} bytes", frame.len());
        }
    }
}

#[test]
fn frames_of_every_length_pass_both_ways_in_rings_and_chains() {
    for chained in [false, true] {
        let (_machine, [one, other]) = pair(TulipOptions { chained, ..TulipOptions::default() });
        for (from, to) in [(&one.card, &other.card), (&other.card, &one.card)] {
            let frames: Vec<_> =
                (60..=1514).map(|bytes| frame(to.mac(), from.mac(), bytes)).collect();
            let work = beside(both(from.run(), to.run()), pass(from, to, &frames, 100));
            block_on_within(LIMIT, "the frames", work);
        }
        for nic in [&one, &other] {
            let counts = nic.card.statistics();
            println!("{counts}, timer {}", nic.card.has_timer());
            let bad =
                [counts.malformed, counts.receive_errors, counts.transmit_errors, counts.resets];
            assert_eq!((bad, counts.missed), ([0; 4], 0));
            assert_eq!(counts.received_frames, 1455);
            assert!(counts.demands + counts.interrupts < 1455);
        }
    }
}

#[test]
fn filters_keep_out_what_is_not_wanted() {
    let (_machine, [one, other]) = pair(TulipOptions::default());
    let groups: Vec<_> = (0..100).map(|last| [1, 0, 0x5E, 0, 1, last]).collect();
    for addresses in [groups[..10].to_vec(), groups.clone()] {
        let last = addresses.len() - 1;
        let filter = Filter { addresses, ..Filter::default() };
        let (from, to) = (&one.card, &other.card);
        let wanted = [groups[last], [0xFF; 6], to.mac()];
        let work = async {
            to.set_filter(filter).await.expect("a filter");
            for place in [[1, 0, 0x5E, 9, 9, 9], wanted[0], wanted[1], wanted[2]] {
                from.transmit(&frame(place, from.mac(), 60)).expect("room");
            }
            from.sent().await.expect("a card");
            for place in wanted {
                let came = within(to.hal(), 10 * SECOND_100NS, to.received()).await;
                assert_eq!(came.expect("it comes").expect("a card")[..6], place);
            }
        };
        block_on_within(LIMIT, "the frames", beside(both(from.run(), to.run()), work));
    }
}

#[test]
fn bursts_longer_than_the_ring_leave_the_card_well_and_the_frames_in_order() {
    let (_machine, [one, other]) = pair(TulipOptions::default());
    let (from, to) = (&one.card, &other.card);
    let numbered = |number: u64| {
        let mut frame = frame(to.mac(), from.mac(), 100);
        frame[14..22].copy_from_slice(&number.to_le_bytes());
        frame
    };
    let work = async {
        // Nobody takes them.
        for number in 0..1000 {
            while from.transmit(&numbered(number)).is_err() {
                from.flush();
                from.room().await.expect("a card");
            }
        }
        from.sent().await.expect("a card");
        let mut came = Vec::new();
        while let Ok(frame) = within(to.hal(), SECOND_100NS / 2, to.received()).await {
            came.push(u64::from_le_bytes(
                *frame.expect("a card")[14..].first_chunk().expect("it is long enough"),
            ));
        }
        came
    };
    let came = block_on_within(LIMIT, "the burst", beside(from.run(), work));
    let counts = to.statistics();
    println!("{} of 1000 came; {counts}", came.len());
    assert!(came.len() >= to.receive_capacity() && came.is_sorted());
    assert!(came.len() == 1000 || counts.missed > 0 || counts.stalls > 0);
    let frames: Vec<_> = (2000..2100).map(numbered).collect();
    let work = beside(both(from.run(), to.run()), pass(from, to, &frames, 50));
    block_on_within(LIMIT, "what comes after it", work);
}

#[test]
fn a_card_is_stopped_and_started_again_under_load() {
    let machine = Machine::new(ServerOptions::new(1), Vec::new());
    let switch = Switch::private();
    let options = TulipOptions::default();
    let one = Nic::new(&machine, &switch, 1, options);
    let mut other = Nic::new(&machine, &switch, 2, options);
    for _ in 0..20 {
        let burst = frame(other.card.mac(), one.card.mac(), 1514);
        (0..100).for_each(|_| one.card.transmit(&burst).expect("room"));
        one.card.flush();
        other.restart(&machine, options);
        block_on_within(LIMIT, "the burst", beside(one.card.run(), one.card.sent()))
            .expect("a card");
    }
    // What came meanwhile may be there, or lost; what comes when all is quiet is not.
    let (from, to) = (&one.card, &other.card);
    let quiet = async { while within(to.hal(), SECOND_100NS / 5, to.received()).await.is_ok() {} };
    block_on_within(LIMIT, "the rest", beside(to.run(), quiet));
    println!("{}", to.statistics());
    let frames: Vec<_> = (60..160).map(|bytes| frame(to.mac(), from.mac(), bytes)).collect();
    let work = beside(both(from.run(), to.run()), pass(from, to, &frames, 50));
    block_on_within(LIMIT, "what comes after it", work);
}

#[test]
fn a_cable_comes_and_goes() {
    let (_machine, [one, _other]) = pair(TulipOptions::default());
    let link = |limit| block_on_within(LIMIT, "the link", one.card.link_up(limit));
    assert!(link(SECOND_100NS).is_ok());
    one.chip.set_link(false);
    assert!(link(SECOND_100NS / 5).is_err());
    one.chip.set_link(true);
    assert!(link(10 * SECOND_100NS).is_ok_and(|link| link.up && link.full_duplex));
}

/// Bytes of each of TCP's buffers.
const BUFFER_BYTES: usize = 64 << 10;

fn end(card: &Card, seed: u8) -> Stack<TulipDevice<Ports, InProcessHal>> {
    Stack::new(TulipDevice::new(card.clone()), TulipDevice::flush, card.mac(), seed, BUFFER_BYTES)
}

#[test]
fn tcp_loses_nothing() {
    let (_machine, [one, other]) = pair(TulipOptions::default());
    let bytes = bytes_each_way(if cfg!(debug_assertions) { 8 } else { 64 });
    let begun = Instant::now();
    let (mut client, mut server) = (end(&one.card, 1), end(&other.card, 2));
    server.listen();
    client.connect(2);
    while client.received < bytes || server.received < bytes {
        client.step(bytes, 2);
        server.step(bytes, 1);
        assert!(begun.elapsed() < LIMIT, "{} of {bytes}, {}", client.received, server.received);
        std::thread::yield_now();
    }
    println!("{} MiB each way in {:?}", bytes >> 20, begun.elapsed());
    for nic in [&one, &other] {
        let counts = nic.card.statistics();
        println!("{counts}");
        let bad = [counts.malformed, counts.receive_errors, counts.transmit_errors, counts.resets];
        assert_eq!((bad, counts.missed, counts.transmit_drops), ([0; 4], 0, 0));
    }
}
