//! DMA as SFF-8038i has it: what status says when memory is as much as the transfer, more, or less.

use hv_abi::ata::bus_master::status as master;
use hv_abi::ata::command::{AtaCommand, TrimRange};
use hv_abi::ata::{error, reg, status};
use zerocopy::IntoBytes;

use super::*;
use crate::storage::disk::{ByteRange, DiskError};
use crate::storage::faulty::{Fault, FaultyDisk, Kind, Trouble};

/// Start, to memory and from it.
const READ: u8 = 0x09;
const WRITE: u8 = 0x01;
/// Bits that tell what a transfer came to.
const EVENTS: u8 = master::INTERRUPT | master::ERROR | master::ACTIVE;

#[test]
fn a_transfer_is_scattered_over_its_regions() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 1000), (DATA + 0x4000, 24), (DATA + 0x2002, 1024)]);
    rig.lba28(AtaCommand::READ_DMA, 10, 4);
    assert_eq!(rig.status(), READY | status::DRQ, "it waits for the bus master");
    rig.start(READ);
    assert!(rig.interrupt());
    assert_eq!(rig.master_status() & EVENTS, master::INTERRUPT);
    assert_eq!(rig.status(), READY);
    let expected = content(14, 512)[10 * 512..].to_vec();
    assert_eq!(rig.memory(DATA, 1000), expected[..1000]);
    assert_eq!(rig.memory(DATA + 0x4000, 24), expected[1000..1024]);
    assert_eq!(rig.memory(DATA + 0x2002, 1024), expected[1024..]);
    assert_eq!(rig.memory(DATA + 1000, 24), [0; 24]);
}

#[test]
fn the_bus_master_may_be_started_first() {
    let rig = Rig::disk();
    rig.fill(DATA, &[0xCC; 1024]);
    rig.table(&[(DATA, 1024)]);
    rig.start(WRITE);
    assert_eq!(rig.master_status() & EVENTS, master::ACTIVE);
    rig.lba48(AtaCommand::WRITE_DMA_EXT, 4000, 2);
    assert!(rig.interrupt());
    assert_eq!((rig.status(), rig.master_status() & EVENTS), (READY, master::INTERRUPT));
    assert_eq!(rig.disk.content()[4000 * 512..4002 * 512], [0xCC; 1024]);
}

#[test]
fn zero_bytes_are_64_kib() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 0), (DATA + 0x1_0000, 0)]);
    rig.lba28(AtaCommand::READ_DMA, 0, 0);
    rig.start(READ);
    assert_eq!((rig.status(), rig.master_status() & EVENTS), (READY, master::INTERRUPT));
    assert_eq!(rig.memory(DATA, 256 * 512), content(256, 512));
}

#[test]
fn with_more_memory_than_the_transfer_the_bus_master_stays_active() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 4096)]);
    rig.lba28(AtaCommand::READ_DMA, 0, 1);
    rig.start(READ);
    assert_eq!(rig.master_status() & EVENTS, master::INTERRUPT | master::ACTIVE);
    assert_eq!(rig.status(), READY);
    // The rest serves the next command.
    rig.lba28(AtaCommand::READ_DMA, 8, 1);
    assert_eq!(rig.status(), READY);
    assert_eq!(rig.memory(DATA + 512, 8), 8_u64.to_le_bytes());
    rig.start(0);
    assert_eq!(rig.master_status() & master::ACTIVE, 0);
}

#[test]
fn with_less_memory_than_the_transfer_nobody_interrupts_and_the_drive_waits() {
    let rig = Rig::disk();
    rig.table(&[(DATA, 1024)]);
    rig.lba28(AtaCommand::READ_DMA, 0, 4);
    rig.start(READ);
    assert!(!rig.interrupt());
    assert_eq!(rig.master_status() & EVENTS, 0);
    assert_eq!(rig.alternate(), READY | status::DRQ);
    // More memory, and it goes on where it was.
    rig.table(&[(DATA + 0x1000, 1024)]);
    rig.start(READ);
    assert_eq!((rig.status(), rig.master_status() & EVENTS), (READY, master::INTERRUPT));
    assert_eq!(rig.memory(DATA + 0x1000, 8), 2_u64.to_le_bytes());
}

