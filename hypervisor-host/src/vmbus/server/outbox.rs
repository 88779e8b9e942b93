//! Messages to the guest that wait for the slot of their source.
//!
//! There are never many: the bus answers no further messages of the guest while more than a few answers wait, and what it
//! sends by itself is one offer and one rescission for each channel number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvMessage, HvMessageHeader, HvMessageType};
use hv_abi::vmbus::VMBUS_MESSAGE_TYPE;
use hv_abi::vmbus::message::{MessageType, VmbusMessage};
use zerocopy::{Immutable, IntoBytes};

use super::inbox::{Inbox, News};
use crate::hyperv::synic::MessageFeed;
use crate::stats::lock;
use crate::vmbus::channel::link::Link;

/// While so many answers wait, the guest's messages are not answered.
const ENOUGH: usize = 32;

/// What is to be done when the guest has a message in its slot.
pub(super) enum After {
    Nothing,
    /// The channel's provider starts.
    Start(Arc<Link>),
    /// The connection is over; the number of its target.
    Unloaded(u64),
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The guest asked.
    Answer,
    /// Something came, or went.
    Announcement,
}

struct Waiting {
    message: HvMessage,
    cause: Cause,
    after: After,
}

/// The queue.
pub(super) struct Outbox {
    inbox: Arc<Inbox>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// How many of them are answers.
    answers: usize,
    /// Of the message that was fetched last.
    after: Option<After>,
}

impl Outbox {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, state: Mutex::default() }
    }

    /// Whether the guest should read some first.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).answers >= ENOUGH
    }

    /// Adds a message. Tells whether it is the first, so that its source must be told.
    pub(super) fn push(&self, message: HvMessage, cause: Cause, after: After) -> bool {
        let mut state = lock(&self.state);
        state.answers += usize::from(cause == Cause::Answer);
        state.waiting.push_back(Waiting { message, cause, after });
        state.waiting.len() == 1
    }

    /// Forgets all messages: the connection is another.
    pub(super) fn clear(&self) {
        let old = std::mem::take(&mut *lock(&self.state));
        drop(old);
    }
}

impl MessageFeed for Outbox {
    fn next(&self) -> Option<HvMessage> {
        let mut state = lock(&self.state);
        let Waiting { message, cause, after } = state.waiting.pop_front()?;
        state.after = Some(after);
        let answers = usize::from(cause == Cause::Answer);
        let has_room_again = answers != 0 && state.answers == ENOUGH;
        state.answers -= answers;
        drop(state);
        if has_room_again {
            self.inbox.look_again();
        }
        Some(message)
    }

    fn delivered(&self) {
        let after = lock(&self.state).after.take();
        match after {
            Some(After::Start(link)) => link.start(),
            Some(After::Unloaded(serial)) => self.inbox.tell(News::Unloaded { serial }),
            Some(After::Nothing) | None => {}
        }
    }
}

/// A message for the guest.
pub(super) fn encode<M: VmbusMessage>(message: &M) -> HvMessage {
    encode_bytes(message.as_bytes())
}

/// A message that is a header and nothing else.
pub(super) fn encode_header(message_type: MessageType) -> HvMessage {
    encode_bytes(hv_abi::vmbus::message::MessageHeader::new(message_type).as_bytes())
}

fn encode_bytes<B: IntoBytes + Immutable + ?Sized>(message: &B) -> HvMessage {
    let mut payload = [0; HV_MESSAGE_PAYLOAD_BYTES];
    let mut length = 0;
    for (to, from) in payload.iter_mut().zip(message.as_bytes()) {
        *to = *from;
        length += 1;
    }
    let header = HvMessageHeader {
        message_type: HvMessageType(VMBUS_MESSAGE_TYPE),
        payload_size: length,
        message_flags: 0,
        _reserved: [0; 2],
        sender: 0,
    };
    HvMessage { header, payload }
}
