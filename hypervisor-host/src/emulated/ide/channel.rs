//! One channel: two drives on one cable, who is selected, whose interrupt is heard, and what the bus master may do for them.
//!
//! Both drives hear what is written; the selected one answers. An absent drive beside a present one reads as zeros, so it is
//! never ready (as on QEMU; on a real cable drive 0 answers for the other, and a disk does so with registers of its own). Work for a disk is handed out by [`Channel::take_work`], at most one
//! piece at a time, and whoever does it says so by [`Channel::disk_ended`].

use std::sync::Arc;

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{Signature, control, device, reg, status};
use vm_memory::GuestMemoryMmap;

use super::batch::Work;
use super::bus_master::{BusMaster, Change, Fault};
use super::counters::IdeCounters;
use super::port::{Drive, Phase, Port};
use crate::emulated::pci::{self, IrqLine};
use crate::storage::disk::{Direction, DiskError};
use crate::storage::request::DiskOp;
use crate::storage::unit::Unit;

/// A channel.
pub(super) struct Channel {
    drives: [Option<Drive>; 2],
    selected: usize,
    control: u8,
    /// Reset by software, and not over.
    resetting: bool,
    master: BusMaster,
    may_master: pci::BusMaster,
    memory: GuestMemoryMmap,
    line: IrqLine,
    flight: Option<Flight>,
    counters: Arc<IdeCounters>,
}

/// What a disk is doing.
struct Flight {
    drive: usize,
    bytes: u32,
    dma: bool,
    /// The drive has been reset, and does not want to know any more.
    forgotten: bool,
    /// The guest stopped the bus master; what the drive wanted moved.
    stopped: Option<(Direction, u64)>,
}

/// What a channel needs of its surroundings.
pub(super) struct ChannelContext {
    pub(super) memory: GuestMemoryMmap,
    pub(super) line: IrqLine,
    pub(super) may_master: pci::BusMaster,
    pub(super) counters: Arc<IdeCounters>,
}

impl Channel {
    pub(super) fn new(drives: [Option<Drive>; 2], context: ChannelContext) -> Self {
        let ChannelContext { memory, line, may_master, counters } = context;
        let master = BusMaster::new([drives[0].is_some(), drives[1].is_some()]);
        let (selected, control, resetting, flight) = (0, 0, false, None);
        Self {
            drives,
            selected,
            control,
            resetting,
            master,
            may_master,
            memory,
            line,
            flight,
            counters,
        }
    }

    fn drive(&mut self) -> Option<&mut Drive> {
        self.drives.get_mut(self.selected)?.as_mut()
    }

    fn port(&self) -> Option<&Port> {
        self.drives.get(self.selected)?.as_ref().map(|drive| &drive.port)
    }

    fn drives_mut(&mut self) -> impl Iterator<Item = &mut Drive> {
        self.drives.iter_mut().flatten()
    }

    fn is_empty(&self) -> bool {
        self.drives.iter().all(Option::is_none)
    }

    /// Status as both status registers have it.
    fn status(&self) -> u8 {
        match self.port() {
            _ if self.is_empty() => status::FLOATING,
            Some(_) if self.resetting => status::BSY,
            Some(port) => port.status(),
            None => 0,
        }
    }

    /// The guest reads a byte of the command block, but data.
    pub(super) fn read(&mut self, offset: u16) -> u8 {
        self.counters.register_accesses.add(1);
        if self.is_empty() {
            return status::FLOATING;
        }
        if offset == reg::STATUS {
            let status = self.status();
            if let Some(drive) = self.drive() {
                drive.port.acknowledge();
            }
            self.update_line();
            return status;
        }
        let before = self.control & control::HOB != 0;
        match (self.port(), offset) {
            (Some(port), reg::ERROR) => port.error(),
            (Some(port), reg::DEVICE) => {
                let selected = if self.selected == 1 { device::DEV } else { 0 };
                port.registers.device & !device::DEV | selected
            }
            (Some(port), _) => port.registers.read(offset, before),
            (None, _) => 0,
        }
    }

    /// The guest reads the alternate status.
    pub(super) fn read_alternate(&mut self) -> u8 {
        self.counters.register_accesses.add(1);
        self.status()
    }

    /// The guest writes a byte of the command block, but data.
    pub(super) fn write(&mut self, offset: u16, value: u8) {
        self.counters.register_accesses.add(1);
        if offset == reg::COMMAND {
            self.command(AtaCommand(value));
        } else if !self.resetting && !self.port().is_some_and(Port::is_busy) {
            self.control &= !control::HOB;
            self.drives_mut().for_each(|drive| drive.port.registers.write(offset, value));
            if offset == reg::DEVICE {
                self.selected = usize::from(value & device::DEV != 0);
            }
        }
        self.update_line();
    }

