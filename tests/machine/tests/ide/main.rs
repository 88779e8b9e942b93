//! The kernel's IDE driver against the host's controller, in one process.

mod desk;
mod low;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hypervisor_host::emulated::ide::IdeDrive;
use hypervisor_host::storage::disk::{ByteRange, Disk, DiskError};
use hypervisor_host::storage::faulty::{Fault, FaultyDisk, Kind, Trouble};
use hypervisor_host::storage::memory::MemoryDisk;
use hypervisor_host::storage::unit::Unit;
use kernel::ide::scratch::{fill_all, is_filled};
use kernel::ide::{AtaDisk, IdeError, Mode};
use vsc_drivers::storvsc::{BlockDevice, IoBuffer};

use desk::Desk;

#[global_allocator]
static MEMORY: low::LowMemory = low::LowMemory::new();

const SECTOR: usize = 512;
/// Sectors of the disks.
const SECTORS: u64 = 2 << 11;

fn unit(identity: u64, disk: Arc<dyn Disk>) -> Arc<Unit> {
    Arc::new(Unit::new("disk", identity, disk))
}

/// A machine with a faulty disk as its primary master, a second disk as the slave, and a CD-ROM as the secondary master.
struct Machine {
    desk: Desk,
    content: Arc<MemoryDisk>,
    faulty: Arc<FaultyDisk>,
}

impl Machine {
    fn new() -> Self {
        let content = Arc::new(MemoryDisk::new(vec![0; SECTORS as usize * SECTOR]));
        let faulty = Arc::new(FaultyDisk::new(content.clone()));
        let mut cd = vec![0; 300 * 2048];
        fill_all(7, 0, &mut cd);
        let drives = [
            Some(IdeDrive::Disk(unit(1, faulty.clone()))),
            Some(IdeDrive::Disk(unit(2, Arc::new(MemoryDisk::new(vec![0; 1 << 20]))))),
            Some(IdeDrive::CdRom(unit(3, Arc::new(MemoryDisk::read_only(cd))))),
            None,
        ];
        Self { desk: Desk::new(drives), content, faulty }
    }
}

type Drive = AtaDisk<Desk, Desk>;

/// The first disk in each of its modes, polled and with interrupts.
fn in_every_mode(machine: &Machine, mut work: impl FnMut(&Drive)) {
    let controller = machine.desk.controller();
    for interrupts in [false, true] {
        controller.channels().iter().for_each(|channel| channel.use_interrupts(interrupts));
        for mode in Mode::ALL {
            work(&controller.disks()[0].in_mode(mode).expect("the host's disks have all modes"));
        }
    }
}

#[test]
fn all_drives_are_found_and_nothing_else() {
    let machine = Machine::new();
    let controller = machine.desk.controller();
    assert_eq!(controller.problems(), []);
    let disks: Vec<_> = controller.disks().iter().map(|it| (it.drive(), it.blocks())).collect();
    assert_eq!(disks, [(0, SECTORS), (1, 2048)]);
    assert_eq!(controller.cd_roms().len(), 1);
    assert_eq!(controller.disks()[0].mode(), Mode::Dma, "the best of all");
    let facts = controller.disks()[0].facts();
    assert_eq!((facts.multiple, facts.has_48, facts.has_flush), (16, true, true));
}

#[test]
fn what_is_written_in_one_mode_is_read_in_all_and_lies_on_the_hosts_disk() {
    let machine = Machine::new();
    let mut seed = 0;
    in_every_mode(&machine, |disk| {
        for (sectors, lba) in [(1, 3), (16, 100), (17, 200), (256, 300), (700, 1000)] {
            seed += 1;
            let mut bytes = vec![0; sectors * SECTOR];
            fill_all(seed, lba, &mut bytes);
            machine.desk.run(disk.write(lba, &bytes)).expect("it is a good disk");
            machine.desk.run(disk.flush()).expect("it is a good disk");
            let from = lba as usize * SECTOR;
            assert_eq!(machine.content.content()[from..from + bytes.len()], bytes);
            for mode in Mode::ALL {
                let disk = disk.in_mode(mode).expect("it has all modes");
                let mut back = vec![0xEE; bytes.len()];
                machine.desk.run(disk.read(lba, &mut back)).expect("it is a good disk");
                assert!(is_filled(seed, lba, &back), "{mode:?}, {sectors} sectors");
            }
        }
    });
}

