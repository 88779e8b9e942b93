//! The storage protocol: SCSI requests over a VMBus channel, between a driver (VSC) and a provider (VSP).
//!
//! Unless another is named, the source is Linux, `drivers/scsi/storvsc_drv.c` (6.1; for versions before 5.1, which it
//! has dropped, 4.19), under the name given or an obvious one. What Linux does not name is from OpenVMM,
//! `vm/devices/storage/storvsp_protocol/src/lib.rs` and `scsi_defs/src/srb.rs`.
//!
//! Every packet is a [`VstorHeader`] and a payload of up to [`SRB_BYTES`], padded with zeros: 48 bytes in all before version
//! 5.1, 64 from then on ([`StorvspVersion::packet_bytes`]). While it does not know the version yet, Linux sends 64.
//! A guest's packets ask for a completion; the answer is as long as the question, has its transaction and the operation
//! [`COMPLETE_IO`](Operation::COMPLETE_IO). A host's own packets have the transaction 0.
//!
//! | number | operation | from | payload | answer's payload |
//! | --- | --- | --- | --- | --- |
//! | 1 | `COMPLETE_IO` | host | | |
//! | 2 | `REMOVE_DEVICE` | host | | |
//! | 3 | `EXECUTE_SRB` | guest | [`VmscsiRequest`]; data by GPA-direct ranges | [`VmscsiRequest`] |
//! | 4, 5, 6 | `RESET_LUN`, `RESET_ADAPTER`, `RESET_BUS` | guest | [`VmscsiRequest`]: its address only | |
//! | 7 | `BEGIN_INITIALIZATION` | guest | | |
//! | 8 | `END_INITIALIZATION` | guest | | |
//! | 9 | `QUERY_PROTOCOL_VERSION` | guest | [`ProtocolVersion`] | [`ProtocolVersion`] |
//! | 10 | `QUERY_PROPERTIES` | guest | | [`ChannelProperties`] |
//! | 11 | `ENUMERATE_BUS` | host | | |
//! | 12 | `FCHBA_DATA` | both | | [`FcWwnPacket`] |
//! | 13 | `CREATE_SUB_CHANNELS` | guest | 16-bit number | |
//!
//! The sequence is 7, 9 (once for each version that the guest knows, newest first, until one is accepted), 10, on Fibre
//! Channel 12, then 8; 13 follows where the properties say `SUPPORTS_MULTI_CHANNEL`. Sub-channels begin with requests.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::guid::Guid;

/// A SCSI controller (`HV_SCSI_GUID` in Linux, `include/linux/hyperv.h`).
pub const SCSI_GUID: Guid = Guid::new(0xba61_63d9, 0x04a1, 0x4d29, 0xb605_72e2_ffb1_dc7f);
/// The accelerated path of an emulated IDE disk (`HV_IDE_GUID`, same file).
pub const IDE_GUID: Guid = Guid::new(0x3241_2632, 0x86cb, 0x44a2, 0x9b5c_50d1_4173_54f5);
/// A Fibre Channel adapter (`HV_SYNTHFC_GUID`, same file).
pub const FC_GUID: Guid = Guid::new(0x2f9b_cc4a, 0x0069, 0x4af3, 0xb76b_6fd0_be52_8cda);

/// A protocol version: major in the upper half, minor in the lower (`VMSTOR_PROTO_VERSION`).
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
pub struct StorvspVersion(pub u16);

impl StorvspVersion {
    /// `VMSTOR_PROTO_VERSION_WIN6`.
    pub const V2_0: Self = Self::new(2, 0);
    /// `VMSTOR_PROTO_VERSION_WIN7`: hosts tell of added and removed disks (OpenVMM, `process_primary`).
    pub const V4_2: Self = Self::new(4, 2);
    /// `VMSTOR_PROTO_VERSION_WIN8`: longer packets, sub-channels.
    pub const V5_1: Self = Self::new(5, 1);
    /// `VMSTOR_PROTO_VERSION_WIN8_1`.
    pub const V6_0: Self = Self::new(6, 0);
    /// `VMSTOR_PROTO_VERSION_WIN10`: Linux uses WRITE SAME.
    pub const V6_2: Self = Self::new(6, 2);

