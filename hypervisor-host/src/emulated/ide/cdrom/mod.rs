//! A CD-ROM: the PACKET command's way from packet to data to status, and the few ATA commands of a packet device (ATA-6,
//! *PACKET*; *PACKET delivered command protocol* for what is in the sector count register when).
//!
//! - here: phases; [`commands`]: what a packet means; [`drive`]: tray, medium, sense data
//! - [`answers`], [`toc`]: data of commands that tell something; [`identify`]: IDENTIFY PACKET DEVICE

mod answers;
mod commands;
mod drive;
mod identify;
mod toc;

use std::sync::Arc;

use hv_abi::ata::command::{AtaCommand, PACKET_DMA, PACKET_OVERLAPPED, power_mode, set_features};
use hv_abi::ata::packet::{CD_SECTOR_BYTES, PACKET_BYTES};
use hv_abi::ata::{SECTOR_BYTES, Signature, error, interrupt_reason, status};
use hv_abi::scsi::sense::SenseKey;

use self::commands::Outcome;
use self::drive::Medium;
use super::batch::{After, Batch, Deed};
use super::disk::DmaMode;
use super::port::{Model, Port};
use crate::storage::buffer::IoBuffer;
use crate::storage::disk::{ByteRange, Direction, DiskError};
use crate::storage::request::DiskOp;
use crate::storage::scsi::sense::Sense;
use crate::storage::unit::Unit;

/// Bytes of a sector.
const SECTOR: u64 = CD_SECTOR_BYTES as u64;
/// Bytes that the disk is asked for at once, for a transfer through the data register.
const CHUNK: u64 = 128 << 10;
/// The most that a block at the data register has (ATA-6, *PACKET*, byte count limit).
const MAX_BLOCK: u16 = 0xFFFE;

/// A CD-ROM as a drive.
pub(super) struct CdRom {
    medium: Medium,
    dma: DmaMode,
    task: Task,
    way: Way,
}

/// How a command's data goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Way {
    dma: bool,
    /// Bytes of a block at the data register.
    block: u16,
}

/// What it is doing.
enum Task {
    Nothing,
    /// The guest writes a packet.
    Packet,
    /// The guest reads an answer of IDENTIFY PACKET DEVICE.
    Identify,
    /// The guest gets an answer.
    Answer(Vec<u8>),
    /// The guest gets sectors; offsets are the disk's, in bytes.
    Sectors {
        at: u64,
        end: u64,
        batch: Option<Batch>,
        bad: Option<DiskError>,
    },
}

impl CdRom {
    pub(super) fn new(unit: Arc<Unit>) -> Self {
        let (task, way) = (Task::Nothing, Way::default());
        Self { medium: Medium::new(unit), dma: DmaMode::FIRMWARE, task, way }
    }

    /// PACKET: the packet comes first.
    fn packet(&mut self, port: &mut Port) {
        let features = port.registers.features.now;
        if features & PACKET_OVERLAPPED != 0 {
            return port.abort();
        }
        let limit = u16::from_be_bytes([port.registers.high.now, port.registers.mid.now]);
        self.way = Way { dma: features & PACKET_DMA != 0, block: limit.min(MAX_BLOCK) };
        self.task = Task::Packet;
        port.registers.count.now = interrupt_reason::COD;
        port.set_window(vec![0; PACKET_BYTES]);
        port.open_in(PACKET_BYTES);
    }

    fn execute(&mut self, port: &mut Port) {
        let mut packet = [0; PACKET_BYTES];
        packet.iter_mut().zip(port.take_window()).for_each(|(to, from)| *to = from);
        self.task = Task::Nothing;
        match self.medium.execute(&packet) {
            Outcome::Good => self.good(port),
            Outcome::Fail(sense) => self.failed(port, sense),
            Outcome::Answer(answer) if answer.is_empty() => self.good(port),
            // Without a limit no block can have data (ATA-6, *PACKET*).
            Outcome::Answer(_) | Outcome::Read(_) if !self.way.dma && self.way.block == 0 => {
                port.abort();
            }
            Outcome::Answer(answer) => self.send(port, answer),
            Outcome::Read(range) => self.read(port, range),
        }
    }

