//! Negotiation of versions: the host lists all that it has, the guest answers with one of each.
//!
//! The request is a [`NegotiateHeader`] with `framework_count` and then `message_count` versions behind it, in any order
//! (hosts list the oldest first). The answer has one of each; a guest that has none in common answers with both counts
//! zero, or not at all (FreeBSD). Linux's answer is as long as the request, with what is behind the two versions left
//! as it was.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::IcVersion;

/// Most versions of a kind that a guest reads (`IC_VERSION_NEGOTIATION_MAX_VER_COUNT`).
pub const IC_VERSION_NEGOTIATION_MAX_VER_COUNT: usize = 100;

/// `struct icmsg_negotiate` up to its versions.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NegotiateHeader {
    /// Versions of the framework, which follow first.
    pub framework_count: u16,
    /// Versions of the message, which follow then.
    pub message_count: u16,
    /// Zero.
    pub _reserved: u32,
}

const _: () = assert!(size_of::<NegotiateHeader>() == 8);

/// The answer's message: a [`NegotiateHeader`] and two versions (Linux tells of this size in each, `icmsgsize = 0x10`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NegotiateAnswer {
    /// One each, or none.
    pub header: NegotiateHeader,
    /// Version of the framework.
    pub framework: IcVersion,
    /// Version of the message.
    pub message: IcVersion,
}

const _: () = assert!(size_of::<NegotiateAnswer>() == 0x10);

/// `UTIL_WS2K8_FW_VERSION`.
pub const FRAMEWORK_V1: IcVersion = IcVersion::new(1, 0);
/// `UTIL_FW_VERSION`.
pub const FRAMEWORK_V3: IcVersion = IcVersion::new(3, 0);

/// All versions of the framework, oldest first.
pub const FRAMEWORK_VERSIONS: [IcVersion; 2] = [FRAMEWORK_V1, FRAMEWORK_V3];
