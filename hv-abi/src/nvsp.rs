//! NVSP: how a network card on VMBus is set up, and how RNDIS messages pass between its driver (netvsc) and its provider
//! (netvsp).
//!
//! Source: Linux 6.1, `drivers/net/hyperv/hyperv_net.h`, `struct nvsp_*` and `NVSP_*`; how they are used: `netvsc.c` there.
//! Packets carry one message; requests that are completed have their answer as the completion's payload. Messages are
//! padded to [`NVSP_MESSAGE_BYTES`] (OpenVMM, `vm/devices/net/netvsp/src/protocol.rs`, `PACKET_SIZE_V1`).
//! What the RNDIS messages say is in [`rndis`](crate::rndis).
//!
//! | number | message | from | first version | completed with |
//! | --- | --- | --- | --- | --- |
//! | 1 | [`NvspInit`] | guest | – | [`NvspInitComplete`] (2) |
//! | 100 | [`NvspSendNdisVersion`] | guest | 1 | |
//! | 101 | [`NvspSendReceiveBuffer`] | guest | 1 | [`NvspSendReceiveBufferComplete`] (102) |
//! | 103 | [`NvspRevokeReceiveBuffer`] | guest | 1 | |
//! | 104 | [`NvspSendSendBuffer`] | guest | 1 | [`NvspSendSendBufferComplete`] (105) |
//! | 106 | [`NvspRevokeSendBuffer`] | guest | 1 | |
//! | 107 | [`NvspSendRndisPacket`] | both | 1 | [`NvspSendRndisPacketComplete`] (108) |
//! | 125 | [`NvspSendNdisConfig`] | guest | 2 | |
//! | 128 | [`NvspSendVfAssociation`] | host | 4 | |
//! | 129 | [`NvspSwitchDataPath`] | guest | 4 | an empty completion |
//! | 131 | [`NvspOidQueryEx`] | guest | 5 | [`NvspOidQueryExComplete`] (132) |
//! | 133 | [`NvspSubchannelRequest`] | guest | 5 | [`NvspSubchannelComplete`] (133) |
//! | 134 | [`NvspSendIndirectionTable`] | host | 5 | |
//! | 135 | [`NvspPdApi`] | guest | 6.1 | [`NvspPdApiComplete`] (135) |

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::guid::Guid;

/// Interface of network cards (Linux, `include/linux/hyperv.h`, `HV_NIC_GUID`).
pub const NVSP_INTERFACE: Guid = Guid::new(0xf861_5163, 0xdf3e, 0x46c5, 0x913f_f2d2_f965_ed0e);
/// Bytes that a message is padded to before version 6.1: the longest of versions 1 to 5.
pub const NVSP_MESSAGE_BYTES: usize = 28;
/// Bytes that a message is padded to from version 6.1 on; Linux always sends as many.
pub const NVSP_MESSAGE_BYTES_6_1: usize = 40;
/// [`NvspSendRndisPacket::send_buf_section_index`] of a message that lies elsewhere.
pub const NVSP_NO_SECTION: u32 = 0xFFFF_FFFF;
/// The number that Linux gives its receive buffer (`NETVSC_RECEIVE_BUFFER_ID`): the set of transfer pages that it accepts.
pub const NVSP_RECEIVE_BUFFER_ID: u16 = 0xCAFE;
/// The number that Linux gives its send buffer (`NETVSC_SEND_BUFFER_ID`).
pub const NVSP_SEND_BUFFER_ID: u16 = 0;
/// Entries of the send indirection table (`VRSS_SEND_TAB_SIZE`); guests accept no other number.
pub const NVSP_SEND_TABLE_ENTRIES: usize = 16;
/// Most channels of a card, the primary included (`VRSS_CHANNEL_MAX`).
pub const NVSP_MAX_CHANNELS: usize = 64;
/// Most ranges in one transfer-page packet (Linux, comment at `NETVSC_MAX_XFER_PAGE_RANGES`: for NDIS 6.0 and later,
/// without receive coalescing).
pub const NVSP_MAX_RANGES: usize = 375;
/// The largest receive buffer before version 4 (`NETVSC_RECEIVE_BUFFER_SIZE_LEGACY`), in bytes.
pub const NVSP_MAX_RECEIVE_BUFFER_LEGACY: u32 = 15 << 20;
/// The largest receive buffer from version 4 on (`NETVSC_RECEIVE_BUFFER_SIZE`), in bytes.
pub const NVSP_MAX_RECEIVE_BUFFER: u32 = 31 << 20;
/// The largest send buffer (`NETVSC_SEND_BUFFER_SIZE`), in bytes.
pub const NVSP_MAX_SEND_BUFFER: u32 = 15 << 20;

