//! Disks that fail, come, go and change, and cables that are pulled, with the guest's drivers at work on them.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypervisor_host::storage::controller::Controller;
use hypervisor_host::storage::disk::{ByteRange, Disk as HostDisk, DiskError};
use hypervisor_host::storage::engine::{EngineChoice, Engines};
use hypervisor_host::storage::faulty::{Fault, FaultyDisk, Kind, Trouble};
use hypervisor_host::storage::file::{Access, FileDisk};
use hypervisor_host::storage::memory::MemoryDisk;
use hypervisor_host::storage::unit::Unit;
use hypervisor_host::vmbus::ServerOptions;
use hypervisor_host::vsp::storvsp::{StorvspDevice, StorvspOptions};
use in_process::run::block_on_within;
use in_process::{Devices, InProcessHal, Machine};
use vsc_cases::soak::disk::{Plan, soak};
use vsc_drivers::netvsc::{NetOptions, NetVsc};
use vsc_drivers::storvsc::{DiskChange, DiskErrorKind, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::task::{beside, sleep_until};
use vsc_drivers::{BusOptions, Hal, SECOND_100NS, Vmbus};

const LIMIT: Duration = Duration::from_secs(120);
const DISK_BYTES: usize = 4 << 20;

fn memory() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(vec![0; DISK_BYTES]))
}

fn unit(name: &str, identity: u64, disk: Arc<dyn HostDisk>) -> Arc<Unit> {
    Arc::new(Unit::new(name, identity, disk))
}

/// Starts a controller with `first` as its disk 0, and does `body` beside the drivers' tasks.
fn with_disk(
    first: Arc<dyn HostDisk>,
    body: impl AsyncFnOnce(&Controller, &Vmbus<InProcessHal>, &StorVsc<InProcessHal>),
) {
    let controller = Arc::new(Controller::default());
    controller.plug(0, unit("first", 1, first)).expect("the number is free");
    let engines = Engines::new(EngineChoice::Auto).expect("an engine");
    let device = StorvspDevice::new(controller.clone(), engines, StorvspOptions::new(2));
    let machine = Machine::new(ServerOptions::new(2), vec![Arc::new(device)]);
    let bus = machine.new_bus(BusOptions::default());
    let work = async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        let storvsc = start(&bus).await;
        beside(storvsc.run(), body(&controller, &bus, &storvsc)).await;
    };
    block_on_within(LIMIT, "the test", beside(bus.run(), work));
}

/// Impatient, so that a test need not be patient.
async fn start(bus: &Vmbus<InProcessHal>) -> StorVsc<InProcessHal> {
    let mut options = StorOptions::default();
    options.channels = 2;
    options.request_limit_100ns = SECOND_100NS / 2;
    options.reset_limit_100ns = SECOND_100NS;
    options.reset_grace_100ns = SECOND_100NS / 10;
    StorVsc::start(bus, bus.offers()[0].channel, options).await.expect("a controller")
}

fn buffer(bytes: usize) -> IoBuffer {
    IoBuffer::zeroed(bytes).expect("memory")
}

async fn pause(hal: &InProcessHal, time: Duration) {
    sleep_until(hal, hal.now_100ns() + time.as_nanos() as u64 / 100).await;
}

#[test]
fn errors_of_a_disk_reach_the_guest_as_what_they_are_and_end_with_it() {
    let faulty = Arc::new(FaultyDisk::new(memory()));
    with_disk(faulty.clone(), async |_, _, storvsc| {
        let disk = storvsc.disk(0).expect("a disk");
        let io = DiskError::Os(libc::EIO);
        for (kind, trouble, expected) in [
            (Kind::Read, Trouble::Fails(io), DiskErrorKind::Medium),
            (Kind::Write, Trouble::Fails(io), DiskErrorKind::Medium),
            (Kind::Read, Trouble::Short, DiskErrorKind::Medium),
            (Kind::Write, Trouble::Short, DiskErrorKind::Medium),
            (Kind::Write, Trouble::Fails(DiskError::NoSpace), DiskErrorKind::NoSpace),
        ] {
            let range = ByteRange::new(8192, 512);
            faulty.add(Fault { kind, range, times: u32::MAX, trouble });
            let attempt = async |lba| match kind {
                Kind::Read => disk.read_lent(lba, buffer(4096)).await,
                _ => disk.write_lent(lba, buffer(4096)).await,
            };
            let failed = attempt(16).await.expect_err("the disk fails");
            assert_eq!(failed.error.kind, expected, "{kind:?} {trouble:?}");
            assert_eq!(failed.buffers.len(), 1, "the memory comes back");
            // What the fault is not about goes on, and all does when it is gone.
            assert!(attempt(64).await.is_ok());
            faulty.heal();
            assert!(attempt(16).await.is_ok());
        }
    });
}

#[test]
fn a_request_that_never_ends_is_given_up_and_the_others_go_on() {
    let faulty = Arc::new(FaultyDisk::new(memory()));
    with_disk(faulty.clone(), async |_, bus, storvsc| {
        let disk = storvsc.disk(0).expect("a disk");
        let range = ByteRange::new(0, 512);
        faulty.add(Fault { kind: Kind::Read, range, times: 1, trouble: Trouble::Never });
        let failed = disk.read_lent(0, buffer(4096)).await.expect_err("nothing answers");
        assert_eq!(failed.error.kind, DiskErrorKind::TimedOut);
        assert!(failed.buffers.is_empty(), "the host may still write to it");
        assert_eq!((storvsc.in_flight(), storvsc.counts().resets), (1, 1));
        assert!(disk.read_lent(64, buffer(4096)).await.is_ok());
        faulty.release();
        let end = Instant::now() + LIMIT;
        while storvsc.in_flight() > 0 && Instant::now() < end {
            pause(bus.hal(), Duration::from_millis(5)).await;
        }
        assert_eq!(storvsc.in_flight(), 0);
    });
}