    fn command(&mut self, command: AtaCommand) {
        self.control &= !control::HOB;
        let in_flight = self.flight.is_some();
        if self.resetting {
            return;
        }
        if command == AtaCommand::DEVICE_RESET {
            return self.device_reset();
        }
        if command == AtaCommand::EXECUTE_DEVICE_DIAGNOSTIC && !in_flight {
            return self.diagnose();
        }
        let Some(drive) = self.drive() else { return };
        if drive.port.is_busy() || drive.port.is_asleep() {
            return;
        }
        drive.port.acknowledge();
        drive.model.command(&mut drive.port, command);
        let failed = drive.port.status() & status::ERR != 0;
        self.counters.commands.add(1);
        self.count_error(failed);
        // An edge for each command, also where the last interrupt was not acknowledged.
        self.line.set(false);
    }

    fn count_error(&self, failed: bool) {
        self.counters.errors.add(failed.into());
    }

    /// DEVICE RESET: heard at any time, by packet devices only.
    fn device_reset(&mut self) {
        let draining = self.flight.is_some();
        let Some(drive) = self.drive() else { return };
        if drive.model.signature() != Signature::ATAPI {
            if !drive.port.is_busy() && !drive.port.is_asleep() {
                drive.port.acknowledge();
                drive.port.abort();
            }
            return;
        }
        drive.port.begin_reset(draining);
        if let Some(flight) = &mut self.flight {
            flight.forgotten = true;
        } else if let Some(drive) = self.drive() {
            drive.after_reset();
        }
        self.counters.resets.add(1);
    }

    /// EXECUTE DEVICE DIAGNOSTIC: done by both drives, told by drive 0.
    fn diagnose(&mut self) {
        if self.drives.iter().flatten().any(|drive| drive.port.is_busy()) {
            return;
        }
        self.selected = 0;
        for drive in self.drives_mut() {
            drive.port.begin_reset(false);
            drive.after_reset();
        }
        if let Some(drive) = self.drive() {
            drive.port.raise();
        }
        self.counters.commands.add(1);
        self.line.set(false);
    }

    /// The guest writes the device control register.
    pub(super) fn write_control(&mut self, value: u8) {
        self.counters.register_accesses.add(1);
        let began = value & !self.control & control::SRST != 0;
        self.control = value;
        if began {
            self.begin_reset();
        }
        self.try_end_reset();
        self.update_line();
    }

    fn begin_reset(&mut self) {
        self.counters.resets.add(1);
        (self.resetting, self.selected) = (true, 0);
        self.drives_mut().for_each(|drive| drive.port.begin_reset(false));
        if let Some(flight) = &mut self.flight {
            flight.forgotten = true;
        }
    }

    /// A reset lasts for as long as the guest wants, and until the disk has let go of the guest's memory.
    fn try_end_reset(&mut self) {
        if self.resetting && self.control & control::SRST == 0 && self.flight.is_none() {
            self.resetting = false;
            self.drives_mut().for_each(Drive::after_reset);
        }
    }

