//! INQUIRY: what the unit is.
//!
//! Vendor, product and version are those of Hyper-V's disks, by which Linux's driver knows what it may ask for.

use hv_abi::scsi::cdb::{CdbInquiry, INQUIRY_EVPD};
use hv_abi::scsi::inquiry::{
    BlockDeviceCharacteristics, BlockLimits, CODE_SET_ASCII, CODE_SET_BINARY, DESIGNATOR_NAA,
    DESIGNATOR_T10_VENDOR, DesignatorHeader, INQUIRY_CMDQUE, InquiryData, LBPRZ, LBPU, LBPWS,
    LBPWS10, LogicalBlockProvisioning, NAA_LOCALLY_ASSIGNED, NON_ROTATING, PERIPHERAL_DISK,
    PERIPHERAL_NONE, PROVISIONING_FULL, PROVISIONING_THIN, RESPONSE_DATA_FORMAT, UGAVALID,
    VENDOR_MSFT, VERSION_SPC_3, VpdHeader, vpd_page,
};
use zerocopy::IntoBytes;

use super::cdb::Cdb;
use super::data::DataPhase;
use super::sense::Sense;
use super::{
    Action, MAX_TRANSFER_BYTES, MAX_UNMAP_BLOCKS, MAX_UNMAP_RANGES, MAX_WRITE_SAME_BLOCKS, UnitInfo,
};
use crate::storage::disk::SECTOR_BYTES;

/// Blocks of a page, in which files and most media are kept.
const PAGE_BLOCKS: u32 = 8;
const ALLOCATION_BYTE: u8 = 3;
const PAGE_BYTE: u16 = 2;

const PAGES: [u8; 6] = [
    vpd_page::SUPPORTED_PAGES,
    vpd_page::UNIT_SERIAL_NUMBER,
    vpd_page::DEVICE_IDENTIFICATION,
    vpd_page::BLOCK_LIMITS,
    vpd_page::BLOCK_DEVICE_CHARACTERISTICS,
    vpd_page::LOGICAL_BLOCK_PROVISIONING,
];

/// INQUIRY.
pub fn inquiry(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let cdb: CdbInquiry = cdb.view()?;
    let answer = match cdb.flags & INQUIRY_EVPD {
        0 if cdb.page_code != 0 => return Err(Sense::invalid_field(PAGE_BYTE)),
        0 => standard(PERIPHERAL_DISK).as_bytes().to_vec(),
        _ => vpd(cdb.page_code, unit)?,
    };
    data.answer(answer, cdb.allocation_length.get().into(), ALLOCATION_BYTE)
}

/// INQUIRY of a unit that is not there. Where that is said, and by what else there is, a guest goes on looking.
pub fn absent(cdb: &Cdb, data: DataPhase) -> Result<Action, Sense> {
    let cdb: CdbInquiry = cdb.view()?;
    if cdb.flags & INQUIRY_EVPD != 0 || cdb.page_code != 0 {
        return Err(Sense::invalid_field(PAGE_BYTE));
    }
    let answer = standard(PERIPHERAL_NONE).as_bytes().to_vec();
    data.answer(answer, cdb.allocation_length.get().into(), ALLOCATION_BYTE)
}

fn standard(peripheral: u8) -> InquiryData {
    InquiryData {
        peripheral,
        rmb: 0,
        version: VERSION_SPC_3,
        response_data_format: RESPONSE_DATA_FORMAT,
        additional_length: (size_of::<InquiryData>() - 5) as u8,
        flags5: 0,
        flags6: 0,
        flags7: INQUIRY_CMDQUE,
        vendor: VENDOR_MSFT,
        product: *b"Virtual Disk    ",
        revision: *b"1.0 ",
    }
}

fn vpd(page: u8, unit: &UnitInfo) -> Result<Vec<u8>, Sense> {
    let content = match page {
        vpd_page::SUPPORTED_PAGES => PAGES.to_vec(),
        vpd_page::UNIT_SERIAL_NUMBER => serial(unit),
        vpd_page::DEVICE_IDENTIFICATION => designators(unit),
        vpd_page::BLOCK_LIMITS => limits(unit).as_bytes().to_vec(),
        vpd_page::BLOCK_DEVICE_CHARACTERISTICS => BlockDeviceCharacteristics {
            rotation_rate: NON_ROTATING.into(),
            product_type: 0,
            form_factor: 0,
            _reserved: [0; 56],
        }
        .as_bytes()
        .to_vec(),
        vpd_page::LOGICAL_BLOCK_PROVISIONING => provisioning(unit).as_bytes().to_vec(),
        _ => return Err(Sense::invalid_field(PAGE_BYTE)),
    };
    let page_length = (content.len() as u16).into();
    let header = VpdHeader { peripheral: PERIPHERAL_DISK, page_code: page, page_length };
    Ok([header.as_bytes(), &content].concat())
}

fn serial(unit: &UnitInfo) -> Vec<u8> {
    format!("{:016x}", unit.identity).into_bytes()
}

/// The vendor's name for the unit, and a short one. Neither is the same on two units of a host, unless they have the same file and number.
fn designators(unit: &UnitInfo) -> Vec<u8> {
    let vendor = [&VENDOR_MSFT[..], &serial(unit)].concat();
    let naa = u64::from(NAA_LOCALLY_ASSIGNED) << 60 | unit.identity >> 4;
    let descriptor = |code_set, kind, content: &[u8]| {
        let length = content.len() as u8;
        let header = DesignatorHeader { code_set, kind, _reserved: 0, length };
        [header.as_bytes(), content].concat()
    };
    [
        descriptor(CODE_SET_ASCII, DESIGNATOR_T10_VENDOR, &vendor),
        descriptor(CODE_SET_BINARY, DESIGNATOR_NAA, &naa.to_be_bytes()),
    ]
    .concat()
}

fn limits(unit: &UnitInfo) -> BlockLimits {
    const WSNZ: u8 = 1;
    let blocks = MAX_TRANSFER_BYTES / SECTOR_BYTES as u32;
    let mut limits = BlockLimits {
        wsnz: WSNZ,
        optimal_granularity: (PAGE_BLOCKS as u16).into(),
        max_transfer: blocks.into(),
        optimal_transfer: blocks.into(),
        max_write_same: u64::from(MAX_WRITE_SAME_BLOCKS).into(),
        ..Default::default()
    };
    if unit.disk.discard {
        limits.max_unmap_blocks = MAX_UNMAP_BLOCKS.into();
        limits.max_unmap_descriptors = MAX_UNMAP_RANGES.into();
        limits.optimal_unmap_granularity = PAGE_BLOCKS.into();
        limits.unmap_alignment = UGAVALID.into();
    }
    limits
}

fn provisioning(unit: &UnitInfo) -> LogicalBlockProvisioning {
    let thin = unit.disk.discard;
    LogicalBlockProvisioning {
        threshold_exponent: 0,
        flags: if thin { LBPU | LBPWS | LBPWS10 | LBPRZ } else { 0 },
        provisioning_type: if thin { PROVISIONING_THIN } else { PROVISIONING_FULL },
        _reserved: 0,
    }
}