    /// All of them, newest first: the order in which a guest tries.
    pub const ALL: [Self; 5] = [Self::V6_2, Self::V6_0, Self::V5_1, Self::V4_2, Self::V2_0];

    /// A version by its two parts.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self((major as u16) << 8 | minor as u16)
    }

    /// Whether it is one of [`StorvspVersion::ALL`].
    pub fn is_known(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// Bytes of a packet, header and payload.
    pub const fn packet_bytes(self) -> usize {
        size_of::<VstorHeader>() + self.srb_bytes()
    }

    /// Bytes of a [`VmscsiRequest`], which is also what its `length` says.
    pub const fn srb_bytes(self) -> usize {
        if self.0 >= Self::V5_1.0 { SRB_BYTES } else { SRB_BYTES_BEFORE_V5_1 }
    }

    /// Bytes of sense data in an answer, at most (Linux 4.19, `sense_buffer_size`).
    pub const fn sense_bytes(self) -> usize {
        if self.0 >= Self::V5_1.0 { SENSE_BUFFER_BYTES } else { 0x12 }
    }
}

impl fmt::Display for StorvspVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 8, self.0 & 0xFF)
    }
}

/// `enum vstor_packet_operation`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Operation(pub u32);

#[expect(missing_docs, reason = "the table in the module's header says what each is")]
impl Operation {
    pub const COMPLETE_IO: Self = Self(1);
    pub const REMOVE_DEVICE: Self = Self(2);
    pub const EXECUTE_SRB: Self = Self(3);
    pub const RESET_LUN: Self = Self(4);
    pub const RESET_ADAPTER: Self = Self(5);
    pub const RESET_BUS: Self = Self(6);
    pub const BEGIN_INITIALIZATION: Self = Self(7);
    pub const END_INITIALIZATION: Self = Self(8);
    pub const QUERY_PROTOCOL_VERSION: Self = Self(9);
    pub const QUERY_PROPERTIES: Self = Self(10);
    pub const ENUMERATE_BUS: Self = Self(11);
    pub const FCHBA_DATA: Self = Self(12);
    pub const CREATE_SUB_CHANNELS: Self = Self(13);
}

/// In [`VstorHeader::flags`]: the sender wants an answer (`REQUEST_COMPLETION_FLAG`).
pub const REQUEST_COMPLETION_FLAG: u32 = 1;

/// `status` of an answer: an NTSTATUS (OpenVMM, `NtStatus`; all its values but those below are errors too).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VstorStatus(pub u32);

impl VstorStatus {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// More data than room.
    pub const BUFFER_OVERFLOW: Self = Self(0x8000_0005);
    /// Try again.
    pub const DEVICE_BUSY: Self = Self(0x8000_0011);
    /// Failed.
    pub const UNSUCCESSFUL: Self = Self(0xC000_0001);
    /// Malformed.
    pub const INVALID_PARAMETER: Self = Self(0xC000_000D);
    /// Not an operation of this device.
    pub const INVALID_DEVICE_REQUEST: Self = Self(0xC000_0010);
    /// The version is not known.
    pub const REVISION_MISMATCH: Self = Self(0xC000_0059);
    /// No such disk.
    pub const DEVICE_DOES_NOT_EXIST: Self = Self(0xC000_00C0);
    /// Given up.
    pub const CANCELLED: Self = Self(0xC000_0120);
    /// Not now: out of sequence.
    pub const INVALID_DEVICE_STATE: Self = Self(0xC000_0184);
    /// The request was executed and failed; its own status says how.
    pub const IO_DEVICE_ERROR: Self = Self(0xC000_0185);
}

