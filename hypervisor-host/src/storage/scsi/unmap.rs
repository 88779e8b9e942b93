//! UNMAP: the guest no longer needs these blocks.

use hv_abi::scsi::cdb::CdbUnmap;
use hv_abi::scsi::data::{UnmapDescriptor, UnmapHeader};
use zerocopy::FromBytes;

use super::cdb::Blocks;
use super::cdb::Cdb;
use super::data::{DataPhase, DataWay};
use super::sense::Sense;
use super::transfer::check_writable;
use super::{Action, MAX_UNMAP_BLOCKS, MAX_UNMAP_RANGES, UnitInfo};
use crate::storage::disk::ByteRange;
use crate::storage::request::DiskOp;

/// Where the parameters' length is in the command block.
const LENGTH_BYTE: u8 = 7;
/// Where the length of the descriptors is in the parameters.
const DESCRIPTORS_LENGTH_BYTE: u16 = 2;

/// UNMAP. All ranges are looked at before the first is given back.
pub fn unmap(
    cdb: &Cdb,
    unit: &UnitInfo,
    data: DataPhase,
    parameters: Option<&[u8]>,
) -> Result<Action, Sense> {
    const ANCHOR: u8 = 1;
    let cdb: CdbUnmap = cdb.view()?;
    // The disk says that it can't, then it need not know the command.
    if !unit.disk.discard && !unit.disk.read_only {
        return Err(Sense::INVALID_OPCODE);
    }
    if cdb.flags & ANCHOR != 0 {
        return Err(Sense::invalid_field(1));
    }
    check_writable(unit)?;
    let length = cdb.parameter_length.get();
    if length == 0 {
        return Ok(Action::Good);
    }
    data.check(DataWay::Out, length.into(), LENGTH_BYTE)?;
    let Some(list) = parameters else { return Ok(Action::Parameters(length.into())) };
    let ranges = ranges(list, unit)?;
    Ok(match ranges.is_empty() {
        true => Action::Good,
        false => Action::Disk { op: DiskOp::Discard(ranges), bytes: 0 },
    })
}

fn ranges(list: &[u8], unit: &UnitInfo) -> Result<Vec<ByteRange>, Sense> {
    let (header, list) =
        UnmapHeader::read_from_prefix(list).map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
    let length = usize::from(header.descriptors_length.get());
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if length / size_of::<UnmapDescriptor>() > MAX_UNMAP_RANGES as usize {
        return Err(Sense::invalid_parameter(DESCRIPTORS_LENGTH_BYTE));
    }
    let mut ranges = Vec::new();
    let mut total = 0_u64;
    // An incomplete descriptor at the end is ignored (SBC-3).
    for (number, bytes) in list.chunks_exact(size_of::<UnmapDescriptor>()).enumerate() {
        let at = size_of::<UnmapHeader>() + number * size_of::<UnmapDescriptor>();
        let descriptor =
            UnmapDescriptor::read_from_bytes(bytes).map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        let count = descriptor.blocks.get();
        let blocks = Blocks { flags: 0, lba: descriptor.lba.get(), count, count_byte: 0 };
        total = total.saturating_add(count.into());
        if total > MAX_UNMAP_BLOCKS.into() {
            return Err(Sense::invalid_parameter(at as u16 + 8));
        }
        let range = blocks.range(unit)?;
        if range.length != 0 {
            ranges.push(range);
        }
    }
    Ok(ranges)
}
