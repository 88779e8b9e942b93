//! Who is on a channel (ATA-6, *Software reset protocol*, *Signature and persistence*; Linux, `ata_devchk`, `ata_sff_softreset`).

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::identify::IdentifyData;
use hv_abi::ata::{SECTOR_BYTES, Signature, control, diagnostic, reg, status};
use vsc_drivers::Hal;
use vsc_drivers::task::sleep_until;
use zerocopy::FromBytes;

use super::channel::{Channel, Session, Setup};
use super::command::Command;
use super::error::{IdeError, Waited};
use super::identify::{DiskFacts, PacketFacts};
use super::wait::RESET_100NS;
use crate::pci::PortIo;

/// The reset bit stays set for 5 µs at least, and a drive needs 2 ms before its status means anything.
const RESET_PULSE_100NS: u64 = 100;
const RESET_PAUSE_100NS: u64 = 20_000;

/// What is at a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// A disk.
    Disk(DiskFacts),
    /// A packet device.
    Packet(PacketFacts),
}

impl<P: PortIo, H: Hal> Channel<P, H> {
    /// Looks for both drives, after a reset. What is there and can't be understood is told as its error.
    pub(super) async fn detect(&self) -> [Option<Result<Found, IdeError>>; 2] {
        let mut found = [None, None];
        let mut session = self.turn().await;
        if session.is_floating() {
            let _ = session.end(Ok(()));
            return found;
        }
        let present = [session.is_present(0), session.is_present(1)];
        if present == [false; 2] {
            let _ = session.end(Ok(()));
            return found;
        }
        let polled = self.is_polled();
        self.use_interrupts(false);
        for drive in [0, 1] {
            if present[usize::from(drive)] {
                session.drive = drive;
                found[usize::from(drive)] = session.find(drive).await;
            }
        }
        self.use_interrupts(!polled);
        // A drive that went wrong has its channel reset before another command.
        let wrong = found.iter().flatten().any(Result::is_err);
        self.state.lock().dirty |= wrong;
        let _ = session.end(Ok(()));
        found
    }
}

impl<P: PortIo, H: Hal> Session<'_, P, H> {
    /// Whether nothing drives the channel's lines.
    fn is_floating(&self) -> bool {
        matches!(self.channel.registers.status(), 0xFF | status::FLOATING)
    }

    /// Whether something keeps what is written for this drive.
    fn is_present(&self, drive: u8) -> bool {
        let registers = &self.channel.registers;
        registers.select(drive);
        registers.settle();
        for (count, low) in [(0x55, 0xAA), (0xAA, 0x55), (0x55, 0xAA)] {
            registers.write(reg::SECTOR_COUNT, count);
            registers.write(reg::LBA_LOW, low);
        }
        registers.read(reg::SECTOR_COUNT) == 0x55 && registers.read(reg::LBA_LOW) == 0xAA
    }

    /// Resets the channel, and waits for the drive.
    pub(super) async fn reset(&mut self, drive: u8) -> Result<(), IdeError> {
        let channel = self.channel;
        let registers = &channel.registers;
        {
            let mut state = channel.state.lock();
            state.selected = None;
            state.control = control::NIEN;
            state.stale_interrupt = true;
            state.setups.iter_mut().for_each(|setup| setup.done = false);
        }
        registers.control(control::NIEN | control::SRST);
        sleep_until(&channel.hal, channel.hal.now_100ns() + RESET_PULSE_100NS).await;
        registers.control(control::NIEN);
        sleep_until(&channel.hal, channel.hal.now_100ns() + RESET_PAUSE_100NS).await;
        registers.select(drive);
        registers.settle();
        self.not_busy(Waited::Reset, RESET_100NS).await?;
        channel.state.lock().dirty = false;
        Ok(())
    }

    /// Resets and looks at one drive; `None` if nobody is there.
    async fn find(&mut self, drive: u8) -> Option<Result<Found, IdeError>> {
        if let Err(error) = self.reset(drive).await {
            return Some(Err(error));
        }
        let registers = &self.channel.registers;
        let code = registers.read(reg::ERROR);
        let passed = match drive {
            // Old drives say nothing.
            0 => [0, diagnostic::PASSED, diagnostic::DEVICE_1_FAILED].contains(&code),
            _ => [0, diagnostic::PASSED].contains(&code),
        };
        let signature = Signature {
            sector_count: registers.read(reg::SECTOR_COUNT),
            lba_low: registers.read(reg::LBA_LOW),
            lba_mid: registers.read(reg::LBA_MID),
            lba_high: registers.read(reg::LBA_HIGH),
        };
        // An absent drive beside one that is there answers with zeros.
        let idle = registers.status();
        if !passed || matches!(idle, 0xFF | status::FLOATING) {
            return None;
        }
        let found = match signature {
            Signature::ATA if idle != 0 => self.identify_disk().await,
            Signature::ATAPI => self.identify_packet().await,
            _ => return None,
        };
        match found {
            // The other drive answers for an absent one: with its own registers, and a status of zero whatever is asked.
            Err(IdeError::Protocol(Waited::Data, 0)) => None,
            found => Some(found),
        }
    }

    async fn identify_disk(&mut self) -> Result<Found, IdeError> {
        let data = self.identify(AtaCommand::IDENTIFY_DEVICE).await?;
        let facts = DiskFacts::parse(&data)?;
        let setup = Setup { multiple: facts.multiple, modes: facts.modes, done: false };
        self.channel.set_up(self.drive, setup);
        Ok(Found::Disk(facts))
    }

    async fn identify_packet(&mut self) -> Result<Found, IdeError> {
        let data = self.identify(AtaCommand::IDENTIFY_PACKET_DEVICE).await?;
        let facts = PacketFacts::parse(&data)?;
        let setup = Setup { multiple: 0, modes: facts.modes, done: false };
        self.channel.set_up(self.drive, setup);
        Ok(Found::Packet(facts))
    }

    async fn identify(&mut self, code: AtaCommand) -> Result<IdentifyData, IdeError> {
        let mut bytes = [0; SECTOR_BYTES];
        self.pio_in(&Command::plain(code), SECTOR_BYTES, &mut bytes).await?;
        IdentifyData::read_from_bytes(&bytes).map_err(|_| IdeError::Identify)
    }
}
