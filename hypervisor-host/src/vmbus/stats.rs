//! What a bus counts, cheaply, and how it tells.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::synic::HvMessage;
use hv_abi::vmbus::message::{MessageHeader, MessageType};
use hv_abi::vmbus::version::VmbusVersion;
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes;

use crate::stats::lock;

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

/// By name.
type Counts = Mutex<BTreeMap<&'static str, u64>>;

/// Of the bus.
#[derive(Debug, Default)]
pub(super) struct BusStats {
    version: Mutex<Option<VmbusVersion>>,
    received: Counts,
    sent: Counts,
    errors: Counts,
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

/// What went over the bus until a moment, all channels together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficReport {
    /// Packets of the guest.
    pub packets_received: u64,
    /// Packets to the guest.
    pub packets_sent: u64,
    /// Signals of the guest, as far as they were told apart.
    pub signals_received: u64,
    /// Signals to the guest that interrupted it.
    pub signals_sent: u64,
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

impl BusStats {
    pub(super) fn received(&self, message_type: MessageType) {
        count(&self.received, name(message_type));
    }

    pub(super) fn sent(&self, message: &HvMessage) {
        if let Ok((header, _)) = MessageHeader::read_from_prefix(&message.payload) {
            count(&self.sent, name(header.msgtype));
        }
    }

    /// Tells whether it is the first of its name.
    pub(super) fn malformed(&self, name: &'static str) -> bool {
        count(&self.errors, name) == 1
    }

    pub(super) fn connected(&self, version: VmbusVersion) {
        *lock(&self.version) = Some(version);
    }

    /// The counts of a channel, which those of its earlier openings are part of.
    pub(super) fn channel(&self, device: &str, sub_channel: u16) -> Arc<ChannelStats> {
        let mut channels = lock(&self.channels);
        channels.entry((device.into(), sub_channel)).or_default().clone()
    }

    pub(super) fn traffic(&self) -> TrafficReport {
        let mut sum = TrafficReport::default();
        for channel in lock(&self.channels).values() {
            sum.packets_received += channel.packets_received.get();
            sum.packets_sent += channel.packets_sent.get();
            sum.signals_received += channel.signals_received.get();
            sum.signals_sent += channel.signals_sent.get();
        }
        sum
    }

    pub(super) fn report(&self) -> VmbusReport {
        let channels: Vec<_> = lock(&self.channels).iter().map(channel_report).collect();
        let sum = |part: fn(&ChannelReport) -> u64| channels.iter().map(part).sum();
        VmbusReport {
            version: lock(&self.version).map(|version| version.to_string()),
            messages_received: names(&self.received),
            messages_sent: names(&self.sent),
            errors: names(&self.errors),
            channels_opened: sum(|channel| channel.opened),
            signals_received: sum(|channel| channel.signals_received),
            signals_sent: sum(|channel| channel.signals_sent),
            signals_suppressed: sum(|channel| channel.signals_suppressed),
            channels,
        }
    }
}

fn count(counts: &Counts, name: &'static str) -> u64 {
    let mut counts = lock(counts);
    let count = counts.entry(name).or_default();
    *count += 1;
    *count
}

fn names(counts: &Counts) -> BTreeMap<String, u64> {
    lock(counts).iter().map(|(&name, &count)| (name.into(), count)).collect()
}

fn channel_report(
    ((device, sub_channel), stats): (&(String, u16), &Arc<ChannelStats>),
) -> ChannelReport {
    ChannelReport {
        device: device.clone(),
        sub_channel: *sub_channel,
        opened: stats.opened.get(),
        packets_received: stats.packets_received.get(),
        bytes_received: stats.bytes_received.get(),
        packets_sent: stats.packets_sent.get(),
        bytes_sent: stats.bytes_sent.get(),
        signals_received: stats.signals_received.get(),
        signals_sent: stats.signals_sent.get(),
        signals_suppressed: stats.signals_suppressed.get(),
    }
}

/// What a type of message is called.
fn name(message_type: MessageType) -> &'static str {
    match message_type {
        MessageType::OFFERCHANNEL => "OFFERCHANNEL",
        MessageType::RESCIND_CHANNELOFFER => "RESCIND_CHANNELOFFER",
        MessageType::REQUESTOFFERS => "REQUESTOFFERS",
        MessageType::ALLOFFERS_DELIVERED => "ALLOFFERS_DELIVERED",
        MessageType::OPENCHANNEL => "OPENCHANNEL",
        MessageType::OPENCHANNEL_RESULT => "OPENCHANNEL_RESULT",
        MessageType::CLOSECHANNEL => "CLOSECHANNEL",
        MessageType::GPADL_HEADER => "GPADL_HEADER",
        MessageType::GPADL_BODY => "GPADL_BODY",
        MessageType::GPADL_CREATED => "GPADL_CREATED",
        MessageType::GPADL_TEARDOWN => "GPADL_TEARDOWN",
        MessageType::GPADL_TORNDOWN => "GPADL_TORNDOWN",
        MessageType::RELID_RELEASED => "RELID_RELEASED",
        MessageType::INITIATE_CONTACT => "INITIATE_CONTACT",
        MessageType::VERSION_RESPONSE => "VERSION_RESPONSE",
        MessageType::UNLOAD => "UNLOAD",
        MessageType::UNLOAD_RESPONSE => "UNLOAD_RESPONSE",
        MessageType::TL_CONNECT_REQUEST => "TL_CONNECT_REQUEST",
        MessageType::MODIFYCHANNEL => "MODIFYCHANNEL",
        MessageType::MODIFYCHANNEL_RESPONSE => "MODIFYCHANNEL_RESPONSE",
        _ => "other",
    }
}
