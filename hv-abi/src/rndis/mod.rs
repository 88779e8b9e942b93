//! RNDIS: control and data messages of a network card, as they pass over [NVSP](crate::nvsp).
//!
//! Sources: \[MS-RNDIS\] (the names there are `REMOTE_NDIS_*`), and what of it cards on VMBus use: Linux 6.1,
//! `drivers/net/hyperv/hyperv_net.h` (`struct rndis_*`, whose names these are), `include/linux/rndis.h` (numbers) and
//! `rndis_filter.c` (use).
//!
//! - this module: the messages; every offset in them counts from behind the [`RndisHeader`]
//! - [`oid`]: the objects that are queried and set
//! - [`ndis`]: what the larger objects look like: offloads, receive-side scaling, link state
//! - [`packet_info`]: what may come beside a frame
//!
//! | number | message | from | answered with |
//! | --- | --- | --- | --- |
//! | 1 | [`RndisPacket`] | both | |
//! | 2 | [`RndisInitialize`] | guest | [`RndisInitializeComplete`] |
//! | 3 | [`RndisHalt`] | guest | |
//! | 4 | [`RndisQuery`] | guest | [`RndisQueryComplete`] |
//! | 5 | [`RndisSet`] | guest | [`RndisSetComplete`] |
//! | 6 | [`RndisReset`] | guest | [`RndisResetComplete`] |
//! | 7 | [`RndisIndicateStatus`] | host | |
//! | 8 | [`RndisKeepalive`] | both | [`RndisKeepaliveComplete`] |
//!
//! An answer's number is the request's with bit 31 set.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use oid::Oid;

pub mod ndis;
pub mod oid;
pub mod packet_info;

/// Bytes of a [`RndisHeader`]: offsets in messages count from there.
pub const RNDIS_HEADER_BYTES: usize = size_of::<RndisHeader>();
/// `RNDIS_MAJOR_VERSION`.
pub const RNDIS_MAJOR_VERSION: u32 = 1;
/// `RNDIS_MINOR_VERSION`.
pub const RNDIS_MINOR_VERSION: u32 = 0;
/// `RNDIS_DF_CONNECTIONLESS`, the [flag](RndisInitializeComplete::dev_flags) of every Ethernet card.
pub const RNDIS_DF_CONNECTIONLESS: u32 = 1;
/// `RNDIS_MEDIUM_802_3`: Ethernet.
pub const RNDIS_MEDIUM_802_3: u32 = 0;
/// `RNDIS_MEDIA_STATE_CONNECTED`.
pub const RNDIS_MEDIA_STATE_CONNECTED: u32 = 0;
/// `RNDIS_MEDIA_STATE_DISCONNECTED`.
pub const RNDIS_MEDIA_STATE_DISCONNECTED: u32 = 1;
/// Packets in one message that Linux takes if the host does not say (`RNDIS_MAX_PKT_DEFAULT`).
pub const RNDIS_MAX_PKT_DEFAULT: u32 = 8;
/// Bytes that Linux aligns packets in one message to if the host does not say (`RNDIS_PKT_ALIGN_DEFAULT`).
pub const RNDIS_PKT_ALIGN_DEFAULT: u32 = 8;

/// `RNDIS_MSG_*`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RndisMessageType(pub u32);

#[expect(missing_docs, reason = "the table at the head of the module says what each is")]
impl RndisMessageType {
    pub const PACKET: Self = Self(1);
    pub const INIT: Self = Self(2);
    pub const INIT_C: Self = Self(0x8000_0002);
    pub const HALT: Self = Self(3);
    pub const QUERY: Self = Self(4);
    pub const QUERY_C: Self = Self(0x8000_0004);
    pub const SET: Self = Self(5);
    pub const SET_C: Self = Self(0x8000_0005);
    pub const RESET: Self = Self(6);
    pub const RESET_C: Self = Self(0x8000_0006);
    pub const INDICATE: Self = Self(7);
    pub const KEEPALIVE: Self = Self(8);
    pub const KEEPALIVE_C: Self = Self(0x8000_0008);
}

/// `RNDIS_STATUS_*`: how a request ended, or what an indication tells. Bits 31:30 as in an NTSTATUS.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RndisStatus(pub u32);