/// A version of the protocol (`NVSP_PROTOCOL_VERSION_*`). Later ones compare greater.
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
pub struct NvspVersion(pub u32);

impl NvspVersion {
    /// Windows Server 2008.
    pub const V1: Self = Self(2);
    /// Windows Server 2008 R2: NDIS configuration (MTU, VLAN).
    pub const V2: Self = Self(0x3_0002);
    /// Windows Server 2012: virtual functions.
    pub const V4: Self = Self(0x4_0000);
    /// Windows Server 2012 R2: sub-channels, receive-side scaling.
    pub const V5: Self = Self(0x5_0000);
    /// Windows Server 2016, without its messages.
    pub const V6: Self = Self(0x6_0000);
    /// Windows Server 2019: longer messages, receive coalescing over VMBus.
    pub const V6_1: Self = Self(0x6_0001);

    /// All of them, newest first: the order in which a guest tries.
    pub const ALL: [Self; 6] = [Self::V6_1, Self::V6, Self::V5, Self::V4, Self::V2, Self::V1];

    /// Whether it is one of [`NvspVersion::ALL`].
    pub fn is_known(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// Bytes that messages are padded to.
    pub fn message_bytes(self) -> usize {
        if self >= Self::V6_1 { NVSP_MESSAGE_BYTES_6_1 } else { NVSP_MESSAGE_BYTES }
    }
}

/// How a request ended (`NVSP_STAT_*`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NvspStatus(pub u32);

#[expect(missing_docs, reason = "the names of the protocol")]
impl NvspStatus {
    pub const NONE: Self = Self(0);
    pub const SUCCESS: Self = Self(1);
    pub const FAIL: Self = Self(2);
    pub const PROTOCOL_TOO_NEW: Self = Self(3);
    pub const PROTOCOL_TOO_OLD: Self = Self(4);
    pub const INVALID_RNDIS_PKT: Self = Self(5);
    pub const BUSY: Self = Self(6);
    pub const PROTOCOL_UNSUPPORTED: Self = Self(7);
}

/// `NVSP_MSG*_TYPE_*`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NvspMessageType(pub u32);

#[expect(missing_docs, reason = "the table at the head of the module says what each is")]
impl NvspMessageType {
    pub const NONE: Self = Self(0);
    pub const INIT: Self = Self(1);
    pub const INIT_COMPLETE: Self = Self(2);
    pub const SEND_NDIS_VER: Self = Self(100);
    pub const SEND_RECV_BUF: Self = Self(101);
    pub const SEND_RECV_BUF_COMPLETE: Self = Self(102);
    pub const REVOKE_RECV_BUF: Self = Self(103);
    pub const SEND_SEND_BUF: Self = Self(104);
    pub const SEND_SEND_BUF_COMPLETE: Self = Self(105);
    pub const REVOKE_SEND_BUF: Self = Self(106);
    pub const SEND_RNDIS_PKT: Self = Self(107);
    pub const SEND_RNDIS_PKT_COMPLETE: Self = Self(108);
    pub const SEND_NDIS_CONFIG: Self = Self(125);
    pub const SEND_VF_ASSOCIATION: Self = Self(128);
    pub const SWITCH_DATA_PATH: Self = Self(129);
    pub const UPLINK_CONNECT_STATE_DEPRECATED: Self = Self(130);
    pub const OID_QUERY_EX: Self = Self(131);
    pub const OID_QUERY_EX_COMP: Self = Self(132);
    pub const SUBCHANNEL: Self = Self(133);
    pub const SEND_INDIRECTION_TABLE: Self = Self(134);
    pub const PD_API: Self = Self(135);
    pub const PD_POST_BATCH: Self = Self(136);
}

bitflags! {
    /// What a guest's driver can do (`struct nvsp_2_vsc_capability`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct NvspCapabilities: u32 {
        /// Virtual-machine queues.
        const VMQ = 1 << 0;
        /// TCP offload by connection.
        const CHIMNEY = 1 << 1;
        /// Virtual functions.
        const SRIOV = 1 << 2;
        /// 802.1Q tags beside the frame.
        const IEEE8021Q = 1 << 3;
        /// Correlation numbers.
        const CORRELATION_ID = 1 << 4;
        /// Teaming; Linux sets it to be told of link speeds.
        const TEAMING = 1 << 5;
        /// Virtual subnets.
        const VSUBNETID = 1 << 6;
        /// Receive coalescing over VMBus, from version 6.1 on.
        const RSC = 1 << 7;
    }
}

