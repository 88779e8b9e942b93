//! Shutdown: the host asks the guest to switch off, restart or hibernate; the guest says whether it will, and then does.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::IcVersion;

/// `SD_VERSION_1`.
pub const SHUTDOWN_V1: IcVersion = IcVersion::new(1, 0);
/// `SD_VERSION`.
pub const SHUTDOWN_V3: IcVersion = IcVersion::new(3, 0);
/// `SD_VERSION_3_1`: restart ([`SHUTDOWN_FLAG_RESTART`]; FreeBSD, which ends at 3.0, refuses it).
pub const SHUTDOWN_V3_1: IcVersion = IcVersion::new(3, 1);
/// `SD_VERSION_3_2`: hibernation ([`SHUTDOWN_FLAG_HIBERNATE`]).
pub const SHUTDOWN_V3_2: IcVersion = IcVersion::new(3, 2);
/// All, oldest first.
pub const SHUTDOWN_VERSIONS: [IcVersion; 4] =
    [SHUTDOWN_V1, SHUTDOWN_V3, SHUTDOWN_V3_1, SHUTDOWN_V3_2];

/// In [`ShutdownMessage::flags`]: whatever stands against it. May come with any of the others (so OpenVMM,
/// `ShutdownFlags`, and `shutdown_onchannelcallback`, which knows 0 to 5).
pub const SHUTDOWN_FLAG_FORCE: u32 = 1;
/// In [`ShutdownMessage::flags`]: restart instead of switching off.
pub const SHUTDOWN_FLAG_RESTART: u32 = 2;
/// In [`ShutdownMessage::flags`]: hibernate instead of switching off.
pub const SHUTDOWN_FLAG_HIBERNATE: u32 = 4;

/// In [`ShutdownMessage::reason_code`]: it was planned (Windows SDK, `reason.h`; OpenVMM sends it).
pub const SHTDN_REASON_FLAG_PLANNED: u32 = 0x8000_0000;

/// `struct shutdown_msg_data`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShutdownMessage {
    /// Why, as in Windows' `InitiateSystemShutdownEx`.
    pub reason_code: u32,
    /// How long the guest may take, 0 for no limit.
    pub timeout_seconds: u32,
    /// `SHUTDOWN_FLAG_…`.
    pub flags: u32,
    /// Text for whoever sits before the guest, ending with a zero. No guest that is published reads it.
    pub display_message: [u8; 2048],
}

const _: () = assert!(size_of::<ShutdownMessage>() == 2060);

/// Bytes that a message has at least: up to the text (FreeBSD, `VMBUS_ICMSG_SHUTDOWN_SIZE_MIN`). Linux wants all of it.
pub const SHUTDOWN_MIN_BYTES: usize = 12;