    fn send(&mut self, port: &mut Port, answer: Vec<u8>) {
        if self.way.dma {
            port.ask_dma(Direction::Read, answer.len() as u64);
            self.task = Task::Answer(answer);
        } else {
            port.set_window(answer);
            self.task = Task::Answer(Vec::new());
            self.open(port);
        }
    }

    fn read(&mut self, port: &mut Port, ByteRange { offset, length }: ByteRange) {
        let end = offset.saturating_add(length);
        self.task = Task::Sectors { at: offset, end, batch: None, bad: None };
        if self.way.dma {
            port.registers.count.now = interrupt_reason::IO;
            port.ask_dma(Direction::Read, length);
        } else {
            self.load(port);
        }
    }

    /// Asks the disk for the next sectors.
    fn load(&mut self, port: &mut Port) {
        let Task::Sectors { at, end, batch, .. } = &mut self.task else { return };
        let length = CHUNK.min(*end - *at);
        let buffer = IoBuffer::owned(vec![0; length as usize]);
        let batch = batch.insert(Batch::new(Deed::Read, *at, length, buffer, SECTOR));
        port.ask_disk(batch.work());
    }

    /// Lets the guest read the next block. All but the last have an even number of bytes.
    fn open(&self, port: &mut Port) {
        let limit = match self.way.block {
            1 => 1,
            limit => limit & !1,
        };
        let left = port.window_left();
        let bytes = if left <= usize::from(self.way.block) { left } else { usize::from(limit) };
        let [low, high, ..] = bytes.to_le_bytes();
        port.registers.count.now = interrupt_reason::IO;
        (port.registers.mid.now, port.registers.high.now) = (low, high);
        port.open_out(bytes);
        port.raise();
    }

    /// What was read goes to the guest; whole sectors of it are good.
    fn loaded(&mut self, port: &mut Port, batch: &Batch, failure: Option<DiskError>) {
        let Task::Sectors { at, bad, .. } = &mut self.task else { return };
        let good = batch.moved();
        *at += good;
        *bad = failure;
        if good == 0 {
            return self.sector_bad(port);
        }
        port.set_window(batch.buffer().part(0, good).to_vec());
        self.open(port);
    }

    fn sector_bad(&mut self, port: &mut Port) {
        let Task::Sectors { at, bad: Some(error), .. } = self.task else { return };
        let op = DiskOp::Read(ByteRange::new(at, SECTOR));
        let mut sense = Sense::of_disk(error, &op);
        sense.information = sense.information.and_then(|_| u32::try_from(at / SECTOR).ok());
        self.failed(port, sense);
    }

    fn good(&mut self, port: &mut Port) {
        self.task = Task::Nothing;
        self.medium.remember(Sense::NONE);
        port.registers.count.now = interrupt_reason::COD | interrupt_reason::IO;
        port.done();
    }

    fn failed(&mut self, port: &mut Port, sense: Sense) {
        self.task = Task::Nothing;
        self.medium.remember(sense);
        port.registers.count.now = interrupt_reason::COD | interrupt_reason::IO;
        let abort = [SenseKey::ILLEGAL_REQUEST, SenseKey::ABORTED_COMMAND].contains(&sense.key);
        let code = sense.key.0 << error::SENSE_KEY_SHIFT | if abort { error::ABRT } else { 0 };
        port.fail(0, code);
    }

    fn set_features(&mut self, port: &mut Port) {
        match port.registers.features.now {
            set_features::SET_TRANSFER_MODE => match self.dma.select(port.registers.count.now) {
                Some(mode) => self.dma = mode,
                None => return port.abort(),
            },
            set_features::ENABLE_REVERTING | set_features::DISABLE_REVERTING => {}
            _ => return port.abort(),
        }
        port.done();
    }

