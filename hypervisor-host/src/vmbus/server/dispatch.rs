//! The bus's thread: acts upon messages and news, one after the other.

use std::sync::Arc;

use hv_abi::vmbus::VMBUS_MESSAGE_CONNECTION_ID;
use hv_abi::vmbus::message::{
    CloseChannel, GpadlBody, GpadlHeader, GpadlTeardown, InitiateContact, InitiateContact2,
    MessageType, ModifyChannel, OpenChannel, OpenChannel2, RelidReleased, VmbusMessage,
};
use hv_abi::vmbus::version::{VmbusVersion, feature};
use zerocopy::FromZeros;

use super::Bus;
use super::error::Malformed;
use super::inbox::{GuestMessage, News, Task};
use super::state::{Connection, Contact, State};
use crate::process::tell;

impl Bus {
    /// Runs until the inbox is stopped.
    pub(super) fn run(self: &Arc<Self>) {
        loop {
            match self.inbox.next(self.may_answer()) {
                Task::Stop => return,
                task => self.act(task),
            }
        }
    }

    /// Does all that there is to do now, without a thread.
    #[cfg(any(test, fuzzing))]
    pub(in crate::vmbus) fn run_pending(self: &Arc<Self>) {
        while let Some(task) = self.inbox.try_next(self.may_answer()) {
            self.act(task);
        }
    }

    /// Only the thread that asks makes and ends connections.
    fn may_answer(&self) -> bool {
        !self.outbox.is_full() && !matches!(self.state().connection, Connection::Closing(_))
    }

    fn act(self: &Arc<Self>, task: Task) {
        match task {
            Task::Stop | Task::LookAgain => {}
            Task::News(news) => self.hear(news),
            Task::Message(message) => self.answer(&message),
        }
    }

    fn hear(self: &Arc<Self>, news: News) {
        let mut state = self.state();
        match news {
            News::Served { channel, serial, error } => {
                self.served(&mut state, channel, serial, error);
            }
            News::GpadlFree { serial } => self.gpadl_free(&mut state, serial),
            News::Unloaded { serial } => self.unload_delivered(&mut state, serial),
        }
        self.settle(&mut state);
    }

    fn answer(self: &Arc<Self>, message: &GuestMessage) {
        let mut state = self.state();
        let result = match message.message_type() {
            None => Err(Malformed::TooShort),
            Some(message_type) => {
                self.stats.received(message_type);
                self.obey(&mut state, message_type, message)
            }
        };
        self.note(result);
    }

    /// Counts what a guest does wrong, and tells it if it is new.
    pub(super) fn note(&self, result: Result<(), Malformed>) {
        if let Err(error) = result
            && self.stats.malformed(error.name())
            && self.options.verbose
        {
            tell(&format_args!("VMBus: {error}"));
        }
    }

    fn obey(
        self: &Arc<Self>,
        state: &mut State,
        message_type: MessageType,
        message: &GuestMessage,
    ) -> Result<(), Malformed> {
        if message_type == MessageType::INITIATE_CONTACT {
            return self.contact(state, read_contact(message)?);
        }
        if message.connection != VMBUS_MESSAGE_CONNECTION_ID {
            return Err(Malformed::WrongConnection);
        }
        match message_type {
            MessageType::UNLOAD => self.unload(state),
            MessageType::REQUESTOFFERS => self.request_offers(state),
            MessageType::GPADL_HEADER => {
                let (header, list) = read_prefix::<GpadlHeader>(message)?;
                self.gpadl_header(state, &header, list)
            }
            MessageType::GPADL_BODY => {
                let (body, list) = read_prefix::<GpadlBody>(message)?;
                self.gpadl_body(state, &body, list)
            }
            MessageType::GPADL_TEARDOWN => {
                self.gpadl_teardown(state, read::<GpadlTeardown>(message)?)
            }
            MessageType::OPENCHANNEL => self.open_channel(state, read_open(state, message)?),
            MessageType::CLOSECHANNEL => self.guest_closes(state, read::<CloseChannel>(message)?),
            MessageType::RELID_RELEASED => {
                self.relid_released(state, read::<RelidReleased>(message)?)
            }
            MessageType::MODIFYCHANNEL => {
                self.modify_channel(state, read::<ModifyChannel>(message)?)
            }
            // Nobody here takes connections of sockets. Real hosts tell the guest from 4.1 on; which is a matter of
            // sockets' own versions.
            MessageType::TL_CONNECT_REQUEST => state.open().map(drop),
            _ => Err(Malformed::UnknownType),
        }
    }
}

fn read_contact(message: &GuestMessage) -> Result<Contact, Malformed> {
    let message_connection = message.connection;
    let (request, _) = read_prefix::<InitiateContact>(message)?;
    let has_client = message.bytes().len() >= size_of::<InitiateContact2>();
    Ok(Contact { request, message_connection, has_client })
}

/// What a guest gives with it depends on the features it was granted.
fn read_open(state: &State, message: &GuestMessage) -> Result<OpenChannel2, Malformed> {
    let info = state.open()?;
    if info.version >= VmbusVersion::V6_0
        && info.features & feature::GUEST_SPECIFIED_SIGNAL_PARAMETERS != 0
    {
        return read(message);
    }
    let OpenChannel {
        header,
        child_relid,
        openid,
        ringbuffer_gpadlhandle,
        target_vp,
        downstream_ringbuffer_pageoffset,
        userdata,
    } = read(message)?;
    Ok(OpenChannel2 {
        header,
        child_relid,
        openid,
        ringbuffer_gpadlhandle,
        target_vp,
        downstream_ringbuffer_pageoffset,
        userdata,
        ..OpenChannel2::new_zeroed()
    })
}

fn read<M: VmbusMessage>(message: &GuestMessage) -> Result<M, Malformed> {
    read_prefix(message).map(|(message, _)| message)
}

fn read_prefix<M: VmbusMessage>(message: &GuestMessage) -> Result<(M, &[u8]), Malformed> {
    M::read_from_prefix(message.bytes()).map_err(|_| Malformed::TooShort)
}
