//! What guest and card have agreed on, as all channels see it.
//!
//! The primary channel's thread changes it, by putting a new one in the place of the old one; the others look for that at
//! each turn ([`Shared`]). So a buffer that the guest takes back is given up by all of them soon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hv_abi::nvsp::{NvspCapabilities, NvspVersion};
use hv_abi::rndis::PacketFilter;

use super::offloads::OffloadState;
use super::receive_buffer::ReceiveBuffer;
use super::rss::Rss;
use super::send_buffer::SendBuffer;
use crate::net::frame::ETHERNET_HEADER;
use crate::net::mac::MacAddress;

/// Most multicast addresses of a card.
pub(super) const MAX_MULTICAST: usize = 64;

/// The state of a card from its opening on.
#[derive(Clone)]
pub(super) struct Settings {
    /// `None`: nothing is agreed on yet.
    pub(super) version: Option<NvspVersion>,
    pub(super) capabilities: NvspCapabilities,
    /// Bytes of the longest frame, with its Ethernet header and without a tag.
    pub(super) frame_bytes: usize,
    pub(super) receive: Option<Arc<ReceiveBuffer>>,
    pub(super) send: Option<Arc<SendBuffer>>,
    /// RNDIS was initialised and not halted.
    pub(super) initialized: bool,
    pub(super) filter: PacketFilter,
    pub(super) multicast: Vec<MacAddress>,
    pub(super) address: MacAddress,
    pub(super) offloads: OffloadState,
    pub(super) rss: Option<Rss>,
    /// Channels that the guest has or was offered, the primary included.
    pub(super) channels: u16,
}

impl Settings {
    /// Those of a card that was just opened.
    pub(super) fn new(address: MacAddress, mtu: u16) -> Self {
        Self {
            version: None,
            capabilities: NvspCapabilities::empty(),
            frame_bytes: usize::from(mtu) + ETHERNET_HEADER,
            receive: None,
            send: None,
            initialized: false,
            filter: PacketFilter::empty(),
            multicast: Vec::new(),
            address,
            offloads: OffloadState::default(),
            rss: None,
            channels: 1,
        }
    }

    /// The version, or what is used before one is agreed on.
    pub(super) fn version(&self) -> NvspVersion {
        self.version.unwrap_or(NvspVersion::V1)
    }

    /// Undoes all that RNDIS set.
    pub(super) fn halt(&mut self, address: MacAddress) {
        self.initialized = false;
        self.filter = PacketFilter::empty();
        self.multicast.clear();
        self.address = address;
        self.offloads = OffloadState::default();
        self.rss = None;
    }

    /// Whether the guest wants a frame.
    pub(super) fn passes(&self, frame: &[u8]) -> bool {
        let Some(to) = MacAddress::destination(frame) else { return false };
        let wanted = if to.is_broadcast() {
            PacketFilter::BROADCAST
        } else if to.is_multicast() {
            match self.multicast.contains(&to) {
                true => PacketFilter::MULTICAST | PacketFilter::ALL_MULTICAST,
                false => PacketFilter::ALL_MULTICAST,
            }
        } else if to == self.address {
            PacketFilter::DIRECTED
        } else {
            PacketFilter::empty()
        };
        self.initialized && self.filter.intersects(wanted | PacketFilter::PROMISCUOUS)
    }
}

/// The settings, and how often they changed.
pub(super) struct Shared {
    current: RwLock<Arc<Settings>>,
    generation: AtomicU64,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self { current: RwLock::new(Arc::new(settings)), generation: AtomicU64::new(0) }
    }

    pub(super) fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, settings: Arc<Settings>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes with every change of the settings.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: [u8; 6]) -> [u8; 14] {
        let mut frame = [0; 14];
        frame[..6].copy_from_slice(&to);
        frame
    }

    #[test]
    fn filters_keep_out_what_they_should() {
        let mut settings = Settings::new(MacAddress::of_card(1), 1500);
        let (own, other) = (frame(settings.address.0), frame([2, 0, 0, 0, 0, 9]));
        let (all, group) = (frame([0xFF; 6]), frame([1, 0, 0x5E, 0, 0, 1]));
        let passes =
            |settings: &Settings| [&own, &other, &all, &group].map(|frame| settings.passes(frame));
        settings.filter = PacketFilter::all();
        assert_eq!(passes(&settings), [false; 4], "nothing before RNDIS is initialised");
        settings.initialized = true;
        assert_eq!(passes(&settings), [true; 4]);
        settings.filter = PacketFilter::DIRECTED;
        assert_eq!(passes(&settings), [true, false, false, false]);
        settings.filter = PacketFilter::BROADCAST | PacketFilter::MULTICAST;
        assert_eq!(passes(&settings), [false, false, true, false]);
        settings.multicast = vec![MacAddress([1, 0, 0x5E, 0, 0, 1])];
        assert_eq!(passes(&settings), [false, false, true, true]);
        settings.filter = PacketFilter::ALL_MULTICAST;
        assert_eq!(passes(&settings), [false, false, false, true]);
        settings.filter = PacketFilter::empty();
        assert_eq!(passes(&settings), [false; 4]);
        assert!(!settings.passes(&[]));
    }

    #[test]
    fn a_change_is_seen_by_its_generation() {
        let shared = Shared::new(Settings::new(MacAddress::of_card(1), 1500));
        let before = shared.generation();
        let mut settings = (*shared.get()).clone();
        settings.halt(MacAddress::of_card(2));
        shared.set(Arc::new(settings));
        assert_ne!(shared.generation(), before);
        assert_eq!(shared.get().address, MacAddress::of_card(2));
    }
}
