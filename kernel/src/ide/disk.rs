//! A disk.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;

use hv_abi::ata::SECTOR_BYTES;
use hv_abi::ata::command::AtaCommand;
use vsc_drivers::Hal;
use vsc_drivers::storvsc::{BlockDevice, IoBuffer};

use super::channel::Channel;
use super::command::{Command, most_sectors};
use super::data::Direction;
use super::error::IdeError;
use super::identify::DiskFacts;
use crate::pci::PortIo;

/// Bytes of a slice that go through a buffer of the driver's own at a time: a bus master writes to memory that is given away only.
const BOUNCE_BYTES: usize = 128 << 10;

/// How data goes to and from a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the data register, a sector at a time.
    Pio,
    /// By the data register, up to 16 sectors at a time.
    PioMultiple,
    /// By the bus master.
    Dma,
}

impl Mode {
    /// All.
    pub const ALL: [Self; 3] = [Self::Pio, Self::PioMultiple, Self::Dma];

    /// A name for people and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pio => "pio",
            Self::PioMultiple => "pio-multiple",
            Self::Dma => "dma",
        }
    }

    fn codes(self, direction: Direction) -> (AtaCommand, AtaCommand) {
        use AtaCommand as A;
        match (self, direction) {
            (Self::Pio, Direction::In) => (A::READ_SECTORS, A::READ_SECTORS_EXT),
            (Self::Pio, Direction::Out) => (A::WRITE_SECTORS, A::WRITE_SECTORS_EXT),
            (Self::PioMultiple, Direction::In) => (A::READ_MULTIPLE, A::READ_MULTIPLE_EXT),
            (Self::PioMultiple, Direction::Out) => (A::WRITE_MULTIPLE, A::WRITE_MULTIPLE_EXT),
            (Self::Dma, Direction::In) => (A::READ_DMA, A::READ_DMA_EXT),
            (Self::Dma, Direction::Out) => (A::WRITE_DMA, A::WRITE_DMA_EXT),
        }
    }
}

/// A disk. Clones are the same disk, each with a mode of its own.
///
/// A future that is dropped before it is ready has its channel reset before the next command: what it was to write may be written, or not.
pub struct AtaDisk<P, H: Hal> {
    channel: Arc<Channel<P, H>>,
    drive: u8,
    facts: DiskFacts,
    mode: Mode,
}

impl<P, H: Hal> Clone for AtaDisk<P, H> {
    fn clone(&self) -> Self {
        let Self { channel, drive, facts, mode } = self;
        Self { channel: channel.clone(), drive: *drive, facts: *facts, mode: *mode }
    }
}

impl<P: PortIo, H: Hal> AtaDisk<P, H> {
    pub(super) fn new(channel: Arc<Channel<P, H>>, drive: u8, facts: DiskFacts) -> Self {
        let mut new = Self { channel, drive, facts, mode: Mode::Pio };
        new.mode = Mode::ALL.into_iter().rfind(|&mode| new.has(mode)).unwrap_or(Mode::Pio);
        new
    }

    /// Whether disk and controller can do it so.
    pub fn has(&self, mode: Mode) -> bool {
        match mode {
            Mode::Pio => true,
            Mode::PioMultiple => self.facts.multiple != 0,
            Mode::Dma => self.facts.has_dma && self.channel.has_dma(),
        }
    }

    /// The same disk with data that goes so; `None` if it can't.
    pub fn in_mode(&self, mode: Mode) -> Option<Self> {
        self.has(mode).then(|| Self { mode, ..self.clone() })
    }

    /// How its data goes: the best of what it can, if nothing else was chosen.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it says of itself.
    pub fn facts(&self) -> &DiskFacts {
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

    /// Sectors of `bytes` bytes from `lba` on.
    fn sectors(&self, lba: u64, bytes: usize) -> Result<u64, IdeError> {
        if !bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(IdeError::Misaligned);
        }
        let sectors = (bytes / SECTOR_BYTES) as u64;
        let end = lba.checked_add(sectors).ok_or(IdeError::OutOfRange)?;
        if end <= self.facts.sectors { Ok(sectors) } else { Err(IdeError::OutOfRange) }
    }

    /// The commands that move `bytes` bytes from `lba` on, each with its range of them.
    fn commands(
        &self,
        direction: Direction,
        lba: u64,
        bytes: usize,
        at_most: usize,
    ) -> impl Iterator<Item = (Option<Command>, Range<usize>)> + use<P, H> {
        let has_48 = self.facts.has_48;
        let codes = self.mode.codes(direction);
        let step = at_most.min(most_sectors(has_48) as usize * SECTOR_BYTES);
        (0..bytes).step_by(step).map(move |start| {
            let range = start..bytes.min(start + step);
            let sectors = (range.len() / SECTOR_BYTES) as u32;
            let from = lba + (start / SECTOR_BYTES) as u64;
            (Command::sectors(codes, from, sectors, has_48), range)
        })
    }

    /// Bytes of a block of PIO.
    fn block(&self) -> usize {
        let sectors = match self.mode {
            Mode::PioMultiple => usize::from(self.facts.multiple).max(1),
            _ => 1,
        };
        sectors * SECTOR_BYTES
    }

