//! What disks and CD-ROMs have in common towards the channel: task file, status, the block at the data register.
//!
//! A drive is always in one [`Phase`]; what the guest reads as status follows from it. The drive's own part, a [`Model`], is told
//! when a phase is over.

use std::sync::Arc;

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{Signature, error, status};

use super::batch::Work;
use super::bus_master::Gathered;
use super::registers::TaskFile;
use crate::storage::buffer::IoBuffer;
use crate::storage::disk::{Direction, DiskError};
use crate::storage::unit::Unit;

/// What a drive is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a command.
    Idle,
    /// The guest reads a block from the data register.
    Out,
    /// The guest writes a block to the data register.
    In,
    /// It wants so many bytes moved by DMA.
    Dma(Direction, u64),
    /// Its disk is at work.
    Disk,
    /// It is being reset while its disk ends what it had begun.
    Reset,
}

/// The registers and the data of one drive.
pub(super) struct Port {
    pub(super) registers: TaskFile,
    phase: Phase,
    /// Status bits while it is idle.
    ready: u8,
    /// What the last command came to: status bits.
    outcome: u8,
    error: u8,
    interrupt: bool,
    asleep: bool,
    /// Data of which a part is the block at the data register.
    window: Vec<u8>,
    at: usize,
    block_end: usize,
    work: Option<Work>,
}

/// The part of a drive that knows commands.
pub(super) trait Model: Send {
    /// What it calls itself.
    fn signature(&self) -> Signature;
    /// Status bits of an idle drive.
    fn ready(&self) -> u8;
    /// A command that it may refuse.
    fn command(&mut self, port: &mut Port, command: AtaCommand);
    /// The guest has read or written the whole block.
    fn block_moved(&mut self, port: &mut Port);
    /// Here is memory for the DMA that was asked for, or for a part of it.
    fn dma(&mut self, port: &mut Port, memory: IoBuffer);
    /// What DMA is to move, or is moving, that has not been moved yet.
    fn dma_request(&self) -> Option<(Direction, u64)>;
    /// Bytes of the smallest piece that DMA can move now.
    fn dma_unit(&self) -> u64;
    /// The disk has ended what it was asked to do.
    fn disk_ended(&mut self, port: &mut Port, result: Result<(), DiskError>);
    /// Forgets what it was doing.
    fn reset(&mut self, port: &mut Port);
}

