//! What may be chosen when an adapter is started.

use alloc::vec::Vec;

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::PacketFilter;

use super::toeplitz::{DEFAULT_KEY, KEY_BYTES};
use crate::SECOND_100NS;

/// What may be chosen. The default is what Linux does, on one channel.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetOptions {
    /// The newest protocol version to try.
    pub newest: NvspVersion,
    /// The oldest. Equal to `newest`: that one or none.
    pub oldest: NvspVersion,
    /// Largest IP packet, in bytes: 68 to 65,521; the host may allow less.
    pub mtu: u32,
    /// Which frames the host shall pass on.
    pub filter: PacketFilter,
    /// Channels to use at most, the primary included. More than one need NVSP 5 and VMBus 2.4.
    pub channels: u16,
    /// Virtual processors that the channels' interrupts go to, in turn; none: the one that gets the bus's messages.
    pub vps: Vec<u32>,
    /// Pages of each ring, its control page not counted.
    pub ring_pages: usize,
    /// Bytes of the buffer that the host puts frames into.
    pub receive_buffer_bytes: usize,
    /// Bytes of the buffer that frames are sent from; 0: none, all frames are sent from where they lie.
    pub send_buffer_bytes: usize,
    /// Received frames that wait to be taken, for each channel; what comes then is dropped.
    pub receive_queue_frames: usize,
    /// Frames that a channel collects before it gives them to the host by itself.
    pub batch_frames: u32,
    /// Whether the host shall compute checksums and cut segments.
    pub offloads: bool,
    /// Key of the hash that spreads frames over channels.
    pub rss_key: [u8; KEY_BYTES],
    /// How long the host may take to answer a request, in units of 100 ns.
    pub time_limit_100ns: u64,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            newest: NvspVersion::V6_1,
            oldest: NvspVersion::V1,
            mtu: 1500,
            filter: PacketFilter::DIRECTED | PacketFilter::ALL_MULTICAST | PacketFilter::BROADCAST,
            channels: 1,
            vps: Vec::new(),
            ring_pages: 32,
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 1 << 20,
            receive_queue_frames: 1024,
            batch_frames: 64,
            offloads: true,
            rss_key: DEFAULT_KEY,
            time_limit_100ns: 5 * SECOND_100NS,
        }
    }
}
