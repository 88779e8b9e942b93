//! Offers: what the guest finds on the bus, and what goes.

use std::sync::Arc;

use hv_abi::vmbus::VMBUS_MAX_CHANNEL_ID;
use hv_abi::vmbus::VMBUS_MESSAGE_SINT;
use hv_abi::vmbus::message::{
    MessageHeader, MessageType, OfferChannel, RelidReleased, RescindChannelOffer,
};
use hv_abi::vmbus::offer::ChannelOffer;
use hv_abi::vmbus::version::VmbusVersion;

use super::error::Malformed;
use super::outbox::{encode, encode_header};
use super::state::{Channel, Device, Phase, State};
use super::{AddError, Bus, DeviceId};
use crate::vmbus::channel::link::Link;
use crate::vmbus::device::VmbusDevice;

/// The connection for a channel's signals (OpenVMM, `ConnectionId::new`).
pub(super) const fn signal_connection(channel: u32) -> u32 {
    channel | (VMBUS_MESSAGE_SINT as u32) << 12
}

impl Bus {
    /// A device comes.
    pub(in crate::vmbus) fn add(&self, device: Arc<dyn VmbusDevice>) -> Result<DeviceId, AddError> {
        let offer = device.offer();
        let mut state = self.state();
        if state.stopped {
            return Err(AddError::Stopped);
        }
        if state.devices.values().any(|other| other.offer.instance == offer.instance) {
            return Err(AddError::Exists(offer.instance));
        }
        if state.devices.len() >= VMBUS_MAX_CHANNEL_ID as usize {
            return Err(AddError::Full);
        }
        let id = state.new_device();
        state.devices.insert(id, Device { device, offer });
        if state.open().is_ok_and(|info| info.offers_sent) {
            self.offer(&mut state, id, 0, None);
        }
        Ok(id)
    }

    /// A device goes.
    pub(in crate::vmbus) fn remove(&self, id: DeviceId) {
        let mut state = self.state();
        if state.devices.remove(&id).is_some() {
            self.rescind_device(&mut state, id);
        }
    }

    fn rescind_device(&self, state: &mut State, id: DeviceId) {
        let theirs = |channel: &Channel| channel.device == id && !channel.rescinded;
        let channels = state.channels.iter().filter(|(_, channel)| theirs(channel));
        let mut channels: Vec<_> = channels.map(|(&id, it)| (it.primary.is_none(), id)).collect();
        // Sub-channels first.
        channels.sort_unstable();
        for (_, channel) in channels {
            self.rescind(state, channel);
        }
    }

    /// `REQUESTOFFERS`.
    pub(super) fn request_offers(&self, state: &mut State) -> Result<(), Malformed> {
        let info = state.open_mut()?;
        if std::mem::replace(&mut info.offers_sent, true) {
            return Err(Malformed::OffersSent);
        }
        let mut devices: Vec<_> = state
            .devices
            .iter()
            .map(|(&id, device)| (device.offer.interface, id, device.offer.instance))
            .collect();
        // The same numbers for the same devices, whenever a guest connects.
        devices.sort_unstable();
        for (_, id, _) in devices {
            self.offer(state, id, 0, None);
        }
        self.announce(state, encode_header(MessageType::ALLOFFERS_DELIVERED));
        Ok(())
    }

    /// Offers a channel of a device. `None`: there is no number for it.
    fn offer(
        &self,
        state: &mut State,
        device: DeviceId,
        sub_channel_index: u16,
        primary: Option<u32>,
    ) -> Option<u32> {
        let id = state.free_channel()?;
        let offer = &state.devices.get(&device)?.offer;
        let (monitored, chn_flags) = (offer.monitored, offer.flags.bits());
        let info = state.open().ok()?;
        let version = info.version;
        let monitor = (monitored && info.monitor.is_some()).then(|| state.free_monitor()).flatten();
        let has_connection = version >= VmbusVersion::V1_1;
        let message = OfferChannel {
            header: MessageHeader::new(MessageType::OFFERCHANNEL),
            offer: ChannelOffer {
                if_type: offer.interface,
                if_instance: offer.instance,
                _reserved1: [0; 4],
                chn_flags,
                mmio_megabytes: offer.mmio_megabytes,
                user_def: offer.user_defined,
                sub_channel_index,
                _reserved3: 0,
            },
            child_relid: id,
            monitorid: monitor.unwrap_or(0),
            monitor_allocated: monitor.is_some().into(),
            is_dedicated_interrupt: has_connection.into(),
            connection_id: if has_connection { signal_connection(id) } else { 0 },
        };
        let channel = Channel {
            device,
            sub_channel_index,
            primary,
            monitor,
            gpadls: Default::default(),
            phase: Phase::Closed,
            rescinded: false,
            released: false,
        };
        state.channels.insert(id, channel);
        self.announce(state, encode(&message));
        Some(id)
    }

    /// Offers up to `count` sub-channels of an open primary channel. Gives how many.
    pub(in crate::vmbus) fn offer_sub_channels(
        &self,
        primary: u32,
        link: &Arc<Link>,
        count: u16,
    ) -> u16 {
        let mut state = self.state();
        let Some(channel) = state.channels.get(&primary) else { return 0 };
        let theirs = match &channel.phase {
            Phase::Open(opening) => Arc::ptr_eq(&opening.link, link),
            _ => false,
        };
        let too_early = state.version().is_none_or(|version| version < VmbusVersion::V2_4);
        if !theirs || too_early || channel.primary.is_some() || channel.rescinded {
            return 0;
        }
        let device = channel.device;
        let siblings = state.sub_channels(primary).into_iter();
        let indices =
            siblings.filter_map(|id| state.channels.get(&id)).map(|it| it.sub_channel_index);
        let first = indices.max().unwrap_or(0).saturating_add(1);
        let mut offered = 0;
        for index in first..first.saturating_add(count) {
            if self.offer(&mut state, device, index, Some(primary)).is_none() {
                break;
            }
            offered += 1;
        }
        offered
    }

    /// Takes a channel from the guest.
    pub(super) fn rescind(&self, state: &mut State, id: u32) {
        self.close_channel(state, id);
        let Some(channel) = state.channels.get_mut(&id) else { return };
        if std::mem::replace(&mut channel.rescinded, true) || channel.released {
            return;
        }
        if let Phase::Closing(_, reopen) = &mut channel.phase {
            *reopen = None;
        }
        let header = MessageHeader::new(MessageType::RESCIND_CHANNELOFFER);
        self.announce(state, encode(&RescindChannelOffer { header, child_relid: id }));
    }

    /// A provider gave a channel up.
    pub(super) fn give_up(&self, state: &mut State, id: u32) {
        match state.channels.get(&id) {
            Some(channel) if channel.primary.is_none() => {
                self.rescind_device(state, channel.device);
            }
            _ => self.rescind(state, id),
        }
    }

    /// `RELID_RELEASED`: the guest knows of the channel no more.
    pub(super) fn relid_released(
        &self,
        state: &mut State,
        released: RelidReleased,
    ) -> Result<(), Malformed> {
        if state.open().is_err() {
            // Linux's driver does so when it is unloaded (`vmbus_exit`): its numbers went with the connection.
            return Ok(());
        }
        let channel = state.channel(released.child_relid)?;
        if matches!(channel.phase, Phase::Open(_)) {
            return Err(Malformed::ChannelOpen);
        }
        self.forget_channel(state, released.child_relid);
        Ok(())
    }
}
