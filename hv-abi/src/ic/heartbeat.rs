//! Heartbeat: every two seconds the host sends a number, and the guest answers with the next one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::IcVersion;

/// `HB_VERSION_1`.
pub const HEARTBEAT_V1: IcVersion = IcVersion::new(1, 0);
/// `HB_VERSION`: with the application's state.
pub const HEARTBEAT_V3: IcVersion = IcVersion::new(3, 0);
/// All, oldest first.
pub const HEARTBEAT_VERSIONS: [IcVersion; 2] = [HEARTBEAT_V1, HEARTBEAT_V3];

/// Milliseconds between two requests (`hv_util.c`, *Heartbeat functionality*).
pub const HEARTBEAT_PERIOD_MS: u64 = 2000;

/// How the guest's application is (OpenVMM, `ApplicationState`). Linux leaves it 0.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ApplicationState(pub u32);

impl ApplicationState {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(0);
    /// Well.
    pub const HEALTHY: Self = Self(1);
    /// A critical error.
    pub const CRITICAL: Self = Self(2);
    /// Stopped.
    pub const STOPPED: Self = Self(3);
}

/// `struct heartbeat_msg_data`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HeartbeatMessage {
    /// In the answer one more than in the request, modulo 2⁶⁴.
    pub seq_num: u64,
    /// In the answer, from version 3.0 on: how the application is.
    pub application_state: ApplicationState,
    /// Reserved.
    pub _reserved: [u32; 7],
}

const _: () = assert!(size_of::<HeartbeatMessage>() == 40);

/// Bytes that a message has at least: "the host may not fill it up entirely" is what `hv_util.c` takes care of, too.
pub const HEARTBEAT_MIN_BYTES: usize = 8;
