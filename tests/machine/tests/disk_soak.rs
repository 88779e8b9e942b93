//! Random reads and writes through driver and provider, every block verified; and frames from card to card and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypervisor_host::storage::buffer::IoBuffer;
use hypervisor_host::storage::controller::Controller;
use hypervisor_host::storage::disk::{ByteRange, Disk as HostDisk, DiskError, DiskInfo};
use hypervisor_host::storage::engine::{EngineChoice, Engines};
use hypervisor_host::storage::file::{Access, FileDisk};
use hypervisor_host::storage::memory::MemoryDisk;
use hypervisor_host::storage::unit::Unit;
use hypervisor_host::vmbus::ServerOptions;
use hypervisor_host::vsp::storvsp::{StorvspDevice, StorvspOptions};
use in_process::run::block_on_within;
use in_process::{Devices, InProcessHal, Machine};
use vsc_cases::soak::disk::{Plan, Tally};
use vsc_cases::soak::{disk, echo};
use vsc_drivers::netvsc::{NetOptions, NetVsc};
use vsc_drivers::storvsc::{Doorbell, StorOptions, StorVsc};
use vsc_drivers::task::{beside, both};
use vsc_drivers::{BusOptions, Vmbus};

/// Processors, and channels of the controller.
const VPS: u32 = 4;
const LIMIT: Duration = Duration::from_secs(600);
const DISK_BYTES: u64 = 32 << 20;

