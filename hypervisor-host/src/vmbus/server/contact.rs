//! Connections: contact and version, and how they end.
//!
//! A guest that contacts anew has forgotten its old connection (it was reset, or starts another kernel), so that one ends
//! first. An end is complete when no provider serves a channel any more and nobody uses memory that the guest lent; only then is
//! the guest answered, for it may do with the memory what it likes from then on.

use std::sync::Arc;

use hv_abi::hypercall::HvError;
use hv_abi::synic::HvInputPostMessage;
use hv_abi::vmbus::message::{
    ContactTarget, MessageType, VersionResponse, VersionResponse2, connection_state,
};
use hv_abi::vmbus::version::{VmbusVersion, feature};
use hv_abi::vmbus::{
    VMBUS_EVENT_CONNECTION_ID, VMBUS_MESSAGE_CONNECTION_ID, VMBUS_MESSAGE_CONNECTION_ID_4,
    VMBUS_MESSAGE_SINT,
};

use super::error::Malformed;
use super::monitor::Monitor;
use super::outbox::{After, Cause, encode_header};
use super::page_signals::PageSignals;
use super::state::{Connection, Contact, Info, Next, Phase, State};
use super::{Bus, StartError};
use crate::hyperv::synic::{RouteUse, Sint};
use crate::vmbus::interrupt_page::InterruptPage;

/// Features of version 6.0 that this host has.
const FEATURES: u32 = feature::GUEST_SPECIFIED_SIGNAL_PARAMETERS | feature::CLIENT_ID;

impl Bus {
    /// Takes the guest's messages from now on.
    pub(in crate::vmbus) fn connect_messages(&self) -> Result<(), StartError> {
        let inbox = self.inbox.clone();
        let handler = Arc::new(move |message: &HvInputPostMessage| inbox.post(message));
        for id in self.message_connections() {
            if self.synic.connect_messages(id, handler.clone()).is_err() {
                return Err(StartError::Connections);
            }
        }
        Ok(())
    }

    /// The guest finds nobody any more.
    pub(in crate::vmbus) fn disconnect_messages(&self) {
        for id in self.message_connections() {
            self.synic.disconnect_messages(id);
        }
    }

    /// Older hosts don't have the second, by which guests tell them.
    fn message_connections(&self) -> impl Iterator<Item = u32> {
        let has_both = self.options.newest >= VmbusVersion::V5_0;
        let second = has_both.then_some(VMBUS_MESSAGE_CONNECTION_ID_4);
        [VMBUS_MESSAGE_CONNECTION_ID].into_iter().chain(second)
    }

    /// `INITIATE_CONTACT`.
    pub(super) fn contact(&self, state: &mut State, contact: Contact) -> Result<(), Malformed> {
        match self.disconnect(state, Next::Contact(contact)) {
            true => self.connect(state, contact),
            false => Ok(()),
        }
    }

    /// `UNLOAD`.
    pub(super) fn unload(&self, state: &mut State) -> Result<(), Malformed> {
        let version = match &state.connection {
            Connection::Open(info) => info.version,
            Connection::Closing(Next::UnloadResponse(version)) => *version,
            _ => return Err(Malformed::NotConnected),
        };
        if self.disconnect(state, Next::UnloadResponse(version)) {
            self.unloaded(state, version);
        }
        Ok(())
    }

    /// Ends the connection there is. Tells whether it has ended; if not, `next` is done when it has.
    fn disconnect(&self, state: &mut State, next: Next) -> bool {
        self.outbox.clear();
        for id in state.channels.keys().copied().collect::<Vec<_>>() {
            self.forget_channel(state, id);
        }
        if let Connection::Open(info) = &state.connection {
            self.let_go(info);
        }
        state.connection = Connection::Closing(next);
        self.take_if_closed(state).is_some()
    }

    /// Gives up what a connection has beside its channels.
    fn let_go(&self, info: &Info) {
        if info.version < VmbusVersion::V1_1 {
            self.synic.disconnect_events(VMBUS_EVENT_CONNECTION_ID);
        }
    }

