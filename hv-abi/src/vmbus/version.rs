//! Protocol versions.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A version: major in the upper half, minor in the lower.
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
pub struct VmbusVersion(pub u32);

impl VmbusVersion {
    /// `VERSION_WS2008`: signals by the interrupt page only.
    pub const V0_13: Self = Self::new(0, 13);
    /// `VERSION_WIN7`: a connection of its own for each channel, `UNLOAD_RESPONSE`.
    pub const V1_1: Self = Self::new(1, 1);
    /// `VERSION_WIN8`: sub-channels, a target processor for each channel, pending-send-size flow control.
    pub const V2_4: Self = Self::new(2, 4);
    /// `VERSION_WIN8_1`.
    pub const V3_0: Self = Self::new(3, 0);
    /// `VERSION_WIN10`.
    pub const V4_0: Self = Self::new(4, 0);
    /// `VERSION_WIN10_V4_1`: `MODIFYCHANNEL`.
    pub const V4_1: Self = Self::new(4, 1);
    /// `VERSION_WIN10_V5`: the guest names a SINT, the host a connection for messages.
    pub const V5_0: Self = Self::new(5, 0);
    /// `VERSION_WIN10_V5_1`.
    pub const V5_1: Self = Self::new(5, 1);
    /// `VERSION_WIN10_V5_2`.
    pub const V5_2: Self = Self::new(5, 2);
    /// `VERSION_WIN10_V5_3`: `MODIFYCHANNEL_RESPONSE`.
    pub const V5_3: Self = Self::new(5, 3);
    /// 6.0 (OpenVMM, `Version::Copper`): feature flags.
    pub const V6_0: Self = Self::new(6, 0);

    /// All of them, newest first: the order in which a guest tries.
    pub const ALL: [Self; 11] = [
        Self::V6_0,
        Self::V5_3,
        Self::V5_2,
        Self::V5_1,
        Self::V5_0,
        Self::V4_1,
        Self::V4_0,
        Self::V3_0,
        Self::V2_4,
        Self::V1_1,
        Self::V0_13,
    ];

    /// A version by its two parts.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }

    /// The part before the point.
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The part behind the point.
    pub const fn minor(self) -> u16 {
        self.0 as u16
    }

    /// Whether it is one of [`VmbusVersion::ALL`].
    pub fn is_known(self) -> bool {
        Self::ALL.contains(&self)
    }
}

impl fmt::Display for VmbusVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// Features of version 6.0 (OpenVMM, `FeatureFlags`): asked for in the upper half of
/// [`InitiateContact::target`](super::message::InitiateContact), granted in
/// [`VersionResponse2`](super::message::VersionResponse2).
pub mod feature {
    /// The guest may choose flag and connection when it opens a channel.
    pub const GUEST_SPECIFIED_SIGNAL_PARAMETERS: u32 = 1 << 0;
    /// `REDIRECT_INTERRUPT` in the flags of `OPENCHANNEL`.
    pub const CHANNEL_INTERRUPT_REDIRECTION: u32 = 1 << 1;
    /// `MODIFY_CONNECTION` and its response.
    pub const MODIFY_CONNECTION: u32 = 1 << 2;
    /// `INITIATE_CONTACT` has a client's GUID behind it.
    pub const CLIENT_ID: u32 = 1 << 3;
    /// Offers may ask for confidential rings.
    pub const CONFIDENTIAL_CHANNELS: u32 = 1 << 4;
    /// `PAUSE` and `RESUME`.
    pub const PAUSE_RESUME: u32 = 1 << 5;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        assert!(VmbusVersion::ALL.is_sorted_by(|newer, older| newer > older));
        assert_eq!(VmbusVersion::V5_3.0, 0x0005_0003);
        assert_eq!((VmbusVersion::V0_13.major(), VmbusVersion::V0_13.minor()), (0, 13));
        assert!(!VmbusVersion(0x0005_0004).is_known());
    }
}
