//! Mode parameters: what MODE SENSE tells and MODE SELECT sets (SPC-4, *Mode parameters*; SBC-3, *Mode parameters for direct access
//! block devices*).

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SPC-4, *Mode parameter header (6)*.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ModeHeader6 {
    /// Bytes behind this one.
    pub data_length: u8,
    /// 0.
    pub medium_type: u8,
    /// [`MODE_WP`], [`MODE_DPOFUA`].
    pub device_specific: u8,
    /// Bytes of block descriptors.
    pub block_descriptor_length: u8,
}

const _: () = assert!(size_of::<ModeHeader6>() == 4);

/// SPC-4, *Mode parameter header (10)*.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ModeHeader10 {
    /// Bytes behind this field.
    pub data_length: U16,
    /// 0.
    pub medium_type: u8,
    /// [`MODE_WP`], [`MODE_DPOFUA`].
    pub device_specific: u8,
    /// Bit 0: the block descriptors are long.
    pub long_lba: u8,
    /// Reserved.
    pub _reserved: u8,
    /// Bytes of block descriptors.
    pub block_descriptor_length: U16,
}

const _: () = assert!(size_of::<ModeHeader10>() == 8);

/// In a header: write protected.
pub const MODE_WP: u8 = 0x80;
/// In a header: FUA and DPO are supported.
pub const MODE_DPOFUA: u8 = 0x10;

/// SBC-3, *Short LBA mode parameter block descriptor*.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShortBlockDescriptor {
    /// Blocks; all ones if they do not fit.
    pub blocks: U32,
    /// Bytes of a block in the lower 24 bits.
    pub block_bytes: U32,
}

const _: () = assert!(size_of::<ShortBlockDescriptor>() == 8);

/// Page codes.
pub mod page {
    /// [`CachingPage`](super::CachingPage).
    pub const CACHING: u8 = 0x08;
    /// [`ControlPage`](super::ControlPage).
    pub const CONTROL: u8 = 0x0A;
    /// All of them.
    pub const ALL: u8 = 0x3F;
}

/// Page control: current values.
pub const PAGE_CONTROL_CURRENT: u8 = 0;
/// Page control: which bits can be changed.
pub const PAGE_CONTROL_CHANGEABLE: u8 = 1;
/// Page control: defaults.
pub const PAGE_CONTROL_DEFAULT: u8 = 2;
/// Page control: saved values.
pub const PAGE_CONTROL_SAVED: u8 = 3;

/// SBC-3, *Caching mode page*.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CachingPage {
    /// [`page::CACHING`].
    pub page_code: u8,
    /// 0x12.
    pub page_length: u8,
    /// [`CACHING_WCE`] and others.
    pub flags: u8,
    /// Retention priorities, prefetch, segments: 0.
    pub _unused: [u8; 17],
}

const _: () = assert!(size_of::<CachingPage>() == 20);
/// In [`CachingPage::flags`]: writes may stay in a cache until it is synchronized.
pub const CACHING_WCE: u8 = 0x04;
/// Same place: reads don't come from the cache.
pub const CACHING_RCD: u8 = 0x01;

/// SPC-4, *Control mode page*.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ControlPage {
    /// [`page::CONTROL`].
    pub page_code: u8,
    /// 0x0A.
    pub page_length: u8,
    /// Bit 2: D_SENSE, descriptor format sense data.
    pub flags2: u8,
    /// Queue algorithm modifier in bits 7:4 (1: any order).
    pub flags3: u8,
    /// Bit 3: SWP, write protected by software.
    pub flags4: u8,
    /// Task aborted status and others.
    pub flags5: u8,
    /// Obsolete.
    pub _obsolete: U16,
    /// In 100 ms; all ones: no limit.
    pub busy_timeout: U16,
    /// Seconds of an extended self-test.
    pub self_test_time: U16,
}

const _: () = assert!(size_of::<ControlPage>() == 12);
/// In [`ControlPage::flags3`]: commands may be executed in any order.
pub const UNRESTRICTED_REORDERING: u8 = 0x10;
