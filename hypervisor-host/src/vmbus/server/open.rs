//! Open channels: how they begin, move to another processor, and end.

use std::collections::BTreeSet;
use std::sync::Arc;

use hv_abi::synic::HV_EVENT_FLAGS_COUNT;
use hv_abi::vmbus::VMBUS_VP_INDEX_DISABLE_INTERRUPT;
use hv_abi::vmbus::message::{
    CloseChannel, MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse, OpenChannel2,
    OpenChannelResult, status,
};
use hv_abi::vmbus::version::{VmbusVersion, feature};

use super::Bus;
use super::error::Malformed;
use super::offers::signal_connection;
use super::outbox::{After, Cause, encode};
use super::state::{Info, Opening, Phase, State};
use crate::hyperv::synic::{RouteUse, Sint};
use crate::process::tell;
use crate::vmbus::channel::link::Link;
use crate::vmbus::channel::rings::Rings;
use crate::vmbus::channel::{HostChannel, Opened};
use crate::vmbus::signals::GuestSignal;

impl Bus {
    /// `OPENCHANNEL`.
    pub(super) fn open_channel(
        self: &Arc<Self>,
        state: &mut State,
        request: OpenChannel2,
    ) -> Result<(), Malformed> {
        if let Ok(channel) = state.channel(request.child_relid)
            && let Phase::Closing(_, reopen @ None) = &mut channel.phase
        {
            *reopen = Some(Box::new(request));
            return Ok(());
        }
        let opened = self.try_open(state, &request);
        self.answer_open(state, &request, opened.as_ref().ok());
        opened.map(drop)
    }

    /// Says that a channel is open, or that it can't be.
    fn answer_open(&self, state: &mut State, request: &OpenChannel2, opened: Option<&Arc<Link>>) {
        let status = if opened.is_some() { status::SUCCESS } else { status::UNSUCCESSFUL };
        let result = OpenChannelResult {
            header: MessageHeader::new(MessageType::OPENCHANNEL_RESULT),
            child_relid: request.child_relid,
            openid: request.openid,
            status,
        };
        let after = opened.map_or(After::Nothing, |link| After::Start(link.clone()));
        self.post(state, encode(&result), Cause::Answer, after);
    }

    fn try_open(
        self: &Arc<Self>,
        state: &mut State,
        request: &OpenChannel2,
    ) -> Result<Arc<Link>, Malformed> {
        let id = request.child_relid;
        let channel = state.channel(id)?;
        if channel.rescinded {
            return Err(Malformed::Rescinded);
        }
        if !matches!(channel.phase, Phase::Closed) {
            return Err(Malformed::ChannelOpen);
        }
        let (device, sub_channel_index) = (channel.device, channel.sub_channel_index);
        let gpadl = channel.gpadls.get(&request.ringbuffer_gpadlhandle);
        let (_, gpadl) = gpadl.cloned().ok_or(Malformed::NoSuchGpadl)?;
        let rings = Rings::map(&self.memory, &gpadl, request.downstream_ringbuffer_pageoffset);
        let rings = rings.map_err(Malformed::Rings)?;
        let ring_pages: BTreeSet<u64> =
            gpadl.ring_pages().unwrap_or_default().iter().copied().collect();
        if state.rings_overlap(&ring_pages) {
            return Err(Malformed::RingsOverlap);
        }
        let device = state.devices.get(&device).ok_or(Malformed::Rescinded)?;
        let stats = self.stats.channel(&device.offer.name, sub_channel_index);
        let (name, provider) = (device.offer.name.clone(), device.device.clone());

        let info = state.open()?;
        let version = info.version;
        let (connection, flag) = signal_parameters(info, request)?;
        let signal = self.guest_signal(info, request.target_vp, id, flag)?;
        let route = signal.sint();
        let link = Link::new(self.synic.clone(), signal, stats);
        let link = Arc::new(link.map_err(|_| Malformed::Resources)?);
        self.connect_signals(state, id, connection, &link)?;
        if let Some(sint) = route
            && self.synic.add_route(sint, RouteUse::Events).is_err()
        {
            self.disconnect_signals(state, id, connection);
            return Err(Malformed::Resources);
        }
        let serial = state.new_serial();
        link.stats().opened.add(1);
        let open_data = request.userdata;
        let opened =
            Opened { id, sub_channel_index, version, open_data, rings, link: link.clone() };
        let channel = HostChannel::new(opened, self.clone());
        if !self.workers.start(self, serial, &name, provider, channel, link.clone()) {
            self.disconnect_signals(state, id, connection);
            self.remove_route(route);
            return Err(Malformed::Resources);
        }
        let (served, link) = (false, link.clone());
        let opening =
            Opening { serial, link: link.clone(), route, connection, flag, ring_pages, served };
        state.channel(id)?.phase = Phase::Open(opening);
        Ok(link)
    }

