//! READ CAPACITY and REPORT LUNS.

use hv_abi::scsi::cdb::{
    CdbBlocks10, CdbReportLuns, CdbServiceActionIn16, SELECT_REPORT_ALL, SELECT_REPORT_LUNS,
    SELECT_REPORT_WELL_KNOWN,
};
use hv_abi::scsi::data::{LBPME, LBPRZ_16, ReadCapacity10, ReadCapacity16, ReportLunsHeader};
use zerocopy::IntoBytes;

use super::cdb::Cdb;
use super::data::DataPhase;
use super::sense::Sense;
use super::{Action, UnitInfo};
use crate::storage::disk::SECTOR_BYTES;

/// log₂ of the sectors in 4 KiB, the unit in which files are kept.
const PHYSICAL_EXPONENT: u8 = 3;
const BLOCK_BYTES: u32 = SECTOR_BYTES as u32;

/// READ CAPACITY (10).
pub fn read_capacity_10(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let cdb: CdbBlocks10 = cdb.view()?;
    // An address means something only with PMI, which is as obsolete.
    if cdb.lba.get() != 0 {
        return Err(Sense::invalid_field(2));
    }
    let last = u32::try_from(unit.blocks().saturating_sub(1)).unwrap_or(u32::MAX);
    let answer = ReadCapacity10 { last_lba: last.into(), block_bytes: BLOCK_BYTES.into() };
    data.answer(answer.as_bytes().to_vec(), u32::MAX, 0)
}

/// READ CAPACITY (16).
pub fn read_capacity_16(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let cdb: CdbServiceActionIn16 = cdb.view()?;
    if cdb.lba.get() != 0 {
        return Err(Sense::invalid_field(2));
    }
    let provisioning = if unit.disk.discard { LBPME | LBPRZ_16 } else { 0 };
    let answer = ReadCapacity16 {
        last_lba: unit.blocks().saturating_sub(1).into(),
        block_bytes: BLOCK_BYTES.into(),
        protection: 0,
        physical_exponent: PHYSICAL_EXPONENT,
        provisioning_and_alignment: provisioning.into(),
        _reserved: [0; 16],
    };
    data.answer(answer.as_bytes().to_vec(), cdb.allocation_length.get(), 10)
}

/// REPORT LUNS, for a target with these units.
pub fn report_luns(cdb: &Cdb, luns: &[u8], data: DataPhase) -> Result<Action, Sense> {
    let cdb: CdbReportLuns = cdb.view()?;
    let luns = match cdb.select_report {
        SELECT_REPORT_LUNS | SELECT_REPORT_ALL => luns,
        SELECT_REPORT_WELL_KNOWN => &[],
        _ => return Err(Sense::invalid_field(2)),
    };
    let entries = luns.iter().flat_map(|&lun| {
        // SAM-5, *Peripheral device addressing method*: bus 0, and the number in the second byte.
        [0, lun, 0, 0, 0, 0, 0, 0]
    });
    let list_length = (luns.len() as u32 * 8).into();
    let header = ReportLunsHeader { list_length, _reserved: 0.into() };
    let answer = header.as_bytes().iter().copied().chain(entries).collect();
    data.answer(answer, cdb.allocation_length.get(), 6)
}
