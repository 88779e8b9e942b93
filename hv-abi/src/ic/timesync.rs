//! Time synchronisation: the host sends samples of its clock.
//!
//! Times are in 100 ns since 1601, UTC. From version 4.0 on a sample has with it the guest's reference time (TLFS
//! *Partition Reference Counter*) at the moment it was taken, so that a guest can subtract how long the message took.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::IcVersion;

/// `TS_VERSION_1`.
pub const TIMESYNC_V1: IcVersion = IcVersion::new(1, 0);
/// `TS_VERSION_3`.
pub const TIMESYNC_V3: IcVersion = IcVersion::new(3, 0);
/// `TS_VERSION`: [`TimesyncRefMessage`].
pub const TIMESYNC_V4: IcVersion = IcVersion::new(4, 0);
/// All, oldest first.
pub const TIMESYNC_VERSIONS: [IcVersion; 3] = [TIMESYNC_V1, TIMESYNC_V3, TIMESYNC_V4];

/// 1970 in the protocol's time, in 100 ns (`WLTIMEDELTA`).
pub const WLTIMEDELTA: u64 = 116_444_736_000_000_000;

/// In a message's flags: nothing is asked for (`ICTIMESYNCFLAG_PROBE`).
pub const ICTIMESYNCFLAG_PROBE: u8 = 0;
/// In a message's flags: the guest shall set its clock, as its time was interrupted: after its start, and whenever it was
/// stopped for a while.
pub const ICTIMESYNCFLAG_SYNC: u8 = 1;
/// In a message's flags: a sample, of which the guest may make what it likes.
pub const ICTIMESYNCFLAG_SAMPLE: u8 = 2;

/// `struct ictimesync_data`, before version 4.0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TimesyncMessage {
    /// The host's time.
    pub parent_time: U64,
    /// Not used.
    pub child_time: U64,
    /// How long a message and its answer took, in 100 ns, or 0.
    pub round_trip_time: U64,
    /// `ICTIMESYNCFLAG_…`.
    pub flags: u8,
    /// Reserved (OpenVMM; Linux's struct ends before).
    pub _reserved: [u8; 3],
}

const _: () = assert!(size_of::<TimesyncMessage>() == 28);

/// Bytes that a [`TimesyncMessage`] has at least (`sizeof(struct ictimesync_data)`).
pub const TIMESYNC_MIN_BYTES: usize = 25;

/// `struct ictimesync_ref_data`, from version 4.0 on.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TimesyncRefMessage {
    /// The host's time.
    pub parent_time: U64,
    /// The guest's reference time then, in 100 ns.
    pub vm_reference_time: U64,
    /// `ICTIMESYNCFLAG_…`.
    pub flags: u8,
    /// NTP's leap indicator.
    pub leap_flags: u8,
    /// NTP's stratum.
    pub stratum: u8,
    /// Reserved (five bytes in OpenVMM, three in Linux).
    pub _reserved: [u8; 5],
}

const _: () = assert!(size_of::<TimesyncRefMessage>() == 24);

/// Bytes that a [`TimesyncRefMessage`] has at least (`sizeof(struct ictimesync_ref_data)`).
pub const TIMESYNC_REF_MIN_BYTES: usize = 22;