    fn take_if_closed(&self, state: &mut State) -> Option<Next> {
        let Connection::Closing(next) = state.connection else { return None };
        if !state.channels.is_empty() || !state.live_gpadls.is_empty() {
            return None;
        }
        state.connection = Connection::None;
        state.gpadl_pages = 0;
        Some(next)
    }

    /// Something has ended that a connection may have waited for.
    pub(super) fn settle(&self, state: &mut State) {
        match self.take_if_closed(state) {
            Some(Next::UnloadResponse(version)) => self.unloaded(state, version),
            Some(Next::Contact(contact)) => {
                let result = self.connect(state, contact);
                self.note(result);
            }
            None => {}
        }
    }

    fn unloaded(&self, state: &mut State, version: VmbusVersion) {
        if version >= VmbusVersion::V1_1 {
            let after = After::Unloaded(state.target_serial);
            let response = encode_header(MessageType::UNLOAD_RESPONSE);
            self.post(state, response, Cause::Answer, after);
        } else {
            self.remove_target(state);
        }
    }

    /// The guest has heard that its connection is over.
    pub(super) fn unload_delivered(&self, state: &mut State, serial: u64) {
        if state.target_serial == serial && matches!(state.connection, Connection::None) {
            self.remove_target(state);
        }
    }

    fn connect(&self, state: &mut State, contact: Contact) -> Result<(), Malformed> {
        let version = contact.request.vmbus_version_requested;
        let target = contact.target();
        self.set_target(state, target)?;
        let wanted = ContactTarget(contact.request.target);
        let other_vtl = contact.names_target(VmbusVersion::V5_1) && wanted.vtl() != 0;
        if !version.is_known() || version > self.options.newest || other_vtl {
            self.refuse(state);
            return Ok(());
        }
        match self.information(&contact, target) {
            Ok(info) => {
                self.stats.connected(version);
                self.accept(state, info);
                Ok(())
            }
            Err(error) => {
                self.fail(state, version);
                Err(error)
            }
        }
    }

    /// What the request stands for, once its version is known to be supported.
    fn information(&self, contact: &Contact, target: Sint) -> Result<Info, Malformed> {
        let request = &contact.request;
        let version = request.vmbus_version_requested;
        let features = match version >= VmbusVersion::V6_0 {
            true => ContactTarget(request.target).features() & FEATURES,
            false => 0,
        };
        if features & feature::CLIENT_ID != 0 && !contact.has_client {
            return Err(Malformed::Client);
        }
        let monitor = match (request.monitor_page1, request.monitor_page2) {
            (0, 0) => None,
            (0, _) | (_, 0) => return Err(Malformed::MonitorPages),
            (_, page) => Some(Monitor::new(&self.memory, page).ok_or(Malformed::MonitorPages)?),
        };
        let page_signals = match version < VmbusVersion::V2_4 {
            true => Some(self.page_signals(version, request.target)?),
            false => None,
        };
        let (offers_sent, incomplete) = Default::default();
        Ok(Info { version, features, target, page_signals, monitor, offers_sent, incomplete })
    }

    fn page_signals(
        &self,
        version: VmbusVersion,
        page: u64,
    ) -> Result<Arc<PageSignals>, Malformed> {
        let page = InterruptPage::new(&self.memory, page).ok_or(Malformed::InterruptPage)?;
        let signals = Arc::new(PageSignals::new(page));
        if version < VmbusVersion::V1_1 {
            let handler = signals.clone();
            let handler = Arc::new(move |_| -> Result<(), HvError> {
                handler.deliver();
                Ok(())
            });
            let connected = self.synic.connect_events(VMBUS_EVENT_CONNECTION_ID, handler);
            connected.map_err(|_| Malformed::SignalConnection)?;
        }
        Ok(signals)
    }

