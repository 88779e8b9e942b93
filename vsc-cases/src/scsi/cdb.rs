//! Command descriptor blocks.

use hv_abi::scsi::cdb::{
    CdbBlocks6, CdbBlocks10, CdbBlocks12, CdbBlocks16, CdbInquiry, CdbServiceActionIn16,
};
use hv_abi::scsi::{ScsiOp, service_action_in};

/// A 6-byte command on blocks.
pub fn blocks_6(op: ScsiOp, lba: u32, blocks: u8) -> [u8; 6] {
    let [_, high, middle, low] = lba.to_be_bytes();
    let lba_low = u16::from_be_bytes([middle, low]).into();
    let cdb = CdbBlocks6 { op, lba_high: high, lba_low, blocks, control: 0 };
    zerocopy::transmute!(cdb)
}

/// A 10-byte command on blocks.
pub fn blocks_10(op: ScsiOp, lba: u32, blocks: u16) -> [u8; 10] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks10 { op, flags: 0, lba, group: 0, blocks, control: 0 })
}

/// A 12-byte command on blocks.
pub fn blocks_12(op: ScsiOp, lba: u32, blocks: u32) -> [u8; 12] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks12 { op, flags: 0, lba, blocks, group: 0, control: 0 })
}

/// A 16-byte command on blocks.
pub fn blocks_16(op: ScsiOp, lba: u64, blocks: u32) -> [u8; 16] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks16 { op, flags: 0, lba, blocks, group: 0, control: 0 })
}

/// INQUIRY: a page of vital product data, or the standard data.
pub fn inquiry(page: Option<u8>, allocation: u16) -> [u8; 6] {
    let (flags, page_code) = page.map_or((0, 0), |page| (1, page));
    let allocation_length = allocation.into();
    let op = ScsiOp::INQUIRY;
    zerocopy::transmute!(CdbInquiry { op, flags, page_code, allocation_length, control: 0 })
}

/// READ CAPACITY (16).
pub fn read_capacity_16(allocation: u32) -> [u8; 16] {
    let cdb = CdbServiceActionIn16 {
        op: ScsiOp::SERVICE_ACTION_IN_16,
        service_action: service_action_in::READ_CAPACITY_16,
        lba: 0.into(),
        allocation_length: allocation.into(),
        flags: 0,
        control: 0,
    };
    zerocopy::transmute!(cdb)
}
