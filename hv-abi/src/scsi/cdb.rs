//! Command descriptor blocks (SPC-4, *The Command Descriptor Block (CDB)*; the commands' own sections in SPC-4 and SBC-3).
//!
//! Fields that share a byte keep that byte as one field; what its bits mean is a constant beside it.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ScsiOp;

macro_rules! cdbs {
    ($($(#[$doc:meta])* $name:ident, $bytes:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name {
            /// Operation code.
            pub op: ScsiOp,
            $($(#[$field_doc])* pub $field: $type,)*
            /// CONTROL: [`CONTROL_NACA`], or 0.
            pub control: u8,
        }

        const _: () = assert!(size_of::<$name>() == $bytes);
        const _: () = assert!(align_of::<$name>() == 1);
    )* };
}

/// In CONTROL: normal auto contingent allegiance (SAM-5), which few devices support.
pub const CONTROL_NACA: u8 = 0x04;

/// In [`CdbBlocks10::flags`] and its like: force unit access, the data is to be on the medium.
pub const FUA: u8 = 0x08;
/// Same place: disable page out, a wish as to caching.
pub const DPO: u8 = 0x10;
/// Same place: how to check protection information; not 0 only for disks formatted with it.
pub const PROTECT_MASK: u8 = 0xE0;
/// In the flags of VERIFY: compare with the data sent (bits 2:1; 1 sends all, 3 sends one block).
pub const BYTCHK_MASK: u8 = 0x06;
/// In the flags of WRITE SAME: unmap, if that reads as the data sent.
pub const WRITE_SAME_UNMAP: u8 = 0x08;
/// Same place: anchor.
pub const WRITE_SAME_ANCHOR: u8 = 0x10;
/// In the flags of WRITE SAME (16): no data is sent, take zeros.
pub const WRITE_SAME_NDOB: u8 = 0x01;
/// In the flags of SYNCHRONIZE CACHE: answer at once.
pub const SYNC_IMMED: u8 = 0x02;
/// In the first 16 bits of READ (6) and WRITE (6): the bits that are part of the address.
pub const LBA_6_MASK: u8 = 0x1F;

cdbs! {
    /// READ (6), WRITE (6). The address is 21 bits: the lower 5 of `lba_high`, then `lba_low`. A length of 0 is 256 blocks.
    CdbBlocks6, 6 {
        /// Upper bits of the address, with reserved bits above.
        lba_high: u8,
        /// Lower bits of the address.
        lba_low: U16,
        /// Blocks; 0 is 256.
        blocks: u8,
    }

    /// READ (10), WRITE (10), VERIFY (10), SYNCHRONIZE CACHE (10), WRITE SAME (10), READ CAPACITY (10).
    CdbBlocks10, 10 {
        /// Flags.
        flags: u8,
        /// First block.
        lba: U32,
        /// Group number in bits 4:0.
        group: u8,
        /// Blocks.
        blocks: U16,
    }

    /// READ (12), WRITE (12), VERIFY (12).
    CdbBlocks12, 12 {
        /// Flags.
        flags: u8,
        /// First block.
        lba: U32,
        /// Blocks.
        blocks: U32,
        /// Group number in bits 4:0.
        group: u8,
    }

    /// READ (16), WRITE (16), VERIFY (16), SYNCHRONIZE CACHE (16), WRITE SAME (16).
    CdbBlocks16, 16 {
        /// Flags.
        flags: u8,
        /// First block.
        lba: U64,
        /// Blocks.
        blocks: U32,
        /// Group number in bits 4:0.
        group: u8,
    }

    /// INQUIRY.
    CdbInquiry, 6 {
        /// [`INQUIRY_EVPD`].
        flags: u8,
        /// Page, with [`INQUIRY_EVPD`].
        page_code: u8,
        /// Bytes that the guest has room for.
        allocation_length: U16,
    }

    /// REQUEST SENSE.
    CdbRequestSense, 6 {
        /// [`REQUEST_SENSE_DESC`].
        flags: u8,
        /// Reserved.
        _reserved: U16,
        /// Bytes that the guest has room for.
        allocation_length: u8,
    }

    /// MODE SENSE (6).
    CdbModeSense6, 6 {
        /// [`MODE_SENSE_DBD`].
        flags: u8,
        /// Page control in bits 7:6, page code below.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Bytes that the guest has room for.
        allocation_length: u8,
    }

    /// MODE SENSE (10).
    CdbModeSense10, 10 {
        /// [`MODE_SENSE_DBD`], [`MODE_SENSE_LLBAA`].
        flags: u8,
        /// Page control in bits 7:6, page code below.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Reserved.
        _reserved: [u8; 3],
        /// Bytes that the guest has room for.
        allocation_length: U16,
    }

    /// MODE SELECT (6).
    CdbModeSelect6, 6 {
        /// [`MODE_SELECT_PF`], [`MODE_SELECT_SP`].
        flags: u8,
        /// Reserved.
        _reserved: U16,
        /// Bytes of parameters.
        parameter_length: u8,
    }

    /// MODE SELECT (10).
    CdbModeSelect10, 10 {
        /// [`MODE_SELECT_PF`], [`MODE_SELECT_SP`].
        flags: u8,
        /// Reserved.
        _reserved: [u8; 5],
        /// Bytes of parameters.
        parameter_length: U16,
    }

    /// START STOP UNIT.
    CdbStartStop, 6 {
        /// Bit 0: answer at once.
        immed: u8,
        /// Reserved.
        _reserved: u8,
        /// Power condition modifier.
        modifier: u8,
        /// [`START_STOP_START`], [`START_STOP_LOEJ`]; power condition in bits 7:4.
        flags: u8,
    }

    /// PREVENT ALLOW MEDIUM REMOVAL.
    CdbPreventAllow, 6 {
        /// Reserved.
        _reserved: [u8; 3],
        /// Bit 0: prevent.
        prevent: u8,
    }

    /// UNMAP.
    CdbUnmap, 10 {
        /// Bit 0: anchor.
        flags: u8,
        /// Reserved.
        _reserved: U32,
        /// Group number in bits 4:0.
        group: u8,
        /// Bytes of parameters.
        parameter_length: U16,
    }

    /// SERVICE ACTION IN (16): READ CAPACITY (16), GET LBA STATUS.
    CdbServiceActionIn16, 16 {
        /// Service action in bits 4:0.
        service_action: u8,
        /// First block.
        lba: U64,
        /// Bytes that the guest has room for.
        allocation_length: U32,
        /// Bit 0: PMI (obsolete).
        flags: u8,
    }

    /// REPORT LUNS.
    CdbReportLuns, 12 {
        /// Reserved.
        _reserved: u8,
        /// Which of them ([`SELECT_REPORT_ALL`]).
        select_report: u8,
        /// Reserved.
        _reserved2: [u8; 3],
        /// Bytes that the guest has room for.
        allocation_length: U32,
        /// Reserved.
        _reserved3: u8,
    }

    /// REPORT SUPPORTED OPERATION CODES.
    CdbReportOpcodes, 12 {
        /// Service action in bits 4:0.
        service_action: u8,
        /// [`REPORT_OPCODES_RCTD`]; reporting options in bits 2:0.
        options: u8,
        /// Which, for options 1 to 3.
        requested_op: ScsiOp,
        /// Which of its service actions, for options 2 and 3.
        requested_service_action: U16,
        /// Bytes that the guest has room for.
        allocation_length: U32,
        /// Reserved.
        _reserved: u8,
    }
}

/// In the flags of INQUIRY: a vital product data page is wanted.
pub const INQUIRY_EVPD: u8 = 0x01;
/// In the flags of REQUEST SENSE: descriptor format is wanted.
pub const REQUEST_SENSE_DESC: u8 = 0x01;
/// In the flags of MODE SENSE: no block descriptors.
pub const MODE_SENSE_DBD: u8 = 0x08;
/// In the flags of MODE SENSE (10): long block descriptors will do.
pub const MODE_SENSE_LLBAA: u8 = 0x10;
/// In the flags of MODE SELECT: the pages follow the standard's format.
pub const MODE_SELECT_PF: u8 = 0x10;
/// Same place: save the pages.
pub const MODE_SELECT_SP: u8 = 0x01;
/// In the flags of START STOP UNIT.
pub const START_STOP_START: u8 = 0x01;
/// Same place: load or eject.
pub const START_STOP_LOEJ: u8 = 0x02;
/// In REPORT LUNS: those that are not well-known units.
pub const SELECT_REPORT_LUNS: u8 = 0x00;
/// Same place: the well-known units only.
pub const SELECT_REPORT_WELL_KNOWN: u8 = 0x01;
/// Same place: all.
pub const SELECT_REPORT_ALL: u8 = 0x02;
/// In the options of REPORT SUPPORTED OPERATION CODES: time limits too.
pub const REPORT_OPCODES_RCTD: u8 = 0x80;
