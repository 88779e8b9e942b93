//! With the machine's own engines, whose threads take their time.

use std::time::{Duration, Instant};

use hv_abi::ata::bus_master::status as master;
use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{control, reg, status};

use super::*;
use crate::emulated::ide::IdeController;
use crate::storage::engine::{EngineChoice, Engines};
use crate::storage::faulty::{FaultyDisk, Kind, Trouble};
use crate::storage::open;
use crate::storage::options::DiskOptions;
use crate::storage::test_folder::TestFolder;

struct Slow {
    rig: Rig,
    faulty: Arc<FaultyDisk>,
}

/// A disk whose reads do not end before they are released.
fn slow(kind: Kind) -> Slow {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    faulty.always(kind, Trouble::Never);
    let bus = machine(EngineChoice::Threads, IdeDrive::Disk(unit(faulty.clone())));
    Slow { rig: Rig { bus, disk }, faulty }
}

fn machine(choice: EngineChoice, drive: IdeDrive) -> TestBus {
    let engines = Engines::new(choice).unwrap();
    let mut bus = TestBus::new(RAM).unwrap();
    let context = bus.context(SLOT);
    let drives = [Some(drive), None, None, None];
    bus.add(SLOT, 1, IdeController::new(&context, &engines, drives).unwrap()).unwrap();
    bus
}

