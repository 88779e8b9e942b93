//! How the driver is to behave.

use alloc::vec::Vec;

use hv_abi::storvsp::StorvspVersion;

use crate::SECOND_100NS;

/// When a request reaches the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doorbell {
    /// When [`StorVsc::run`](super::StorVsc::run) is polled next: all requests that were made until then go together, with one
    /// signal at most.
    #[default]
    Deferred,
    /// At once: lower latency if the task of the driver is another processor's.
    Immediate,
}

/// How the driver is to behave. [`StorOptions::default`] suits any host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorOptions {
    /// The newest version to ask for.
    pub newest: StorvspVersion,
    /// The oldest version to ask for.
    pub oldest: StorvspVersion,
    /// Requests that the host may have at a time on each channel, 1 to 65,534.
    pub depth: u16,
    /// Bytes of each ring of each channel, without its control page: a multiple of 4,096.
    pub ring_bytes: usize,
    /// Bytes of one request, at most. Less if the host takes less.
    pub max_transfer_bytes: u32,
    /// Channels in all, if the host has as many.
    pub channels: u16,
    /// Virtual processors that get the channels' signals, in order; after the last the first again. Empty: that of the
    /// bus.
    pub vps: Vec<u32>,
    /// When requests reach the host.
    pub doorbell: Doorbell,
    /// How long the host may take for a request, in units of 100 ns. It is then reset.
    pub request_limit_100ns: u64,
    /// How long the host may take for a reset, in units of 100 ns.
    pub reset_limit_100ns: u64,
    /// How long the host may take after a reset to give back what it had, in units of 100 ns.
    pub reset_grace_100ns: u64,
}

impl StorOptions {
    /// Only `version`, no other.
    #[must_use]
    pub fn forced(mut self, version: StorvspVersion) -> Self {
        (self.newest, self.oldest) = (version, version);
        self
    }

    /// The versions to try, in this order.
    pub(super) fn versions(&self) -> impl Iterator<Item = StorvspVersion> + use<> {
        let range = self.oldest..=self.newest;
        StorvspVersion::ALL.into_iter().filter(move |version| range.contains(version))
    }

    /// The processor that gets the signals of the channel numbered `index`.
    pub(super) fn vp(&self, index: u16) -> Option<u32> {
        let index = usize::from(index).checked_rem(self.vps.len())?;
        self.vps.get(index).copied()
    }
}

impl Default for StorOptions {
    fn default() -> Self {
        Self {
            newest: StorvspVersion::V6_2,
            oldest: StorvspVersion::V2_0,
            depth: 256,
            // As Linux's `storvsc_ringbuffer_size`.
            ring_bytes: 128 << 10,
            max_transfer_bytes: 1 << 20,
            channels: 1,
            vps: Vec::new(),
            doorbell: Doorbell::default(),
            request_limit_100ns: 60 * SECOND_100NS,
            reset_limit_100ns: 10 * SECOND_100NS,
            reset_grace_100ns: SECOND_100NS,
        }
    }
}
