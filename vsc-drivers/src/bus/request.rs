//! Questions to the host that wait for their answers.

use alloc::vec::Vec;

use hv_abi::vmbus::message::VersionResponse;
use hv_abi::vmbus::version::VmbusVersion;

use super::life::Fate;
use super::message::Features;
use super::post::Retry;
use super::{BusError, ChannelId, Life, Request, Shared};
use crate::hal::Hal;
use crate::task::by;

/// What answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// `VERSION_RESPONSE`.
    Version,
    /// `OPENCHANNEL_RESULT`.
    Opened { channel: ChannelId, openid: u32 },
    /// `GPADL_CREATED`.
    Created { channel: ChannelId, gpadl: u32 },
    /// `GPADL_TORNDOWN`.
    Torndown { channel: ChannelId, gpadl: u32 },
    /// `MODIFYCHANNEL_RESPONSE`.
    Modified { channel: ChannelId },
    /// `UNLOAD_RESPONSE`.
    Unloaded,
}

impl Expected {
    const fn request(self) -> Request {
        match self {
            Self::Version => Request::Contact,
            Self::Opened { .. } => Request::Open,
            Self::Created { .. } => Request::Gpadl,
            Self::Torndown { .. } => Request::Teardown,
            Self::Modified { .. } => Request::Modify,
            Self::Unloaded => Request::Unload,
        }
    }

    /// The channel without which there is no answer any longer.
    const fn channel(self) -> Option<ChannelId> {
        match self {
            Self::Opened { channel, .. }
            | Self::Created { channel, .. }
            | Self::Torndown { channel, .. }
            | Self::Modified { channel } => Some(channel),
            Self::Version | Self::Unloaded => None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To [`Expected::Version`].
    Version(VersionResponse, Features),
    /// 0, or why not.
    Status(u32),
    /// There will be none: the channel is gone.
    Gone(Fate),
}

struct Question {
    ticket: u64,
    expected: Expected,
    answer: Option<Answer>,
}

/// All questions that somebody waits for.
pub(super) struct Questions {
    list: Vec<Question>,
    next_ticket: u64,
}

impl Questions {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new(), next_ticket: 0 }
    }

    fn add(&mut self, expected: Expected) -> u64 {
        self.next_ticket += 1;
        self.list.push(Question { ticket: self.next_ticket, expected, answer: None });
        self.next_ticket
    }

    fn remove(&mut self, ticket: u64) {
        self.list.retain(|question| question.ticket != ticket);
    }

    fn answer_to(&self, ticket: u64) -> Option<Answer> {
        self.list.iter().find(|question| question.ticket == ticket)?.answer
    }

    /// Answers the oldest question that expects this; whether there was one.
    pub(super) fn answer(&mut self, expects: impl Fn(Expected) -> bool, answer: Answer) -> bool {
        let mut open = self.list.iter_mut().filter(|question| question.answer.is_none());
        let question = open.find(|question| expects(question.expected));
        question.map(|question| question.answer = Some(answer)).is_some()
    }

    /// Nobody will answer what concerns any channel.
    pub(super) fn give_up(&mut self) {
        let concerned = |expected: Expected| expected.channel().is_some();
        while self.answer(concerned, Answer::Gone(Fate::Unloading)) {}
    }

    /// The host took a channel back. That it has done with memory is all that it still says of it.
    pub(super) fn give_up_channel(&mut self, channel: ChannelId) {
        let concerned = |expected: Expected| {
            let torndown = matches!(expected, Expected::Torndown { .. });
            expected.channel() == Some(channel) && !torndown
        };
        while self.answer(concerned, Answer::Gone(Fate::Rescinded)) {}
    }
}

/// A question that is withdrawn when nobody waits for it any longer.
struct Ticket<'s, H: Hal> {
    shared: &'s Shared<H>,
    number: u64,
}

impl<H: Hal> Drop for Ticket<'_, H> {
    fn drop(&mut self) {
        self.shared.state.lock().questions.remove(self.number);
    }
}

impl<H: Hal> Shared<H> {
    /// Posts messages on the connection that a channel was offered on, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`BusError::Disconnected`], [`BusError::Post`], [`BusError::NoAnswer`].
    pub(crate) async fn request<M: AsRef<[u8]>>(
        &self,
        life: &Life,
        expected: Expected,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Answer, BusError> {
        let connection = self.message_connection(life)?;
        self.request_by(connection, Retry::Any, expected, messages).await
    }

    pub(super) async fn request_by<M: AsRef<[u8]>>(
        &self,
        connection: u32,
        retry: Retry,
        expected: Expected,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Answer, BusError> {
        // Before the message: the answer may come before the call returns.
        let number = self.state.lock().questions.add(expected);
        let ticket = Ticket { shared: self, number };
        let deadline = self.time_limit();
        let answered = async {
            for message in messages {
                if let Some(answer) = self.state.lock().questions.answer_to(ticket.number) {
                    return Ok(answer);
                }
                let posted = self.post(connection, message.as_ref(), retry, deadline).await;
                posted.map_err(BusError::Post)?;
            }
            Ok(self.until(|state| state.questions.answer_to(ticket.number)).await)
        };
        let no_answer = Err(BusError::NoAnswer(expected.request()));
        by(&self.hal, deadline, answered).await.unwrap_or(no_answer)
    }

    /// Posts a message that has no answer on the connection that a channel was offered on.
    ///
    /// # Errors
    ///
    /// [`BusError::Disconnected`], [`BusError::Post`].
    pub(crate) async fn tell(&self, life: &Life, message: &[u8]) -> Result<(), BusError> {
        let connection = self.message_connection(life)?;
        let posted = self.post(connection, message, Retry::Any, self.time_limit()).await;
        posted.map_err(BusError::Post)
    }

    fn message_connection(&self, life: &Life) -> Result<u32, BusError> {
        let connection = self.state.lock().message_connection(life.connection);
        connection.ok_or(BusError::Disconnected)
    }

    /// The version, for what depends on it.
    ///
    /// # Errors
    ///
    /// [`BusError::Disconnected`].
    pub(crate) fn version(&self) -> Result<VmbusVersion, BusError> {
        self.state.lock().version().ok_or(BusError::Disconnected)
    }
}
