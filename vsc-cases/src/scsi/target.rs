//! What carries SCSI commands out, and the scratch disk behind it.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::scsi::data::ReadCapacity16;
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use hv_abi::scsi::{ScsiOp, ScsiStatus};
use zerocopy::FromBytes;

use super::cdb::{blocks_16, read_capacity_16};
use crate::support::{check, skip};
use crate::{CaseResult, Problem};

/// Bytes of a scratch disk, at least.
const SCRATCH_BYTES: u64 = 16 << 20;
/// Numbers among which the scratch disk is looked for.
const SCRATCH_LUNS: core::ops::Range<u8> = 0..8;

/// Which way data goes, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// None.
    None,
    /// To the guest.
    In(u32),
    /// From the guest.
    Out(u32),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all on the way to the disk took it well, with status GOOD in the end.
    pub good: bool,
    /// The disk's status.
    pub status: ScsiStatus,
    /// Sense data, if any came.
    pub sense: Option<Vec<u8>>,
    /// Bytes that were moved.
    pub moved: u32,
}

impl Outcome {
    /// Whether it succeeded.
    pub fn is_good(&self) -> bool {
        self.good
    }

    /// The sense data, if there is any.
    pub fn sense(&self) -> Option<&[u8]> {
        self.sense.as_deref()
    }

    /// Key and code of fixed sense data.
    pub fn error(&self) -> Option<(SenseKey, AdditionalSense)> {
        let sense = self.sense()?;
        let code = u16::from_be_bytes([*sense.get(12)?, *sense.get(13)?]);
        Some((SenseKey(sense.get(2)? & 0xF), AdditionalSense(code)))
    }
}

/// A way to the disks of one controller, with memory for the data of one command.
pub trait Target {
    /// Carries out a command with the beginning of the memory for data.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if nothing comes of it, [`Problem::Skip`] if it can't be tried this way.
    fn run(
        &self,
        lun: u8,
        cdb: &[u8],
        data: Data,
    ) -> impl Future<Output = Result<Outcome, Problem>>;

    /// Copies the beginning of the memory for data.
    ///
    /// # Errors
    ///
    /// There is less.
    fn read(&self, bytes: &mut [u8]) -> CaseResult;

    /// Fills the beginning of the memory for data.
    ///
    /// # Errors
    ///
    /// There is less.
    fn write(&self, bytes: &[u8]) -> CaseResult;

    /// Whether there is a disk with this number; what it wants to tell at first has been heard then.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if that can't be found out.
    fn is_there(&self, lun: u8) -> impl Future<Output = Result<bool, Problem>>;

    /// Bytes of the shortest command block that can be sent.
    fn least_cdb_bytes(&self) -> usize {
        1
    }

    /// Why nobody hears what becomes of such a command, if something between here and the disk sees to that.
    fn conceals(&self, _cdb: &[u8]) -> Option<&'static str> {
        None
    }
}

/// A disk that may be written to.
#[derive(Debug)]
pub struct ScsiDisk<'a, T> {
    /// The way to it.
    pub target: &'a T,
    /// Its number.
    pub lun: u8,
    /// Its blocks.
    pub blocks: u64,
    /// Bytes of each.
    pub block_bytes: u32,
}

impl<'a, T: Target> ScsiDisk<'a, T> {
    /// Finds the first that can be written to and has 16 MiB.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if there is none.
    pub async fn find(target: &'a T) -> Result<Self, Problem> {
        for lun in SCRATCH_LUNS {
            let mut disk = Self { target, lun, blocks: 0, block_bytes: 512 };
            if disk.is_there(lun).await? && disk.is_scratch().await? {
                return Ok(disk);
            }
        }
        skip("there is no writable disk of 16 MiB")
    }

    async fn is_scratch(&mut self) -> Result<bool, Problem> {
        let answer = self.get(&read_capacity_16(32), 32).await?;
        let Ok(capacity) = ReadCapacity16::read_from_bytes(&answer) else { return Ok(false) };
        self.block_bytes = capacity.block_bytes.get();
        self.blocks = capacity.last_lba.get().saturating_add(1);
        let mode = self.get(&[ScsiOp::MODE_SENSE_6.0, 8, 0x3F, 0, 64, 0], 64).await?;
        let writable = mode.get(2).is_some_and(|flags| flags & 0x80 == 0);
        Ok(writable && self.blocks >= SCRATCH_BYTES / u64::from(self.block_bytes.max(1)))
    }

    /// A command.
    ///
    /// # Errors
    ///
    /// [`Target::run`]'s.
    pub async fn run(&self, cdb: &[u8], data: Data) -> Result<Outcome, Problem> {
        self.target.run(self.lun, cdb, data).await
    }

    /// A command that must succeed; bytes that were moved.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it does not.
    pub async fn good(&self, cdb: &[u8], data: Data) -> Result<u32, Problem> {
        let outcome = self.run(cdb, data).await?;
        if let (false, Some(why)) = (outcome.is_good(), self.target.conceals(cdb)) {
            return skip(why);
        }
        check(outcome.is_good(), || format!("{cdb:x?}: {outcome:x?}"))?;
        Ok(outcome.moved)
    }

    /// A command that gives data: what it gives.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn get(&self, cdb: &[u8], bytes: u32) -> Result<Vec<u8>, Problem> {
        let length = self.good(cdb, Data::In(bytes)).await?;
        check(length <= bytes, || format!("{length} of {bytes} bytes"))?;
        self.read(length as usize)
    }

    /// A command that must fail so.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it does not; [`Problem::Skip`] if nobody would hear.
    pub async fn refused(
        &self,
        cdb: &[u8],
        data: Data,
        key: SenseKey,
        code: AdditionalSense,
    ) -> CaseResult {
        if let Some(why) = self.target.conceals(cdb) {
            return skip(why);
        }
        let outcome = self.run(cdb, data).await?;
        let is_check = outcome.status == ScsiStatus::CHECK_CONDITION;
        check(is_check && outcome.error() == Some((key, code)), || {
            format!("{cdb:x?}: {:x?}, {outcome:x?}", outcome.error())
        })
    }

    /// The first bytes of the memory for data.
    ///
    /// # Errors
    ///
    /// There are not so many.
    pub fn read(&self, bytes: usize) -> Result<Vec<u8>, Problem> {
        let mut read = vec![0; bytes];
        self.target.read(&mut read).map(|()| read)
    }

    /// Fills the beginning of the memory for data.
    ///
    /// # Errors
    ///
    /// There is less.
    pub fn write(&self, bytes: &[u8]) -> CaseResult {
        self.target.write(bytes)
    }

    /// Writes blocks.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn put(&self, lba: u64, bytes: &[u8]) -> CaseResult {
        self.write(bytes)?;
        let blocks = bytes.len() as u32 / self.block_bytes;
        let cdb = blocks_16(ScsiOp::WRITE_16, lba, blocks);
        self.good(&cdb, Data::Out(bytes.len() as u32)).await.map(drop)
    }

    /// Reads blocks.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn take(&self, lba: u64, blocks: u32) -> Result<Vec<u8>, Problem> {
        let bytes = blocks * self.block_bytes;
        self.write(&vec![0xEE; bytes as usize])?;
        self.get(&blocks_16(ScsiOp::READ_16, lba, blocks), bytes).await
    }

    /// Whether there is a disk with this number.
    ///
    /// # Errors
    ///
    /// [`Target::is_there`]'s.
    pub async fn is_there(&self, lun: u8) -> Result<bool, Problem> {
        self.target.is_there(lun).await
    }
}