/// `struct vstor_packet` up to its payload.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VstorHeader {
    /// What it is.
    pub operation: Operation,
    /// [`REQUEST_COMPLETION_FLAG`].
    pub flags: u32,
    /// In an answer; 0 in a question.
    pub status: VstorStatus,
}

const _: () = assert!(size_of::<VstorHeader>() == 12);

/// Bytes of a CDB, at most (`STORVSC_MAX_CMD_LEN`).
pub const MAX_CDB_BYTES: usize = 16;
/// Bytes for the CDB or the sense data (`STORVSC_SENSE_BUFFER_SIZE`, `STORVSC_MAX_BUF_LEN_WITH_PADDING`).
pub const SENSE_BUFFER_BYTES: usize = 20;
/// Bytes of a [`VmscsiRequest`].
pub const SRB_BYTES: usize = 52;
/// The same before version 5.1: all up to [`VmscsiRequest::reserve`] (Linux 4.19, `vmscsi_size_delta`).
pub const SRB_BYTES_BEFORE_V5_1: usize = 36;

/// `struct vmscsi_request`: one SCSI command, and what became of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VmscsiRequest {
    /// Bytes of this structure in the negotiated version.
    pub length: u16,
    /// In an answer.
    pub srb_status: SrbStatus,
    /// In an answer: the SCSI status ([`crate::scsi::ScsiStatus`]).
    pub scsi_status: u8,
    /// The guest's own number for the controller.
    pub port_number: u8,
    /// Bus.
    pub path_id: u8,
    /// Target.
    pub target_id: u8,
    /// Logical unit.
    pub lun: u8,
    /// Bytes of the CDB.
    pub cdb_length: u8,
    /// In a question, room for sense data; in an answer, bytes of it.
    pub sense_info_length: u8,
    /// Which way the data goes.
    pub data_in: DataDirection,
    /// Reserved.
    pub _reserved: u8,
    /// In a question, bytes of data; in an answer, how many were moved.
    pub data_transfer_length: u32,
    /// In a question the CDB, in an answer sense data if [`SrbStatus::AUTOSENSE_VALID`].
    pub cdb_or_sense: [u8; SENSE_BUFFER_BYTES],
    /// Reserved. This and what follows is there from version 5.1 on.
    pub reserve: u16,
    /// Any number.
    pub queue_tag: u8,
    /// [`SRB_SIMPLE_TAG_REQUEST`].
    pub queue_action: u8,
    /// [`SrbFlags`].
    pub srb_flags: u32,
    /// Seconds after which the guest gives up.
    pub time_out_value: u32,
    /// A wish as to the order.
    pub queue_sort_key: u32,
}

const _: () = assert!(size_of::<VmscsiRequest>() == SRB_BYTES);
const _: () = assert!(core::mem::offset_of!(VmscsiRequest, cdb_or_sense) == 16);
const _: () = assert!(core::mem::offset_of!(VmscsiRequest, reserve) == SRB_BYTES_BEFORE_V5_1);

/// [`VmscsiRequest::data_in`] (`enum storvsc_request_type`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DataDirection(pub u8);

impl DataDirection {
    /// From the guest to the disk (`WRITE_TYPE`).
    pub const WRITE: Self = Self(0);
    /// From the disk to the guest (`READ_TYPE`).
    pub const READ: Self = Self(1);
    /// None (`UNKNOWN_TYPE`).
    pub const UNKNOWN: Self = Self(2);
}

/// In [`VmscsiRequest::queue_action`].
pub const SRB_SIMPLE_TAG_REQUEST: u8 = 0x20;
/// In [`VmscsiRequest::queue_tag`]: none (`SP_UNTAGGED`).
pub const SP_UNTAGGED: u8 = 0xFF;

/// [`VmscsiRequest::srb_status`]: a number in the lower 6 bits, two flags above (OpenVMM, `SrbStatus`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SrbStatus(pub u8);