impl Port {
    pub(super) fn new(ready: u8, signature: Signature) -> Self {
        let mut port = Self {
            registers: TaskFile::default(),
            phase: Phase::Idle,
            ready,
            outcome: 0,
            error: 0,
            interrupt: false,
            asleep: false,
            window: Vec::new(),
            at: 0,
            block_end: 0,
            work: None,
        };
        port.identify(signature);
        port
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The status register.
    pub(super) fn status(&self) -> u8 {
        match self.phase {
            Phase::Idle => self.ready | self.outcome,
            Phase::Disk | Phase::Reset => status::BSY | self.ready,
            Phase::Out | Phase::In | Phase::Dma(..) => self.ready | status::DRQ,
        }
    }

    /// The error register.
    pub(super) fn error(&self) -> u8 {
        self.error
    }

    /// Whether commands and parameters are not heard.
    pub(super) fn is_busy(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Whether an interrupt waits to be acknowledged.
    pub(super) fn interrupt(&self) -> bool {
        self.interrupt
    }

    /// The guest has seen the interrupt, or does not want to.
    pub(super) fn acknowledge(&mut self) {
        self.interrupt = false;
    }

    /// Whether only a reset wakes it.
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Only a reset wakes it.
    pub(super) fn sleep(&mut self) {
        self.asleep = true;
    }

    /// Nothing of what was is left; `draining`: but the disk does not know yet.
    pub(super) fn begin_reset(&mut self, draining: bool) {
        (self.outcome, self.error, self.interrupt, self.asleep) = (0, 0, false, false);
        self.phase = if draining { Phase::Reset } else { Phase::Idle };
        self.forget_data();
        self.work = None;
    }

    /// Registers as after a reset (ATA-6, *Signature and persistence*).
    pub(super) fn identify(&mut self, signature: Signature) {
        self.phase = Phase::Idle;
        (self.outcome, self.error) = (0, hv_abi::ata::diagnostic::PASSED);
        self.registers.set_signature(signature);
        self.registers.device = 0;
    }

    /// Status bits of the idle drive from now on.
    pub(super) fn set_ready(&mut self, ready: u8) {
        self.ready = ready;
    }

    fn forget_data(&mut self) {
        (self.window, self.at, self.block_end) = (Vec::new(), 0, 0);
    }

    fn end(&mut self, outcome: u8, error: u8) {
        (self.phase, self.outcome, self.error) = (Phase::Idle, outcome, error);
        self.forget_data();
    }

    /// The command is done.
    pub(super) fn done(&mut self) {
        self.end(0, 0);
        self.interrupt = true;
    }

    /// The command is done, and the guest knows, having read all its data.
    pub(super) fn done_quietly(&mut self) {
        self.end(0, 0);
    }

    /// The command failed.
    pub(super) fn fail(&mut self, outcome: u8, error: u8) {
        self.end(outcome | status::ERR, error);
        self.interrupt = true;
    }

    /// The command is not one of this drive, or not now.
    pub(super) fn abort(&mut self) {
        self.fail(0, error::ABRT);
    }

    /// The disk is to do something.
    pub(super) fn ask_disk(&mut self, work: Work) {
        self.phase = Phase::Disk;
        self.work = Some(work);
    }

    /// What the disk is to do.
    pub(super) fn take_work(&mut self) -> Option<Work> {
        self.work.take()
    }

    /// DMA is to move so many bytes.
    pub(super) fn ask_dma(&mut self, way: Direction, bytes: u64) {
        self.phase = Phase::Dma(way, bytes);
    }

    /// Data that goes through the data register, block by block. Of what the guest writes it is the room.
    pub(super) fn set_window(&mut self, window: Vec<u8>) {
        (self.window, self.at, self.block_end) = (window, 0, 0);
    }

    /// The data, all of which has been moved.
    pub(super) fn take_window(&mut self) -> Vec<u8> {
        (self.at, self.block_end) = (0, 0);
        std::mem::take(&mut self.window)
    }

    /// Bytes of the data behind the blocks that were opened so far.
    pub(super) fn window_left(&self) -> usize {
        self.window.len().saturating_sub(self.block_end)
    }

    /// Lets the guest read the next block of so many bytes, or of what is left.
    pub(super) fn open_out(&mut self, bytes: usize) {
        self.open(Phase::Out, bytes);
    }

    /// Lets the guest write the next block.
    pub(super) fn open_in(&mut self, bytes: usize) {
        self.open(Phase::In, bytes);
    }

    fn open(&mut self, phase: Phase, bytes: usize) {
        self.at = self.block_end;
        self.block_end = self.at.saturating_add(bytes).min(self.window.len());
        self.phase = phase;
    }

    /// As [`Port::open_out`] and its like say where the standard wants an interrupt with the block.
    pub(super) fn raise(&mut self) {
        self.interrupt = true;
    }

    /// The guest reads the data register. Gives how many bytes it got, and whether that was the end of the block.
    pub(super) fn read_data(&mut self, data: &mut [u8]) -> (usize, bool) {
        let from = self.window.get(self.at..self.block_end).unwrap_or_default();
        let count = from.len().min(data.len());
        for (to, from) in data.iter_mut().zip(from) {
            *to = *from;
        }
        self.at += count;
        (count, self.at >= self.block_end)
    }

    /// The guest writes the data register; as [`Port::read_data`].
    pub(super) fn write_data(&mut self, data: &[u8]) -> (usize, bool) {
        let to = self.window.get_mut(self.at..self.block_end).unwrap_or_default();
        let count = to.len().min(data.len());
        for (to, from) in to.iter_mut().zip(data) {
            *to = *from;
        }
        self.at += count;
        (count, self.at >= self.block_end)
    }
}

/// A drive.
pub(super) struct Drive {
    pub(super) port: Port,
    pub(super) model: Box<dyn Model>,
    pub(super) unit: Arc<Unit>,
}

impl Drive {
    pub(super) fn new(model: Box<dyn Model>, unit: Arc<Unit>) -> Self {
        let port = Port::new(model.ready(), model.signature());
        Self { port, model, unit }
    }

    /// A reset has ended.
    pub(super) fn after_reset(&mut self) {
        self.model.reset(&mut self.port);
        self.port.set_ready(self.model.ready());
        self.port.identify(self.model.signature());
    }

    /// Memory has been found for DMA.
    pub(super) fn dma(&mut self, gathered: &Gathered, bytes: u64) {
        self.model.dma(&mut self.port, gathered.buffer.part(0, bytes));
    }
}