#[test]
fn a_closed_channel_keeps_the_guests_memory_until_its_disk_has_ended() {
    let faulty = Arc::new(FaultyDisk::new(memory()));
    with_disk(faulty.clone(), async |_, bus, storvsc| {
        let disk = storvsc.disk(0).expect("a disk").on_channel(0);
        faulty.always(Kind::Read, Trouble::Never);
        let failed = disk.read_lent(0, buffer(4096)).await.expect_err("nothing answers");
        assert_eq!(failed.error.kind, DiskErrorKind::TimedOut);
        let released = Cell::new(None);
        let release = async {
            pause(bus.hal(), Duration::from_millis(700)).await;
            released.set(Some(Instant::now()));
            faulty.release();
            std::future::pending::<()>().await;
        };
        beside(release, storvsc.stop(0)).await.expect("the host answers in the end");
        let released = released.get().expect("the host has answered before its disk had");
        assert!(released.elapsed() < Duration::from_secs(10));
        faulty.heal();
        let again = start(bus).await;
        let disk = again.disk(0).expect("a disk");
        assert!(beside(again.run(), disk.read_lent(0, buffer(4096))).await.is_ok());
    });
}

#[test]
fn disks_are_added_and_removed_under_load() {
    with_disk(memory(), async |controller, bus, storvsc| {
        let mut changes = storvsc.watch();
        assert!(matches!(changes.next().await, DiskChange::Added(_)));
        let first = storvsc.disk(0).expect("a disk");
        let busy = Cell::new(true);
        let plan = Plan { blocks: 0..first.blocks(), depth: 16, seed: 1 };
        let load = soak(&first, &plan, |_| busy.get());
        let come_and_go = async {
            for round in 0..5 {
                controller.add(3, unit("second", 2 + round, memory())).expect("a free number");
                let DiskChange::Added(second) = changes.next().await else { panic!("no disk") };
                assert_eq!(second.address().lun, 3);
                let plan = Plan { blocks: 0..second.blocks(), depth: 16, seed: 2 };
                let removal = async {
                    pause(bus.hal(), Duration::from_millis(20)).await;
                    controller.remove(3).expect("it is there");
                    std::future::pending::<()>().await;
                };
                let tally = beside(removal, soak(&second, &plan, |_| true)).await;
                assert_eq!((tally.lost, tally.corrupt), (0, 0), "{tally:?}");
                assert!(tally.failed > 0, "{tally:?}");
                // Who looks at it just then may see a disk that says less of itself.
                while !matches!(changes.next().await, DiskChange::Removed(_)) {}
                assert!(second.is_gone());
            }
            busy.set(false);
        };
        let tally = vsc_drivers::task::both(
            async {
                let tally = load.await;
                assert!(tally.is_clean() && tally.reads > 0, "{tally:?}");
            },
            come_and_go,
        );
        tally.await;
    });
}

#[test]
fn a_disk_that_grows_and_shrinks_tells_so() {
    let path = std::env::temp_dir().join(format!("enlighten-resize-{}", std::process::id()));
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(1 << 20).expect("room");
    let disk = FileDisk::open(&path, Access::ReadWrite).expect("a disk");
    std::fs::remove_file(&path).expect("it was there");
    with_disk(Arc::new(disk), async |controller, _, storvsc| {
        let mut changes = storvsc.watch();
        assert!(matches!(changes.next().await, DiskChange::Added(_)));
        let disk = storvsc.disk(0).expect("a disk");
        for (bytes, blocks) in [(2 << 20, 4096), (512 << 10, 1024)] {
            file.set_len(bytes).expect("room");
            assert_eq!(controller.refresh(0), Ok(true));
            assert!(matches!(changes.next().await, DiskChange::Resized(..)));
            assert_eq!(disk.blocks(), blocks);
            assert!(disk.write_lent(blocks - 8, buffer(4096)).await.is_ok());
        }
    });
}

#[test]
fn a_cable_is_pulled_and_plugged_again_and_again() {
    let devices = Devices::new(2);
    let machine = Machine::new(ServerOptions::new(2), devices.all());
    let bus = machine.new_bus(BusOptions::default());
    let work = async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        let offers = bus.offers();
        let mut cards =
            offers.iter().filter(|offer| offer.interface == hv_abi::nvsp::NVSP_INTERFACE);
        let channel = cards.next().expect("a card").channel;
        let net = NetVsc::start(&bus, channel, NetOptions::default()).await.expect("a card");
        beside(net.run(), async {
            let mut changes = net.link_changes();
            for round in 0..20 {
                let up = round % 2 != 0;
                devices.cards.iter().for_each(|card| card.set_link(up));
                while net.link().up != up {
                    changes.next().await;
                }
            }
            net.stop().await.expect("a clean stop");
        })
        .await;
    };
    block_on_within(LIMIT, "the cable", beside(bus.run(), work));
}
