//! The messages that set up and take down connections and channels.
//!
//! Each begins with a [`MessageHeader`]. They travel as the payload of SynIC messages, at most
//! [`VMBUS_MAX_MESSAGE_BYTES`](super::VMBUS_MAX_MESSAGE_BYTES) long.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::offer::{ChannelOffer, VMBUS_USER_DEFINED_BYTES};
use super::version::VmbusVersion;
use crate::guid::Guid;

/// `enum vmbus_channel_message_type`.
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
pub struct MessageType(pub u32);

#[expect(missing_docs, reason = "the table in the parent module says what each is")]
impl MessageType {
    pub const INVALID: Self = Self(0);
    pub const OFFERCHANNEL: Self = Self(1);
    pub const RESCIND_CHANNELOFFER: Self = Self(2);
    pub const REQUESTOFFERS: Self = Self(3);
    pub const ALLOFFERS_DELIVERED: Self = Self(4);
    pub const OPENCHANNEL: Self = Self(5);
    pub const OPENCHANNEL_RESULT: Self = Self(6);
    pub const CLOSECHANNEL: Self = Self(7);
    pub const GPADL_HEADER: Self = Self(8);
    pub const GPADL_BODY: Self = Self(9);
    pub const GPADL_CREATED: Self = Self(10);
    pub const GPADL_TEARDOWN: Self = Self(11);
    pub const GPADL_TORNDOWN: Self = Self(12);
    pub const RELID_RELEASED: Self = Self(13);
    pub const INITIATE_CONTACT: Self = Self(14);
    pub const VERSION_RESPONSE: Self = Self(15);
    pub const UNLOAD: Self = Self(16);
    pub const UNLOAD_RESPONSE: Self = Self(17);
    pub const TL_CONNECT_REQUEST: Self = Self(21);
    pub const MODIFYCHANNEL: Self = Self(22);
    pub const TL_CONNECT_RESULT: Self = Self(23);
    pub const MODIFYCHANNEL_RESPONSE: Self = Self(24);
}

/// `struct vmbus_channel_message_header`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MessageHeader {
    /// What follows.
    pub msgtype: MessageType,
    /// Zero.
    pub _padding: u32,
}

impl MessageHeader {
    /// The header of such a message.
    pub const fn new(msgtype: MessageType) -> Self {
        Self { msgtype, _padding: 0 }
    }
}

const _: () = assert!(size_of::<MessageHeader>() == 8);

/// A message of a fixed layout, and its number.
pub trait VmbusMessage: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Its number.
    const TYPE: MessageType;
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
            pub header: MessageHeader,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);

        impl VmbusMessage for $name {
            const TYPE: MessageType = MessageType::$number;
        }
    )* };
}

