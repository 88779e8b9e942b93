//! With the machine's own engines, whose threads take their time.

use std::time::{Duration, Instant};

use hv_abi::ata::bus_master::status as master;
use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{control, reg, status};

use super::*;
use crate::emulated::ide::IdeController;
use crate::storage::engine::{EngineChoice, Engines};
use crate::storage::faulty::{FaultyDisk, Kind, Trouble};

struct Slow {
    rig: Rig,
    faulty: Arc<FaultyDisk>,
}

/// A disk whose reads do not end before they are released.
fn slow(kind: Kind) -> Slow {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    faulty.always(kind, Trouble::Never);
    let engines = Engines::new(EngineChoice::Threads).unwrap();
    let mut bus = TestBus::new(RAM).unwrap();
    let drive = Some(IdeDrive::Disk(unit(faulty.clone())));
    let context = bus.context(SLOT);
    let controller = IdeController::new(&context, &engines, [drive, None, None, None]).unwrap();
    bus.add(SLOT, 1, controller).unwrap();
    Slow { rig: Rig { bus, disk }, faulty }
}

impl Slow {
    fn wait(&self, until: impl Fn(&Rig) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !until(&self.rig) {
            assert!(Instant::now() < end, "it takes too long");
            std::thread::sleep(Duration::from_millis(1));
        }
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
