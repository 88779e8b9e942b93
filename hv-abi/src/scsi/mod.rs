//! SCSI as far as a disk needs it: commands, their answers, and errors.
//!
//! The standards are T10's: *SPC-4* (SCSI Primary Commands) and *SBC-3* (SCSI Block Commands), *SAM-5* for statuses. Sections are
//! cited by title, which is the same in all drafts. All numbers wider than a byte are big-endian. Operation codes,
//! statuses and sense keys agree with Linux, `include/scsi/scsi_proto.h`.
//!
//! - [`cdb`]: command descriptor blocks
//! - [`sense`]: what went wrong
//! - [`inquiry`]: what it is, the vital product data pages
//! - [`data`]: the data of other commands
//! - [`mode`]: mode parameters

pub mod cdb;
pub mod data;
pub mod inquiry;
pub mod mode;
pub mod sense;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SAM-5, *Status codes*.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ScsiStatus(pub u8);

impl ScsiStatus {
    /// Done.
    pub const GOOD: Self = Self(0x00);
    /// There is sense data.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// Try again.
    pub const BUSY: Self = Self(0x08);
    /// Somebody has reserved the unit.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// Too many commands at once.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// Given up.
    pub const TASK_ABORTED: Self = Self(0x40);
}

/// Operation codes, the first byte of a CDB (SPC-4, *Numeric order codes*).
#[repr(transparent)]
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct ScsiOp(pub u8);

#[expect(missing_docs, reason = "each has the standard's name for the command")]
impl ScsiOp {
    pub const TEST_UNIT_READY: Self = Self(0x00);
    pub const REQUEST_SENSE: Self = Self(0x03);
    pub const READ_6: Self = Self(0x08);
    pub const WRITE_6: Self = Self(0x0A);
    pub const INQUIRY: Self = Self(0x12);
    pub const MODE_SELECT_6: Self = Self(0x15);
    pub const MODE_SENSE_6: Self = Self(0x1A);
    pub const START_STOP_UNIT: Self = Self(0x1B);
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: Self = Self(0x1E);
    pub const READ_CAPACITY_10: Self = Self(0x25);
    pub const READ_10: Self = Self(0x28);
    pub const WRITE_10: Self = Self(0x2A);
    pub const VERIFY_10: Self = Self(0x2F);
    pub const SYNCHRONIZE_CACHE_10: Self = Self(0x35);
    pub const WRITE_SAME_10: Self = Self(0x41);
    pub const UNMAP: Self = Self(0x42);
    pub const MODE_SELECT_10: Self = Self(0x55);
    pub const MODE_SENSE_10: Self = Self(0x5A);
    pub const READ_16: Self = Self(0x88);
    pub const WRITE_16: Self = Self(0x8A);
    pub const VERIFY_16: Self = Self(0x8F);
    pub const SYNCHRONIZE_CACHE_16: Self = Self(0x91);
    pub const WRITE_SAME_16: Self = Self(0x93);
    pub const SERVICE_ACTION_IN_16: Self = Self(0x9E);
    pub const REPORT_LUNS: Self = Self(0xA0);
    pub const MAINTENANCE_IN: Self = Self(0xA3);
    pub const READ_12: Self = Self(0xA8);
    pub const WRITE_12: Self = Self(0xAA);
    pub const VERIFY_12: Self = Self(0xAF);
}

impl ScsiOp {
    /// Bytes of the CDB, by the group of the code (SPC-4, *Operation code*: the group code in bits 7 to 5); `None` for groups without a
    /// fixed length.
    pub const fn cdb_bytes(self) -> Option<usize> {
        match self.0 >> 5 {
            0 => Some(6),
            1 | 2 => Some(10),
            4 => Some(16),
            5 => Some(12),
            _ => None,
        }
    }
}

/// Service actions of [`ScsiOp::SERVICE_ACTION_IN_16`] (SBC-3).
pub mod service_action_in {
    /// READ CAPACITY (16).
    pub const READ_CAPACITY_16: u8 = 0x10;
    /// GET LBA STATUS.
    pub const GET_LBA_STATUS: u8 = 0x12;
}

/// Service actions of [`ScsiOp::MAINTENANCE_IN`] (SPC-4).
pub mod maintenance_in {
    /// REPORT SUPPORTED OPERATION CODES.
    pub const REPORT_SUPPORTED_OPERATION_CODES: u8 = 0x0C;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_the_groups() {
        assert_eq!(ScsiOp::INQUIRY.cdb_bytes(), Some(6));
        assert_eq!(ScsiOp::READ_10.cdb_bytes(), Some(10));
        assert_eq!(ScsiOp::MODE_SENSE_10.cdb_bytes(), Some(10));
        assert_eq!(ScsiOp::READ_16.cdb_bytes(), Some(16));
        assert_eq!(ScsiOp::REPORT_LUNS.cdb_bytes(), Some(12));
        assert_eq!(ScsiOp(0x7F).cdb_bytes(), None);
    }
}
