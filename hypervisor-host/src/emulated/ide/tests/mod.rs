//! Behaviour as a guest sees it: registers through the bus, nothing of the inside.

mod disks;
mod dma;
mod hostile;
mod model;
mod packets;
mod threads;

use std::sync::Arc;

use hv_abi::ata::bus_master::{END_OF_TABLE, reg as master};
use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{control, reg, status};
use hv_abi::scsi::ScsiStatus;
use vm_memory::{Bytes, GuestAddress};

use super::testing::{SLOT, bus};
use super::{DRIVES, IdeDrive};
use crate::emulated::pci::testing::TestBus;
use crate::storage::disk::Disk;
use crate::storage::memory::MemoryDisk;
use crate::storage::unit::Unit;

const COMMAND: u16 = 0x1F0;
const CONTROL: u16 = 0x3F6;
const IRQ: u32 = 14;
const RAM: usize = 1 << 20;
/// Sectors of the disk.
const SECTORS: u64 = 4096;
const READY: u8 = status::DRDY | status::DSC;
/// Where descriptors and data are put.
const TABLE: u32 = 0x1000;
const DATA: u32 = 0x2_0000;

/// A machine with a controller.
struct Rig {
    bus: TestBus,
    disk: Arc<MemoryDisk>,
}

fn unit(disk: Arc<dyn Disk>) -> Arc<Unit> {
    Arc::new(Unit::new("disk", 0x0123_4567_89AB_CDEF, disk))
}

/// Each sector is full of the lower byte of its number, and begins with the number.
fn content(sectors: u64, bytes: usize) -> Vec<u8> {
    let sector = |number: u64| {
        let mut sector = vec![number as u8; bytes];
        sector[..8].copy_from_slice(&number.to_le_bytes());
        sector
    };
    (0..sectors).flat_map(sector).collect()
}

impl Rig {
    fn with(drives: [Option<IdeDrive>; DRIVES], disk: Arc<MemoryDisk>) -> Self {
        Self { bus: bus(RAM, drives).unwrap(), disk }
    }

    /// A disk as primary master and nothing else.
    fn disk() -> Self {
        let disk = Arc::new(MemoryDisk::new(content(SECTORS, 512)));
        let drive = IdeDrive::Disk(unit(disk.clone()));
        Self::with([Some(drive), None, None, None], disk)
    }

    /// The same with this in front of it.
    fn over(disk: &Arc<MemoryDisk>, front: Arc<dyn Disk>) -> Self {
        Self::with([Some(IdeDrive::Disk(unit(front))), None, None, None], disk.clone())
    }

    /// A CD-ROM as primary master.
    fn cd() -> Self {
        let disk = Arc::new(MemoryDisk::read_only(content(64, 2048)));
        let drive = IdeDrive::CdRom(unit(disk.clone()));
        Self::with([Some(drive), None, None, None], disk)
    }

    fn get(&self, offset: u16) -> u8 {
        self.bus.read_port::<1>(COMMAND + offset)[0]
    }

    fn put(&self, offset: u16, value: u8) {
        self.bus.write_port(COMMAND + offset, &[value]);
    }

    fn control(&self, value: u8) {
        self.bus.write_port(CONTROL, &[value]);
    }

    fn alternate(&self) -> u8 {
        self.bus.read_port::<1>(CONTROL)[0]
    }

    /// Status, which acknowledges.
    fn status(&self) -> u8 {
        self.get(reg::STATUS)
    }

    fn interrupt(&self) -> bool {
        self.bus.level(IRQ)
    }

    /// The registers from count to LBA high.
    fn result(&self) -> [u8; 4] {
        [reg::SECTOR_COUNT, reg::LBA_LOW, reg::LBA_MID, reg::LBA_HIGH].map(|it| self.get(it))
    }

    fn command(&self, command: AtaCommand) {
        self.put(reg::COMMAND, command.0);
    }

    /// A command with features, count, LBA low, mid, high and device.
    fn issue(&self, command: AtaCommand, registers: [u8; 6]) {
        self.put(reg::DEVICE, registers[5]);
        for (offset, value) in (reg::FEATURES..).zip(&registers[..5]) {
            self.put(offset, *value);
        }
        self.command(command);
    }

    /// A command about sectors by 28 bits.
    fn lba28(&self, command: AtaCommand, lba: u32, count: u8) {
        let [low, mid, high, top] = lba.to_le_bytes();
        self.issue(command, [0, count, low, mid, high, 0xE0 | top]);
    }

