//! The IDE controller of a PIIX4: two channels, each with up to two drives, and a bus master (PIIX4, *IDE*).
//!
//! - here: [`IdeController`], the PCI function; its channels are in compatibility mode, with fixed ports and interrupts
//! - `station`: a channel and who does its disks' work; `channel`: registers, selection, interrupts, resets
//! - `port`: what drives have in common; `disk`, `cdrom`: their commands
//! - `bus_master`: DMA; `batch`: which sector was bad; `counters`: figures for reports; [`testing`]: without a machine
//!
//! *A hostile guest.* Registers take anything at any time: what is written while a drive is busy is not heard, as on a real cable.
//! DMA reaches RAM only. While a disk may touch the guest's memory the bus master reads as active, and a reset is not over.

mod batch;
mod bus_master;
mod cdrom;
mod channel;
mod counters;
mod disk;
mod port;
mod registers;
mod station;
pub mod testing;
#[cfg(test)]
mod tests;
mod words;

use std::io;
use std::sync::Arc;

use hv_abi::ata::piix4::{
    BUS_MASTER_BAR, IDETIM_DECODE, IDETIM_PRIMARY, IDETIM_SECONDARY, SIDETIM, UDMACTL, UDMATIM,
};
use hv_abi::ata::{
    PRIMARY_COMMAND_PORT, PRIMARY_CONTROL_PORT, PRIMARY_IRQ, SECONDARY_COMMAND_PORT,
    SECONDARY_CONTROL_PORT, SECONDARY_IRQ, bus_master as master_ports, reg,
};
use hv_abi::pci::{PciClass, PciCommand, PciId, PciStatus};

pub use self::counters::IdeCounters;

use self::cdrom::CdRom;
use self::channel::{Channel, ChannelContext};
use self::disk::AtaDisk;
use self::port::{Drive, Model};
use self::station::Station;
use super::pci::bar::Bar;
use super::pci::{ConfigSpace, DeviceContext, PciFunction, Place, PortRange};
use crate::storage::engine::Engines;
use crate::storage::unit::Unit;

/// Drives of a controller: primary master and slave, secondary master and slave.
pub const DRIVES: usize = 4;

/// A drive, and what it is.
#[derive(Clone)]
pub enum IdeDrive {
    /// An ATA disk.
    Disk(Arc<Unit>),
    /// An ATAPI CD-ROM with this medium.
    CdRom(Arc<Unit>),
}

impl IdeDrive {
    fn drive(self) -> Drive {
        let (model, unit): (Box<dyn Model>, _) = match self {
            Self::Disk(unit) => (Box::new(AtaDisk::new(unit.clone())), unit),
            Self::CdRom(unit) => (Box::new(CdRom::new(unit.clone())), unit),
        };
        Drive::new(model, unit)
    }
}

/// The function 8086:7111.
pub struct IdeController {
    config: ConfigSpace,
    stations: [Station; 2],
    counters: Arc<IdeCounters>,
}

impl IdeController {
    /// A controller with these drives, whose disks' work is done by `engines`.
    ///
    /// # Errors
    /// The operating system has no descriptor or thread left.
    pub fn new(
        context: &DeviceContext,
        engines: &Engines,
        drives: [Option<IdeDrive>; DRIVES],
    ) -> io::Result<Self> {
        Self::build(context, drives, |channel| Station::new(channel, engines))
    }

    fn build(
        context: &DeviceContext,
        drives: [Option<IdeDrive>; DRIVES],
        mut station: impl FnMut(Channel) -> io::Result<Station>,
    ) -> io::Result<Self> {
        let config = config_space(drives.each_ref().map(Option::is_some));
        let counters = Arc::<IdeCounters>::default();
        let mut channel = |irq: u8, drives: [Option<IdeDrive>; 2]| {
            let context = ChannelContext {
                memory: context.memory.clone(),
                line: context.interrupts.line(irq.into()),
                may_master: config.bus_master(),
                counters: counters.clone(),
            };
            station(Channel::new(drives.map(|drive| drive.map(IdeDrive::drive)), context))
        };
        let [first, second, third, fourth] = drives;
        let stations =
            [channel(PRIMARY_IRQ, [first, second])?, channel(SECONDARY_IRQ, [third, fourth])?];
        Ok(Self { config, stations, counters })
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<IdeCounters> {
        &self.counters
    }

    /// The channel and block of a range of fixed ports.
    fn block(&self, place: Place) -> Option<(&Station, Block)> {
        let (channel, block) = match place {
            Place::Legacy(0) => (0, Block::Command),
            Place::Legacy(1) => (0, Block::Control),
            Place::Legacy(2) => (1, Block::Command),
            Place::Legacy(3) => (1, Block::Control),
            _ => return None,
        };
        Some((self.stations.get(channel)?, block))
    }

    /// The channel of a port of the bus masters, and its offset in the channel's set.
    fn master(&self, offset: u32) -> Option<(&Station, u16)> {
        let offset = u16::try_from(offset).ok()?;
        let station = self.stations.get(usize::from(offset / master_ports::reg::SET))?;
        Some((station, offset % master_ports::reg::SET))
    }
}

/// Which registers of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Command,
    Control,
}