    /// The guest reads the data register, once or again and again.
    pub(super) fn read_data(&mut self, data: &mut [u8]) {
        self.counters.data_accesses.add(1);
        let mut rest = data;
        while !rest.is_empty()
            && let Some(drive) = self.drives.get_mut(self.selected).and_then(Option::as_mut)
            && drive.port.phase() == Phase::Out
        {
            let (count, ended) = drive.port.read_data(rest);
            self.moved_by_pio(count);
            if ended {
                self.block_moved();
            } else if count == 0 {
                break;
            }
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        self.update_line();
    }

    /// The guest writes the data register, once or again and again.
    pub(super) fn write_data(&mut self, data: &[u8]) {
        self.counters.data_accesses.add(1);
        let mut rest = data;
        while !rest.is_empty()
            && let Some(drive) = self.drives.get_mut(self.selected).and_then(Option::as_mut)
            && drive.port.phase() == Phase::In
        {
            let (count, ended) = drive.port.write_data(rest);
            self.moved_by_pio(count);
            if ended {
                self.block_moved();
            } else if count == 0 {
                break;
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        self.update_line();
    }

    fn moved_by_pio(&self, count: usize) {
        self.counters.pio_bytes.add(count as u64);
        self.counters.copied_bytes.add(count as u64);
    }

    fn block_moved(&mut self) {
        if let Some(drive) = self.drive() {
            drive.model.block_moved(&mut drive.port);
            let failed = drive.port.status() & status::ERR != 0 && !drive.port.is_busy();
            self.count_error(failed);
        }
    }

    /// The guest reads a byte of the bus master.
    pub(super) fn read_master(&mut self, offset: u16) -> u8 {
        self.counters.register_accesses.add(1);
        // Memory may be written until the disk has ended, whatever the guest has told the bus master since.
        let moving = self.flight.as_ref().is_some_and(|flight| flight.dma);
        self.master.read(offset, moving)
    }

    /// The guest writes bytes of the bus master.
    pub(super) fn write_master(&mut self, offset: u16, value: u8) {
        self.counters.register_accesses.add(1);
        if self.master.write(offset, value) == Change::Stopped
            && let Some(flight) = self.flight.as_mut().filter(|flight| flight.dma)
            && flight.stopped.is_none()
            && let Some(drive) = self.drives.get(flight.drive).and_then(Option::as_ref)
            && drive.port.phase() == Phase::Disk
        {
            flight.stopped = drive.model.dma_request();
        }
    }

    /// Moves data between a drive that wants it moved and a bus master that was told to.
    fn pump(&mut self) {
        if self.flight.is_some()
            || self.resetting
            || !self.master.is_active()
            || !self.may_master.is_on()
        {
            return;
        }
        let Some(drive) = self.drives.get_mut(self.selected).and_then(Option::as_mut) else {
            return;
        };
        let Phase::Dma(way, bytes) = drive.port.phase() else { return };
        let gathered = match self.master.goes(way) {
            true => self.master.gather(&self.memory, bytes),
            false => Err(Fault),
        };
        let Ok(gathered) = gathered else {
            self.master.fault();
            self.counters.dma_faults.add(1);
            return;
        };
        let unit = drive.model.dma_unit().max(1);
        let whole = gathered.buffer.len() / unit * unit;
        if whole == 0 {
            return self.master.moved();
        }
        drive.dma(&gathered, whole);
        self.counters.dma_transfers.add(1);
        self.counters.dma_bytes.add(whole);
        if drive.model.dma_request().is_none() {
            // An answer or a list, which this program has copied itself.
            self.counters.copied_bytes.add(whole);
            self.master.moved();
        }
    }

    /// What a disk is to do next, and for which unit. Called after each access, until there is nothing.
    pub(super) fn take_work(&mut self) -> Option<(Work, Arc<Unit>)> {
        if self.flight.is_some() {
            return None;
        }
        self.pump();
        self.update_line();
        for (index, drive) in self.drives.iter_mut().enumerate() {
            let Some(drive) = drive else { continue };
            let Some(work) = drive.port.take_work() else { continue };
            let bytes = u32::try_from(work.buffer.len()).unwrap_or(u32::MAX);
            self.flight = Some(Flight {
                drive: index,
                bytes,
                dma: drive.model.dma_request().is_some(),
                forgotten: false,
                stopped: None,
            });
            return Some((work, drive.unit.clone()));
        }
        None
    }

    /// The disk has ended what [`Channel::take_work`] gave.
    pub(super) fn disk_ended(&mut self, op: &DiskOp, result: Result<(), DiskError>) {
        let Some(flight) = self.flight.take() else { return };
        if let Some(drive) = self.drives.get_mut(flight.drive).and_then(Option::as_mut) {
            // Counted there; the guest hears of it in ATA's words.
            let _ = drive.unit.finish(op, flight.bytes, result);
            match (flight.forgotten, flight.stopped) {
                (true, _) => {
                    if drive.port.phase() == Phase::Reset {
                        drive.after_reset();
                    }
                }
                // The drive wants to move the same data still, as one would whose request nobody acknowledges.
                (false, Some((way, bytes))) => drive.port.ask_dma(way, bytes),
                (false, None) => {
                    drive.model.disk_ended(&mut drive.port, result);
                    let failed = !drive.port.is_busy() && drive.port.status() & status::ERR != 0;
                    self.counters.errors.add(failed.into());
                    if flight.dma && drive.port.phase() != Phase::Disk {
                        self.master.moved();
                    }
                }
            }
        }
        self.try_end_reset();
        self.update_line();
    }

    /// Sets the interrupt line as the selected drive and the guest want it.
    fn update_line(&mut self) {
        let heard = self.control & control::NIEN == 0 && !self.resetting;
        let level = heard && self.port().is_some_and(Port::interrupt);
        if level && !self.line.level() {
            self.master.interrupted();
            self.counters.interrupts.add(1);
        }
        self.line.set(level);
    }
}