#[test]
fn without_the_bus_master_bit_nothing_is_moved_until_it_is_set() {
    let rig = Rig::disk();
    rig.bus.write_config(SLOT, 1, 4, &[1, 0]);
    rig.table(&[(DATA, 512)]);
    rig.lba28(AtaCommand::READ_DMA, 3, 1);
    rig.start(READ);
    assert_eq!(rig.master_status() & EVENTS, master::ACTIVE);
    rig.bus.write_config(SLOT, 1, 4, &[5, 0]);
    assert_eq!(rig.status(), READY);
    assert_eq!(rig.memory(DATA, 8), 3_u64.to_le_bytes());
}

#[test]
fn a_bad_sector_ends_dma_with_its_address() {
    let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
    let faulty = Arc::new(FaultyDisk::new(disk.clone()));
    let range = ByteRange::new(5 * 512, 512);
    let trouble = Trouble::Fails(DiskError::Os(5));
    faulty.add(Fault { kind: Kind::Read, range, times: u32::MAX, trouble });
    let rig = Rig::over(&disk, faulty);
    rig.table(&[(DATA, 8192)]);
    rig.lba48(AtaCommand::READ_DMA_EXT, 0, 16);
    rig.start(READ);
    assert!(rig.interrupt());
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::UNC));
    assert_eq!(rig.get(reg::LBA_LOW), 5);
    assert_eq!(rig.memory(DATA, 5 * 512), content(5, 512));
}

#[test]
fn events_are_cleared_by_ones_and_capabilities_kept() {
    let rig = Rig::disk();
    assert_eq!(rig.master_status(), master::DRIVE_0_DMA);
    rig.command(AtaCommand::FLUSH_CACHE);
    assert_eq!(rig.master_status(), master::DRIVE_0_DMA | master::INTERRUPT);
    let port = rig.master() + 2;
    rig.bus.write_port(port, &[master::DRIVE_1_DMA]);
    assert_eq!(rig.master_status(), master::DRIVE_1_DMA | master::INTERRUPT);
    rig.bus.write_port(port, &[master::INTERRUPT]);
    assert_eq!(rig.master_status(), 0);
    rig.bus.write_port(rig.master() + 4, &0x1234_5677_u32.to_le_bytes());
    assert_eq!(rig.bus.read_port::<4>(rig.master() + 4), 0x1234_5674_u32.to_le_bytes());
}

#[test]
fn trim_gives_sectors_back() {
    let rig = Rig::disk();
    let ranges = [TrimRange::new(8, 4), TrimRange::new(0, 0), TrimRange::new(4095, 1)];
    rig.fill(DATA, ranges.as_bytes());
    rig.table(&[(DATA, 512)]);
    rig.put(reg::SECTOR_COUNT, 0);
    rig.issue(AtaCommand::DATA_SET_MANAGEMENT, [1, 1, 0, 0, 0, 0x40]);
    rig.start(WRITE);
    assert_eq!(rig.status(), READY);
    let disk = rig.disk.content();
    assert_eq!(disk[8 * 512..12 * 512], [0; 4 * 512]);
    assert_eq!((disk[7 * 512], disk[12 * 512], disk[4095 * 512]), (7, 12, 0));
    rig.fill(DATA, TrimRange::new(4095, 2).as_bytes());
    rig.table(&[(DATA, 512)]);
    rig.put(reg::SECTOR_COUNT, 0);
    rig.issue(AtaCommand::DATA_SET_MANAGEMENT, [1, 1, 0, 0, 0, 0x40]);
    rig.start(WRITE);
    assert_eq!((rig.status(), rig.get(reg::ERROR)), (READY | status::ERR, error::IDNF));
}