/// Requests of each test; the soak of a million by `ENL_DISK_OPERATIONS=1000000`.
fn operations() -> u64 {
    let wanted = std::env::var("ENL_DISK_OPERATIONS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(12_000)
}

fn machine(disk: Arc<dyn HostDisk>, engine: EngineChoice) -> Machine {
    let controller = Arc::new(Controller::default());
    controller.plug(0, Arc::new(Unit::new("soak", 1, disk))).expect("the number is free");
    let engines = Engines::new(engine).expect("an engine");
    let device = StorvspDevice::new(controller, engines, StorvspOptions::new(VPS));
    Machine::new(ServerOptions::new(VPS), vec![Arc::new(device)])
}

async fn controller(
    bus: &Vmbus<InProcessHal>,
    doorbell: Doorbell,
) -> Result<StorVsc<InProcessHal>, Box<dyn std::error::Error>> {
    bus.connect().await?;
    bus.all_offers_delivered().await?;
    let mut options = StorOptions::default();
    options.channels = VPS as u16;
    options.vps = (0..VPS).collect();
    options.doorbell = doorbell;
    Ok(StorVsc::start(bus, bus.offers()[0].channel, options).await?)
}

fn show(what: &str, tally: &Tally, begun: Instant) {
    println!("{what}: {tally:?} in {:?}", begun.elapsed());
    assert!(tally.is_clean(), "{what}: {tally:?}");
}

/// One task for everything, all channels in turn.
fn in_one_task(what: &str, disk: Arc<dyn HostDisk>, engine: EngineChoice) {
    let machine = machine(disk, engine);
    let bus = machine.new_bus(BusOptions::default());
    let begun = Instant::now();
    let work = async {
        let storvsc = controller(&bus, Doorbell::Deferred).await.expect("a controller");
        let disk = storvsc.disk(0).expect("a disk");
        let plan = Plan { blocks: 0..disk.blocks(), depth: 128, seed: 1 };
        let total = operations();
        let soak = disk::soak(&disk, &plan, |so_far| so_far < total);
        let tally = beside(storvsc.run(), soak).await;
        assert_eq!((storvsc.channels(), storvsc.in_flight()), (VPS as usize, 0));
        assert_eq!(tally.operations(), total);
        tally
    };
    let tally = block_on_within(LIMIT, what, beside(bus.run(), work));
    show(what, &tally, begun);
}

/// A thread for each channel, each with a part of the disk.
fn on_many_threads(what: &str, disk: Arc<dyn HostDisk>, engine: EngineChoice) {
    let machine = machine(disk, engine);
    let bus = machine.new_bus(BusOptions::default());
    let begun = Instant::now();
    let started = beside(bus.run(), controller(&bus, Doorbell::Immediate));
    let storvsc = block_on_within(LIMIT, what, started).expect("a controller");
    let share = storvsc.disk(0).expect("a disk").blocks() / u64::from(VPS);
    let threads = (0..VPS as u16).map(|channel| {
        let (bus, storvsc) = (bus.clone(), storvsc.clone());
        std::thread::spawn(move || {
            let disk = storvsc.disk(0).expect("a disk").on_channel(channel);
            let start = u64::from(channel) * share;
            let plan = Plan { blocks: start..start + share, depth: 32, seed: channel.into() };
            let total = operations() / u64::from(VPS);
            let soak = disk::soak(&disk, &plan, |so_far| so_far < total);
            let tasks = both(storvsc.run_channel(channel), storvsc.run_control());
            // Each thread may see to the bus.
            block_on_within(LIMIT, "a thread", beside(both(bus.run(), tasks), soak))
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut tally = Tally::default();
    threads.into_iter().for_each(|thread| tally += thread.join().expect("a thread's tally"));
    show(what, &tally, begun);
}

/// A disk in a file that has no name any more.
fn file_disk() -> Arc<dyn HostDisk> {
    let name = format!("enlighten-soak-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(DISK_BYTES).expect("room");
    let disk = FileDisk::open(&path, Access::ReadWrite).expect("a disk");
    std::fs::remove_file(&path).expect("it was there");
    Arc::new(disk)
}

fn memory_disk() -> Arc<dyn HostDisk> {
    Arc::new(MemoryDisk::new(vec![0; DISK_BYTES as usize]))
}

#[test]
fn a_memory_disk_loses_nothing() {
    in_one_task("memory, one task", memory_disk(), EngineChoice::Auto);
}

#[test]
fn a_memory_disk_loses_nothing_on_four_threads() {
    on_many_threads("memory, four threads", memory_disk(), EngineChoice::Auto);
}

#[test]
fn a_file_disk_loses_nothing() {
    in_one_task("file, one task", file_disk(), EngineChoice::Auto);
}

#[test]
fn a_file_disk_loses_nothing_on_four_threads() {
    on_many_threads("file, four threads", file_disk(), EngineChoice::Auto);
}

#[test]
fn a_file_disk_loses_nothing_without_io_uring() {
    in_one_task("file, threads instead of io_uring", file_disk(), EngineChoice::Threads);
}

/// A disk that does not do every hundredth write as it says it does.
struct Liar {
    inner: MemoryDisk,
    writes: AtomicU64,
    /// Instead it writes so many bytes further on, or nothing.
    shift: Option<u64>,
}

impl HostDisk for Liar {
    fn info(&self) -> DiskInfo {
        self.inner.info()
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.inner.read(offset, buffer)
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        if !self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            return self.inner.write(offset, buffer);
        }
        match self.shift {
            None => Ok(()),
            Some(shift) => self.inner.write((offset + shift) % (DISK_BYTES / 2), buffer),
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.inner.flush()
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.inner.discard(range)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.inner.zero(range)
    }

    fn refresh(&self) -> Result<DiskInfo, DiskError> {
        self.inner.refresh()
    }
}

/// What a soak says of a disk that lies.
fn found_out(shift: Option<u64>) -> Tally {
    let inner = MemoryDisk::new(vec![0; DISK_BYTES as usize]);
    let writes = AtomicU64::new(1);
    let machine = machine(Arc::new(Liar { inner, writes, shift }), EngineChoice::Auto);
    let bus = machine.new_bus(BusOptions::default());
    let work = async {
        let storvsc = controller(&bus, Doorbell::Deferred).await.expect("a controller");
        let disk = storvsc.disk(0).expect("a disk");
        let plan = Plan { blocks: 0..disk.blocks(), depth: 16, seed: 1 };
        beside(storvsc.run(), disk::soak(&disk, &plan, |so_far| so_far < 2000)).await
    };
    block_on_within(LIMIT, "the liar", beside(bus.run(), work))
}

#[test]
fn a_disk_that_forgets_writes_is_found_out() {
    let tally = found_out(None);
    assert!(tally.lost > 0 && tally.failed == 0 && tally.first.is_some(), "{tally:?}");
}

#[test]
fn a_disk_that_writes_elsewhere_is_found_out() {
    let tally = found_out(Some(4096));
    assert!(tally.corrupt > 0 && tally.failed == 0, "{tally:?}");
}

#[test]
fn frames_come_back_as_they_were_sent() {
    let devices = Devices::new(VPS);
    let machine = Machine::new(ServerOptions::new(VPS), devices.all());
    let bus = machine.new_bus(BusOptions::default());
    let begun = Instant::now();
    let total = operations();
    let work = async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        let offers = bus.offers();
        let mut cards =
            offers.iter().filter(|offer| offer.interface == hv_abi::nvsp::NVSP_INTERFACE);
        let mut card = || cards.next().expect("two cards").channel;
        let (near, far) = (card(), card());
        let near = NetVsc::start(&bus, near, NetOptions::default()).await.expect("a card");
        let far = NetVsc::start(&bus, far, NetOptions::default());
        let far = beside(near.run(), far).await.expect("a card");
        let tasks = both(near.run(), far.run());
        beside(tasks, async {
            let goes_on = |so_far| so_far < total;
            let tally = echo::soak(machine.hal(), (&near, &far), 3, goes_on).await;
            near.stop().await.expect("a clean stop");
            far.stop().await.expect("a clean stop");
            tally
        })
        .await
    };
    let tally = block_on_within(LIMIT, "the echo", beside(bus.run(), work));
    println!("frames: {tally:?} in {:?}", begun.elapsed());
    assert!(tally.is_clean() && tally.frames == total, "{tally:?}");
}