messages! {
    /// `struct vmbus_channel_offer_channel`.
    OfferChannel = OFFERCHANNEL, 196 {
        /// What is offered.
        offer: ChannelOffer,
        /// The channel's number, 1 to [`VMBUS_MAX_CHANNEL_ID`](super::VMBUS_MAX_CHANNEL_ID): also the event flag of
        /// its signals to the guest.
        child_relid: u32,
        /// Which trigger of the monitor pages is the channel's, if [`monitor_allocated`](Self::monitor_allocated).
        monitorid: u8,
        /// Bit 0: whether there is one. Other bits are reserved.
        monitor_allocated: u8,
        /// Bit 0, from version 1.1 on: the channel is signalled by its own connection only, not by the interrupt page too.
        is_dedicated_interrupt: u16,
        /// Connection by which the guest signals the channel, from version 1.1 on.
        connection_id: u32,
    }

    /// `struct vmbus_channel_rescind_offer`.
    RescindChannelOffer = RESCIND_CHANNELOFFER, 12 {
        /// Channel.
        child_relid: u32,
    }

    /// `struct vmbus_channel_open_channel`.
    OpenChannel = OPENCHANNEL, 148 {
        /// Channel.
        child_relid: u32,
        /// Any number; the answer has it too.
        openid: u32,
        /// GPADL of the two rings.
        ringbuffer_gpadlhandle: u32,
        /// Processor that the host's signals go to, from version 2.4 on; else 0.
        target_vp: u32,
        /// Where in the GPADL the host's ring begins, in pages; the guest's is at 0.
        downstream_ringbuffer_pageoffset: u32,
        /// The device's own.
        userdata: [u8; VMBUS_USER_DEFINED_BYTES],
    }

    /// `OpenChannel2` of version 6.0, if `GUEST_SPECIFIED_SIGNAL_PARAMETERS` or `CHANNEL_INTERRUPT_REDIRECTION` is granted
    /// (OpenVMM).
    OpenChannel2 = OPENCHANNEL, 156 {
        /// Channel.
        child_relid: u32,
        /// Any number; the answer has it too.
        openid: u32,
        /// GPADL of the two rings.
        ringbuffer_gpadlhandle: u32,
        /// Processor that the host's signals go to.
        target_vp: u32,
        /// Where in the GPADL the host's ring begins, in pages.
        downstream_ringbuffer_pageoffset: u32,
        /// The device's own.
        userdata: [u8; VMBUS_USER_DEFINED_BYTES],
        /// Connection by which the host signals, if the guest chooses it.
        connection_id: u32,
        /// Event flag of the host's signals, if the guest chooses it.
        event_flag: u16,
        /// Flags.
        flags: u16,
    }

    /// `struct vmbus_channel_open_result`.
    OpenChannelResult = OPENCHANNEL_RESULT, 20 {
        /// Channel.
        child_relid: u32,
        /// From the request.
        openid: u32,
        /// 0, or an NTSTATUS.
        status: u32,
    }

    /// `struct vmbus_channel_close_channel`.
    CloseChannel = CLOSECHANNEL, 12 {
        /// Channel.
        child_relid: u32,
    }

    /// `struct vmbus_channel_gpadl_header` up to its ranges: `rangecount` times a
    /// [`GpaRangeHeader`](super::packet::GpaRangeHeader) with the page numbers it needs; what does not fit follows in [`GpadlBody`] messages.
    GpadlHeader = GPADL_HEADER, 20 {
        /// Channel.
        child_relid: u32,
        /// Number that the guest gives it, not 0.
        gpadl: u32,
        /// Bytes of all ranges together, in this message and those that follow.
        range_buflen: u16,
        /// Number of ranges.
        rangecount: u16,
    }

    /// `struct vmbus_channel_gpadl_body` up to its page numbers, which go on where the last message ended.
    GpadlBody = GPADL_BODY, 16 {
        /// Counts the bodies of a GPADL. Hosts ignore it.
        msgnumber: u32,
        /// Which.
        gpadl: u32,
    }

    /// `struct vmbus_channel_gpadl_created`.
    GpadlCreated = GPADL_CREATED, 20 {
        /// Channel.
        child_relid: u32,
        /// Which.
        gpadl: u32,
        /// 0, or an NTSTATUS.
        creation_status: u32,
    }

    /// `struct vmbus_channel_gpadl_teardown`.
    GpadlTeardown = GPADL_TEARDOWN, 16 {
        /// Channel.
        child_relid: u32,
        /// Which.
        gpadl: u32,
    }

    /// `struct vmbus_channel_gpadl_torndown`.
    GpadlTorndown = GPADL_TORNDOWN, 12 {
        /// Which.
        gpadl: u32,
    }

    /// `struct vmbus_channel_relid_released`: the guest has done with a channel that was rescinded.
    RelidReleased = RELID_RELEASED, 12 {
        /// Channel.
        child_relid: u32,
    }

    /// `struct vmbus_channel_initiate_contact`.
    InitiateContact = INITIATE_CONTACT, 40 {
        /// Version that the guest would like.
        vmbus_version_requested: VmbusVersion,
        /// Processor that the host's messages go to, from version 3.0 on (OpenVMM, `handle_initiate_contact`; Linux sets it for
        /// all).
        target_vcpu: u32,
        /// Before version 5.0 the address of the interrupt page; then [`ContactTarget`].
        target: u64,
        /// Address of the host's monitor page (host to guest), or 0.
        monitor_page1: u64,
        /// Address of the guest's monitor page (guest to host), or 0.
        monitor_page2: u64,
    }

    /// `InitiateContact2` of version 6.0, if `CLIENT_ID` is asked for (OpenVMM).
    InitiateContact2 = INITIATE_CONTACT, 56 {
        /// Version that the guest would like.
        vmbus_version_requested: VmbusVersion,
        /// Processor that the host's messages go to.
        target_vcpu: u32,
        /// [`ContactTarget`].
        target: u64,
        /// Address of the host's monitor page, or 0.
        monitor_page1: u64,
        /// Address of the guest's monitor page, or 0.
        monitor_page2: u64,
        /// Who asks.
        client_id: Guid,
    }

    /// `struct vmbus_channel_version_response`.
    VersionResponse = VERSION_RESPONSE, 16 {
        /// Not 0 if the version is supported.
        version_supported: u8,
        /// 0, or why there is no connection ([`connection_state`]).
        connection_state: u8,
        /// Reserved.
        _padding: u16,
        /// From version 5.0 on the connection for the guest's further messages; before, hosts put the version here.
        msg_conn_id: u32,
    }

    /// `VersionResponse2`, only from version 6.0 on (OpenVMM).
    VersionResponse2 = VERSION_RESPONSE, 20 {
        /// Not 0 if the version is supported.
        version_supported: u8,
        /// 0, or why there is no connection ([`connection_state`]).
        connection_state: u8,
        /// Reserved.
        _padding: u16,
        /// The connection for the guest's further messages.
        msg_conn_id: u32,
        /// [`feature`](super::version::feature)s that the host has.
        supported_features: u32,
    }

    /// `struct vmbus_channel_modifychannel`.
    ModifyChannel = MODIFYCHANNEL, 16 {
        /// Channel.
        child_relid: u32,
        /// Processor that the host's signals go to from now on.
        target_vp: u32,
    }

    /// `struct vmbus_channel_modifychannel_response`.
    ModifyChannelResponse = MODIFYCHANNEL_RESPONSE, 16 {
        /// Channel.
        child_relid: u32,
        /// 0, or an NTSTATUS.
        status: u32,
    }

    /// `struct vmbus_channel_tl_connect_request`.
    TlConnectRequest = TL_CONNECT_REQUEST, 40 {
        /// The guest's end.
        guest_endpoint_id: Guid,
        /// The host's service.
        host_service_id: Guid,
    }
}

/// Target of the host's messages from version 5.0 on ([`InitiateContact::target`]): the SINT in the lowest byte, from 5.1 on a
/// virtual trust level in the next, and from 6.0 on features in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContactTarget(pub u64);

impl ContactTarget {
    /// SINT and features.
    pub const fn new(sint: u8, features: u32) -> Self {
        Self(sint as u64 | (features as u64) << 32)
    }

    /// The SINT.
    pub const fn sint(self) -> u8 {
        self.0 as u8
    }

    /// The virtual trust level.
    pub const fn vtl(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The features.
    pub const fn features(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Why there is no connection (OpenVMM, `ConnectionState`).
pub mod connection_state {
    /// There is one.
    pub const SUCCESSFUL: u8 = 0;
    /// The host lacks something.
    pub const FAILED_LOW_RESOURCES: u8 = 1;
    /// The host doesn't tell.
    pub const FAILED_UNKNOWN_FAILURE: u8 = 2;
}

/// NTSTATUS values in answers.
pub mod status {
    /// Done.
    pub const SUCCESS: u32 = 0;
    /// Failed (OpenVMM, `STATUS_UNSUCCESSFUL`).
    pub const UNSUCCESSFUL: u32 = 0x8000_FFFF;
}