#[expect(missing_docs, reason = "the names of the protocol")]
impl RndisStatus {
    pub const SUCCESS: Self = Self(0);
    pub const MEDIA_CONNECT: Self = Self(0x4001_000B);
    pub const MEDIA_DISCONNECT: Self = Self(0x4001_000C);
    pub const LINK_SPEED_CHANGE: Self = Self(0x4001_0013);
    pub const NETWORK_CHANGE: Self = Self(0x4001_0018);
    /// `NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG` (OpenVMM).
    pub const TASK_OFFLOAD_CURRENT_CONFIG: Self = Self(0x4002_0006);
    pub const BUFFER_OVERFLOW: Self = Self(0x8000_0005);
    pub const FAILURE: Self = Self(0xC000_0001);
    pub const RESOURCES: Self = Self(0xC000_009A);
    pub const NOT_SUPPORTED: Self = Self(0xC000_00BB);
    pub const ADAPTER_NOT_READY: Self = Self(0xC001_0011);
    pub const INVALID_PACKET: Self = Self(0xC001_000F);
    pub const INVALID_LENGTH: Self = Self(0xC001_0014);
    pub const INVALID_DATA: Self = Self(0xC001_0015);
    pub const BUFFER_TOO_SHORT: Self = Self(0xC001_0016);
    pub const INVALID_OID: Self = Self(0xC001_0017);
}

bitflags! {
    /// Which frames a card passes on: bits of [`Oid::GEN_CURRENT_PACKET_FILTER`] (`NDIS_PACKET_TYPE_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct PacketFilter: u32 {
        /// To the card's own address.
        const DIRECTED = 0x1;
        /// To the multicast addresses that were set.
        const MULTICAST = 0x2;
        /// To any multicast address.
        const ALL_MULTICAST = 0x4;
        /// To all.
        const BROADCAST = 0x8;
        /// All frames.
        const PROMISCUOUS = 0x20;
    }
}

/// What every message begins with (`struct rndis_message`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RndisHeader {
    /// Which message it is.
    pub ndis_msg_type: RndisMessageType,
    /// Bytes of the whole message, this header and all it refers to included.
    pub msg_len: u32,
}

const _: () = assert!(size_of::<RndisHeader>() == 8);

impl RndisHeader {
    /// A header.
    pub const fn new(ndis_msg_type: RndisMessageType, msg_len: u32) -> Self {
        Self { ndis_msg_type, msg_len }
    }
}

/// A message's fixed part, and its number.
pub trait RndisMessage: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Its number.
    const TYPE: RndisMessageType;
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $bytes:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name {
            /// Header.
            pub header: RndisHeader,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);

        impl RndisMessage for $name {
            const TYPE: RndisMessageType = RndisMessageType::$number;
        }
    )* };
}