/// As firmware leaves it: both channels decoded, Ultra DMA on for the drives that there are.
fn config_space(drives: [bool; DRIVES]) -> ConfigSpace {
    const TIMING: [u8; 2] = (IDETIM_DECODE | 0x2307).to_le_bytes();
    let ultra = (0..).zip(drives).fold(0, |all, (bit, there)| all | u8::from(there) << bit);
    ConfigSpace::new(PciId::INTEL_PIIX4_IDE, PciClass::IDE_COMPATIBILITY, 1)
        .with_command_bits(PciCommand::IO | PciCommand::MASTER)
        .with_status(PciStatus::DEVSEL_MEDIUM | PciStatus::FAST_BACK_TO_BACK)
        .with_bar(BUS_MASTER_BAR, Bar::io(master_ports::reg::COUNT))
        .with(IDETIM_PRIMARY, &TIMING)
        .with_writable(IDETIM_PRIMARY, &[0xFF, 0xF3])
        .with(IDETIM_SECONDARY, &TIMING)
        .with_writable(IDETIM_SECONDARY, &[0xFF, 0xF3])
        .with_writable(SIDETIM, &[0xFF])
        .with(UDMACTL, &[ultra])
        .with_writable(UDMACTL, &[0x0F])
        // Fastest timing of Ultra DMA 33 for those.
        .with(UDMATIM, &[0x22, 0x22])
        .with_writable(UDMATIM, &[0x33, 0x33])
}

/// The ports of channels that are decoded; ranges keep their numbers.
const fn ports(primary: bool, secondary: bool) -> [PortRange; 4] {
    const fn range(first: u16, count: u16, on: bool) -> PortRange {
        PortRange { first, count: if on { count } else { 0 } }
    }
    [
        range(PRIMARY_COMMAND_PORT, reg::COUNT, primary),
        range(PRIMARY_CONTROL_PORT, 1, primary),
        range(SECONDARY_COMMAND_PORT, reg::COUNT, secondary),
        range(SECONDARY_CONTROL_PORT, 1, secondary),
    ]
}

/// By whether the primary channel is decoded, then the secondary.
static PORTS: [[[PortRange; 4]; 2]; 2] =
    [[ports(false, false), ports(false, true)], [ports(true, false), ports(true, true)]];

impl PciFunction for IdeController {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, _offset: u8, _bytes: usize) {
        // A transfer may have waited for the bus master bit.
        self.stations.iter().for_each(|station| station.access(|_| ()));
    }

    fn read(&mut self, place: Place, offset: u32, data: &mut [u8]) {
        if place == Place::Bar(BUS_MASTER_BAR) {
            // One access may be of both channels' registers.
            for (offset, byte) in (offset..).zip(data) {
                if let Some((station, offset)) = self.master(offset) {
                    *byte = station.access(|channel| channel.read_master(offset));
                }
            }
            return;
        }
        let Some((station, block)) = self.block(place) else { return };
        station.access(|channel| match block {
            Block::Command if offset == u32::from(reg::DATA) => channel.read_data(data),
            Block::Command => {
                for (offset, byte) in (offset..).zip(data) {
                    *byte = channel.read(offset as u16);
                }
            }
            Block::Control => {
                if let Some(byte) = data.first_mut() {
                    *byte = channel.read_alternate();
                }
            }
        });
    }

    fn write(&mut self, place: Place, offset: u32, data: &[u8]) {
        if place == Place::Bar(BUS_MASTER_BAR) {
            // One access may be of both channels' registers.
            for (offset, byte) in (offset..).zip(data) {
                if let Some((station, offset)) = self.master(offset) {
                    station.access(|channel| channel.write_master(offset, *byte));
                }
            }
            return;
        }
        let Some((station, block)) = self.block(place) else { return };
        station.access(|channel| match block {
            Block::Command if offset == u32::from(reg::DATA) => channel.write_data(data),
            Block::Command => {
                for (offset, byte) in (offset..).zip(data) {
                    channel.write(offset as u16, *byte);
                }
            }
            Block::Control => {
                if let Some(byte) = data.first() {
                    channel.write_control(*byte);
                }
            }
        });
    }

    fn read_repeated(&mut self, place: Place, offset: u32, width: usize, data: &mut [u8]) {
        match self.block(place) {
            Some((station, Block::Command)) if offset == u32::from(reg::DATA) => {
                station.access(|channel| channel.read_data(data));
            }
            _ => data.chunks_mut(width.max(1)).for_each(|it| self.read(place, offset, it)),
        }
    }

    fn write_repeated(&mut self, place: Place, offset: u32, width: usize, data: &[u8]) {
        match self.block(place) {
            Some((station, Block::Command)) if offset == u32::from(reg::DATA) => {
                station.access(|channel| channel.write_data(data));
            }
            _ => data.chunks(width.max(1)).for_each(|it| self.write(place, offset, it)),
        }
    }

    fn legacy_ports(&self) -> &'static [PortRange] {
        let on = |register| self.config.u16(register) & IDETIM_DECODE != 0;
        let [primary, secondary] = [on(IDETIM_PRIMARY), on(IDETIM_SECONDARY)].map(usize::from);
        &PORTS[primary][secondary]
    }
}
