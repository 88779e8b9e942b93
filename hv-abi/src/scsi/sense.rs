//! Sense data: why a command did not succeed.

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SPC-4, *Sense key and additional sense code definitions*.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SenseKey(pub u8);

#[expect(missing_docs, reason = "each has the standard's name")]
impl SenseKey {
    pub const NO_SENSE: Self = Self(0x0);
    pub const RECOVERED_ERROR: Self = Self(0x1);
    pub const NOT_READY: Self = Self(0x2);
    pub const MEDIUM_ERROR: Self = Self(0x3);
    pub const HARDWARE_ERROR: Self = Self(0x4);
    pub const ILLEGAL_REQUEST: Self = Self(0x5);
    pub const UNIT_ATTENTION: Self = Self(0x6);
    pub const DATA_PROTECT: Self = Self(0x7);
    pub const ABORTED_COMMAND: Self = Self(0xB);
    pub const MISCOMPARE: Self = Self(0xE);
}

/// Additional sense code and its qualifier (SPC-4, *ASC and ASCQ assignments*): the code in the upper byte.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdditionalSense(pub u16);

#[expect(missing_docs, reason = "each has the standard's text, shortened")]
impl AdditionalSense {
    pub const NONE: Self = Self(0x0000);
    pub const BECOMING_READY: Self = Self(0x0401);
    pub const LOGICAL_UNIT_NOT_READY_INTERVENTION_REQUIRED: Self = Self(0x0403);
    pub const WRITE_ERROR: Self = Self(0x0C00);
    pub const UNRECOVERED_READ_ERROR: Self = Self(0x1100);
    pub const PARAMETER_LIST_LENGTH_ERROR: Self = Self(0x1A00);
    pub const MISCOMPARE_DURING_VERIFY: Self = Self(0x1D00);
    pub const INVALID_COMMAND_OPERATION_CODE: Self = Self(0x2000);
    pub const LBA_OUT_OF_RANGE: Self = Self(0x2100);
    pub const INVALID_FIELD_IN_CDB: Self = Self(0x2400);
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Self = Self(0x2500);
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Self = Self(0x2600);
    pub const WRITE_PROTECTED: Self = Self(0x2700);
    pub const SPACE_ALLOCATION_FAILED: Self = Self(0x2707);
    pub const MEDIUM_MAY_HAVE_CHANGED: Self = Self(0x2800);
    pub const POWER_ON_OR_RESET: Self = Self(0x2900);
    pub const BUS_RESET_OCCURRED: Self = Self(0x2902);
    pub const MODE_PARAMETERS_CHANGED: Self = Self(0x2A01);
    pub const CAPACITY_DATA_HAS_CHANGED: Self = Self(0x2A09);
    pub const SAVING_PARAMETERS_NOT_SUPPORTED: Self = Self(0x3900);
    pub const MEDIUM_NOT_PRESENT: Self = Self(0x3A00);
    pub const MEDIUM_NOT_PRESENT_TRAY_OPEN: Self = Self(0x3A02);
    pub const REPORTED_LUNS_DATA_HAS_CHANGED: Self = Self(0x3F0E);
    pub const INTERNAL_TARGET_FAILURE: Self = Self(0x4400);
    pub const COMMAND_PHASE_ERROR: Self = Self(0x4A00);
    pub const DATA_PHASE_ERROR: Self = Self(0x4B00);
    pub const MEDIUM_REMOVAL_PREVENTED: Self = Self(0x5302);
    pub const INSUFFICIENT_RESOURCES: Self = Self(0x5503);
    pub const ILLEGAL_MODE_FOR_THIS_TRACK: Self = Self(0x6400);
}

impl AdditionalSense {
    /// Additional sense code.
    pub const fn asc(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Its qualifier.
    pub const fn ascq(self) -> u8 {
        self.0 as u8
    }
}

/// In [`FixedSense::response_code`]: about the command itself, fixed format.
pub const CURRENT_FIXED: u8 = 0x70;
/// About an earlier command, fixed format.
pub const DEFERRED_FIXED: u8 = 0x71;
/// About the command itself, descriptor format.
pub const CURRENT_DESCRIPTOR: u8 = 0x72;
/// In [`FixedSense::response_code`]: [`FixedSense::information`] is valid.
pub const INFORMATION_VALID: u8 = 0x80;
/// In the first byte of [`FixedSense::sense_key_specific`]: the three bytes are valid.
pub const SKSV: u8 = 0x80;
/// Same place, for ILLEGAL REQUEST: the field is in the CDB, else in the parameters.
pub const FIELD_IN_CDB: u8 = 0x40;

/// SPC-4, *Fixed format sense data*.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FixedSense {
    /// [`CURRENT_FIXED`], [`INFORMATION_VALID`].
    pub response_code: u8,
    /// Obsolete.
    pub _obsolete: u8,
    /// Sense key in bits 3:0, flags above.
    pub flags_and_key: u8,
    /// Usually a block's address.
    pub information: U32,
    /// Bytes behind this one: 10.
    pub additional_length: u8,
    /// Depends on the command.
    pub command_specific: U32,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
    /// Which part of the device; 0 if unknown.
    pub field_replaceable_unit: u8,
    /// Depends on the sense key; for ILLEGAL REQUEST flags and where the field is.
    pub sense_key_specific: [u8; 3],
}

const _: () = assert!(size_of::<FixedSense>() == 18);

/// SPC-4, *Descriptor format sense data*, without descriptors.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DescriptorSense {
    /// [`CURRENT_DESCRIPTOR`].
    pub response_code: u8,
    /// Sense key in bits 3:0.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
    /// Reserved.
    pub _reserved: [u8; 3],
    /// Bytes of descriptors behind this byte.
    pub additional_length: u8,
}

const _: () = assert!(size_of::<DescriptorSense>() == 8);
