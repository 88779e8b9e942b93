//! A drive that does not do what it should: every wait ends, with a name, and the channel is well again when the drive is.

use alloc::sync::Arc;
use alloc::vec;
use core::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::*;
use crate::pci::PortIo;
use crate::testing::TestHal;

/// What the drive does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    Nothing,
    /// All registers read so.
    Floats(u8),
    /// Never ends a reset.
    BusyAfterReset,
    /// Never ends a command.
    BusyAfterCommand,
    /// Ends READ without data.
    NoData,
    /// Wants more data read than there is.
    TooMuchData,
    /// Ends READ with an error and data at the same time.
    ErrorWithData,
    /// Its description is all ones.
    MadIdentity,
}

const BSY: u8 = 0x80;
const DRDY: u8 = 0x40;
const DRQ: u8 = 0x08;
const ERR: u8 = 0x01;

/// The primary master.
struct Drive {
    mischief: Mischief,
    registers: [u8; 8],
    status: u8,
    error: u8,
    control: u8,
    /// Words that are to be read, or have been written.
    data: Vec<u16>,
    at: usize,
    /// Words that are to be written.
    wanted: usize,
    sector: Vec<u16>,
}

#[derive(Clone)]
struct Ports(Arc<Mutex<Drive>>);

impl Ports {
    fn new(mischief: Mischief) -> Self {
        Self(Arc::new(Mutex::new(Drive {
            mischief,
            registers: [0; 8],
            status: DRDY,
            error: 1,
            control: 0,
            data: vec![],
            at: 0,
            wanted: 0,
            sector: vec![0x1234; 256],
        })))
    }

    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heal(&self) {
        self.drive().mischief = Mischief::Nothing;
    }
}

impl Drive {
    fn is_selected(&self) -> bool {
        self.registers[6] & 0x10 == 0
    }

    fn command(&mut self, code: u8) {
        (self.error, self.at) = (0, 0);
        self.data.clear();
        if self.mischief == Mischief::BusyAfterCommand {
            self.status = BSY;
            return;
        }
        self.status = match code {
            0xEC => {
                self.data = self.identity();
                DRDY | DRQ
            }
            0x20 => match self.mischief {
                Mischief::NoData => DRDY,
                Mischief::ErrorWithData => DRDY | DRQ | ERR,
                _ => {
                    self.data = self.sector.clone();
                    DRDY | DRQ
                }
            },
            0x30 => {
                self.wanted = 256;
                DRDY | DRQ
            }
            0xEF | 0xE7 => DRDY,
            _ => {
                self.error = 0x04;
                DRDY | ERR
            }
        };
    }

    /// LBA, 2,048 sectors, FLUSH CACHE; neither DMA nor READ MULTIPLE.
    fn identity(&self) -> Vec<u16> {
        if self.mischief == Mischief::MadIdentity {
            return vec![0xFFFF; 256];
        }
        let mut words = vec![0; 256];
        (words[0], words[49], words[60], words[83]) = (0x0040, 0x0200, 2048, 0x5000);
        words
    }

    fn reset(&mut self) {
        self.registers = [0, 0, 1, 1, 0, 0, 0, 0];
        self.error = 1;
        self.status = if self.mischief == Mischief::BusyAfterReset { BSY } else { DRDY };
        self.data.clear();
        self.wanted = 0;
    }

    fn read_data(&mut self) -> u16 {
        let word = self.data.get(self.at).copied().unwrap_or(0xFFFF);
        self.at += 1;
        if self.at == self.data.len() && self.mischief != Mischief::TooMuchData {
            self.status = DRDY;
        }
        word
    }

    fn write_data(&mut self, word: u16) {
        if self.wanted == 0 {
            return;
        }
        self.data.push(word);
        self.wanted -= 1;
        if self.wanted == 0 {
            self.sector = self.data.clone();
            self.status = DRDY;
        }
    }
}

impl PortIo for Ports {
    fn read8(&self, port: u16) -> u8 {
        let drive = self.drive();
        match (drive.mischief, port) {
            (Mischief::Floats(value), _) => value,
            (_, 0x1F7 | 0x3F6) => {
                if drive.is_selected() {
                    drive.status
                } else {
                    0
                }
            }
            (_, 0x1F1) => drive.error,
            (_, 0x1F2..=0x1F6) if drive.is_selected() => drive.registers[usize::from(port - 0x1F0)],
            (_, 0x1F2..=0x1F6) => 0,
            _ => 0xFF,
        }
    }

    fn read16(&self, _: u16) -> u16 {
        self.drive().read_data()
    }

    fn read32(&self, _: u16) -> u32 {
        u32::MAX
    }