#[test]
fn memory_that_begins_anywhere_is_lent_without_a_copy() {
    let machine = Machine::new();
    let disk = machine.desk.controller().disks()[0].clone();
    let mut bytes = vec![0; 100 * SECTOR];
    fill_all(5, 40, &mut bytes);
    let buffer = IoBuffer::from(bytes);
    let buffer = machine.desk.run(disk.write_lent(40, buffer)).expect("it is a good disk");
    let buffer = machine.desk.run(disk.read_lent(40, buffer)).expect("it is a good disk");
    assert!(is_filled(5, 40, &buffer));
    assert_eq!(
        disk.channel().counts().dma_bytes.load(std::sync::atomic::Ordering::Relaxed),
        200 * 512
    );
}

#[test]
fn a_bad_sector_is_told_and_the_others_go_on() {
    let machine = Machine::new();
    for kind in [Kind::Read, Kind::Write] {
        in_every_mode(&machine, |disk| {
            let range = ByteRange::new(50 * SECTOR as u64, SECTOR as u64);
            let trouble = Trouble::Fails(DiskError::Os(5));
            machine.faulty.add(Fault { kind, range, times: u32::MAX, trouble });
            let mut bytes = [0; 8 * SECTOR];
            let failed = match kind {
                Kind::Read => machine.desk.run(disk.read(48, &mut bytes)),
                _ => machine.desk.run(disk.write(48, &bytes)),
            };
            assert!(matches!(failed, Err(IdeError::Drive(_))), "{:?}: {failed:?}", disk.mode());
            machine.desk.run(disk.read(100, &mut bytes)).expect("these are good");
            machine.faulty.heal();
            machine.desk.run(disk.write(48, &bytes)).expect("all are good again");
            machine.desk.run(disk.read(48, &mut bytes)).expect("all are good again");
        });
    }
}

#[test]
fn a_flush_that_fails_is_told() {
    let machine = Machine::new();
    machine.faulty.always(Kind::Flush, Trouble::Fails(DiskError::Os(5)));
    in_every_mode(&machine, |disk| {
        let failed = machine.desk.run(disk.flush());
        assert!(matches!(failed, Err(IdeError::Drive(_))), "{failed:?}");
    });
}

#[test]
fn what_is_not_there_is_refused_before_the_drive_sees_it() {
    let machine = Machine::new();
    let disk = machine.desk.controller().disks()[0].clone();
    let commands = || disk.channel().counts().commands.load(std::sync::atomic::Ordering::Relaxed);
    let before = commands();
    let mut bytes = [0; 2 * SECTOR];
    assert_eq!(machine.desk.run(disk.read(SECTORS - 1, &mut bytes)), Err(IdeError::OutOfRange));
    assert_eq!(machine.desk.run(disk.write(u64::MAX, &bytes)), Err(IdeError::OutOfRange));
    assert_eq!(machine.desk.run(disk.read(0, &mut bytes[1..])), Err(IdeError::Misaligned));
    assert_eq!(commands(), before);
}