    /// The command is a disk's: the registers say that this is none.
    fn not_a_disk(port: &mut Port) {
        port.registers.set_signature(Signature::ATAPI);
        port.abort();
    }
}

impl Model for CdRom {
    fn signature(&self) -> Signature {
        Signature::ATAPI
    }

    /// A packet device is not ready after a reset, until it has done something (ATA-6, *Signature and persistence*).
    fn ready(&self) -> u8 {
        0
    }

    fn command(&mut self, port: &mut Port, command: AtaCommand) {
        self.task = Task::Nothing;
        port.set_ready(status::DRDY);
        match command {
            AtaCommand::PACKET => self.packet(port),
            AtaCommand::IDENTIFY_PACKET_DEVICE => {
                self.task = Task::Identify;
                port.set_window(self.identify());
                port.open_out(SECTOR_BYTES);
                port.raise();
            }
            AtaCommand::IDENTIFY_DEVICE | AtaCommand::READ_SECTORS => Self::not_a_disk(port),
            AtaCommand::SET_FEATURES => self.set_features(port),
            AtaCommand::CHECK_POWER_MODE => {
                port.registers.count.now = power_mode::ACTIVE;
                port.done();
            }
            AtaCommand::IDLE | AtaCommand::IDLE_IMMEDIATE => port.done(),
            AtaCommand::STANDBY | AtaCommand::STANDBY_IMMEDIATE => port.done(),
            AtaCommand::SLEEP => {
                port.done();
                port.sleep();
            }
            _ => port.abort(),
        }
    }

    fn block_moved(&mut self, port: &mut Port) {
        match &self.task {
            Task::Packet => self.execute(port),
            Task::Answer(_) | Task::Sectors { .. } if port.window_left() > 0 => self.open(port),
            Task::Sectors { bad: Some(_), .. } => self.sector_bad(port),
            Task::Sectors { at, end, .. } if at < end => self.load(port),
            Task::Answer(_) | Task::Sectors { .. } => self.good(port),
            Task::Identify | Task::Nothing => port.done_quietly(),
        }
    }

    fn dma(&mut self, port: &mut Port, memory: IoBuffer) {
        match &mut self.task {
            Task::Answer(answer) => {
                let count = memory.write(0, answer);
                answer.drain(..count);
                match answer.len() {
                    0 => self.good(port),
                    left => port.ask_dma(Direction::Read, left as u64),
                }
            }
            Task::Sectors { at, batch, .. } => {
                let batch = batch.insert(Batch::new(Deed::Read, *at, memory.len(), memory, SECTOR));
                port.ask_disk(batch.work());
            }
            _ => port.abort(),
        }
    }

    fn dma_request(&self) -> Option<(Direction, u64)> {
        match &self.task {
            _ if !self.way.dma => None,
            Task::Answer(answer) if !answer.is_empty() => {
                Some((Direction::Read, answer.len() as u64))
            }
            Task::Sectors { at, end, .. } if at < end => Some((Direction::Read, end - at)),
            _ => None,
        }
    }

    fn dma_unit(&self) -> u64 {
        if matches!(self.task, Task::Sectors { .. }) { SECTOR } else { 1 }
    }

    fn disk_ended(&mut self, port: &mut Port, result: Result<(), DiskError>) {
        let Task::Sectors { at, end, batch, bad } = &mut self.task else { return port.abort() };
        let Some(mut present) = batch.take() else { return port.abort() };
        let failure = match present.ended(result) {
            After::More(work) => {
                *batch = Some(present);
                return port.ask_disk(work);
            }
            After::Done => None,
            After::Bad(_, error) => Some(error),
        };
        if !self.way.dma {
            return self.loaded(port, &present, failure);
        }
        *at += present.moved();
        *bad = failure;
        match failure {
            Some(_) => self.sector_bad(port),
            None if at < end => port.ask_dma(Direction::Read, *end - *at),
            None => self.good(port),
        }
    }

    fn reset(&mut self, _: &mut Port) {
        self.task = Task::Nothing;
    }
}
