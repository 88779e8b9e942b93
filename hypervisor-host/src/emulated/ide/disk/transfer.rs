//! Sectors between disk and guest: through the data register a block at a time, or by DMA.
//!
//! The disk is asked for many blocks at once, and what it has is given to the guest block by block. So it has to be remembered
//! which of them could not be had until the guest has read those before.

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::error;

use super::{AtaDisk, SECTOR, Task};
use crate::emulated::ide::batch::{After, Batch, Deed};
use crate::emulated::ide::port::Port;
use crate::emulated::ide::registers::Addressing;
use crate::storage::buffer::IoBuffer;
use crate::storage::disk::{Direction, DiskError};

/// Bytes that the disk is asked for at once, for a transfer through the data register.
const CHUNK: u64 = 128 << 10;

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// `None`: the sectors are only looked at.
    way: Option<Direction>,
    /// How the data goes.
    by: By,
    /// Its registers are 48 bits wide.
    wide: bool,
    /// It ends when the data is safe.
    through: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Blocks of a sector.
    Sector,
    /// Blocks of as many as SET MULTIPLE MODE said.
    Multiple,
    Dma,
}

impl Order {
    /// What a command asks for, if it is about sectors.
    pub(super) fn of(command: AtaCommand) -> Option<Self> {
        use Direction::{Read, Write};
        let (way, by, wide) = match command {
            AtaCommand::READ_SECTORS | AtaCommand::READ_SECTORS_ONCE => {
                (Some(Read), By::Sector, false)
            }
            AtaCommand::READ_SECTORS_EXT => (Some(Read), By::Sector, true),
            AtaCommand::READ_MULTIPLE => (Some(Read), By::Multiple, false),
            AtaCommand::READ_MULTIPLE_EXT => (Some(Read), By::Multiple, true),
            AtaCommand::READ_DMA | AtaCommand::READ_DMA_ONCE => (Some(Read), By::Dma, false),
            AtaCommand::READ_DMA_EXT => (Some(Read), By::Dma, true),
            AtaCommand::WRITE_SECTORS | AtaCommand::WRITE_SECTORS_ONCE => {
                (Some(Write), By::Sector, false)
            }
            AtaCommand::WRITE_SECTORS_EXT => (Some(Write), By::Sector, true),
            AtaCommand::WRITE_MULTIPLE => (Some(Write), By::Multiple, false),
            AtaCommand::WRITE_MULTIPLE_EXT | AtaCommand::WRITE_MULTIPLE_FUA_EXT => {
                (Some(Write), By::Multiple, true)
            }
            AtaCommand::WRITE_DMA | AtaCommand::WRITE_DMA_ONCE => (Some(Write), By::Dma, false),
            AtaCommand::WRITE_DMA_EXT | AtaCommand::WRITE_DMA_FUA_EXT => {
                (Some(Write), By::Dma, true)
            }
            AtaCommand::READ_VERIFY_SECTORS | AtaCommand::READ_VERIFY_SECTORS_ONCE => {
                (None, By::Sector, false)
            }
            AtaCommand::READ_VERIFY_SECTORS_EXT => (None, By::Sector, true),
            _ => return None,
        };
        let through =
            matches!(command, AtaCommand::WRITE_MULTIPLE_FUA_EXT | AtaCommand::WRITE_DMA_FUA_EXT);
        Some(Self { way, by, wide, through })
    }
}

/// A command's sectors. Offsets are the disk's, in bytes.
pub(super) struct Transfer {
    deed: Deed,
    addressing: Addressing,
    /// Bytes of a block at the data register; `None`: by DMA.
    block: Option<u64>,
    /// What was moved ends here.
    at: u64,
    end: u64,
    batch: Option<Batch>,
    /// What comes behind the blocks that the guest reads now.
    bad: Option<(u64, DiskError)>,
}

impl Transfer {
    fn way(&self) -> Direction {
        if self.deed == Deed::Read { Direction::Read } else { Direction::Write }
    }

    fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Bytes that are moved through the data register before the disk is asked again: whole blocks, but for the last.
    fn chunk(&self, block: u64) -> u64 {
        (CHUNK / block.max(1) * block).max(block).min(self.left())
    }

    /// What DMA has to move still.
    pub(super) fn dma_request(&self) -> Option<(Direction, u64)> {
        (self.block.is_none() && self.left() > 0).then(|| (self.way(), self.left()))
    }

    fn batch(&mut self, length: u64, buffer: IoBuffer) -> &Batch {
        self.batch.insert(Batch::new(self.deed, self.at, length, buffer, SECTOR))
    }
}

impl AtaDisk {
    /// Begins with a command about sectors.
    pub(super) fn begin(&mut self, port: &mut Port, order: Order) {
        let block = match order.by {
            By::Dma => None,
            By::Sector => Some(SECTOR),
            By::Multiple if self.settings.multiple == 0 => return port.abort(),
            By::Multiple => Some(u64::from(self.settings.multiple) * SECTOR),
        };
        let Some((addressing, first)) = port.registers.address(order.wide, self.settings.geometry)
        else {
            return port.fail(0, error::IDNF);
        };
        let (count, sectors) = (port.registers.sectors(order.wide), self.sectors());
        let end = first.saturating_add(count);
        if end > sectors {
            port.registers.set_address(addressing, first.max(sectors), self.settings.geometry);
            return port.fail(0, error::IDNF);
        }
        if order.way == Some(Direction::Write) && self.is_read_only() {
            return port.abort();
        }
        let (at, end) = (first * SECTOR, end * SECTOR);
        let deed = match order.way {
            None => return self.verify(port, at, end - at, addressing),
            Some(Direction::Read) => Deed::Read,
            Some(Direction::Write) => {
                Deed::Write { through: order.through || !self.settings.write_cache }
            }
        };
        let transfer = Transfer { deed, addressing, block, at, end, batch: None, bad: None };
        self.start(port, transfer);
    }

    fn start(&mut self, port: &mut Port, mut transfer: Transfer) {
        match (transfer.block, transfer.deed) {
            (None, _) => port.ask_dma(transfer.way(), transfer.left()),
            (Some(block), Deed::Read) => load(port, &mut transfer, block),
            (Some(block), _) => {
                port.set_window(vec![0; transfer.chunk(block) as usize]);
                port.open_in(block as usize);
            }
        }
        self.task = Task::Transfer(transfer);
    }