fn wait(rig: &Rig, until: impl Fn(&Rig) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !until(rig) {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Slow {
    fn wait(&self, until: impl Fn(&Rig) -> bool) {
        wait(&self.rig, until);
    }
}

#[test]
fn a_drive_is_busy_and_deaf_until_its_disk_has_ended() {
    let slow = slow(Kind::Read);
    let rig = &slow.rig;
    rig.lba28(AtaCommand::READ_SECTORS, 2, 1);
    assert_ne!(rig.status() & status::BSY, 0);
    rig.put(reg::LBA_LOW, 50);
    rig.command(AtaCommand::FLUSH_CACHE);
    assert_ne!(rig.status() & status::BSY, 0);
    assert!(!rig.interrupt());
    slow.faulty.release();
    slow.wait(Rig::interrupt);
    assert_eq!(rig.status(), READY | status::DRQ);
    assert_eq!(rig.read_data(512)[..8], 2_u64.to_le_bytes());
}

#[test]
fn a_reset_is_not_over_before_the_disk_has_let_go_of_memory() {
    let slow = slow(Kind::Read);
    let rig = &slow.rig;
    rig.table(&[(DATA, 512)]);
    rig.lba28(AtaCommand::READ_DMA, 2, 1);
    rig.start(9);
    assert_ne!(rig.master_status() & master::ACTIVE, 0);
    rig.start(0);
    assert_ne!(rig.master_status() & master::ACTIVE, 0, "memory may still be written");
    rig.control(control::SRST);
    rig.control(0);
    assert_eq!(rig.status(), status::BSY);
    slow.faulty.release();
    slow.wait(|rig| rig.alternate() & status::BSY == 0);
    assert_eq!((rig.status(), rig.result(), rig.interrupt()), (READY, [1, 1, 0, 0], false));
    assert_eq!(rig.master_status() & master::ACTIVE, 0);
}

#[test]
fn a_transfer_that_was_stopped_can_be_started_again() {
    let slow = slow(Kind::Read);
    let rig = &slow.rig;
    rig.table(&[(DATA, 512)]);
    rig.lba28(AtaCommand::READ_DMA, 2, 1);
    rig.start(9);
    rig.start(0);
    slow.faulty.release();
    slow.wait(|rig| rig.master_status() & master::ACTIVE == 0);
    assert_eq!((rig.alternate(), rig.interrupt()), (READY | status::DRQ, false));
    rig.start(9);
    slow.wait(Rig::interrupt);
    assert_eq!((rig.status(), rig.memory(DATA, 8)), (READY, 2_u64.to_le_bytes().to_vec()));
}

#[test]
fn a_flush_is_over_when_the_disk_says_so() {
    let slow = slow(Kind::Flush);
    slow.rig.command(AtaCommand::FLUSH_CACHE_EXT);
    assert_ne!(slow.rig.status() & status::BSY, 0);
    slow.faulty.release();
    slow.wait(Rig::interrupt);
    assert_eq!(slow.rig.status(), READY);
}

/// Writes and reads by DMA and PIO, each time waiting for the interrupt.
fn use_disk(rig: &Rig) {
    for round in 0..40_u32 {
        let (lba, sectors) = (round * 37 % 1000, round % 15 + 1);
        let bytes = (sectors * 512) as u16;
        let data = vec![round as u8; bytes.into()];
        rig.fill(DATA, &data);
        rig.table(&[(DATA, bytes / 2), (DATA + u32::from(bytes / 2), bytes - bytes / 2)]);
        rig.lba28(AtaCommand::WRITE_DMA, lba, sectors as u8);
        rig.start(1);
        wait(rig, Rig::interrupt);
        assert_eq!(rig.status(), READY);
        if round % 8 == 0 {
            rig.command(AtaCommand::FLUSH_CACHE_EXT);
            wait(rig, Rig::interrupt);
            assert_eq!(rig.status(), READY);
        }
        rig.lba28(AtaCommand::READ_MULTIPLE, lba, sectors as u8);
        wait(rig, Rig::interrupt);
        assert_eq!(rig.status(), READY | status::DRQ);
        assert_eq!(rig.read_data(bytes.into()), data);
        assert_eq!(rig.status(), READY);
    }
}

#[test]
fn files_and_overlays_serve_by_every_engine() {
    let folder = TestFolder::new();
    let path = folder.file("disk", &content(SECTORS, 512));
    for choice in [EngineChoice::Auto, EngineChoice::Threads] {
        for mode in ["", ",cow"] {
            let text = format!("{}{mode}", path.display());
            let unit = open::unit(&DiskOptions::parse(text.as_ref()).unwrap(), 0).unwrap();
            let bus = machine(choice, IdeDrive::Disk(unit.clone()));
            let rig = Rig { bus, disk: Arc::new(MemoryDisk::new(Vec::new())) };
            use_disk(&rig);
            let report = unit.report(0);
            assert_eq!((report.reads, report.writes, report.flushes), (40, 40, 5));
            assert_eq!(report.errors, 0);
        }
    }
}

#[test]
fn resets_at_any_moment_leave_a_drive_that_works() {
    let folder = TestFolder::new();
    let path = folder.file("disk", &content(SECTORS, 512));
    let unit = open::unit(&DiskOptions::parse(path.as_ref()).unwrap(), 0).unwrap();
    let bus = machine(EngineChoice::Threads, IdeDrive::Disk(unit));
    let rig = Rig { bus, disk: Arc::new(MemoryDisk::new(Vec::new())) };
    for round in 0..50_u32 {
        rig.table(&[(DATA, 0x8000), (DATA + 0x8000, 0x8000)]);
        rig.lba28(AtaCommand::READ_DMA, round, 128);
        rig.start(9);
        std::thread::sleep(Duration::from_micros(u64::from(round) * 7));
        if round % 2 == 0 {
            rig.start(0);
        }
        rig.control(control::SRST);
        rig.control(0);
        wait(&rig, |rig| rig.alternate() == READY);
        assert!(!rig.interrupt());
        rig.fill(DATA, &[0; 512]);
        rig.table(&[(DATA + 0x1000, 512)]);
        rig.lba28(AtaCommand::READ_DMA, round, 1);
        rig.start(9);
        wait(&rig, Rig::interrupt);
        assert_eq!(rig.status(), READY);
        assert_eq!(rig.memory(DATA + 0x1000, 8), u64::from(round).to_le_bytes());
        assert_eq!(rig.memory(DATA, 512), [0; 512], "nothing comes late");
    }
}
