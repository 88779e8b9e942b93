//! Commands that read, write, check and flush blocks.

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{
    BYTCHK_MASK, FUA, PROTECT_MASK, WRITE_SAME_ANCHOR, WRITE_SAME_NDOB, WRITE_SAME_UNMAP,
};

use super::cdb::{Blocks, Cdb};
use super::data::{DataPhase, DataWay};
use super::sense::Sense;
use super::{Action, MAX_TRANSFER_BYTES, MAX_WRITE_SAME_BLOCKS, UnitInfo};
use crate::storage::disk::{ByteRange, SECTOR_BYTES};
use crate::storage::request::DiskOp;

const BLOCK: u32 = SECTOR_BYTES as u32;

impl Blocks {
    /// Where they are.
    ///
    /// # Errors
    /// The disk does not have them all.
    pub fn range(&self, unit: &UnitInfo) -> Result<ByteRange, Sense> {
        match self.lba.checked_add(self.count.into()) {
            Some(end) if end <= unit.blocks() => Ok(ByteRange::new(
                self.lba.saturating_mul(SECTOR_BYTES),
                u64::from(self.count).saturating_mul(SECTOR_BYTES),
            )),
            _ => Err(Sense::OUT_OF_RANGE),
        }
    }

    /// Bytes of data, one block's for each.
    ///
    /// # Errors
    /// They are more than one command moves.
    fn bytes(&self) -> Result<u32, Sense> {
        match self.count.checked_mul(BLOCK) {
            Some(bytes) if bytes <= MAX_TRANSFER_BYTES => Ok(bytes),
            _ => Err(Sense::invalid_field(self.count_byte.into())),
        }
    }

    fn refuse_flags(&self, mask: u8) -> Result<(), Sense> {
        if self.flags & mask != 0 { Err(Sense::invalid_field(1)) } else { Ok(()) }
    }
}

/// READ. FUA asks for what is safe on the medium; the page cache is never older than that.
pub fn read(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let blocks = cdb.blocks()?;
    blocks.refuse_flags(PROTECT_MASK)?;
    let range = blocks.range(unit)?;
    let bytes = blocks.bytes()?;
    data.check(DataWay::In, bytes, blocks.count_byte)?;
    Ok(action(bytes, DiskOp::Read(range)))
}

/// WRITE.
pub fn write(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let blocks = cdb.blocks()?;
    blocks.refuse_flags(PROTECT_MASK)?;
    let range = blocks.range(unit)?;
    let bytes = blocks.bytes()?;
    check_writable(unit)?;
    data.check(DataWay::Out, bytes, blocks.count_byte)?;
    let through = blocks.flags & FUA != 0;
    Ok(action(bytes, DiskOp::Write { range, through }))
}

/// No blocks, no work.
fn action(bytes: u32, op: DiskOp) -> Action {
    if bytes == 0 { Action::Good } else { Action::Disk { op, bytes } }
}

/// Whether the disk may be written.
///
/// # Errors
/// It may not.
pub fn check_writable(unit: &UnitInfo) -> Result<(), Sense> {
    if unit.disk.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
}

/// SYNCHRONIZE CACHE. All of the cache is written, whichever blocks are named, and before we answer, IMMED or not.
pub fn synchronize(cdb: &Cdb, unit: &UnitInfo) -> Result<Action, Sense> {
    // A count of 0 means all blocks from the first on.
    cdb.blocks()?.range(unit)?;
    Ok(Action::Disk { op: DiskOp::Flush, bytes: 0 })
}

/// VERIFY, with what the guest sends or without.
pub fn verify(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let blocks = cdb.blocks()?;
    blocks.refuse_flags(PROTECT_MASK)?;
    let range = blocks.range(unit)?;
    let bytes = blocks.bytes()?;
    match (blocks.flags & BYTCHK_MASK) >> 1 {
        0 if bytes == 0 => Ok(Action::Good),
        0 => Ok(Action::Disk { op: DiskOp::Verify(range), bytes: 0 }),
        1 => {
            data.check(DataWay::Out, bytes, blocks.count_byte)?;
            Ok(action(bytes, DiskOp::Compare(range)))
        }
        _ => Err(Sense::invalid_field(1)),
    }
}

/// WRITE SAME: one block again and again, or zeros.
pub fn write_same(
    cdb: &Cdb,
    unit: &UnitInfo,
    data: DataPhase,
    parameters: Option<&[u8]>,
) -> Result<Action, Sense> {
    const OBSOLETE: u8 = 0x06;
    let blocks = cdb.blocks()?;
    blocks.refuse_flags(PROTECT_MASK | WRITE_SAME_ANCHOR | OBSOLETE)?;
    let no_data = blocks.flags & WRITE_SAME_NDOB != 0;
    let unmap = blocks.flags & WRITE_SAME_UNMAP != 0;
    if (no_data && cdb.op() != ScsiOp::WRITE_SAME_16) || (unmap && !unit.disk.discard) {
        return Err(Sense::invalid_field(1));
    }
    // The Block Limits page says that 0 does not mean "all".
    if blocks.count == 0 || blocks.count > MAX_WRITE_SAME_BLOCKS {
        return Err(Sense::invalid_field(blocks.count_byte.into()));
    }
    let range = blocks.range(unit)?;
    check_writable(unit)?;
    if no_data {
        return Ok(zeros(range, unmap));
    }
    data.check(DataWay::Out, BLOCK, blocks.count_byte)?;
    Ok(match parameters {
        None => Action::Parameters(BLOCK),
        Some(block) if block.len() != BLOCK as usize => Sense::PARAMETER_LIST_LENGTH.into(),
        Some(block) if block.iter().all(|&byte| byte == 0) => zeros(range, unmap),
        Some(block) => {
            Action::Disk { op: DiskOp::Fill { range, pattern: block.to_vec() }, bytes: 0 }
        }
    })
}

fn zeros(range: ByteRange, unmap: bool) -> Action {
    let op = if unmap { DiskOp::Discard(vec![range]) } else { DiskOp::Zero(range) };
    Action::Disk { op, bytes: 0 }
}
