//! What a logical unit says of itself: standard INQUIRY data (SPC-4, *Standard INQUIRY data*) and vital product data pages.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Standard INQUIRY data up to the vendor-specific part.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct InquiryData {
    /// Peripheral qualifier in bits 7:5, device type below.
    pub peripheral: u8,
    /// Bit 7: the medium can be removed.
    pub rmb: u8,
    /// [`VERSION_SPC_3`] and its like.
    pub version: u8,
    /// Response data format in bits 3:0: 2.
    pub response_data_format: u8,
    /// Bytes behind this one.
    pub additional_length: u8,
    /// Flags of byte 5: SCCS, ACC, TPGS, 3PC, PROTECT.
    pub flags5: u8,
    /// Flags of byte 6: ENCSERV, MULTIP.
    pub flags6: u8,
    /// Flags of byte 7: [`INQUIRY_CMDQUE`].
    pub flags7: u8,
    /// ASCII, padded with spaces.
    pub vendor: [u8; 8],
    /// ASCII, padded with spaces.
    pub product: [u8; 16],
    /// ASCII, padded with spaces.
    pub revision: [u8; 4],
}

const _: () = assert!(size_of::<InquiryData>() == 36);

/// Device type: direct access block device.
pub const PERIPHERAL_DISK: u8 = 0x00;
/// Peripheral qualifier 1: the unit could be there but is not; type unknown (SPC-4, *Peripheral qualifier*).
pub const PERIPHERAL_NOT_CONNECTED: u8 = 0x20;
/// Peripheral qualifier 3 and type unknown: there can be no unit at this address.
pub const PERIPHERAL_NONE: u8 = 0x7F;
/// Version: SPC-3.
pub const VERSION_SPC_3: u8 = 0x05;
/// Version: SPC-4.
pub const VERSION_SPC_4: u8 = 0x06;
/// Response data format of standard INQUIRY data.
pub const RESPONSE_DATA_FORMAT: u8 = 2;
/// In [`InquiryData::flags7`]: many commands at once.
pub const INQUIRY_CMDQUE: u8 = 0x02;
/// Vendor that Hyper-V's disks have; Linux's `storvsc` takes such a unit to conform to SPC-3, whatever it says.
pub const VENDOR_MSFT: [u8; 8] = *b"Msft    ";

/// Head of every vital product data page.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VpdHeader {
    /// As in [`InquiryData::peripheral`].
    pub peripheral: u8,
    /// [`vpd_page`].
    pub page_code: u8,
    /// Bytes behind this field.
    pub page_length: U16,
}

const _: () = assert!(size_of::<VpdHeader>() == 4);

/// Page codes (SPC-4, *Vital product data parameters*; SBC-3, *Vital product data (VPD) parameters*).
pub mod vpd_page {
    /// A list of the page codes.
    pub const SUPPORTED_PAGES: u8 = 0x00;
    /// Serial number, ASCII.
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    /// [`DesignatorHeader`](super::DesignatorHeader)s.
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    /// [`BlockLimits`](super::BlockLimits).
    pub const BLOCK_LIMITS: u8 = 0xB0;
    /// [`BlockDeviceCharacteristics`](super::BlockDeviceCharacteristics).
    pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xB1;
    /// [`LogicalBlockProvisioning`](super::LogicalBlockProvisioning).
    pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xB2;
}

/// SPC-4, *Designation descriptor*: the head.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DesignatorHeader {
    /// Code set in bits 3:0.
    pub code_set: u8,
    /// Association in bits 5:4 (0: the logical unit), designator type in bits 3:0.
    pub kind: u8,
    /// Reserved.
    pub _reserved: u8,
    /// Bytes behind this one.
    pub length: u8,
}

const _: () = assert!(size_of::<DesignatorHeader>() == 4);