#[test]
fn a_transfer_that_is_dropped_resets_the_channel_and_the_next_does_well() {
    let machine = Machine::new();
    in_every_mode(&machine, |disk| {
        let mut bytes = [0; 64 * SECTOR];
        for polls in 1..6 {
            let mut left = polls;
            let mut read = pin!(disk.read(0, &mut bytes));
            // Polled so often, then given up.
            machine.desk.run(poll_fn(|context| {
                left -= 1;
                match read.as_mut().poll(context) {
                    Poll::Pending if left > 0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
        }
        fill_all(9, 0, &mut bytes);
        machine.desk.run(disk.write(0, &bytes)).expect("the channel is well again");
        let mut back = [0; 64 * SECTOR];
        machine.desk.run(disk.read(0, &mut back)).expect("the channel is well again");
        assert!(back == bytes);
    });
}

#[test]
fn memory_that_the_controller_does_not_find_is_told_and_does_no_harm() {
    let machine = Machine::new();
    let disk = machine.desk.controller().disks()[0].clone();
    for interrupts in [false, true] {
        disk.channel().use_interrupts(interrupts);
        let mut bytes = [0; 8 * SECTOR];
        machine.desk.lie(true);
        assert_eq!(machine.desk.run(disk.read(0, &mut bytes)), Err(IdeError::BusMaster));
        assert_eq!(machine.desk.run(disk.write(0, &bytes)), Err(IdeError::BusMaster));
        machine.desk.lie(false);
        machine.desk.run(disk.read(0, &mut bytes)).expect("the channel is well again");
    }
}

#[test]
fn both_drives_of_a_channel_take_turns() {
    let machine = Machine::new();
    let controller = machine.desk.controller();
    let [first, second] = controller.disks() else { panic!("two disks") };
    let work = async |disk: &Drive, seed: u64| {
        for round in 0..50 {
            let mut bytes = [0; 4 * SECTOR];
            fill_all(seed + round, round, &mut bytes);
            disk.write(round * 4, &bytes).await.expect("it is a good disk");
            let mut back = [0; 4 * SECTOR];
            disk.read(round * 4, &mut back).await.expect("it is a good disk");
            assert!(back == bytes);
        }
    };
    machine.desk.run(vsc_drivers::task::both(work(first, 1000), work(second, 2000)));
}

#[test]
fn a_cd_rom_is_read_both_ways() {
    let machine = Machine::new();
    let controller = machine.desk.controller();
    for interrupts in [false, true] {
        controller.channels()[1].use_interrupts(interrupts);
        for dma in [false, true] {
            let mut cd = controller.cd_roms()[0].by_dma(dma).expect("it can do both");
            machine.desk.run(cd.inquiry()).expect("every drive says who it is");
            assert_eq!(machine.desk.run(cd.capacity()), Ok(300));
            let mut bytes = vec![0; 100 * 2048];
            machine.desk.run(cd.read(150, &mut bytes)).expect("it is a good disc");
            assert!(is_filled(7, 600, &bytes), "dma: {dma}");
            let behind = machine.desk.run(cd.read(299, &mut bytes[..2 * 2048]));
            assert!(matches!(behind, Err(IdeError::Sense(_))), "{behind:?}");
            assert_eq!(machine.desk.run(cd.write(0, &bytes)), Err(IdeError::ReadOnly));
        }
    }
}

#[test]
fn random_reads_and_writes_in_all_modes_agree_with_a_model() {
    let machine = Machine::new();
    let disk = machine.desk.controller().disks()[0].clone();
    // The seed of each sector's content; 0 for zeros.
    let mut model = vec![0_u64; 2048];
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 1..3000 {
        let disk = disk.in_mode(Mode::ALL[next(3) as usize]).expect("it has all modes");
        disk.channel().use_interrupts(next(2) == 0);
        let lba = next(2000);
        let most = 1 << next(9);
        let sectors = (1 + next(most)).min(2048 - lba);
        let mut bytes = vec![0; sectors as usize * SECTOR];
        let range = lba as usize..(lba + sectors) as usize;
        if next(2) == 0 {
            fill_all(round, lba, &mut bytes);
            machine.desk.run(disk.write(lba, &bytes)).expect("it is a good disk");
            model[range].fill(round);
            continue;
        }
        machine.desk.run(disk.read(lba, &mut bytes)).expect("it is a good disk");
        for ((sector, lba), &seed) in bytes.chunks(SECTOR).zip(lba..).zip(&model[range]) {
            let right = match seed {
                0 => sector.iter().all(|&byte| byte == 0),
                seed => is_filled(seed, lba, sector),
            };
            assert!(right, "round {round}, sector {lba}, {:?}", disk.mode());
        }
    }
}