impl SrbStatus {
    /// Flag: there is sense data (`SRB_STATUS_AUTOSENSE_VALID`).
    pub const AUTOSENSE_VALID: u8 = 0x80;
    /// Flag: nothing more is executed until the guest says so (`SRB_STATUS_QUEUE_FROZEN`).
    pub const QUEUE_FROZEN: u8 = 0x40;

    /// Not executed yet.
    pub const PENDING: Self = Self(0x00);
    /// Done.
    pub const SUCCESS: Self = Self(0x01);
    /// Given up, as by a reset.
    pub const ABORTED: Self = Self(0x02);
    /// Failed: the SCSI status says how.
    pub const ERROR: Self = Self(0x04);
    /// Try again.
    pub const BUSY: Self = Self(0x05);
    /// The request makes no sense.
    pub const INVALID_REQUEST: Self = Self(0x06);
    /// No such bus.
    pub const INVALID_PATH_ID: Self = Self(0x07);
    /// Nobody there.
    pub const NO_DEVICE: Self = Self(0x08);
    /// The time limit passed.
    pub const TIMEOUT: Self = Self(0x09);
    /// Nobody answered at the address.
    pub const SELECTION_TIMEOUT: Self = Self(0x0A);
    /// The command's time limit passed.
    pub const COMMAND_TIMEOUT: Self = Self(0x0B);
    /// A reset ended it.
    pub const BUS_RESET: Self = Self(0x0E);
    /// More or fewer bytes than asked for.
    pub const DATA_OVERRUN: Self = Self(0x12);
    /// Given up before it was executed.
    pub const REQUEST_FLUSHED: Self = Self(0x16);
    /// No such logical unit.
    pub const INVALID_LUN: Self = Self(0x20);
    /// No such target.
    pub const INVALID_TARGET_ID: Self = Self(0x21);

    /// Without the flags.
    pub const fn code(self) -> Self {
        Self(self.0 & !(Self::AUTOSENSE_VALID | Self::QUEUE_FROZEN))
    }

    /// The same with [`SrbStatus::AUTOSENSE_VALID`].
    pub const fn with_autosense(self) -> Self {
        Self(self.0 | Self::AUTOSENSE_VALID)
    }

    /// Whether there is sense data.
    pub const fn has_autosense(self) -> bool {
        self.0 & Self::AUTOSENSE_VALID != 0
    }
}

bitflags::bitflags! {
    /// [`VmscsiRequest::srb_flags`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SrbFlags: u32 {
        /// `SRB_FLAGS_QUEUE_ACTION_ENABLE`.
        const QUEUE_ACTION_ENABLE = 0x2;
        /// `SRB_FLAGS_DISABLE_DISCONNECT`.
        const DISABLE_DISCONNECT = 0x4;
        /// `SRB_FLAGS_DISABLE_SYNCH_TRANSFER`.
        const DISABLE_SYNCH_TRANSFER = 0x8;
        /// `SRB_FLAGS_BYPASS_FROZEN_QUEUE`.
        const BYPASS_FROZEN_QUEUE = 0x10;
        /// `SRB_FLAGS_DISABLE_AUTOSENSE`.
        const DISABLE_AUTOSENSE = 0x20;
        /// `SRB_FLAGS_DATA_IN`: to the guest.
        const DATA_IN = 0x40;
        /// `SRB_FLAGS_DATA_OUT`: from the guest.
        const DATA_OUT = 0x80;
        /// `SRB_FLAGS_NO_QUEUE_FREEZE`.
        const NO_QUEUE_FREEZE = 0x100;
        /// `SRB_FLAGS_ADAPTER_CACHE_ENABLE`.
        const ADAPTER_CACHE_ENABLE = 0x200;
        /// `SRB_FLAGS_FREE_SENSE_BUFFER`.
        const FREE_SENSE_BUFFER = 0x400;
    }
}