/// Code set: binary.
pub const CODE_SET_BINARY: u8 = 1;
/// Code set: ASCII.
pub const CODE_SET_ASCII: u8 = 2;
/// Designator type: 8 bytes of vendor, then what the vendor likes.
pub const DESIGNATOR_T10_VENDOR: u8 = 1;
/// Designator type: name address authority, of which the upper 4 bits say the format.
pub const DESIGNATOR_NAA: u8 = 3;
/// Upper 4 bits of an NAA designator of 8 bytes that is unique on this machine only (SPC-4, *NAA Locally Assigned designator
/// format*).
pub const NAA_LOCALLY_ASSIGNED: u8 = 0x3;

/// Behind the header of [`vpd_page::BLOCK_LIMITS`] (SBC-3, *Block Limits VPD page*); 60 bytes with the reserved ones.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BlockLimits {
    /// Bit 0: WRITE SAME with a length of 0 is an error.
    pub wsnz: u8,
    /// Blocks of COMPARE AND WRITE; 0: not supported.
    pub max_compare_and_write: u8,
    /// Blocks.
    pub optimal_granularity: U16,
    /// Blocks of one transfer; 0: no limit told.
    pub max_transfer: U32,
    /// Blocks.
    pub optimal_transfer: U32,
    /// Blocks.
    pub max_prefetch: U32,
    /// Blocks of one UNMAP in all; 0: not supported.
    pub max_unmap_blocks: U32,
    /// Descriptors of one UNMAP; 0: not supported.
    pub max_unmap_descriptors: U32,
    /// Blocks.
    pub optimal_unmap_granularity: U32,
    /// Bit 31: valid; first block of an aligned UNMAP below.
    pub unmap_alignment: U32,
    /// Blocks of one WRITE SAME; 0: no limit told.
    pub max_write_same: U64,
    /// Reserved (atomic writes in SBC-4).
    pub _reserved: [u8; 20],
}

const _: () = assert!(size_of::<BlockLimits>() == 60);
/// In [`BlockLimits::unmap_alignment`]: the rest is valid.
pub const UGAVALID: u32 = 1 << 31;

/// Behind the header of [`vpd_page::BLOCK_DEVICE_CHARACTERISTICS`] (SBC-3, *Block Device Characteristics VPD page*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BlockDeviceCharacteristics {
    /// 1: does not rotate.
    pub rotation_rate: U16,
    /// Product type.
    pub product_type: u8,
    /// Form factor in bits 3:0.
    pub form_factor: u8,
    /// Reserved.
    pub _reserved: [u8; 56],
}

const _: () = assert!(size_of::<BlockDeviceCharacteristics>() == 60);
/// In [`BlockDeviceCharacteristics::rotation_rate`].
pub const NON_ROTATING: u16 = 1;

/// Behind the header of [`vpd_page::LOGICAL_BLOCK_PROVISIONING`] (SBC-3, *Logical Block Provisioning VPD page*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LogicalBlockProvisioning {
    /// Of soft thresholds; 0: none.
    pub threshold_exponent: u8,
    /// [`LBPU`], [`LBPWS`], [`LBPWS10`], [`LBPRZ`].
    pub flags: u8,
    /// [`PROVISIONING_THIN`] in bits 2:0.
    pub provisioning_type: u8,
    /// Reserved.
    pub _reserved: u8,
}

const _: () = assert!(size_of::<LogicalBlockProvisioning>() == 4);
/// UNMAP is supported.
pub const LBPU: u8 = 0x80;
/// WRITE SAME (16) can unmap.
pub const LBPWS: u8 = 0x40;
/// WRITE SAME (10) can unmap.
pub const LBPWS10: u8 = 0x20;
/// Unmapped blocks read as zeros.
pub const LBPRZ: u8 = 0x04;
/// Provisioning type: all blocks have their place.
pub const PROVISIONING_FULL: u8 = 0;
/// Provisioning type: blocks take place when they are written.
pub const PROVISIONING_THIN: u8 = 2;
