//! SCSI commands that the driver gives.

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{
    CdbBlocks10, CdbBlocks16, CdbInquiry, CdbModeSense6, CdbReportLuns, CdbServiceActionIn16,
    CdbUnmap, FUA, INQUIRY_EVPD, MODE_SENSE_DBD, SELECT_REPORT_LUNS, WRITE_SAME_UNMAP,
};
use hv_abi::scsi::mode::page;
use hv_abi::scsi::service_action_in;
use hv_abi::storvsp::{DataDirection, MAX_CDB_BYTES};
use zerocopy::{Immutable, IntoBytes};

/// A command and which way its data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) cdb: [u8; MAX_CDB_BYTES],
    pub(super) cdb_length: u8,
    pub(super) direction: DataDirection,
    /// Bytes of data.
    pub(super) data_bytes: u32,
}

impl Command {
    fn new(cdb: &(impl IntoBytes + Immutable), direction: DataDirection, data_bytes: u32) -> Self {
        let mut bytes = [0; MAX_CDB_BYTES];
        bytes.iter_mut().zip(cdb.as_bytes()).for_each(|(to, byte)| *to = *byte);
        Self { cdb: bytes, cdb_length: size_of_val(cdb) as u8, direction, data_bytes }
    }

    fn blocks_10(op: ScsiOp, flags: u8, lba: u32, blocks: u16) -> CdbBlocks10 {
        let (lba, blocks) = (lba.into(), blocks.into());
        CdbBlocks10 { op, flags, lba, group: 0, blocks, control: 0 }
    }

    fn blocks_16(op: ScsiOp, flags: u8, lba: u64, blocks: u32) -> CdbBlocks16 {
        let (lba, blocks) = (lba.into(), blocks.into());
        CdbBlocks16 { op, flags, lba, group: 0, blocks, control: 0 }
    }

    /// READ or WRITE, in the shorter form where it suffices.
    pub(super) fn transfer(
        direction: DataDirection,
        lba: u64,
        blocks: u32,
        block_bytes: u32,
        unit_access: bool,
    ) -> Self {
        let flags = if unit_access { FUA } else { 0 };
        let is_read = direction == DataDirection::READ;
        let bytes = blocks.saturating_mul(block_bytes);
        match (u32::try_from(lba), u16::try_from(blocks)) {
            (Ok(lba), Ok(blocks)) => {
                let op = if is_read { ScsiOp::READ_10 } else { ScsiOp::WRITE_10 };
                Self::new(&Self::blocks_10(op, flags, lba, blocks), direction, bytes)
            }
            _ => {
                let op = if is_read { ScsiOp::READ_16 } else { ScsiOp::WRITE_16 };
                Self::new(&Self::blocks_16(op, flags, lba, blocks), direction, bytes)
            }
        }
    }

    /// TEST UNIT READY.
    pub(super) fn test_unit_ready() -> Self {
        Self::new(&[ScsiOp::TEST_UNIT_READY.0, 0, 0, 0, 0, 0], DataDirection::UNKNOWN, 0)
    }

    /// SYNCHRONIZE CACHE (10) of the whole disk.
    pub(super) fn synchronize_cache() -> Self {
        let cdb = Self::blocks_10(ScsiOp::SYNCHRONIZE_CACHE_10, 0, 0, 0);
        Self::new(&cdb, DataDirection::UNKNOWN, 0)
    }

    /// INQUIRY, of a vital product data page if one is named.
    pub(super) fn inquiry(vpd_page: Option<u8>, room: u16) -> Self {
        let cdb = CdbInquiry {
            op: ScsiOp::INQUIRY,
            flags: if vpd_page.is_some() { INQUIRY_EVPD } else { 0 },
            page_code: vpd_page.unwrap_or(0),
            allocation_length: room.into(),
            control: 0,
        };
        Self::new(&cdb, DataDirection::READ, room.into())
    }

    /// REPORT LUNS.
    pub(super) fn report_luns(room: u32) -> Self {
        let cdb = CdbReportLuns {
            op: ScsiOp::REPORT_LUNS,
            _reserved: 0,
            select_report: SELECT_REPORT_LUNS,
            _reserved2: [0; 3],
            allocation_length: room.into(),
            _reserved3: 0,
            control: 0,
        };
        Self::new(&cdb, DataDirection::READ, room)
    }

    /// READ CAPACITY (10).
    pub(super) fn read_capacity_10(room: u32) -> Self {
        let cdb = Self::blocks_10(ScsiOp::READ_CAPACITY_10, 0, 0, 0);
        Self::new(&cdb, DataDirection::READ, room)
    }

    /// READ CAPACITY (16).
    pub(super) fn read_capacity_16(room: u32) -> Self {
        let cdb = CdbServiceActionIn16 {
            op: ScsiOp::SERVICE_ACTION_IN_16,
            service_action: service_action_in::READ_CAPACITY_16,
            lba: 0.into(),
            allocation_length: room.into(),
            flags: 0,
            control: 0,
        };
        Self::new(&cdb, DataDirection::READ, room)
    }

    /// MODE SENSE (6) of all pages, for the header.
    pub(super) fn mode_sense(room: u8) -> Self {
        let cdb = CdbModeSense6 {
            op: ScsiOp::MODE_SENSE_6,
            flags: MODE_SENSE_DBD,
            page: page::ALL,
            subpage: 0,
            allocation_length: room,
            control: 0,
        };
        Self::new(&cdb, DataDirection::READ, room.into())
    }

    /// UNMAP with so many bytes of parameters.
    pub(super) fn unmap(parameter_bytes: u16) -> Self {
        let cdb = CdbUnmap {
            op: ScsiOp::UNMAP,
            flags: 0,
            _reserved: 0.into(),
            group: 0,
            parameter_length: parameter_bytes.into(),
            control: 0,
        };
        Self::new(&cdb, DataDirection::WRITE, parameter_bytes.into())
    }

    /// WRITE SAME (16) of one block of data to many, which may be unmapped instead if they then read as the data.
    pub(super) fn write_same(lba: u64, blocks: u32, block_bytes: u32, unmap: bool) -> Self {
        let flags = if unmap { WRITE_SAME_UNMAP } else { 0 };
        let cdb = Self::blocks_16(ScsiOp::WRITE_SAME_16, flags, lba, blocks);
        Self::new(&cdb, DataDirection::WRITE, block_bytes)
    }
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
