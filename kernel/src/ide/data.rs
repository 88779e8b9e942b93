//! How a command's data goes (ATA-6, *PIO data-in*, *PIO data-out*, *DMA* and *Non-data command protocol*; SFF-8038i, *Standard programming
//! sequence*).

use core::ops::Range;
use core::sync::atomic::Ordering;

use hv_abi::ata::{bus_master, status};
use vsc_drivers::Hal;
use vsc_drivers::storvsc::IoBuffer;
use zerocopy::IntoBytes;

use super::channel::{Session, count};
use super::command::Command;
use super::error::{IdeError, Waited};
use super::prd;
use super::wait::{COMMAND_100NS, READY_100NS};
use crate::pci::PortIo;

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the drive.
    In,
    /// To the drive.
    Out,
}

impl<P: PortIo, H: Hal> Session<'_, P, H> {
    /// A command without data.
    pub(super) async fn no_data(&mut self, command: &Command) -> Result<(), IdeError> {
        self.channel.state.lock().stale_interrupt = true;
        self.begin(command).await?;
        let status = self.told(Waited::End).await?;
        match self.check(status)? & status::DRQ {
            0 => Ok(()),
            _ => Err(IdeError::Protocol(Waited::End, status)),
        }
    }

    /// Reads by the data register, in blocks of `block` bytes; the last may be shorter.
    pub(super) async fn pio_in(
        &mut self,
        command: &Command,
        block: usize,
        data: &mut [u8],
    ) -> Result<(), IdeError> {
        self.channel.state.lock().stale_interrupt = true;
        self.begin(command).await?;
        for piece in data.chunks_mut(block) {
            let status = self.told(Waited::Data).await?;
            if self.check(status)? & status::DRQ == 0 {
                return Err(IdeError::Protocol(Waited::Data, status));
            }
            self.channel.registers.read_data(piece);
            count(&self.channel.counts.pio_bytes, piece.len() as u64);
        }
        // Nothing interrupts behind the last block.
        let idle = |it: u8| it & (status::BSY | status::DRQ) == 0;
        let status = self.look_until(Waited::End, READY_100NS, idle).await?;
        self.check(status).map(|_| ())
    }

    /// Writes by the data register.
    pub(super) async fn pio_out(
        &mut self,
        command: &Command,
        block: usize,
        data: &[u8],
    ) -> Result<(), IdeError> {
        self.channel.state.lock().stale_interrupt = true;
        self.begin(command).await?;
        // Nothing interrupts before the first block.
        self.channel.registers.settle();
        let mut status = self.not_busy(Waited::Data, COMMAND_100NS).await?;
        for piece in data.chunks(block) {
            if self.check(status)? & status::DRQ == 0 {
                return Err(IdeError::Protocol(Waited::Data, status));
            }
            self.channel.registers.write_data(piece);
            count(&self.channel.counts.pio_bytes, piece.len() as u64);
            status = self.told(Waited::End).await?;
        }
        match self.check(status)? & status::DRQ {
            0 => Ok(()),
            _ => Err(IdeError::Protocol(Waited::End, status)),
        }
    }

    /// Has the bus master move `range` of a buffer, which comes back in any case.
    pub(super) async fn dma(
        &mut self,
        command: &Command,
        direction: Direction,
        buffer: IoBuffer,
        range: Range<usize>,
    ) -> (Result<(), IdeError>, Option<IoBuffer>) {
        let bytes = range.len() as u64;
        if let Err(error) = self.lend(&buffer, range) {
            return (Err(error), Some(buffer));
        }
        self.channel.state.lock().lent = Some(buffer);
        let moved = async {
            self.arm_bus_master(direction);
            self.begin(command).await?;
            self.move_armed(direction).await
        };
        let done = moved.await;
        if done.is_err() {
            self.stop_bus_master();
        }
        self.disarm_bus_master();
        let buffer = self.channel.state.lock().lent.take();
        if done.is_ok() {
            count(&self.channel.counts.dma_bytes, bytes);
        }
        (done, buffer)
    }

    /// Writes the table of regions.
    pub(super) fn lend(&self, buffer: &IoBuffer, range: Range<usize>) -> Result<(), IdeError> {
        let table = self.channel.table.as_ref().ok_or(IdeError::Unsupported)?;
        let data = buffer.get(range).ok_or(IdeError::OutOfRange)?;
        let gpa = |at: *const u8| self.channel.hal.gpa(at).map(|gpa| gpa.0);
        let regions = prd::table(data, gpa).ok_or(IdeError::NoMemory)?;
        table.write(0, regions.as_bytes()).map_err(|_| IdeError::NoMemory)
    }

    /// Tells the bus master where the table is, and has the interrupt handler ask it.
    pub(super) fn arm_bus_master(&self, direction: Direction) {
        let channel = self.channel;
        let table = channel.table.as_ref().map_or(0, |table| table.gpa().0);
        channel.registers.set_table(table as u32);
        let stale = core::mem::replace(&mut channel.state.lock().stale_interrupt, false);
        if stale || channel.is_polled() {
            let status = channel.registers.bus_master_status();
            let clear = bus_master::status::INTERRUPT | bus_master::status::ERROR;
            channel.registers.set_bus_master_status(status | clear);
        }
        channel.registers.set_bus_master_command(direction_bit(direction));
        channel.line.dma.store(true, Ordering::SeqCst);
    }

    /// Starts the bus master behind a command, and waits for the end of both.
    pub(super) async fn move_armed(&self, direction: Direction) -> Result<(), IdeError> {
        let channel = self.channel;
        channel
            .registers
            .set_bus_master_command(direction_bit(direction) | bus_master::command::START);
        let (status, master) = if channel.is_polled() {
            channel.registers.settle();
            // A drive that moves data by DMA may show that it does so as busy or as DRQ.
            let idle = |it: u8| it & (status::BSY | status::DRQ) == 0;
            let ended = self.look_until(Waited::End, COMMAND_100NS, idle).await;
            self.check_bus_master()?;
            ended?;
            (channel.registers.status(), channel.registers.bus_master_status())
        } else {
            let status = self.told(Waited::End).await?;
            (status, channel.line.bus_master.load(Ordering::SeqCst))
        };
        channel.registers.set_bus_master_command(direction_bit(direction));
        self.check(status)?;
        if master & bus_master::status::ERROR != 0 {
            return Err(IdeError::BusMaster);
        }
        // Still active: there was room for more than came.
        let unfinished = master & bus_master::status::ACTIVE != 0 || status & status::DRQ != 0;
        if unfinished { Err(IdeError::Length) } else { Ok(()) }
    }

    pub(super) fn disarm_bus_master(&self) {
        self.channel.line.dma.store(false, Ordering::SeqCst);
    }

    /// Stops it, whatever it does. It reaches no memory from then on.
    pub(super) fn stop_bus_master(&self) {
        if self.channel.registers.has_bus_master() && self.channel.state.lock().lent.is_some() {
            self.channel.registers.set_bus_master_command(0);
            self.channel.state.lock().stale_interrupt = true;
        }
        self.disarm_bus_master();
    }
}

fn direction_bit(direction: Direction) -> u8 {
    match direction {
        Direction::In => bus_master::command::TO_MEMORY,
        Direction::Out => 0,
    }
}
