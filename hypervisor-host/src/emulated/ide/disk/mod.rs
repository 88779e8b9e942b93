//! A disk's commands (ATA-6, *Command descriptions*).
//!
//! - here: which command is what; [`transfer`]: sectors; [`settings`]: modes, power, translation
//! - [`identify`]: what the disk says of itself; [`smart`]: that it is well; [`trim`]: sectors given back
//!
//! The write cache is the operating system's. While the guest has it switched off, and for commands that say so, a write ends when
//! the data is safe. A flush is what it is to SCSI disks: all that was acknowledged is safe, or the disk is never believed again.

mod identify;
mod settings;
mod smart;
mod transfer;
mod trim;

use std::sync::Arc;

use hv_abi::ata::command::{AtaCommand, power_mode};
use hv_abi::ata::{MAX_LBA28_SECTORS, SECTOR_BYTES, Signature, error, status};

pub(super) use self::settings::DmaMode;
use self::settings::Settings;
use self::transfer::{Order, Transfer};
use super::batch::{Batch, Work};
use super::port::{Model, Port};
use super::registers::Addressing;
use crate::storage::buffer::IoBuffer;
use crate::storage::disk::{Direction, DiskError};
use crate::storage::request::DiskOp;
use crate::storage::unit::Unit;

/// Bytes of a sector.
const SECTOR: u64 = SECTOR_BYTES as u64;

/// A disk as a drive.
pub(super) struct AtaDisk {
    unit: Arc<Unit>,
    settings: Settings,
    task: Task,
    /// READ BUFFER and WRITE BUFFER.
    scratch: Vec<u8>,
}

/// What it is doing.
enum Task {
    Nothing,
    /// The guest reads an answer.
    Answer,
    /// The guest writes the scratch buffer.
    Scratch,
    /// Sectors between disk and guest.
    Transfer(Transfer),
    /// Sectors are looked at.
    Verify(Batch, Addressing),
    /// Something of the disk's own, after which the command is done.
    Disk,
    /// So many bytes of ranges come by DMA.
    Trim(u64),
}

impl AtaDisk {
    pub(super) fn new(unit: Arc<Unit>) -> Self {
        let settings = Settings::new(sectors_of(&unit));
        Self { unit, settings, task: Task::Nothing, scratch: vec![0; SECTOR_BYTES] }
    }

    fn sectors(&self) -> u64 {
        sectors_of(&self.unit)
    }

    fn is_read_only(&self) -> bool {
        self.unit.info().disk.read_only
    }

    fn answer(&mut self, port: &mut Port, bytes: Vec<u8>) {
        self.task = Task::Answer;
        let length = bytes.len();
        port.set_window(bytes);
        port.open_out(length.min(SECTOR_BYTES));
        port.raise();
    }

    fn ask(&mut self, port: &mut Port, op: DiskOp) {
        self.task = Task::Disk;
        port.ask_disk(Work { op, buffer: IoBuffer::none() });
    }

    fn seek(&mut self, port: &mut Port) {
        match port.registers.address(false, self.settings.geometry) {
            Some((_, sector)) if sector < self.sectors() => port.done(),
            _ => port.fail(0, error::IDNF),
        }
    }

    fn check_power_mode(&self, port: &mut Port) {
        port.registers.count.now =
            if self.settings.standby { power_mode::STANDBY } else { power_mode::ACTIVE };
        port.done();
    }

    /// STANDBY and its like: what the cache holds goes to the medium.
    fn stand_by(&mut self, port: &mut Port, asleep: bool) {
        self.settings.standby = true;
        if asleep {
            port.sleep();
        }
        self.ask(port, DiskOp::Flush);
    }

