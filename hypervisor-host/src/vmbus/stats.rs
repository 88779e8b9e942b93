//! What a bus counts, cheaply, and how it tells.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

/// A count.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Of one channel of a device, all its openings together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ChannelStats {
    pub(super) opened: Count,
    pub(super) packets_received: Count,
    pub(super) bytes_received: Count,
    pub(super) packets_sent: Count,
    pub(super) bytes_sent: Count,
    pub(super) signals_received: Count,
    pub(super) signals_sent: Count,
    pub(super) signals_suppressed: Count,
}

/// Of the bus.
#[derive(Debug, Default)]
pub(super) struct BusStats {
    messages: Mutex<BTreeMap<String, u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    channels: Mutex<BTreeMap<(String, u16), Arc<ChannelStats>>>,
}

/// The part of a report that is about VMBus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmbusReport {
    /// Version of the last connection, such as `5.3`; `null` if there was none.
    pub version: Option<String>,
    /// Messages of the guest by type (`OPENCHANNEL`).
    pub messages_received: BTreeMap<String, u64>,
    /// Messages to the guest by type.
    pub messages_sent: BTreeMap<String, u64>,
    /// What the guest did wrong, by name.
    pub errors: BTreeMap<String, u64>,
    /// Channels opened.
    pub channels_opened: u64,
    /// Signals of the guest, as far as they were told apart.
    pub signals_received: u64,
    /// Signals to the guest.
    pub signals_sent: u64,
    /// Packets to the guest that needed no signal.
    pub signals_suppressed: u64,
    /// Each channel that was ever open.
    pub channels: Vec<ChannelReport>,
}

/// One channel of a device, all its openings together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelReport {
    /// The device's name.
    pub device: String,
    /// 0 for the primary channel.
    pub sub_channel: u16,
    /// How often it was opened.
    pub opened: u64,
    /// Packets of the guest.
    pub packets_received: u64,
    /// Bytes of their payload.
    pub bytes_received: u64,
    /// Packets to the guest.
    pub packets_sent: u64,
    /// Bytes of their payload.
    pub bytes_sent: u64,
    /// Signals of the guest, as far as they were told apart.
    pub signals_received: u64,
    /// Signals to the guest that interrupted it.
    pub signals_sent: u64,
    /// Packets that needed none, because the guest was at work or had not seen the last one.
    pub signals_suppressed: u64,
}
