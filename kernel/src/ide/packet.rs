//! A CD-ROM: SCSI commands in packets (ATA-6, *PACKET command protocol*; MMC-3).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hv_abi::ata::command::{AtaCommand, PACKET_DMA};
use hv_abi::ata::{interrupt_reason, packet::CD_SECTOR_BYTES, reg, status};
use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{CdbBlocks10, CdbInquiry, CdbRequestSense};
use hv_abi::scsi::data::ReadCapacity10;
use hv_abi::scsi::inquiry::InquiryData;
use hv_abi::scsi::sense::{AdditionalSense, FixedSense, SenseKey};
use vsc_drivers::storvsc::{BlockDevice, IoBuffer};
use vsc_drivers::task::sleep_until;
use vsc_drivers::{Hal, SECOND_100NS};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::channel::{Channel, Session, count};
use super::command::{Command, Reach};
use super::data::Direction;
use super::error::{IdeError, Waited};
use super::identify::PacketFacts;
use super::wait::{COMMAND_100NS, READY_100NS};
use crate::pci::PortIo;

/// Most bytes that a drive may offer at a time: the largest even number that two registers hold.
const BYTE_LIMIT: u16 = 0xFFFE;
/// Sectors of one READ (10).
const MOST_SECTORS: usize = 32;
/// Blocks of data of one command; a drive that offers more goes on without end.
const MOST_BLOCKS: usize = 4096;
/// Attempts of a command that fails because something has changed, or because the drive gets ready.
const ATTEMPTS: usize = 16;

/// Sense data: why a packet command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// What kind of thing.
    pub key: SenseKey,
    /// What.
    pub code: AdditionalSense,
}

impl Sense {
    /// Whether there is no medium.
    pub fn is_no_medium(self) -> bool {
        self.code.asc() == AdditionalSense::MEDIUM_NOT_PRESENT.asc()
    }

    /// Whether another attempt may do better.
    fn is_passing(self) -> bool {
        self.key == SenseKey::UNIT_ATTENTION || self.code == AdditionalSense::BECOMING_READY
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, code } = self;
        write!(f, "sense key {:#x}, code {:#06x}", key.0, code.0)
    }
}

/// A CD-ROM drive. Clones are the same.
pub struct CdRom<P, H: Hal> {
    channel: Arc<Channel<P, H>>,
    drive: u8,
    facts: PacketFacts,
    sectors: u64,
    dma: bool,
}

impl<P, H: Hal> Clone for CdRom<P, H> {
    fn clone(&self) -> Self {
        let Self { channel, drive, facts, sectors, dma } = self;
        Self {
            channel: channel.clone(),
            drive: *drive,
            facts: *facts,
            sectors: *sectors,
            dma: *dma,
        }
    }
}

impl<P: PortIo, H: Hal> CdRom<P, H> {
    pub(super) fn new(channel: Arc<Channel<P, H>>, drive: u8, facts: PacketFacts) -> Self {
        Self { dma: facts.has_dma && channel.has_dma(), channel, drive, facts, sectors: 0 }
    }

    /// What it says of itself.
    pub fn facts(&self) -> &PacketFacts {
        &self.facts
    }

    /// Its channel.
    pub fn channel(&self) -> &Arc<Channel<P, H>> {
        &self.channel
    }

    /// 0 for the master, 1 for the slave.
    pub fn drive(&self) -> u8 {
        self.drive
    }

    /// The same drive, with data by DMA or by PIO; `None` if it can't.
    pub fn by_dma(&self, dma: bool) -> Option<Self> {
        let can = !dma || self.facts.has_dma && self.channel.has_dma();
        can.then(|| Self { dma, ..self.clone() })
    }

    /// INQUIRY.
    ///
    /// # Errors
    /// [`IdeError`].
    pub async fn inquiry(&self) -> Result<InquiryData, IdeError> {
        let mut data = InquiryData::new_zeroed();
        let allocation_length = (size_of::<InquiryData>() as u16).into();
        let op = ScsiOp::INQUIRY;
        let cdb = CdbInquiry { op, flags: 0, page_code: 0, allocation_length, control: 0 };
        self.short(&cdb, data.as_mut_bytes()).await?;
        Ok(data)
    }

    /// Looks at the medium, which may have been changed: its sectors of 2,048 bytes.
    ///
    /// # Errors
    /// [`IdeError::Sense`] with [`Sense::is_no_medium`] if there is none.
    pub async fn capacity(&mut self) -> Result<u64, IdeError> {
        let mut data = ReadCapacity10::new_zeroed();
        self.short(&blocks(ScsiOp::READ_CAPACITY_10, 0, 0), data.as_mut_bytes()).await?;
        if data.block_bytes.get() != CD_SECTOR_BYTES {
            return Err(IdeError::Unsupported);
        }
        self.sectors = u64::from(data.last_lba.get()) + 1;
        Ok(self.sectors)
    }