/// A message of a fixed layout, and its number.
pub trait NvspMessage: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Its number.
    const TYPE: NvspMessageType;
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $bytes:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => { $(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name {
            /// Which message it is.
            pub msg_type: NvspMessageType,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes && $bytes <= NVSP_MESSAGE_BYTES_6_1);

        impl NvspMessage for $name {
            const TYPE: NvspMessageType = NvspMessageType::$number;
        }
    )* };
}

messages! {
    /// `struct nvsp_message_init`.
    NvspInit = INIT, 12 {
        /// Oldest version that the guest accepts; Linux offers one at a time.
        min_protocol_ver: NvspVersion,
        /// Newest.
        max_protocol_ver: NvspVersion,
    }

    /// `struct nvsp_message_init_complete`.
    NvspInitComplete = INIT_COMPLETE, 16 {
        /// The version; later hosts leave what they sent at version 1 (OpenVMM, `MessageInitComplete::deprecated`).
        negotiated_protocol_ver: NvspVersion,
        /// Most parts of a guest's message that lies in its memory.
        max_mdl_chain_len: u32,
        /// [`NvspStatus::SUCCESS`], or the version is refused.
        status: NvspStatus,
    }

    /// `struct nvsp_1_message_send_ndis_version`.
    NvspSendNdisVersion = SEND_NDIS_VER, 12 {
        /// 6 in all that are known.
        ndis_major_ver: u32,
        /// 1 for versions up to 4, then 30 (0x1e).
        ndis_minor_ver: u32,
    }

    /// `struct nvsp_1_message_send_receive_buffer`.
    NvspSendReceiveBuffer = SEND_RECV_BUF, 12 {
        /// GPADL of the buffer.
        gpadl_handle: u32,
        /// Its number, in packets of the host the set of transfer pages.
        id: u16,
        /// Reserved (OpenVMM).
        _reserved: u16,
    }

    /// `struct nvsp_1_message_send_receive_buffer_complete` with its one section: Linux accepts no other number.
    NvspSendReceiveBufferComplete = SEND_RECV_BUF_COMPLETE, 28 {
        /// Whether the host took it.
        status: NvspStatus,
        /// 1.
        num_sections: u32,
        /// How the host parts it.
        section: NvspReceiveSection,
    }

    /// `struct nvsp_1_message_revoke_receive_buffer`.
    NvspRevokeReceiveBuffer = REVOKE_RECV_BUF, 8 {
        /// Number of the buffer.
        id: u16,
        /// Reserved.
        _reserved: u16,
    }

    /// `struct nvsp_1_message_send_send_buffer`.
    NvspSendSendBuffer = SEND_SEND_BUF, 12 {
        /// GPADL of the buffer.
        gpadl_handle: u32,
        /// Its number.
        id: u16,
        /// Reserved (OpenVMM).
        _reserved: u16,
    }

    /// `struct nvsp_1_message_send_send_buffer_complete`.
    NvspSendSendBufferComplete = SEND_SEND_BUF_COMPLETE, 12 {
        /// Whether the host took it.
        status: NvspStatus,
        /// Bytes of a section. The buffer has as many as fit whole.
        section_size: u32,
    }

    /// `struct nvsp_1_message_revoke_send_buffer`.
    NvspRevokeSendBuffer = REVOKE_SEND_BUF, 8 {
        /// Number of the buffer.
        id: u16,
        /// Reserved.
        _reserved: u16,
    }

    /// `struct nvsp_1_message_send_rndis_packet`: RNDIS messages lie in a section of the send buffer, in the packet's ranges
    /// of guest memory, or first in the one, then in the other; in the host's packets in ranges of the receive buffer.
    NvspSendRndisPacket = SEND_RNDIS_PKT, 16 {
        /// Kind of messages.
        channel_type: NvspChannelType,
        /// Which section of the send buffer, or [`NVSP_NO_SECTION`].
        send_buf_section_index: u32,
        /// Bytes in that section.
        send_buf_section_size: u32,
    }

    /// `struct nvsp_1_message_send_rndis_packet_complete`.
    NvspSendRndisPacketComplete = SEND_RNDIS_PKT_COMPLETE, 8 {
        /// How it went.
        status: NvspStatus,
    }

    /// `struct nvsp_2_send_ndis_config`.
    NvspSendNdisConfig = SEND_NDIS_CONFIG, 20 {
        /// Longest frame, in bytes, with its Ethernet header (14) and without tag and checksum.
        mtu: u32,
        /// Reserved.
        _reserved: u32,
        /// [`NvspCapabilities`].
        capability: u32,
        /// The upper half of the capabilities; none is known.
        _capability_high: u32,
    }

    /// `struct nvsp_4_send_vf_association`.
    NvspSendVfAssociation = SEND_VF_ASSOCIATION, 12 {
        /// 1: there is a virtual function; 0: there is none.
        allocated: u32,
        /// Its serial number.
        serial: u32,
    }

    /// `struct nvsp_4_sw_datapath`.
    NvspSwitchDataPath = SWITCH_DATA_PATH, 8 {
        /// 0: this card, 1: the virtual function.
        active_datapath: u32,
    }

    /// `NVSP_5_MESSAGE_OID_QUERY_EX` (OpenVMM, `Message5OidQueryEx`).
    NvspOidQueryEx = OID_QUERY_EX, 12 {
        /// An NDIS object header.
        header: [u8; 4],
        /// Which object.
        oid: u32,
    }

    /// `NVSP_5_MESSAGE_OID_QUERY_EX_COMPLETE` (OpenVMM, `Message5OidQueryExComplete`).
    NvspOidQueryExComplete = OID_QUERY_EX_COMP, 12 {
        /// An RNDIS status.
        status: u32,
        /// Bytes.
        bytes: u32,
    }

    /// `struct nvsp_5_subchannel_request`.
    NvspSubchannelRequest = SUBCHANNEL, 12 {
        /// [`NVSP_SUBCHANNEL_ALLOCATE`].
        op: u32,
        /// How many the guest wants.
        num_subchannels: u32,
    }

    /// `struct nvsp_5_subchannel_complete`.
    NvspSubchannelComplete = SUBCHANNEL, 12 {
        /// How it went.
        status: NvspStatus,
        /// How many there are, the offers of which follow.
        num_subchannels: u32,
    }

    /// `struct nvsp_5_send_indirect_table`; the entries, each a 32-bit channel number, lie at the offset.
    NvspSendIndirectionTable = SEND_INDIRECTION_TABLE, 12 {
        /// [`NVSP_SEND_TABLE_ENTRIES`].
        count: u32,
        /// Where they begin, in bytes from the start of the message. Up to version 6 hosts put them behind a message
        /// of [`NVSP_MESSAGE_BYTES_6_1`] whatever they say here (Linux, `netvsc_send_table`).
        offset: u32,
    }

    /// `struct nvsp_6_pd_api_req` (PacketDirect), up to what each operation adds.
    NvspPdApi = PD_API, 8 {
        /// 1 (configuration) to 9.
        op: u32,
    }

    /// `struct nvsp_6_pd_api_comp` for operation 1; a host without PacketDirect answers with zeros.
    NvspPdApiComplete = PD_API, 20 {
        /// From the request.
        op: u32,
        /// An NTSTATUS.
        status: u32,
        /// Queues.
        num_pd_q: u16,
        /// Queues with receive-side scaling.
        num_rss_q: u8,
        /// Whether the host has it.
        is_supported: u8,
        /// Whether it is on.
        is_enabled: u8,
        /// Padding.
        _reserved: [u8; 3],
    }
}