    /// How the guest hears of packets in a channel.
    fn guest_signal(
        &self,
        info: &Info,
        target_vp: u32,
        channel: u32,
        flag: u16,
    ) -> Result<GuestSignal, Malformed> {
        if let Some(signals) = &info.page_signals {
            let sint = Sint { vp: 0, ..info.target };
            return Ok(GuestSignal::Page { sint, page: signals.page().clone(), channel });
        }
        match target_vp {
            VMBUS_VP_INDEX_DISABLE_INTERRUPT => Ok(GuestSignal::Off),
            vp if vp >= self.options.vps => Err(Malformed::NoSuchVp),
            vp => Ok(GuestSignal::Flag { sint: Sint { vp, ..info.target }, flag }),
        }
    }

    /// The guest's signals reach the channel from now on.
    fn connect_signals(
        &self,
        state: &State,
        id: u32,
        connection: Option<u32>,
        link: &Link,
    ) -> Result<(), Malformed> {
        let event = link.guest_event();
        let info = state.open()?;
        match (connection, &info.page_signals) {
            (Some(connection), _) => {
                let connected = self.synic.connect_event_fd(connection, event.clone());
                connected.map_err(|_| Malformed::SignalConnection)?;
            }
            (None, Some(signals)) => signals.add(id, event.clone()),
            (None, None) => return Err(Malformed::SignalConnection),
        }
        let monitor = state.channels.get(&id).and_then(|channel| channel.monitor);
        if let (Some(trigger), Some(monitor)) = (monitor, &info.monitor)
            && !monitor.add(trigger, event.clone())
        {
            self.disconnect_signals(state, id, connection);
            return Err(Malformed::Resources);
        }
        Ok(())
    }

    fn disconnect_signals(&self, state: &State, id: u32, connection: Option<u32>) {
        if let Some(connection) = connection {
            self.synic.disconnect_events(connection);
        }
        let Ok(info) = state.open() else { return };
        if let Some(signals) = &info.page_signals {
            signals.remove(id);
        }
        let monitor = state.channels.get(&id).and_then(|channel| channel.monitor);
        if let (Some(trigger), Some(monitor)) = (monitor, &info.monitor) {
            monitor.remove(trigger);
        }
    }

    fn remove_route(&self, route: Option<Sint>) {
        if let Some(sint) = route {
            self.synic.remove_route(sint);
        }
    }

    /// `CLOSECHANNEL`.
    pub(super) fn guest_closes(
        self: &Arc<Self>,
        state: &mut State,
        close: CloseChannel,
    ) -> Result<(), Malformed> {
        state.open()?;
        let id = close.child_relid;
        let channel = state.channel(id)?;
        if channel.rescinded {
            // It was closed when it was rescinded.
            return Ok(());
        }
        match &mut channel.phase {
            Phase::Open(_) => self.close_channel(state, id),
            Phase::Closing(_, reopen) => {
                // It was opened again before it could be, and is closed already: that is still to be answered.
                let request = reopen.take().ok_or(Malformed::ChannelNotOpen)?;
                self.answer_open(state, &request, None);
            }
            Phase::Closed => return Err(Malformed::ChannelNotOpen),
        }
        for sub_channel in state.sub_channels(id) {
            self.rescind(state, sub_channel);
        }
        Ok(())
    }

