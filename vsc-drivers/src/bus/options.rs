//! How a bus is to behave.

use hv_abi::vmbus::VMBUS_MESSAGE_SINT;
use hv_abi::vmbus::version::VmbusVersion;

/// How a bus is to behave. [`BusOptions::default`] suits any host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusOptions {
    /// The newest version to ask for.
    pub newest: VmbusVersion,
    /// The oldest version to ask for.
    pub oldest: VmbusVersion,
    /// The source of the bus's interrupts. Another than [`VMBUS_MESSAGE_SINT`] needs version 5.0.
    pub sint: u8,
    /// Whether the host gets monitor pages, and channels that have a trigger there are signalled by it.
    pub monitor_pages: bool,
    /// How long the host may take to answer, in units of 100 ns.
    pub time_limit_100ns: u64,
    /// Bytes of memory for messages that came and were not looked at. What does not fit is lost and counted; an
    /// offer takes 198.
    pub inbox_bytes: usize,
    /// Channels that are kept at the same time. Offers beyond it are ignored and counted.
    pub max_channels: usize,
}

impl BusOptions {
    /// Only `version`, no other.
    #[must_use]
    pub const fn forced(mut self, version: VmbusVersion) -> Self {
        self.newest = version;
        self.oldest = version;
        self
    }

    /// The versions to try, in this order.
    pub(super) fn versions(&self) -> impl Iterator<Item = VmbusVersion> {
        let Self { newest, oldest, sint, .. } = *self;
        let any_sint = move |version| sint == VMBUS_MESSAGE_SINT || version >= VmbusVersion::V5_0;
        VmbusVersion::ALL
            .into_iter()
            .filter(move |&version| (oldest..=newest).contains(&version) && any_sint(version))
    }
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            newest: VmbusVersion::V6_0,
            oldest: VmbusVersion::V0_13,
            sint: VMBUS_MESSAGE_SINT,
            monitor_pages: true,
            time_limit_100ns: 5 * crate::SECOND_100NS,
            inbox_bytes: 64 * 1024,
            max_channels: 1024,
        }
    }
}