/// `struct vmstorage_protocol_version`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ProtocolVersion {
    /// Version.
    pub major_minor: StorvspVersion,
    /// 0 but on Windows.
    pub revision: u16,
}

const _: () = assert!(size_of::<ProtocolVersion>() == 4);

/// In [`ChannelProperties::flags`] of an answer: the guest may ask for sub-channels.
pub const STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL: u32 = 1;

/// `struct vmstorage_channel_properties`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ChannelProperties {
    /// Reserved.
    pub _reserved: u32,
    /// Sub-channels that the guest may ask for, at most.
    pub max_channel_cnt: u16,
    /// Reserved.
    pub _reserved1: u16,
    /// [`STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL`].
    pub flags: u32,
    /// Bytes of data in a request, at most.
    pub max_transfer_bytes: u32,
    /// Reserved.
    pub _reserved2: [u32; 2],
}

const _: () = assert!(size_of::<ChannelProperties>() == 24);

/// `struct hv_fc_wwn_packet`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FcWwnPacket {
    /// Not 0: the primary names are valid, else the secondary.
    pub primary_active: u8,
    /// Reserved.
    pub _reserved1: [u8; 3],
    /// Name.
    pub primary_port_wwn: [u8; 8],
    /// Name.
    pub primary_node_wwn: [u8; 8],
    /// Name.
    pub secondary_port_wwn: [u8; 8],
    /// Name.
    pub secondary_node_wwn: [u8; 8],
}

const _: () = assert!(size_of::<FcWwnPacket>() == 36);

/// What an offer of an accelerated IDE disk has in its user-defined bytes; Linux takes channel and disk from the instance GUID
/// instead (OpenVMM, `OfferProperties`).
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct IdeOfferProperties {
    /// Reserved.
    pub _reserved: u16,
    /// IDE channel.
    pub path_id: u8,
    /// Disk on it.
    pub target_id: u8,
    /// Reserved.
    pub _reserved2: u32,
    /// [`STORAGE_CHANNEL_EMULATED_IDE_FLAG`].
    pub flags: u32,
    /// Reserved.
    pub _reserved3: [u32; 3],
}

const _: () = assert!(size_of::<IdeOfferProperties>() == 24);

/// In [`IdeOfferProperties::flags`].
pub const STORAGE_CHANNEL_EMULATED_IDE_FLAG: u32 = 2;

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn versions_are_in_order_and_have_their_sizes() {
        assert!(StorvspVersion::ALL.is_sorted_by(|newer, older| newer > older));
        assert_eq!(StorvspVersion::V6_2.0, 0x0602);
        assert_eq!(StorvspVersion::V4_2.to_string(), "4.2");
        // Linux 4.19: `sizeof(struct vstor_packet) - vmscsi_size_delta`, with a delta of 16 up to version 4.2.
        let sizes = StorvspVersion::ALL.map(StorvspVersion::packet_bytes);
        assert_eq!(sizes, [64, 64, 64, 48, 48]);
        let sense = StorvspVersion::ALL.map(StorvspVersion::sense_bytes);
        assert_eq!(sense, [20, 20, 20, 18, 18]);
        assert!(!StorvspVersion(0x0603).is_known());
    }

    #[test]
    fn names_are_those_of_linux() {
        assert_eq!(SCSI_GUID.to_string(), "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
        assert_eq!(IDE_GUID.to_string(), "32412632-86cb-44a2-9b5c-50d1417354f5");
        assert_eq!(FC_GUID.to_string(), "2f9bcc4a-0069-4af3-b76b-6fd0be528cda");
    }

    #[test]
    fn status_and_flags_share_a_byte() {
        let status = SrbStatus::ERROR.with_autosense();
        assert_eq!(status.0, 0x84);
        assert!(status.has_autosense() && !SrbStatus::ERROR.has_autosense());
        assert_eq!(SrbStatus(0xC4).code(), SrbStatus::ERROR);
    }
}
