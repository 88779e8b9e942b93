//! Waiting for a drive: by interrupt, or by looking at its status; never for ever.

use core::sync::atomic::Ordering;

use hv_abi::ata::{bus_master, status};
use vsc_drivers::task::{sleep_until, within};
use vsc_drivers::{Hal, SECOND_100NS};

use super::channel::{Session, count};
use super::command::Command;
use super::error::{DriveError, IdeError, Waited};
use crate::pci::PortIo;

/// A drive that has to spin up takes up to 31 s to end a reset (ATA-6, *Reset protocols*).
pub(super) const RESET_100NS: u64 = 31 * SECOND_100NS;
/// What a drive may take to end a command; as for a reset, because it may be asleep.
pub(super) const COMMAND_100NS: u64 = 31 * SECOND_100NS;
/// A drive that has ended a command is ready for the next at once.
pub(super) const READY_100NS: u64 = SECOND_100NS;

/// A bus master that can't reach memory may stop without an interrupt, so it is looked at this often.
const SLICE_100NS: u64 = SECOND_100NS;

/// Looks in a row before the processor does something else.
const LOOKS: u32 = 64;
/// Rests between looks: from 10 µs to 1 ms.
const SHORTEST_REST_100NS: u64 = 100;
const LONGEST_REST_100NS: u64 = 10_000;

impl<P: PortIo, H: Hal> Session<'_, P, H> {
    /// Looks at the alternate status until it is as wanted.
    pub(super) async fn look_until(
        &self,
        waited: Waited,
        limit_100ns: u64,
        wanted: impl Fn(u8) -> bool,
    ) -> Result<u8, IdeError> {
        let hal = &self.channel.hal;
        let deadline = hal.now_100ns().saturating_add(limit_100ns);
        let mut rest = SHORTEST_REST_100NS;
        loop {
            for _ in 0..LOOKS {
                let status = self.channel.registers.alternate_status();
                if wanted(status) {
                    return Ok(status);
                }
                core::hint::spin_loop();
            }
            let now = hal.now_100ns();
            if now >= deadline {
                return Err(IdeError::Timeout(waited));
            }
            sleep_until(hal, now + rest).await;
            rest = (2 * rest).min(LONGEST_REST_100NS);
        }
    }

    pub(super) async fn not_busy(&self, waited: Waited, limit: u64) -> Result<u8, IdeError> {
        self.look_until(waited, limit, |status| status & status::BSY == 0).await
    }

    /// Begins a command.
    pub(super) async fn begin(&self, command: &Command) -> Result<(), IdeError> {
        let channel = self.channel;
        self.prepare(command).await?;
        // What an interrupt has told before means nothing any longer.
        channel.line.signal.take();
        count(&channel.counts.commands, 1);
        channel.registers.command(command);
        Ok(())
    }

    /// Selects the drive, sees that it is ready, and whether it is to interrupt.
    async fn prepare(&self, command: &Command) -> Result<(), IdeError> {
        let registers = &self.channel.registers;
        let (selected, old_control) = {
            let state = self.channel.state.lock();
            (state.selected, state.control)
        };
        let wanted = if self.channel.is_polled() { hv_abi::ata::control::NIEN } else { 0 };
        if wanted != old_control {
            self.channel.state.lock().control = wanted;
            registers.control(wanted);
        }
        registers.write(hv_abi::ata::reg::DEVICE, command.device(self.drive));
        if selected == Some(self.drive) {
            return Ok(());
        }
        registers.settle();
        let ready = |it: u8| it & (status::BSY | status::DRQ) == 0;
        match self.look_until(Waited::Ready, READY_100NS, ready).await {
            Err(_) => {
                Err(IdeError::Protocol(Waited::Ready, self.channel.registers.alternate_status()))
            }
            Ok(_) => {
                self.channel.state.lock().selected = Some(self.drive);
                Ok(())
            }
        }
    }

    /// Waits until the drive tells that it has got on with the command. Its status, in which it is not busy.
    pub(super) async fn told(&self, waited: Waited) -> Result<u8, IdeError> {
        let Self { channel, .. } = self;
        let line = &channel.line;
        if !channel.is_polled() {
            let slices = COMMAND_100NS / SLICE_100NS;
            for _ in 0..slices {
                let signal = line.signal.wait(&channel.hal);
                if within(&channel.hal, SLICE_100NS, signal).await.is_err() {
                    self.check_bus_master()?;
                    continue;
                }
                let status = line.status.load(Ordering::SeqCst);
                // A drive interrupts when it is no longer busy; but the line might be another's.
                if status & status::BSY == 0 {
                    return Ok(status);
                }
                return self.not_busy(waited, COMMAND_100NS).await;
            }
            let status = channel.registers.status();
            if status & status::BSY != 0 {
                return Err(IdeError::Timeout(waited));
            }
            count(&channel.counts.lost_interrupts, 1);
            return Ok(status);
        }
        channel.registers.settle();
        self.not_busy(waited, COMMAND_100NS).await?;
        Ok(channel.registers.status())
    }

    /// Whether the bus master, if it takes part in the command, has met memory that is not there.
    pub(super) fn check_bus_master(&self) -> Result<(), IdeError> {
        let master = match self.channel.line.dma.load(Ordering::SeqCst) {
            true => self.channel.registers.bus_master_status(),
            false => 0,
        };
        let failed = master & bus_master::status::ERROR != 0;
        if failed { Err(IdeError::BusMaster) } else { Ok(()) }
    }

    /// Whether a status says that the command failed.
    pub(super) fn check(&self, status: u8) -> Result<u8, IdeError> {
        if status & (status::ERR | status::DF) == 0 {
            return Ok(status);
        }
        let error = self.channel.registers.read(hv_abi::ata::reg::ERROR);
        // A drive that has failed has no data.
        match status & status::DRQ {
            0 => Err(DriveError { status, error }.into()),
            _ => Err(IdeError::Protocol(Waited::End, status)),
        }
    }
}
