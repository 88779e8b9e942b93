//! Errors as a guest sees them: sense data.

use hv_abi::scsi::sense::{
    AdditionalSense, CURRENT_DESCRIPTOR, CURRENT_FIXED, DescriptorSense, FIELD_IN_CDB, FixedSense,
    INFORMATION_VALID, SKSV, SenseKey,
};
use zerocopy::IntoBytes;

use crate::storage::disk::{ByteRange, DiskError, SECTOR_BYTES};
use crate::storage::request::DiskOp;

/// Why a command did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    /// What kind of error.
    pub key: SenseKey,
    /// Which.
    pub code: AdditionalSense,
    /// A block's address or an offset, where there is one.
    pub information: Option<u32>,
    /// The wrong byte.
    pub field: Option<Field>,
}

/// A byte that the guest sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// In the command block.
    Cdb(u16),
    /// In the parameters.
    Parameters(u16),
}

impl Sense {
    /// No error.
    pub const NONE: Self = Self::new(SenseKey::NO_SENSE, AdditionalSense::NONE);
    /// The command is not known.
    pub const INVALID_OPCODE: Self = Self {
        field: Some(Field::Cdb(0)),
        ..Self::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_COMMAND_OPERATION_CODE)
    };
    /// Blocks that the disk does not have.
    pub const OUT_OF_RANGE: Self =
        Self::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::LBA_OUT_OF_RANGE);
    /// The disk may not be written.
    pub const WRITE_PROTECTED: Self =
        Self::new(SenseKey::DATA_PROTECT, AdditionalSense::WRITE_PROTECTED);
    /// There is no such unit.
    pub const NO_UNIT: Self =
        Self::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    /// The parameters are cut short.
    pub const PARAMETER_LIST_LENGTH: Self =
        Self::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

    /// An error without more.
    pub const fn new(key: SenseKey, code: AdditionalSense) -> Self {
        Self { key, code, information: None, field: None }
    }

    /// Something happened to the unit that the guest did not do.
    pub const fn attention(code: AdditionalSense) -> Self {
        Self::new(SenseKey::UNIT_ATTENTION, code)
    }

    /// A byte of the command block is wrong.
    pub const fn invalid_field(byte: u16) -> Self {
        let code = AdditionalSense::INVALID_FIELD_IN_CDB;
        Self { field: Some(Field::Cdb(byte)), ..Self::new(SenseKey::ILLEGAL_REQUEST, code) }
    }

    /// A byte of the parameters is wrong.
    pub const fn invalid_parameter(byte: u16) -> Self {
        let code = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
        Self { field: Some(Field::Parameters(byte)), ..Self::new(SenseKey::ILLEGAL_REQUEST, code) }
    }

    /// What a disk's error is to a guest that asked for `op`.
    pub fn of_disk(error: DiskError, op: &DiskOp) -> Self {
        let medium = match op {
            DiskOp::Read(_) | DiskOp::Verify(_) | DiskOp::Compare(_) => {
                AdditionalSense::UNRECOVERED_READ_ERROR
            }
            _ => AdditionalSense::WRITE_ERROR,
        };
        match error {
            DiskError::NoSpace => {
                Self::new(SenseKey::DATA_PROTECT, AdditionalSense::SPACE_ALLOCATION_FAILED)
            }
            DiskError::ReadOnly => Self::WRITE_PROTECTED,
            DiskError::Outside => Self::OUT_OF_RANGE,
            DiskError::Miscompare(byte) => Self {
                information: u32::try_from(byte).ok(),
                ..Self::new(SenseKey::MISCOMPARE, AdditionalSense::MISCOMPARE_DURING_VERIFY)
            },
            DiskError::Os(_) | DiskError::Short | DiskError::FlushLost | DiskError::Unsupported => {
                Self { information: first_block(op), ..Self::new(SenseKey::MEDIUM_ERROR, medium) }
            }
        }
    }

    /// In fixed format.
    pub fn to_fixed(self) -> [u8; size_of::<FixedSense>()] {
        let valid = if self.information.is_some() { INFORMATION_VALID } else { 0 };
        let sense = FixedSense {
            response_code: CURRENT_FIXED | valid,
            flags_and_key: self.key.0,
            information: self.information.unwrap_or(0).into(),
            additional_length: 10,
            asc: self.code.asc(),
            ascq: self.code.ascq(),
            sense_key_specific: self.field.map_or([0; 3], Field::to_bytes),
            ..Default::default()
        };
        let mut bytes = [0; size_of::<FixedSense>()];
        bytes.copy_from_slice(sense.as_bytes());
        bytes
    }

    /// In descriptor format, without descriptors.
    pub fn to_descriptor(self) -> [u8; size_of::<DescriptorSense>()] {
        [CURRENT_DESCRIPTOR, self.key.0, self.code.asc(), self.code.ascq(), 0, 0, 0, 0]
    }
}

impl Field {
    /// SPC-4, *Field pointer sense key specific data*.
    fn to_bytes(self) -> [u8; 3] {
        let (flags, byte) = match self {
            Self::Cdb(byte) => (SKSV | FIELD_IN_CDB, byte),
            Self::Parameters(byte) => (SKSV, byte),
        };
        let [high, low] = byte.to_be_bytes();
        [flags, high, low]
    }
}

/// The first block of a request, where it fits.
fn first_block(op: &DiskOp) -> Option<u32> {
    let range: ByteRange = match op {
        DiskOp::Read(range)
        | DiskOp::Write { range, .. }
        | DiskOp::Zero(range)
        | DiskOp::Fill { range, .. }
        | DiskOp::Verify(range)
        | DiskOp::Compare(range) => *range,
        DiskOp::Flush | DiskOp::Discard(_) => return None,
    };
    u32::try_from(range.offset / SECTOR_BYTES).ok()
}