    /// The guest has read or written a block.
    pub(super) fn sectors_moved(&mut self, port: &mut Port) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        let Some(block) = transfer.block else { return };
        if port.window_left() > 0 {
            match transfer.deed {
                Deed::Read => port.open_out(block as usize),
                _ => port.open_in(block as usize),
            }
            return port.raise();
        }
        if transfer.deed != Deed::Read {
            let data = port.take_window();
            let work = transfer.batch(data.len() as u64, IoBuffer::owned(data)).work();
            return port.ask_disk(work);
        }
        match transfer.bad.take() {
            Some((at, error)) => self.fail_at(port, at, error),
            None if transfer.left() > 0 => load(port, transfer, block),
            None => self.all_moved(port, true),
        }
    }

    /// Memory for a transfer by DMA.
    pub(super) fn transfer_memory(&mut self, port: &mut Port, memory: IoBuffer) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        let work = transfer.batch(memory.len(), memory).work();
        port.ask_disk(work);
    }

    /// The disk has done a piece of what it was asked.
    pub(super) fn transfer_ended(&mut self, port: &mut Port, result: Result<(), DiskError>) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        let Some(mut batch) = transfer.batch.take() else { return };
        let bad = match batch.ended(result) {
            After::More(work) => {
                transfer.batch = Some(batch);
                return port.ask_disk(work);
            }
            After::Done => None,
            After::Bad(at, error) => Some((at, error)),
        };
        match (transfer.block, transfer.deed) {
            (Some(block), Deed::Read) => self.loaded(port, &batch, bad, block),
            (Some(block), _) => self.stored(port, &batch, bad, block),
            (None, _) => self.moved_by_dma(port, &batch, bad),
        }
    }

    /// What was read goes to the guest, as far as whole blocks of it are good.
    fn loaded(
        &mut self,
        port: &mut Port,
        batch: &Batch,
        bad: Option<(u64, DiskError)>,
        block: u64,
    ) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        let mut good = batch.moved();
        if bad.is_some() {
            good = good / block * block;
        }
        transfer.at += good;
        transfer.bad = bad;
        if good == 0 {
            if let Some((at, error)) = transfer.bad.take() {
                self.fail_at(port, at, error);
            }
            return;
        }
        port.set_window(batch.buffer().part(0, good).to_vec());
        port.open_out(block as usize);
        port.raise();
    }

    /// What the guest wrote is on the disk.
    fn stored(
        &mut self,
        port: &mut Port,
        batch: &Batch,
        bad: Option<(u64, DiskError)>,
        block: u64,
    ) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        transfer.at += batch.moved();
        match bad {
            Some((at, error)) => self.fail_at(port, at, error),
            None if transfer.left() == 0 => self.all_moved(port, false),
            None => {
                port.set_window(vec![0; transfer.chunk(block) as usize]);
                port.open_in(block as usize);
                port.raise();
            }
        }
    }

    fn moved_by_dma(&mut self, port: &mut Port, batch: &Batch, bad: Option<(u64, DiskError)>) {
        let Task::Transfer(transfer) = &mut self.task else { return };
        transfer.at += batch.moved();
        match bad {
            Some((at, error)) => self.fail_at(port, at, error),
            None if transfer.left() == 0 => self.all_moved(port, false),
            None => port.ask_dma(transfer.way(), transfer.left()),
        }
    }

    /// The command is done. The registers name its last sector (ATA-3; later left open).
    fn all_moved(&mut self, port: &mut Port, quietly: bool) {
        let Task::Transfer(transfer) = std::mem::replace(&mut self.task, Task::Nothing) else {
            return;
        };
        let last = (transfer.end / SECTOR).saturating_sub(1);
        port.registers.set_address(transfer.addressing, last, self.settings.geometry);
        port.registers.count.now = 0;
        if quietly { port.done_quietly() } else { port.done() }
    }

    fn fail_at(&mut self, port: &mut Port, at: u64, error: DiskError) {
        let Task::Transfer(transfer) = &self.task else { return };
        let reads = transfer.deed == Deed::Read;
        port.registers.set_address(transfer.addressing, at / SECTOR, self.settings.geometry);
        self.fail(port, reads, error);
    }

    fn verify(&mut self, port: &mut Port, at: u64, length: u64, addressing: Addressing) {
        let batch = Batch::new(Deed::Verify, at, length, IoBuffer::none(), SECTOR);
        port.ask_disk(batch.work());
        self.task = Task::Verify(batch, addressing);
    }

    /// The disk has looked at sectors.
    pub(super) fn verify_ended(&mut self, port: &mut Port, result: Result<(), DiskError>) {
        let Task::Verify(batch, addressing) = &mut self.task else { return };
        match batch.ended(result) {
            After::More(work) => port.ask_disk(work),
            After::Done => port.done(),
            After::Bad(at, error) => {
                port.registers.set_address(*addressing, at / SECTOR, self.settings.geometry);
                self.fail(port, true, error);
            }
        }
    }
}

/// Asks the disk for the next blocks.
fn load(port: &mut Port, transfer: &mut Transfer, block: u64) {
    let length = transfer.chunk(block);
    let work = transfer.batch(length, IoBuffer::owned(vec![0; length as usize])).work();
    port.ask_disk(work);
}
