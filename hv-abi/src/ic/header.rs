//! The two headers of every packet.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`PipeHeader::flags`] of data (OpenVMM, `vmbus_ring`, `PIPE_PACKET_TYPE_DATA`). Linux's guests send back what they
/// got and look at neither field.
pub const PIPE_PACKET_TYPE_DATA: u32 = 1;

/// `struct vmbuspipe_hdr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PipeHeader {
    /// [`PIPE_PACKET_TYPE_DATA`].
    pub flags: u32,
    /// Bytes that follow, the [`IcmsgHeader`] included. The packet may be up to 7 bytes longer, as packets are multiples
    /// of 8 bytes.
    pub msgsize: u32,
}

const _: () = assert!(size_of::<PipeHeader>() == 8);

/// `struct ic_version`: of the framework, that is of headers and negotiation, or of a component's messages.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct IcVersion {
    /// The part before the point.
    pub major: u16,
    /// The part behind the point.
    pub minor: u16,
}

impl IcVersion {
    /// A version by its two parts.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for IcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for IcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const _: () = assert!(size_of::<IcVersion>() == 4);

/// `ICMSGTYPE_…`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IcMessageType(pub u16);

impl IcMessageType {
    /// `ICMSGTYPE_NEGOTIATE`: [`NegotiateHeader`](super::negotiate::NegotiateHeader).
    pub const NEGOTIATE: Self = Self(0);
    /// `ICMSGTYPE_HEARTBEAT`: [`HeartbeatMessage`](super::heartbeat::HeartbeatMessage).
    pub const HEARTBEAT: Self = Self(1);
    /// `ICMSGTYPE_KVPEXCHANGE`: [`KvpHeader`](super::kvp::KvpHeader).
    pub const KVPEXCHANGE: Self = Self(2);
    /// `ICMSGTYPE_SHUTDOWN`: [`ShutdownMessage`](super::shutdown::ShutdownMessage).
    pub const SHUTDOWN: Self = Self(3);
    /// `ICMSGTYPE_TIMESYNC`: [`TimesyncMessage`](super::timesync::TimesyncMessage) or
    /// [`TimesyncRefMessage`](super::timesync::TimesyncRefMessage).
    pub const TIMESYNC: Self = Self(4);
    /// `ICMSGTYPE_VSS`.
    pub const VSS: Self = Self(5);
    /// `ICMSGTYPE_FCOPY`.
    pub const FCOPY: Self = Self(7);
}

/// Status of an answer: an `HRESULT`, 0 in requests (`HV_S_OK` and so on).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IcStatus(pub u32);

impl IcStatus {
    /// `HV_S_OK`.
    pub const S_OK: Self = Self(0);
    /// `HV_E_FAIL`.
    pub const E_FAIL: Self = Self(0x8000_4005);
    /// `HV_S_CONT`: no item with this index or key (OpenVMM, `NO_MORE_ITEMS`).
    pub const S_CONT: Self = Self(0x8007_0103);
    /// `HV_ERROR_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: Self = Self(0x8007_0032);
    /// `HV_INVALIDARG`.
    pub const INVALIDARG: Self = Self(0x8007_0057);
    /// `HV_GUID_NOTFOUND`.
    pub const GUID_NOTFOUND: Self = Self(0x8004_1002);
    /// `HV_ERROR_DISK_FULL`.
    pub const DISK_FULL: Self = Self(0x8007_0070);
    /// `HV_ERROR_DEVICE_NOT_CONNECTED`.
    pub const DEVICE_NOT_CONNECTED: Self = Self(0x8007_048F);
}

impl fmt::Display for IcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for IcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In [`IcmsgHeader::flags`]: belongs to a pair of request and answer.
pub const ICMSGHDRFLAG_TRANSACTION: u8 = 1;
/// In [`IcmsgHeader::flags`]: wants an answer.
pub const ICMSGHDRFLAG_REQUEST: u8 = 2;
/// In [`IcmsgHeader::flags`]: is one. With [`ICMSGHDRFLAG_TRANSACTION`], that is what guests set in each answer.
pub const ICMSGHDRFLAG_RESPONSE: u8 = 4;

/// `struct icmsg_hdr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IcmsgHeader {
    /// Version of the framework; zero while it is negotiated.
    pub framework_version: IcVersion,
    /// What follows.
    pub message_type: IcMessageType,
    /// Version of the message; zero while it is negotiated.
    pub message_version: IcVersion,
    /// Bytes that follow this header.
    pub message_size: u16,
    /// How the guest did.
    pub status: IcStatus,
    /// The answer has the request's.
    pub transaction_id: u8,
    /// `ICMSGHDRFLAG_…`.
    pub flags: u8,
    /// Zero.
    pub _reserved: [u8; 2],
}

const _: () = assert!(size_of::<IcmsgHeader>() == 20);