    /// Reads whole sectors of 2,048 bytes from `lba` on. Beyond what [`capacity`](Self::capacity) has told, the drive decides.
    ///
    /// # Errors
    /// [`IdeError`]; `bytes` then has anything in it.
    pub async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), IdeError> {
        let sector = CD_SECTOR_BYTES as usize;
        if !bytes.len().is_multiple_of(sector) {
            return Err(IdeError::Misaligned);
        }
        for (index, piece) in bytes.chunks_mut(MOST_SECTORS * sector).enumerate() {
            let from =
                lba.checked_add((index * MOST_SECTORS) as u64).ok_or(IdeError::OutOfRange)?;
            let from = u32::try_from(from).map_err(|_| IdeError::OutOfRange)?;
            let cdb = blocks(ScsiOp::READ_10, from, (piece.len() / sector) as u16);
            match self.dma {
                true => self.long(&cdb, piece).await?,
                false => self.short(&cdb, piece).await?,
            }
        }
        Ok(())
    }

    /// A command whose data comes by PIO, as often as it takes.
    async fn short(
        &self,
        cdb: &(impl IntoBytes + Immutable),
        data: &mut [u8],
    ) -> Result<(), IdeError> {
        let packet = self.packet(cdb.as_bytes());
        for _ in 0..ATTEMPTS {
            let mut session = self.channel.session(self.drive).await?;
            let done = session.packet_in(&self.facts, &packet, data).await;
            let done = session.explain(&self.facts, done).await;
            match session.end(done) {
                Err(IdeError::Sense(sense)) if sense.is_passing() => self.pause().await,
                Ok(bytes) if bytes < data.len() => return Err(IdeError::Length),
                done => return done.map(|_| ()),
            }
        }
        Err(IdeError::Timeout(Waited::Ready))
    }

    /// A command whose data comes by DMA.
    async fn long(
        &self,
        cdb: &(impl IntoBytes + Immutable),
        data: &mut [u8],
    ) -> Result<(), IdeError> {
        let packet = self.packet(cdb.as_bytes());
        for _ in 0..ATTEMPTS {
            let buffer = IoBuffer::zeroed(data.len()).ok_or(IdeError::NoMemory)?;
            let mut session = self.channel.session(self.drive).await?;
            let (done, buffer) = session.packet_dma(&self.facts, &packet, buffer).await;
            let done = session.explain(&self.facts, done).await;
            match session.end(done) {
                Err(IdeError::Sense(sense)) if sense.is_passing() => self.pause().await,
                Err(error) => return Err(error),
                Ok(()) => {
                    data.copy_from_slice(&buffer.ok_or(IdeError::NoMemory)?);
                    return Ok(());
                }
            }
        }
        Err(IdeError::Timeout(Waited::Ready))
    }

    /// A command block, padded to a packet's length.
    fn packet(&self, cdb: &[u8]) -> Vec<u8> {
        let mut packet = cdb.to_vec();
        packet.resize(self.facts.packet_bytes, 0);
        packet
    }

    async fn pause(&self) {
        let hal = &self.channel.hal;
        sleep_until(hal, hal.now_100ns() + SECOND_100NS / 100).await;
    }
}

fn blocks(op: ScsiOp, lba: u32, blocks: u16) -> CdbBlocks10 {
    CdbBlocks10 { op, flags: 0, lba: lba.into(), group: 0, blocks: blocks.into(), control: 0 }
}

/// PACKET, with a limit for each block of data.
fn packet_command(features: u8, limit: u16) -> Command {
    // The limit's registers are those of address bits 23:8.
    let lba = u64::from(limit) << 8;
    Command { code: AtaCommand::PACKET, features, count: 0, lba, reach: Reach::None }
}