    fn accept(&self, state: &mut State, info: Info) {
        let (version, supported_features) = (info.version, info.features);
        state.connection = Connection::Open(Box::new(info));
        let response = VersionResponse {
            version_supported: 1,
            connection_state: connection_state::SUCCESSFUL,
            ..response(version)
        };
        if version < VmbusVersion::V6_0 {
            return self.send(state, &response);
        }
        let VersionResponse { version_supported, connection_state, msg_conn_id, .. } = response;
        let response = VersionResponse2 {
            header: response.header,
            version_supported,
            connection_state,
            _padding: 0,
            msg_conn_id,
            supported_features,
        };
        self.send(state, &response);
    }

    /// The guest tries an older version.
    fn refuse(&self, state: &State) {
        let refusal = VersionResponse { msg_conn_id: 0, ..response(VmbusVersion::V0_13) };
        self.send(state, &refusal);
    }

    /// The version would do, but not the rest. Before 2.4 a host can't say so (OpenVMM, `send_version_response`).
    fn fail(&self, state: &State, version: VmbusVersion) {
        if version < VmbusVersion::V2_4 {
            return self.refuse(state);
        }
        let failure = VersionResponse {
            version_supported: 1,
            connection_state: connection_state::FAILED_UNKNOWN_FAILURE,
            ..response(version)
        };
        self.send(state, &failure);
    }

    /// Messages go there from now on.
    fn set_target(&self, state: &mut State, target: Sint) -> Result<(), Malformed> {
        self.remove_target(state);
        self.outbox.clear();
        self.synic.add_route(target, RouteUse::Messages).map_err(|_| Malformed::Target)?;
        if self.synic.feed_messages(target, self.outbox.clone()).is_err() {
            self.synic.remove_route(target);
            return Err(Malformed::Target);
        }
        state.target = Some(target);
        state.target_serial += 1;
        Ok(())
    }

    fn remove_target(&self, state: &mut State) {
        if let Some(target) = state.target.take() {
            self.synic.stop_feeding(target);
            self.synic.remove_route(target);
        }
    }

    /// The machine ends: nobody is told.
    pub(in crate::vmbus) fn shut_down(&self) {
        let mut state = self.state();
        state.stopped = true;
        let _: bool = self.disconnect(&mut state, Next::UnloadResponse(VmbusVersion::V0_13));
        self.remove_target(&mut state);
    }
}

impl Contact {
    /// The request names the source that it wants, which it may from version `first` on and by the connection for that.
    fn names_target(&self, first: VmbusVersion) -> bool {
        self.message_connection == VMBUS_MESSAGE_CONNECTION_ID_4
            && self.request.vmbus_version_requested >= first
    }

    /// Where the answer goes (OpenVMM, `handle_initiate_contact`).
    fn target(&self) -> Sint {
        let names_vp = self.request.vmbus_version_requested >= VmbusVersion::V3_0;
        let vp = if names_vp { self.request.target_vcpu } else { 0 };
        let number = match self.names_target(VmbusVersion::V5_0) {
            true => ContactTarget(self.request.target).sint(),
            false => VMBUS_MESSAGE_SINT,
        };
        Sint { vp, number }
    }
}

/// A response that supports nothing. From 5.0 on it names the connection for messages, before it repeats the version.
fn response(version: VmbusVersion) -> VersionResponse {
    let msg_conn_id = match version >= VmbusVersion::V5_0 {
        true => VMBUS_MESSAGE_CONNECTION_ID,
        false => version.0,
    };
    VersionResponse {
        header: hv_abi::vmbus::message::MessageHeader::new(MessageType::VERSION_RESPONSE),
        version_supported: 0,
        connection_state: connection_state::SUCCESSFUL,
        _padding: 0,
        msg_conn_id,
    }
}

impl Bus {
    /// Forgets a channel, of which the guest knows no more; at the latest when its provider has returned.
    pub(super) fn forget_channel(&self, state: &mut State, id: u32) {
        self.close_channel(state, id);
        let Some(channel) = state.channels.get_mut(&id) else { return };
        channel.gpadls.clear();
        channel.released = true;
        if let Phase::Closing(_, reopen) = &mut channel.phase {
            *reopen = None;
        } else {
            state.channels.remove(&id);
        }
    }
}
