//! What the host offers.

use core::fmt;

use hv_abi::guid::Guid;
use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::offer::{OfferFlags, VMBUS_USER_DEFINED_BYTES};
use hv_abi::vmbus::version::VmbusVersion;
use hv_abi::vmbus::{VMBUS_EVENT_CONNECTION_ID, VMBUS_MAX_CHANNEL_ID};

/// A channel's number on the bus, 1 to 2047.
///
/// The host may give the number to another device after it took this one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u16);

impl ChannelId {
    /// The channel with that number; `None` if there can't be one.
    pub const fn new(relid: u32) -> Option<Self> {
        if relid == 0 || relid > VMBUS_MAX_CHANNEL_ID { None } else { Some(Self(relid as u16)) }
    }

    /// The number.
    pub const fn relid(self) -> u32 {
        self.0 as u32
    }

    /// The event flag of the host's signals, which is the same number.
    pub const fn flag(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the host offers: one channel of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The channel.
    pub channel: ChannelId,
    /// What kind of device it is.
    pub interface: Guid,
    /// Which one.
    pub instance: Guid,
    /// 0 for a device's primary channel, else the number of the sub-channel.
    pub sub_channel: u16,
    /// Flags.
    pub flags: OfferFlags,
    /// MiB of address space that the device wants.
    pub mmio_megabytes: u16,
    /// The device's own.
    pub user_defined: [u8; VMBUS_USER_DEFINED_BYTES],
    /// Trigger of the monitor pages, if the channel has one: 0 to 127.
    pub monitor: Option<u8>,
    /// The guest's signals go by [`connection`](Self::connection) only, not by a bit of the interrupt page as well.
    pub dedicated: bool,
    /// Connection by which the guest signals the channel.
    pub connection: u32,
}

/// Triggers of a monitor page (Linux, `struct hv_monitor_page`: 4 groups of 32).
const MONITOR_TRIGGERS: u8 = 128;

impl Offer {
    /// What `message` offers on a connection of that version; `None` if its number can't be a channel's.
    pub(super) fn parse(message: &OfferChannel, version: VmbusVersion) -> Option<Self> {
        let offer = &message.offer;
        // Before 1.1 the last two fields do not exist; before 2.4 there are no sub-channels.
        let own_connection = version >= VmbusVersion::V1_1;
        let monitored = message.monitor_allocated & 1 != 0 && message.monitorid < MONITOR_TRIGGERS;
        Some(Self {
            channel: ChannelId::new(message.child_relid)?,
            interface: offer.if_type,
            instance: offer.if_instance,
            sub_channel: if version >= VmbusVersion::V2_4 { offer.sub_channel_index } else { 0 },
            flags: OfferFlags::from_bits_retain(offer.chn_flags),
            mmio_megabytes: offer.mmio_megabytes,
            user_defined: offer.user_def,
            monitor: monitored.then_some(message.monitorid),
            dedicated: own_connection && message.is_dedicated_interrupt & 1 != 0,
            connection: if own_connection {
                message.connection_id
            } else {
                VMBUS_EVENT_CONNECTION_ID
            },
        })
    }
}

impl Offer {
    /// Whether both are channels of the same device.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        self.interface == other.interface && self.instance == other.instance
    }
}

/// What changed on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The host offers something, at first or later.
    Offered(Offer),
    /// The host took something back.
    Rescinded(ChannelId),
    /// The host has offered all that it has at the moment.
    AllDelivered,
}