impl<P: PortIo, H: Hal> Session<'_, P, H> {
    /// Begins PACKET, and gives the drive its packet.
    async fn send_packet(
        &mut self,
        facts: &PacketFacts,
        features: u8,
        packet: &[u8],
    ) -> Result<(), IdeError> {
        self.begin(&packet_command(features, BYTE_LIMIT)).await?;
        let status = if facts.interrupts_for_packet && !self.channel.is_polled() {
            self.told(Waited::Data).await?
        } else {
            self.channel.registers.settle();
            self.not_busy(Waited::Data, COMMAND_100NS).await?
        };
        let reason = self.channel.registers.read(reg::SECTOR_COUNT);
        let wants =
            reason & (interrupt_reason::COD | interrupt_reason::IO) == interrupt_reason::COD;
        if self.check(status)? & status::DRQ == 0 || !wants {
            return Err(IdeError::Protocol(Waited::Data, status));
        }
        self.channel.registers.write_data(packet);
        Ok(())
    }

    /// A packet command with data from the drive; how many bytes it had. What there is no room for is dropped.
    async fn packet_in(
        &mut self,
        facts: &PacketFacts,
        packet: &[u8],
        data: &mut [u8],
    ) -> Result<usize, IdeError> {
        self.channel.state.lock().stale_interrupt = true;
        self.send_packet(facts, 0, packet).await?;
        let mut at = 0;
        for _ in 0..MOST_BLOCKS {
            let status = self.told(Waited::Data).await?;
            if self.check(status)? & status::DRQ == 0 {
                return Ok(at);
            }
            let registers = &self.channel.registers;
            let reason = registers.read(reg::SECTOR_COUNT);
            let low = registers.read(reg::LBA_MID);
            let bytes = usize::from(u16::from_le_bytes([low, registers.read(reg::LBA_HIGH)]));
            if reason & (interrupt_reason::COD | interrupt_reason::IO) != interrupt_reason::IO
                || bytes == 0
            {
                return Err(IdeError::Protocol(Waited::Data, status));
            }
            let room = (data.len() - at).min(bytes) & !1;
            registers.read_data(&mut data[at..at + room]);
            at += room;
            let mut rest = bytes - room;
            while rest != 0 {
                let mut dropped = [0; 2];
                registers.read_data(&mut dropped);
                rest = rest.saturating_sub(2);
            }
            count(&self.channel.counts.pio_bytes, bytes as u64);
        }
        Err(IdeError::Length)
    }

    /// A packet command that fills all of `buffer` by DMA.
    async fn packet_dma(
        &mut self,
        facts: &PacketFacts,
        packet: &[u8],
        buffer: IoBuffer,
    ) -> (Result<(), IdeError>, Option<IoBuffer>) {
        let bytes = buffer.len();
        if let Err(error) = self.lend(&buffer, 0..bytes) {
            return (Err(error), Some(buffer));
        }
        self.channel.state.lock().lent = Some(buffer);
        let moved = async {
            self.arm_bus_master(Direction::In);
            self.send_packet(facts, PACKET_DMA, packet).await?;
            self.move_armed(Direction::In).await
        };
        let done = moved.await;
        if done.is_err() {
            self.stop_bus_master();
        }
        self.disarm_bus_master();
        let buffer = self.channel.state.lock().lent.take();
        if done.is_ok() {
            count(&self.channel.counts.dma_bytes, bytes as u64);
        }
        (done, buffer)
    }

    /// Has a drive whose packet command failed say why.
    async fn explain<T>(
        &mut self,
        facts: &PacketFacts,
        done: Result<T, IdeError>,
    ) -> Result<T, IdeError> {
        if !matches!(done, Err(IdeError::Drive(_))) {
            return done;
        }
        let mut sense = FixedSense::new_zeroed();
        let cdb = CdbRequestSense {
            op: ScsiOp::REQUEST_SENSE,
            flags: 0,
            _reserved: 0.into(),
            allocation_length: size_of::<FixedSense>() as u8,
            control: 0,
        };
        let mut packet = cdb.as_bytes().to_vec();
        packet.resize(facts.packet_bytes, 0);
        // Shorter sense data leaves zeros.
        self.packet_in(facts, &packet, sense.as_mut_bytes()).await?;
        let idle = |it: u8| it & (status::BSY | status::DRQ) == 0;
        self.look_until(Waited::End, READY_100NS, idle).await?;
        let code = AdditionalSense(u16::from_be_bytes([sense.asc, sense.ascq]));
        Err(IdeError::Sense(Sense { key: SenseKey(sense.flags_and_key & 0xF), code }))
    }
}

impl<P: PortIo, H: Hal> BlockDevice for CdRom<P, H> {
    type Error = IdeError;

    fn block_bytes(&self) -> u32 {
        CD_SECTOR_BYTES
    }

    fn blocks(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        true
    }

    async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), IdeError> {
        CdRom::read(self, lba, bytes).await
    }

    async fn write(&self, _: u64, _: &[u8]) -> Result<(), IdeError> {
        Err(IdeError::ReadOnly)
    }

    async fn flush(&self) -> Result<(), IdeError> {
        Ok(())
    }
}