    fn other_command(&mut self, port: &mut Port, command: AtaCommand) {
        match command {
            AtaCommand::IDENTIFY_DEVICE => {
                let answer = self.identify();
                self.answer(port, answer);
            }
            AtaCommand::SET_FEATURES => self.set_features(port),
            AtaCommand::SET_MULTIPLE_MODE => self.set_multiple(port),
            AtaCommand::INITIALIZE_DEVICE_PARAMETERS => self.set_translation(port),
            AtaCommand::FLUSH_CACHE | AtaCommand::FLUSH_CACHE_EXT => self.ask(port, DiskOp::Flush),
            AtaCommand::SMART => self.smart(port),
            AtaCommand::DATA_SET_MANAGEMENT => self.trim(port),
            AtaCommand::READ_BUFFER => {
                let content = self.scratch.clone();
                self.answer(port, content);
            }
            AtaCommand::WRITE_BUFFER => {
                self.task = Task::Scratch;
                port.set_window(vec![0; SECTOR_BYTES]);
                port.open_in(SECTOR_BYTES);
            }
            AtaCommand::CHECK_POWER_MODE | AtaCommand::CHECK_POWER_MODE_OLD => {
                self.check_power_mode(port);
            }
            AtaCommand::IDLE
            | AtaCommand::IDLE_OLD
            | AtaCommand::IDLE_IMMEDIATE
            | AtaCommand::IDLE_IMMEDIATE_OLD => {
                self.settings.standby = false;
                port.done();
            }
            AtaCommand::STANDBY
            | AtaCommand::STANDBY_OLD
            | AtaCommand::STANDBY_IMMEDIATE
            | AtaCommand::STANDBY_IMMEDIATE_OLD => self.stand_by(port, false),
            AtaCommand::SLEEP | AtaCommand::SLEEP_OLD => self.stand_by(port, true),
            AtaCommand(0x10..=0x1F) => port.done(),
            AtaCommand(0x70..=0x7F) => self.seek(port),
            _ => port.abort(),
        }
    }

    /// The disk's error in a drive's words, at a sector.
    fn fail(&mut self, port: &mut Port, deed_reads: bool, error: DiskError) {
        self.task = Task::Nothing;
        match error {
            DiskError::ReadOnly | DiskError::Unsupported => port.abort(),
            DiskError::Outside => port.fail(0, error::IDNF),
            _ if deed_reads => port.fail(0, error::UNC),
            // Where the data should have gone there is no way to put it.
            _ => port.fail(status::DF, error::ABRT),
        }
    }
}

fn sectors_of(unit: &Unit) -> u64 {
    unit.info().blocks().min(hv_abi::ata::MAX_LBA48_SECTORS)
}

/// Sectors that commands of 28 bits reach.
fn lba28(sectors: u64) -> u32 {
    sectors.min(MAX_LBA28_SECTORS) as u32
}

impl Model for AtaDisk {
    fn signature(&self) -> Signature {
        Signature::ATA
    }

    fn ready(&self) -> u8 {
        status::DRDY | status::DSC
    }

    fn command(&mut self, port: &mut Port, command: AtaCommand) {
        self.task = Task::Nothing;
        match Order::of(command) {
            Some(order) => {
                self.settings.standby = false;
                self.begin(port, order);
            }
            None => self.other_command(port, command),
        }
    }

    fn block_moved(&mut self, port: &mut Port) {
        match &mut self.task {
            Task::Transfer(_) => self.sectors_moved(port),
            Task::Answer if port.window_left() > 0 => {
                port.open_out(SECTOR_BYTES);
                port.raise();
            }
            Task::Scratch => {
                self.scratch = port.take_window();
                port.done();
            }
            _ => port.done_quietly(),
        }
    }

    fn dma(&mut self, port: &mut Port, memory: IoBuffer) {
        match self.task {
            Task::Transfer(_) => self.transfer_memory(port, memory),
            Task::Trim(_) => self.trim_ranges(port, &memory.to_vec()),
            _ => port.abort(),
        }
    }

    fn dma_request(&self) -> Option<(Direction, u64)> {
        match &self.task {
            Task::Transfer(transfer) => transfer.dma_request(),
            Task::Trim(bytes) => Some((Direction::Write, *bytes)),
            _ => None,
        }
    }

    fn dma_unit(&self) -> u64 {
        match self.task {
            Task::Trim(bytes) => bytes,
            _ => SECTOR,
        }
    }

    fn disk_ended(&mut self, port: &mut Port, result: Result<(), DiskError>) {
        match &mut self.task {
            Task::Transfer(_) => self.transfer_ended(port, result),
            Task::Verify(..) => self.verify_ended(port, result),
            _ => match result {
                Ok(()) => port.done(),
                Err(error) => self.fail(port, false, error),
            },
        }
    }

    fn reset(&mut self, _: &mut Port) {
        self.task = Task::Nothing;
        self.settings.after_reset(sectors_of(&self.unit));
    }
}