    /// Reads whole sectors from `lba` on.
    ///
    /// # Errors
    /// [`IdeError`]; `bytes` then has anything in it.
    pub async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), IdeError> {
        self.sectors(lba, bytes.len())?;
        if self.mode == Mode::Dma {
            for (index, piece) in bytes.chunks_mut(BOUNCE_BYTES).enumerate() {
                let from = lba + (index * BOUNCE_BYTES / SECTOR_BYTES) as u64;
                let buffer = IoBuffer::zeroed(piece.len()).ok_or(IdeError::NoMemory)?;
                let buffer = self.dma(Direction::In, from, buffer).await?;
                piece.copy_from_slice(&buffer);
            }
            return Ok(());
        }
        for (command, range) in self.commands(Direction::In, lba, bytes.len(), usize::MAX) {
            let command = command.ok_or(IdeError::OutOfRange)?;
            let mut session = self.channel.session(self.drive).await?;
            let done = session.pio_in(&command, self.block(), &mut bytes[range]).await;
            session.end(done)?;
        }
        Ok(())
    }

    /// Writes whole sectors from `lba` on.
    ///
    /// # Errors
    /// [`IdeError`]; the sectors then have anything in them.
    pub async fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), IdeError> {
        self.sectors(lba, bytes.len())?;
        if self.mode == Mode::Dma {
            for (index, piece) in bytes.chunks(BOUNCE_BYTES).enumerate() {
                let from = lba + (index * BOUNCE_BYTES / SECTOR_BYTES) as u64;
                let mut buffer = IoBuffer::zeroed(piece.len()).ok_or(IdeError::NoMemory)?;
                buffer.copy_from_slice(piece);
                self.dma(Direction::Out, from, buffer).await?;
            }
            return Ok(());
        }
        for (command, range) in self.commands(Direction::Out, lba, bytes.len(), usize::MAX) {
            let command = command.ok_or(IdeError::OutOfRange)?;
            let mut session = self.channel.session(self.drive).await?;
            let done = session.pio_out(&command, self.block(), &bytes[range]).await;
            session.end(done)?;
        }
        Ok(())
    }

    /// Reads into a buffer that is given away and comes back; by DMA without a copy.
    ///
    /// # Errors
    /// As [`read`](Self::read); the buffer is dropped.
    pub async fn read_lent(&self, lba: u64, mut buffer: IoBuffer) -> Result<IoBuffer, IdeError> {
        if self.mode != Mode::Dma {
            self.read(lba, &mut buffer).await?;
            return Ok(buffer);
        }
        self.dma(Direction::In, lba, buffer).await
    }

    /// Writes a buffer that is given away and comes back; by DMA without a copy.
    ///
    /// # Errors
    /// As [`write`](Self::write); the buffer is dropped.
    pub async fn write_lent(&self, lba: u64, buffer: IoBuffer) -> Result<IoBuffer, IdeError> {
        if self.mode != Mode::Dma {
            self.write(lba, &buffer).await?;
            return Ok(buffer);
        }
        self.dma(Direction::Out, lba, buffer).await
    }

    async fn dma(
        &self,
        direction: Direction,
        lba: u64,
        mut buffer: IoBuffer,
    ) -> Result<IoBuffer, IdeError> {
        self.sectors(lba, buffer.len())?;
        let most = super::prd::MAX_SCATTERED_SECTORS as usize * SECTOR_BYTES;
        for (command, range) in self.commands(direction, lba, buffer.len(), most) {
            let command = command.ok_or(IdeError::OutOfRange)?;
            let mut session = self.channel.session(self.drive).await?;
            let (done, back) = session.dma(&command, direction, buffer, range).await;
            session.end(done)?;
            buffer = back.ok_or(IdeError::NoMemory)?;
        }
        Ok(buffer)
    }

    /// Waits until what was written is on the medium.
    ///
    /// # Errors
    /// [`IdeError`]; what was written may be lost.
    pub async fn flush(&self) -> Result<(), IdeError> {
        let code = match (self.facts.has_flush_48, self.facts.has_flush) {
            (true, _) => AtaCommand::FLUSH_CACHE_EXT,
            (false, true) => AtaCommand::FLUSH_CACHE,
            // It has no cache to speak of.
            (false, false) => return Ok(()),
        };
        self.order(&Command::plain(code)).await
    }

    /// Any command without data, for tests.
    ///
    /// # Errors
    /// [`IdeError`].
    pub async fn order(&self, command: &Command) -> Result<(), IdeError> {
        let mut session = self.channel.session(self.drive).await?;
        let done = session.no_data(command).await;
        session.end(done)
    }
}

impl<P: PortIo, H: Hal> BlockDevice for AtaDisk<P, H> {
    type Error = IdeError;

    fn block_bytes(&self) -> u32 {
        SECTOR_BYTES as u32
    }

    fn blocks(&self) -> u64 {
        self.facts.sectors
    }

    fn is_read_only(&self) -> bool {
        false
    }

    async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), IdeError> {
        AtaDisk::read(self, lba, bytes).await
    }

    async fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), IdeError> {
        AtaDisk::write(self, lba, bytes).await
    }

    async fn flush(&self) -> Result<(), IdeError> {
        AtaDisk::flush(self).await
    }
}

impl<P, H: Hal> fmt::Debug for AtaDisk<P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drive, mode, facts, .. } = self;
        f.debug_struct("AtaDisk")
            .field("drive", drive)
            .field("mode", mode)
            .field("facts", facts)
            .finish()
    }
}