    /// Ends an open channel; its provider returns soon.
    pub(super) fn close_channel(&self, state: &mut State, id: u32) {
        let Some(channel) = state.channels.get_mut(&id) else { return };
        let Phase::Open(opening) = &channel.phase else { return };
        let (serial, route, connection) = (opening.serial, opening.route, opening.connection);
        opening.link.close();
        opening.link.redirect(GuestSignal::Off);
        let served = opening.served;
        channel.phase = if served { Phase::Closed } else { Phase::Closing(serial, None) };
        self.disconnect_signals(state, id, connection);
        self.remove_route(route);
    }

    /// A provider has returned.
    pub(super) fn served(
        self: &Arc<Self>,
        state: &mut State,
        id: u32,
        serial: u64,
        error: Option<String>,
    ) {
        let Some(channel) = state.channels.get_mut(&id) else { return };
        match &mut channel.phase {
            Phase::Open(opening) if opening.serial == serial => {
                opening.served = true;
                if let Some(error) = error {
                    self.provider_failed(state, id, &error);
                }
            }
            Phase::Closing(closing, reopen) if *closing == serial => {
                let reopen = reopen.take();
                channel.phase = Phase::Closed;
                if channel.released {
                    state.channels.remove(&id);
                } else if let Some(request) = reopen {
                    let result = self.open_channel(state, *request);
                    self.note(result);
                }
            }
            _ => {}
        }
    }

    fn provider_failed(&self, state: &mut State, id: u32, error: &str) {
        let device = state.channels.get(&id).and_then(|channel| state.devices.get(&channel.device));
        let name = device.map_or("a device", |device| &device.offer.name);
        if self.stats.malformed("provider") && self.options.verbose {
            tell(&format_args!("VMBus: {name}: {error}; its channel is closed"));
        }
        self.give_up(state, id);
    }

    /// `MODIFYCHANNEL`.
    pub(super) fn modify_channel(
        &self,
        state: &mut State,
        modify: ModifyChannel,
    ) -> Result<(), Malformed> {
        let version = state.open()?.version;
        if version < VmbusVersion::V4_1 {
            return Err(Malformed::TooEarly);
        }
        let result = self.move_channel(state, modify.child_relid, modify.target_vp);
        if version >= VmbusVersion::V5_3 {
            let status = if result.is_ok() { status::SUCCESS } else { status::UNSUCCESSFUL };
            let header = MessageHeader::new(MessageType::MODIFYCHANNEL_RESPONSE);
            let child_relid = modify.child_relid;
            self.send(state, &ModifyChannelResponse { header, child_relid, status });
        }
        result
    }

    /// Signals go to another processor: none to the old one once this returns.
    fn move_channel(&self, state: &mut State, id: u32, vp: u32) -> Result<(), Malformed> {
        let Phase::Open(opening) = &state.channel(id)?.phase else {
            return Err(Malformed::ChannelNotOpen);
        };
        let flag = opening.flag;
        let signal = self.guest_signal(state.open()?, vp, id, flag)?;
        let new = signal.sint();
        if let Some(sint) = new {
            let added = self.synic.add_route(sint, RouteUse::Events);
            added.map_err(|_| Malformed::Resources)?;
        }
        let Phase::Open(opening) = &mut state.channel(id)?.phase else {
            return Err(Malformed::ChannelNotOpen);
        };
        opening.link.redirect(signal);
        let old = std::mem::replace(&mut opening.route, new);
        self.remove_route(old);
        Ok(())
    }
}

impl State {
    fn rings_overlap(&self, pages: &BTreeSet<u64>) -> bool {
        self.channels.values().any(|channel| match &channel.phase {
            Phase::Open(opening) => !opening.ring_pages.is_disjoint(pages),
            _ => false,
        })
    }
}

/// Connection for the guest's signals, if it has one, and flag for those to the guest.
fn signal_parameters(info: &Info, request: &OpenChannel2) -> Result<(Option<u32>, u16), Malformed> {
    if info.features & feature::GUEST_SPECIFIED_SIGNAL_PARAMETERS != 0 {
        if usize::from(request.event_flag) >= HV_EVENT_FLAGS_COUNT {
            return Err(Malformed::SignalConnection);
        }
        return Ok((Some(request.connection_id), request.event_flag));
    }
    let connection = signal_connection(request.child_relid);
    let has_connection = info.version >= VmbusVersion::V1_1;
    // Channels have numbers that are flags.
    Ok((has_connection.then_some(connection), request.child_relid as u16))
}
