//! What the bus's thread has to do: messages of the guest, and news of its own threads.
//!
//! A guest that posts faster than its messages are answered finds the queue full, and is told to try again
//! (`HV_STATUS_INSUFFICIENT_BUFFERS`), as by a hypervisor. News are never refused; there is one for each thing that the bus
//! has made and that ends.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use hv_abi::hypercall::HvError;
use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvInputPostMessage};
use hv_abi::vmbus::message::{MessageHeader, MessageType};
use zerocopy::FromBytes;

use crate::stats::lock;

/// Messages of the guest that wait, at most.
const MESSAGES: usize = 64;

/// A message of the guest, copied once.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuestMessage {
    /// Connection it was posted to.
    pub(super) connection: u32,
    bytes: [u8; HV_MESSAGE_PAYLOAD_BYTES],
    length: usize,
}

impl GuestMessage {
    /// `None`: it is longer than it can be.
    pub(super) fn new(input: &HvInputPostMessage) -> Option<Self> {
        let length = input.payload_size as usize;
        let valid = length <= input.payload.len();
        let HvInputPostMessage { connection_id: connection, payload: bytes, .. } = *input;
        valid.then_some(Self { connection, bytes, length })
    }

    /// What the guest wrote.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Its type, if it is long enough to have one.
    pub(super) fn message_type(&self) -> Option<MessageType> {
        MessageHeader::read_from_prefix(self.bytes()).ok().map(|(header, _)| header.msgtype)
    }

    /// It ends the connection there is, so that all before it is void.
    fn ends_connection(&self) -> bool {
        matches!(self.message_type(), Some(MessageType::INITIATE_CONTACT | MessageType::UNLOAD))
    }
}

/// What ended by itself.
#[derive(Debug)]
pub(super) enum News {
    /// The provider returned from a channel.
    Served {
        /// Channel.
        channel: u32,
        /// Which opening of it.
        serial: u64,
        /// What the provider complains of.
        error: Option<String>,
    },
    /// Nobody uses a GPADL any more.
    GpadlFree {
        /// Which.
        serial: u64,
    },
    /// The guest has its `UNLOAD_RESPONSE`.
    Unloaded {
        /// The target it went to.
        serial: u64,
    },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Task {
    Message(Box<GuestMessage>),
    News(News),
    /// See whether messages may be answered now.
    LookAgain,
    Stop,
}

/// The queue.
#[derive(Default)]
pub(in crate::vmbus) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    messages: VecDeque<GuestMessage>,
    news: VecDeque<News>,
    look_again: bool,
    stop: bool,
}

impl Inbox {
    /// Takes a message from the guest. On the VP's thread.
    ///
    /// # Errors
    /// There are too many; the status for the guest.
    pub(in crate::vmbus) fn post(&self, input: &HvInputPostMessage) -> Result<(), HvError> {
        let message = GuestMessage::new(input).ok_or(HvError::INVALID_PARAMETER)?;
        let mut state = lock(&self.state);
        if state.stop {
            return Err(HvError::INVALID_CONNECTION_ID);
        }
        if state.messages.len() >= MESSAGES {
            if !message.ends_connection() {
                return Err(HvError::INSUFFICIENT_BUFFERS);
            }
            state.messages.clear();
        }
        state.messages.push_back(message);
        self.changed.notify_all();
        Ok(())
    }

    /// Adds news.
    pub(super) fn tell(&self, news: News) {
        lock(&self.state).news.push_back(news);
        self.changed.notify_all();
    }

    /// Has the thread ask again whether messages may be answered.
    pub(super) fn look_again(&self) {
        lock(&self.state).look_again = true;
        self.changed.notify_all();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    /// The same as [`Self::next`], if there is something to do.
    #[cfg(any(test, fuzzing))]
    pub(super) fn try_next(&self, may_answer: bool) -> Option<Task> {
        lock(&self.state).next_task(may_answer)
    }

    /// Waits for something to do: news first, then messages if they may be answered, or one that ends the connection even if
    /// not.
    pub(super) fn next(&self, may_answer: bool) -> Task {
        let mut state = lock(&self.state);
        loop {
            if let Some(task) = state.next_task(may_answer) {
                return task;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn next_task(&mut self, may_answer: bool) -> Option<Task> {
        if let Some(news) = self.news.pop_front() {
            return Some(Task::News(news));
        }
        if self.stop {
            return Some(Task::Stop);
        }
        if std::mem::take(&mut self.look_again) {
            return Some(Task::LookAgain);
        }
        Some(Task::Message(Box::new(self.next_message(may_answer)?)))
    }

    fn next_message(&mut self, may_answer: bool) -> Option<GuestMessage> {
        if !may_answer {
            let last = self.messages.iter().rposition(GuestMessage::ends_connection)?;
            self.messages.drain(..last);
        }
        self.messages.pop_front()
    }
}
