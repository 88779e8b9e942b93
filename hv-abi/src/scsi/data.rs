//! Parameter data of commands other than INQUIRY and the mode commands.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ScsiOp;

/// Answer of READ CAPACITY (10) (SBC-3, *READ CAPACITY (10) parameter data*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReadCapacity10 {
    /// Last block; all ones if it does not fit, and READ CAPACITY (16) says it.
    pub last_lba: U32,
    /// Bytes of a block.
    pub block_bytes: U32,
}

const _: () = assert!(size_of::<ReadCapacity10>() == 8);

/// Answer of READ CAPACITY (16) (SBC-3, *READ CAPACITY (16) parameter data*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReadCapacity16 {
    /// Last block.
    pub last_lba: U64,
    /// Bytes of a block.
    pub block_bytes: U32,
    /// Protection; 0: none.
    pub protection: u8,
    /// log₂ of the number of logical blocks in a physical one, in bits 3:0.
    pub physical_exponent: u8,
    /// [`LBPME`] and [`LBPRZ_16`]; below them the first logical block that begins a physical one.
    pub provisioning_and_alignment: U16,
    /// Reserved.
    pub _reserved: [u8; 16],
}

const _: () = assert!(size_of::<ReadCapacity16>() == 32);
/// In [`ReadCapacity16::provisioning_and_alignment`]: blocks can be unmapped.
pub const LBPME: u16 = 0x8000;
/// Same place: unmapped blocks read as zeros.
pub const LBPRZ_16: u16 = 0x4000;

/// Head of the answer of REPORT LUNS (SPC-4, *REPORT LUNS parameter data*); 8 bytes for each unit follow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReportLunsHeader {
    /// Bytes of the list.
    pub list_length: U32,
    /// Reserved.
    pub _reserved: U32,
}

const _: () = assert!(size_of::<ReportLunsHeader>() == 8);

/// Head of the parameters of UNMAP (SBC-3, *UNMAP parameter list*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapHeader {
    /// Bytes behind this field.
    pub data_length: U16,
    /// Bytes of the descriptors: whole ones only.
    pub descriptors_length: U16,
    /// Reserved.
    pub _reserved: U32,
}

const _: () = assert!(size_of::<UnmapHeader>() == 8);

/// SBC-3, *UNMAP block descriptor*.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapDescriptor {
    /// First block.
    pub lba: U64,
    /// Blocks.
    pub blocks: U32,
    /// Reserved.
    pub _reserved: U32,
}

const _: () = assert!(size_of::<UnmapDescriptor>() == 16);

/// One of the answer of REPORT SUPPORTED OPERATION CODES for all codes (SPC-4, *All commands parameter data format*), behind 4
/// bytes of length.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CommandDescriptor {
    /// Code.
    pub op: ScsiOp,
    /// Reserved.
    pub _reserved: u8,
    /// Service action, if [`SERVACTV`].
    pub service_action: U16,
    /// Reserved.
    pub _reserved2: u8,
    /// [`SERVACTV`]; bit 1: a descriptor of time limits follows.
    pub flags: u8,
    /// Bytes of the CDB.
    pub cdb_length: U16,
}

const _: () = assert!(size_of::<CommandDescriptor>() == 8);
/// In [`CommandDescriptor::flags`]: the command has service actions.
pub const SERVACTV: u8 = 0x01;
