//! Making and ending the connection.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{
    ContactTarget, InitiateContact, MessageHeader, MessageType, VmbusMessage, connection_state,
};
use hv_abi::vmbus::version::VmbusVersion;
use hv_abi::vmbus::{VMBUS_MESSAGE_CONNECTION_ID, VMBUS_MESSAGE_CONNECTION_ID_4};
use zerocopy::IntoBytes;

use super::life::Fate;
use super::pages::SignalPages;
use super::post::Retry;
use super::state::{Connection, Contact};
use super::{Answer, BusError, ChannelId, Expected, Life, Shared, Vmbus};
use crate::hal::Hal;

/// Features of version 6.0 that are asked for: none is needed.
const FEATURES: u32 = 0;

impl<H: Hal> Vmbus<H> {
    /// Agrees on a version with the host, the newest that both have, and asks for offers; they come as
    /// [changes](Self::next_change).
    ///
    /// # Errors
    ///
    /// [`BusError`]. There is no connection then.
    pub async fn connect(&self) -> Result<VmbusVersion, BusError> {
        let shared = &*self.shared;
        let attempt = Attempt::begin(shared)?;
        let pages = shared.pages.try_call_once(|| SignalPages::new(&shared.hal).ok_or(()));
        let pages = pages.map_err(|()| BusError::NoMemory)?;
        pages.clear();
        shared.change(|state| state.contacted = true);
        for version in shared.options.versions() {
            shared.change(|state| state.connection = Connection::Connecting(version));
            if let Some(messages) = shared.contact(pages, version).await? {
                let contact = Contact { version, messages };
                shared.change(|state| {
                    state.connections += 1;
                    state.connection = Connection::Connected(contact);
                });
                let message = MessageHeader::new(MessageType::REQUESTOFFERS);
                let deadline = shared.time_limit();
                let posted = shared.post(messages, message.as_bytes(), Retry::Any, deadline).await;
                posted.map_err(BusError::Post)?;
                attempt.succeed();
                return Ok(version);
            }
        }
        Err(BusError::NoVersion)
    }

    /// Ends the connection. Channels that are still open can't be used any longer: all that is done with them fails with
    /// [`ChannelError::Disconnected`](super::ChannelError::Disconnected). [`connect`](Self::connect) makes a new connection.
    ///
    /// # Errors
    ///
    /// [`BusError`]. The connection is over all the same, but the host may go on using memory that it was given, so none of that
    /// is freed; nor is it without an error before version 1.1, in which the host does not say when it has let go of it.
    pub async fn unload(&self) -> Result<(), BusError> {
        let shared = &*self.shared;
        let (contact, channels) = {
            let mut state = shared.state.lock();
            let Connection::Connected(contact) = state.connection else {
                return Err(BusError::Disconnected);
            };
            (contact, state.begin_unload())
        };
        for (channel, _) in &channels {
            shared.bell(*channel).ring(&shared.hal);
        }
        let mut ending = Unloading { shared, channels, fate: Fate::Lost };
        let message = MessageHeader::new(MessageType::UNLOAD);
        let answer = shared.ask_to_unload(contact, message.as_bytes()).await;
        // Before 1.1 there is no answer, so nobody knows when the host has let go.
        if answer.is_ok() && contact.version >= VmbusVersion::V1_1 {
            ending.fate = Fate::Unloaded;
        }
        answer
    }
}

impl<H: Hal> Shared<H> {
    /// Asks for a version. `Some`: the host agrees, and takes further messages by that connection; `None`: it has not that version.
    async fn contact(
        &self,
        pages: &SignalPages<H>,
        version: VmbusVersion,
    ) -> Result<Option<u32>, BusError> {
        let message = self.contact_message(pages, version);
        let connection = if version >= VmbusVersion::V5_0 {
            VMBUS_MESSAGE_CONNECTION_ID_4
        } else {
            VMBUS_MESSAGE_CONNECTION_ID
        };
        let asked = self
            .request_by(connection, Retry::NoRoom, Expected::Version, [message.as_bytes()])
            .await;
        let response = match asked {
            Ok(Answer::Version(response, _)) => response,
            Ok(Answer::Status(_) | Answer::Gone(_)) => return Ok(None),
            // Hosts before 5.0 have no such connection (Linux, `vmbus_post_msg`).
            Err(BusError::Post(HvError::INVALID_CONNECTION_ID)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if response.version_supported == 0 {
            return Ok(None);
        }
        if response.connection_state != connection_state::SUCCESSFUL {
            return Err(BusError::Refused(response.connection_state));
        }
        let own = version >= VmbusVersion::V5_0;
        Ok(Some(if own { response.msg_conn_id } else { connection }))
    }

    fn contact_message(&self, pages: &SignalPages<H>, version: VmbusVersion) -> InitiateContact {
        let [host, guest] = if self.options.monitor_pages {
            pages.monitor_pages().map(|page| page.0)
        } else {
            [0; 2]
        };
        let features = if version >= VmbusVersion::V6_0 { FEATURES } else { 0 };
        let target = if version >= VmbusVersion::V5_0 {
            ContactTarget::new(self.options.sint, features).0
        } else {
            pages.interrupt_page().0
        };
        InitiateContact {
            header: MessageHeader::new(InitiateContact::TYPE),
            vmbus_version_requested: version,
            target_vcpu: self.hal.vp_index(),
            target,
            monitor_page1: host,
            monitor_page2: guest,
        }
    }

    async fn ask_to_unload(&self, contact: Contact, message: &[u8]) -> Result<(), BusError> {
        // Only then there is an answer (OpenVMM, `vmbus_server`).
        if contact.version < VmbusVersion::V1_1 {
            let deadline = self.time_limit();
            let posted = self.post(contact.messages, message, Retry::Any, deadline).await;
            return posted.map_err(BusError::Post);
        }
        self.request_by(contact.messages, Retry::Any, Expected::Unloaded, [message]).await?;
        Ok(())
    }
}

/// An attempt to connect, which leaves no connection if it is given up.
struct Attempt<'s, H: Hal>(Option<&'s Shared<H>>);

impl<'s, H: Hal> Attempt<'s, H> {
    fn begin(shared: &'s Shared<H>) -> Result<Self, BusError> {
        let mut state = shared.state.lock();
        if !state.is_disconnected() {
            return Err(BusError::Busy);
        }
        state.connection = Connection::Connecting(shared.options.newest);
        Ok(Self(Some(shared)))
    }

    fn succeed(mut self) {
        self.0 = None;
    }
}

impl<H: Hal> Drop for Attempt<'_, H> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.change(|state| {
                // Offers may have come already.
                for (_, life) in state.begin_unload() {
                    life.set(Fate::Lost);
                }
                state.connection = Connection::Disconnected;
            });
        }
    }
}

/// A connection that is being ended; over when dropped.
struct Unloading<'s, H: Hal> {
    shared: &'s Shared<H>,
    channels: Vec<(ChannelId, Arc<Life>)>,
    fate: Fate,
}

impl<H: Hal> Drop for Unloading<'_, H> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            for (_, life) in &self.channels {
                life.set(self.fate);
            }
            state.connection = Connection::Disconnected;
            state.contacted &= self.fate != Fate::Unloaded;
        });
    }
}
