//! A controller: two channels, and the drives on them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::ata::piix4::BUS_MASTER_BAR;
use hv_abi::ata::{
    PRIMARY_COMMAND_PORT, PRIMARY_CONTROL_PORT, SECONDARY_COMMAND_PORT, SECONDARY_CONTROL_PORT,
    bus_master,
};
use hv_abi::pci::{PciClass, PciCommand};
use vsc_drivers::Hal;

use super::channel::Channel;
use super::detect::Found;
use super::disk::AtaDisk;
use super::error::IdeError;
use super::packet::CdRom;
pub use super::registers::ChannelPorts;
use crate::pci::{PciDevice, PortIo, config};

/// Whether a function is a controller that this driver serves: both channels at their old ports.
pub fn is_ide(device: &PciDevice) -> bool {
    /// Bits 0 and 2 of the programming interface: a channel in native mode (*PCI IDE Controller Specification* 1.0, §2).
    const NATIVE: u32 = 0b0101;
    let same = device.class.base_and_sub() == PciClass::IDE_COMPATIBILITY.base_and_sub();
    same && device.class.0 & NATIVE == 0
}

/// A controller.
pub struct Controller<P, H: Hal> {
    channels: [Arc<Channel<P, H>>; 2],
    disks: Vec<AtaDisk<P, H>>,
    cd_roms: Vec<CdRom<P, H>>,
    problems: Vec<(u8, IdeError)>,
}

impl<P: PortIo, H: Hal> Controller<P, H> {
    /// Switches the function on. No drive is known yet; its channels are [polled](Channel::use_interrupts).
    pub fn new(ports: P, hal: H, device: &PciDevice) -> Self {
        config::enable(&ports, device.address, PciCommand::IO | PciCommand::MASTER);
        let base = device.bars[usize::from(BUS_MASTER_BAR)].and_then(|bar| bar.port());
        Self::at(ports, hal, base)
    }

    /// As [`new`](Self::new), with the bus master's ports at `base`, if it has one.
    pub fn at(ports: P, hal: H, base: Option<u16>) -> Self {
        let primary = ChannelPorts {
            command: PRIMARY_COMMAND_PORT,
            control: PRIMARY_CONTROL_PORT,
            bus_master: base,
        };
        let secondary = ChannelPorts {
            command: SECONDARY_COMMAND_PORT,
            control: SECONDARY_CONTROL_PORT,
            bus_master: base.and_then(|base| base.checked_add(bus_master::reg::SET)),
        };
        let channels = [
            Channel::new(ports.clone(), hal.clone(), primary),
            Channel::new(ports, hal, secondary),
        ];
        Self { channels, disks: Vec::new(), cd_roms: Vec::new(), problems: Vec::new() }
    }

    /// Resets both channels, and finds out who is there.
    pub async fn detect(&mut self) {
        self.disks.clear();
        self.cd_roms.clear();
        self.problems.clear();
        for (channel, first) in self.channels.iter().zip([0, 2]) {
            for (found, drive) in channel.detect().await.into_iter().zip([0, 1]) {
                match found {
                    None => {}
                    Some(Ok(Found::Disk(facts))) => {
                        self.disks.push(AtaDisk::new(channel.clone(), drive, facts));
                    }
                    Some(Ok(Found::Packet(facts))) => {
                        self.cd_roms.push(CdRom::new(channel.clone(), drive, facts));
                    }
                    Some(Err(error)) => self.problems.push((first + drive, error)),
                }
            }
        }
    }

    /// The primary channel and the secondary.
    pub fn channels(&self) -> &[Arc<Channel<P, H>>; 2] {
        &self.channels
    }

    /// Its disks.
    pub fn disks(&self) -> &[AtaDisk<P, H>] {
        &self.disks
    }

    /// Its CD-ROM drives.
    pub fn cd_roms(&self) -> &[CdRom<P, H>] {
        &self.cd_roms
    }

    /// Places (0 to 3, the primary master first) where somebody is who can't be used, and why.
    pub fn problems(&self) -> &[(u8, IdeError)] {
        &self.problems
    }
}
