//! What the fake host offers.

use hv_abi::guid::Guid;
use hv_abi::vmbus::message::{MessageHeader, OfferChannel, VmbusMessage};
use hv_abi::vmbus::offer::{ChannelOffer, VMBUS_USER_DEFINED_BYTES};
use zerocopy::FromZeros;

/// An offer in the making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeOffer(pub(super) OfferChannel);

impl FakeOffer {
    /// A primary channel, signalled by a connection of its own, of a device with that interface and a made-up instance.
    pub fn new(interface: Guid) -> Self {
        let mut offer = ChannelOffer::new_zeroed();
        offer.if_type = interface;
        Self(OfferChannel {
            header: MessageHeader::new(OfferChannel::TYPE),
            offer,
            child_relid: 0,
            monitorid: 0,
            monitor_allocated: 0,
            is_dedicated_interrupt: 1,
            connection_id: 0,
        })
    }

    /// Which device.
    #[must_use]
    pub const fn instance(mut self, instance: Guid) -> Self {
        self.0.offer.if_instance = instance;
        self
    }

    /// Not the primary channel but this sub-channel.
    #[must_use]
    pub const fn sub_channel(mut self, index: u16) -> Self {
        self.0.offer.sub_channel_index = index;
        self
    }

    /// The device's own bytes.
    #[must_use]
    pub const fn user_defined(mut self, bytes: [u8; VMBUS_USER_DEFINED_BYTES]) -> Self {
        self.0.offer.user_def = bytes;
        self
    }

    /// Signals by this trigger of the monitor pages.
    #[must_use]
    pub const fn monitor(mut self, trigger: u8) -> Self {
        self.0.monitorid = trigger;
        self.0.monitor_allocated = 1;
        self
    }

    /// Signals by the interrupt page, too.
    #[must_use]
    pub const fn shared_interrupt(mut self) -> Self {
        self.0.is_dedicated_interrupt = 0;
        self
    }
}