    /// A command about sectors by 48 bits.
    fn lba48(&self, command: AtaCommand, lba: u64, count: u16) {
        let lba = lba.to_le_bytes();
        let count = count.to_le_bytes();
        self.put(reg::DEVICE, 0x40);
        for (count, lba) in [(count[1], &lba[3..6]), (count[0], &lba[..3])] {
            self.put(reg::SECTOR_COUNT, count);
            (reg::LBA_LOW..).zip(lba).for_each(|(offset, value)| self.put(offset, *value));
        }
        self.command(command);
    }

    /// Reads from the data register, a word at a time.
    fn read_data(&self, bytes: usize) -> Vec<u8> {
        (0..bytes / 2).flat_map(|_| self.bus.read_port::<2>(COMMAND)).collect()
    }

    fn write_data(&self, bytes: &[u8]) {
        for word in bytes.chunks(2) {
            self.bus.write_port(COMMAND, word);
        }
    }

    /// The ports of the primary bus master.
    fn master(&self) -> u16 {
        self.bus.base(SLOT, 1, 4) as u16
    }

    fn master_status(&self) -> u8 {
        self.bus.read_port::<1>(self.master() + master::STATUS)[0]
    }

    fn start(&self, value: u8) {
        self.bus.write_port(self.master() + master::COMMAND, &[value]);
    }

    /// Puts descriptors of address and bytes at [`TABLE`], and tells the bus master.
    fn table(&self, regions: &[(u32, u16)]) {
        self.bus.write_port(self.master() + master::COMMAND, &[0]);
        self.bus.write_port(self.master() + master::STATUS, &[0x66]);
        for (index, (address, bytes)) in regions.iter().enumerate() {
            let last = index + 1 == regions.len();
            let flags = if last { END_OF_TABLE } else { 0 };
            self.entry(TABLE + index as u32 * 8, *address, *bytes, flags);
        }
        self.bus.write_port(self.master() + master::TABLE, &TABLE.to_le_bytes());
    }

    fn entry(&self, at: u32, address: u32, bytes: u16, flags: u16) {
        let low = u64::from(address);
        let high = u64::from(bytes) << 32 | u64::from(flags) << 48;
        self.bus.memory.write_obj(low | high, GuestAddress(at.into())).unwrap();
    }

    fn memory(&self, at: u32, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.bus.memory.read_slice(&mut data, GuestAddress(at.into())).unwrap();
        data
    }

    fn fill(&self, at: u32, bytes: &[u8]) {
        self.bus.memory.write_slice(bytes, GuestAddress(at.into())).unwrap();
    }

    /// A packet whose answer may have so many bytes, by the data register. Gives the answer, and the status.
    fn packet(&self, packet: &[u8], limit: u16) -> (Vec<u8>, u8) {
        let [low, high] = limit.to_le_bytes();
        self.issue(AtaCommand::PACKET, [0, 0, 0, low, high, 0xA0]);
        assert_eq!((self.status() & 0x88, self.get(reg::SECTOR_COUNT)), (status::DRQ, 1));
        let mut padded = packet.to_vec();
        padded.resize(12, 0);
        self.write_data(&padded);
        let mut answer = Vec::new();
        loop {
            assert!(self.interrupt(), "each phase interrupts");
            let status = self.status();
            if status & status::DRQ == 0 {
                assert_eq!(self.get(reg::SECTOR_COUNT), 3);
                return (answer, status);
            }
            assert_eq!(self.get(reg::SECTOR_COUNT), 2);
            let bytes =
                usize::from(self.get(reg::LBA_MID)) | usize::from(self.get(reg::LBA_HIGH)) << 8;
            assert!(bytes > 0 && bytes <= usize::from(limit));
            let mut block = self.read_data(bytes.next_multiple_of(2));
            block.truncate(bytes);
            answer.extend(block);
        }
    }

    /// A packet that must succeed.
    fn good(&self, packet: &[u8]) -> Vec<u8> {
        let (answer, status) = self.packet(packet, 0xFFFE);
        assert_eq!(status & 0x81, ScsiStatus::GOOD.0, "{packet:02x?}");
        answer
    }

    /// A packet that must not: sense key, code and qualifier.
    fn sense(&self, packet: &[u8]) -> (u8, u8, u8) {
        let (_, status) = self.packet(packet, 0xFFFE);
        assert_eq!(status & 0x81, status::ERR, "{packet:02x?}");
        let key = self.get(reg::ERROR) >> 4;
        let sense = self.good(&[0x03, 0, 0, 0, 18]);
        assert_eq!(sense[2], key);
        (key, sense[12], sense[13])
    }

    fn reset(&self) {
        self.control(control::SRST);
        assert_eq!(self.alternate(), status::BSY);
        self.control(0);
    }
}