messages! {
    /// `struct rndis_initialize_request`.
    RndisInitialize = INIT, 24 {
        /// The guest's number for the request; the answer has it too.
        req_id: u32,
        /// [`RNDIS_MAJOR_VERSION`].
        major_ver: u32,
        /// [`RNDIS_MINOR_VERSION`].
        minor_ver: u32,
        /// Longest message that the guest takes, in bytes.
        max_xfer_size: u32,
    }

    /// `struct rndis_initialize_complete`.
    RndisInitializeComplete = INIT_C, 52 {
        /// From the request.
        req_id: u32,
        /// How it went.
        status: RndisStatus,
        /// [`RNDIS_MAJOR_VERSION`].
        major_ver: u32,
        /// [`RNDIS_MINOR_VERSION`].
        minor_ver: u32,
        /// [`RNDIS_DF_CONNECTIONLESS`].
        dev_flags: u32,
        /// [`RNDIS_MEDIUM_802_3`].
        medium: u32,
        /// How many [`RndisPacket`]s the host takes one behind the other.
        max_pkt_per_msg: u32,
        /// Longest that they may be together, in bytes.
        max_xfer_size: u32,
        /// log₂ of what each is aligned to, in bytes.
        pkt_alignment_factor: u32,
        /// 0.
        af_list_offset: u32,
        /// 0.
        af_list_size: u32,
    }

    /// `struct rndis_halt_request`.
    RndisHalt = HALT, 12 {
        /// The guest's number for the request.
        req_id: u32,
    }

    /// `struct rndis_query_request`; some objects want to be told what the guest knows of, which lies at the offset.
    RndisQuery = QUERY, 28 {
        /// The guest's number for the request.
        req_id: u32,
        /// Which object.
        oid: Oid,
        /// Bytes of input.
        info_buflen: u32,
        /// Where the input begins, from [`req_id`](Self::req_id) on.
        info_buf_offset: u32,
        /// 0.
        dev_vc_handle: u32,
    }

    /// `struct rndis_query_complete`; the value lies at the offset.
    RndisQueryComplete = QUERY_C, 24 {
        /// From the request.
        req_id: u32,
        /// How it went.
        status: RndisStatus,
        /// Bytes of the value.
        info_buflen: u32,
        /// Where it begins, from [`req_id`](Self::req_id) on.
        info_buf_offset: u32,
    }

    /// `struct rndis_set_request`; the value lies at the offset.
    RndisSet = SET, 28 {
        /// The guest's number for the request.
        req_id: u32,
        /// Which object.
        oid: Oid,
        /// Bytes of the value.
        info_buflen: u32,
        /// Where it begins, from [`req_id`](Self::req_id) on.
        info_buf_offset: u32,
        /// 0.
        dev_vc_handle: u32,
    }

    /// `struct rndis_set_complete`.
    RndisSetComplete = SET_C, 16 {
        /// From the request.
        req_id: u32,
        /// How it went.
        status: RndisStatus,
    }

    /// `struct rndis_reset_request`.
    RndisReset = RESET, 12 {
        /// Reserved.
        _reserved: u32,
    }

    /// `struct rndis_reset_complete`.
    RndisResetComplete = RESET_C, 16 {
        /// How it went.
        status: RndisStatus,
        /// Not 0: the guest sets filter and multicast addresses anew.
        addressing_reset: u32,
    }

    /// `struct rndis_indicate_status`; more of it may lie at the offset.
    RndisIndicateStatus = INDICATE, 20 {
        /// What happened.
        status: RndisStatus,
        /// Bytes of what is told of it.
        status_buflen: u32,
        /// Where that begins, from [`status`](Self::status) on.
        status_buf_offset: u32,
    }

    /// `struct rndis_keepalive_request`.
    RndisKeepalive = KEEPALIVE, 12 {
        /// The sender's number for the request.
        req_id: u32,
    }

    /// `struct rndis_keepalive_complete`.
    RndisKeepaliveComplete = KEEPALIVE_C, 16 {
        /// From the request.
        req_id: u32,
        /// How it went.
        status: RndisStatus,
    }

    /// `struct rndis_packet`: one frame. All offsets count from [`data_offset`](Self::data_offset) on.
    RndisPacket = PACKET, 44 {
        /// Where the frame begins.
        data_offset: u32,
        /// Bytes of it.
        data_len: u32,
        /// Unused, 0.
        oob_data_offset: u32,
        /// Unused, 0.
        oob_data_len: u32,
        /// Unused, 0.
        num_oob_data_elements: u32,
        /// Where what comes beside it begins ([`packet_info`]), or 0.
        per_pkt_info_offset: u32,
        /// Bytes of that.
        per_pkt_info_len: u32,
        /// 0.
        vc_handle: u32,
        /// Reserved.
        _reserved: u32,
    }
}

/// Value of [`Oid::GEN_RNDIS_CONFIG_PARAMETER`], with name and value at the offsets, which count from its start (`struct
/// rndis_config_parameter_info`). Linux sets the card's address so: the name `NetworkAddress`, the value twelve
/// hexadecimal digits, both in UTF-16.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RndisConfigParameter {
    /// Where the name begins.
    pub parameter_name_offset: u32,
    /// Bytes of it.
    pub parameter_name_length: u32,
    /// 0: an integer, 2: a string.
    pub parameter_type: u32,
    /// Where the value begins.
    pub parameter_value_offset: u32,
    /// Bytes of it.
    pub parameter_value_length: u32,
}

const _: () = assert!(size_of::<RndisConfigParameter>() == 20);

/// [`RndisConfigParameter::parameter_type`] of a string.
pub const RNDIS_CONFIG_PARAM_TYPE_STRING: u32 = 2;

#[cfg(test)]
mod tests;