/// [`NvspSubchannelRequest::op`]: make sub-channels (`NVSP_SUBCHANNEL_ALLOCATE`).
pub const NVSP_SUBCHANNEL_ALLOCATE: u32 = 1;

/// `struct nvsp_1_receive_buffer_section`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NvspReceiveSection {
    /// Where it begins in the buffer; 0, Linux accepts nothing else.
    pub offset: u32,
    /// Bytes of each part; a message from the host fits into one.
    pub sub_alloc_size: u32,
    /// Number of parts.
    pub num_sub_allocs: u32,
    /// Where it ends in the buffer.
    pub end_offset: u32,
}

const _: () = assert!(size_of::<NvspReceiveSection>() == 16);

/// Kind of RNDIS messages in a packet (Linux, `netvsc_send_pkt`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NvspChannelType(pub u32);

impl NvspChannelType {
    /// `RMC_DATA`: frames.
    pub const DATA: Self = Self(0);
    /// `RMC_CONTROL`: everything else.
    pub const CONTROL: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        assert!(NvspVersion::ALL.is_sorted_by(|newer, older| newer > older));
        assert!(!NvspVersion(0x3_0000).is_known());
        assert_eq!(NvspVersion::V6.message_bytes(), 28);
        assert_eq!(NvspVersion::V6_1.message_bytes(), 40);
    }

    #[test]
    fn messages_have_the_bytes_of_linux() {
        // By hand from hyperv_net.h: what negotiate_nvsp_ver and netvsc_init_buf fill in.
        let init = NvspInit {
            msg_type: NvspMessageType::INIT,
            min_protocol_ver: NvspVersion::V6_1,
            max_protocol_ver: NvspVersion::V6_1,
        };
        assert_eq!(init.as_bytes(), [1, 0, 0, 0, 1, 0, 6, 0, 1, 0, 6, 0]);
        let buffer = NvspSendReceiveBuffer {
            msg_type: NvspMessageType::SEND_RECV_BUF,
            gpadl_handle: 0xE1E10,
            id: NVSP_RECEIVE_BUFFER_ID,
            _reserved: 0,
        };
        assert_eq!(buffer.as_bytes(), [101, 0, 0, 0, 0x10, 0x1E, 0x0E, 0, 0xFE, 0xCA, 0, 0]);
        let capability = NvspCapabilities::IEEE8021Q | NvspCapabilities::TEAMING;
        let config = NvspSendNdisConfig {
            msg_type: NvspMessageType::SEND_NDIS_CONFIG,
            mtu: 1514,
            _reserved: 0,
            capability: capability.bits(),
            _capability_high: 0,
        };
        let bytes = [125, 0, 0, 0, 0xEA, 5, 0, 0, 0, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(config.as_bytes(), bytes);
        assert_eq!(NvspMessageType::SEND_INDIRECTION_TABLE.0, 134);
    }

    #[test]
    fn a_section_lies_where_linux_reads_it() {
        // offsetof(struct nvsp_message, msg.v1_msg.send_recv_buf_complete.sections) is 4 + 8.
        let mut bytes = [0; 28];
        bytes[0] = 102;
        bytes[4] = 1;
        bytes[8] = 1;
        bytes[16..18].copy_from_slice(&1728_u16.to_le_bytes());
        bytes[20] = 9;
        let message = NvspSendReceiveBufferComplete::read_from_bytes(&bytes);
        let message = message.expect("as long as the struct");
        assert_eq!(message.status, NvspStatus::SUCCESS);
        assert_eq!((message.section.sub_alloc_size, message.section.num_sub_allocs), (1728, 9));
    }
}