    fn write8(&self, port: u16, value: u8) {
        let mut drive = self.drive();
        match port {
            0x1F1..=0x1F6 => drive.registers[usize::from(port - 0x1F0)] = value,
            0x1F7 if drive.is_selected() => drive.command(value),
            0x3F6 => {
                if drive.control & 0x04 != 0 && value & 0x04 == 0 {
                    drive.reset();
                }
                drive.control = value;
            }
            _ => {}
        }
    }

    fn write16(&self, _: u16, value: u16) {
        self.drive().write_data(value);
    }

    fn write32(&self, _: u16, _: u32) {}
}

/// What is found on a machine with such a drive.
fn found(mischief: Mischief) -> (Ports, TestHal, Controller<Ports, TestHal>) {
    let (ports, hal) = (Ports::new(mischief), TestHal::default());
    let mut controller = Controller::at(ports.clone(), hal.clone(), None);
    hal.block_on(controller.detect());
    (ports, hal, controller)
}

/// A disk found while it was well, which is not any longer.
fn disk(mischief: Mischief) -> (Ports, TestHal, AtaDisk<Ports, TestHal>) {
    let (ports, hal, controller) = found(Mischief::Nothing);
    ports.drive().mischief = mischief;
    let disk = controller.disks()[0].clone();
    (ports, hal, disk)
}

#[test]
fn a_disk_without_dma_and_blocks_is_used_by_single_sectors() {
    let (_, hal, disk) = disk(Mischief::Nothing);
    assert_eq!((disk.mode(), disk.facts().sectors), (Mode::Pio, 2048));
    assert!(disk.in_mode(Mode::Dma).is_none() && disk.in_mode(Mode::PioMultiple).is_none());
    let mut bytes = [0; 512];
    hal.block_on(disk.write(7, &[0x5A; 512])).unwrap();
    hal.block_on(disk.read(7, &mut bytes)).unwrap();
    assert_eq!(bytes, [0x5A; 512]);
    hal.block_on(disk.flush()).unwrap();
}

#[test]
fn a_channel_on_which_nobody_drives_the_lines_has_no_drives() {
    for value in [0xFF, 0x7F, 0x00] {
        let (_, _, controller) = found(Mischief::Floats(value));
        assert!(controller.disks().is_empty() && controller.cd_roms().is_empty());
        assert_eq!(controller.problems(), []);
    }
}

#[test]
fn a_drive_that_does_not_end_its_reset_or_makes_no_sense_is_told_of() {
    let (_, _, controller) = found(Mischief::BusyAfterReset);
    assert_eq!(controller.problems(), [(0, IdeError::Timeout(Waited::Reset))]);
    let (_, _, controller) = found(Mischief::MadIdentity);
    assert_eq!(controller.problems(), [(0, IdeError::Identify)]);
    let (_, _, controller) = found(Mischief::BusyAfterCommand);
    assert_eq!(controller.problems(), [(0, IdeError::Timeout(Waited::Data))]);
}

#[test]
fn whatever_a_read_meets_has_a_name_and_the_next_one_is_well() {
    for (mischief, expected) in [
        (Mischief::BusyAfterCommand, IdeError::Timeout(Waited::Data)),
        (Mischief::NoData, IdeError::Protocol(Waited::Data, DRDY)),
        (Mischief::TooMuchData, IdeError::Timeout(Waited::End)),
        (Mischief::ErrorWithData, IdeError::Protocol(Waited::End, DRDY | DRQ | ERR)),
    ] {
        let (ports, hal, disk) = disk(mischief);
        let mut bytes = [0; 512];
        assert_eq!(hal.block_on(disk.read(0, &mut bytes)), Err(expected), "{mischief:?}");
        ports.heal();
        hal.block_on(disk.read(0, &mut bytes)).unwrap();
        assert_eq!(disk.channel().counts().resets.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn an_interrupt_that_never_comes_is_counted_and_the_command_counts_nevertheless() {
    let (_, hal, disk) = disk(Mischief::Nothing);
    disk.channel().use_interrupts(true);
    let mut bytes = [0; 512];
    hal.block_on(disk.read(0, &mut bytes)).unwrap();
    assert_eq!(bytes[..2], [0x34, 0x12]);
    assert_eq!(disk.channel().counts().lost_interrupts.load(Ordering::Relaxed), 1);
}

#[test]
fn a_command_that_the_drive_does_not_know_needs_no_reset() {
    use hv_abi::ata::command::AtaCommand;

    let (_, hal, disk) = disk(Mischief::Nothing);
    let refused = hal.block_on(disk.order(&Command::plain(AtaCommand(0xFF))));
    assert_eq!(refused, Err(IdeError::Drive(DriveError { status: DRDY | ERR, error: 0x04 })));
    hal.block_on(disk.flush()).unwrap();
    assert_eq!(disk.channel().counts().resets.load(Ordering::Relaxed), 0);
}
