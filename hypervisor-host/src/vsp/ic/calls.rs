//! Requests from other threads to a component's open channel, and the answers back.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::CallError;
use super::session::Versions;
use crate::stats::lock;

/// Requests that may wait at a time.
const MOST_WAITING: usize = 64;

/// Has the thread that serves the channel look again.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A request, and who waits for its answer.
pub(super) struct Call<Q, A> {
    /// What is asked.
    pub(super) question: Q,
    reply: SyncSender<Result<A, CallError>>,
}

impl<Q, A> Call<Q, A> {
    /// Answers. Who asked may have gone.
    pub(super) fn reply(self, answer: Result<A, CallError>) {
        let _ = self.reply.try_send(answer);
    }
}

/// The way in. Without a call waiting it costs nothing.
pub(super) struct Calls<Q, A>(Mutex<Inner<Q, A>>);

struct Inner<Q, A> {
    status: CallStatus,
    wake: Option<Wake>,
    waiting: VecDeque<Call<Q, A>>,
}

/// What is known of a component that is asked now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallStatus {
    /// How far guest and host are.
    pub contact: Contact,
    /// What they last agreed on, also when the channel is closed by now.
    pub versions: Option<Versions>,
    /// Questions that went to the guest.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
}

/// How far guest and host have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    /// The channel is not open, or versions are not agreed on.
    #[default]
    None,
    /// There is no version in common.
    NoCommonVersion,
    /// Agreed.
    Agreed(Versions),
}

impl Contact {
    /// What was agreed on.
    pub fn versions(self) -> Option<Versions> {
        match self {
            Self::Agreed(versions) => Some(versions),
            Self::None | Self::NoCommonVersion => None,
        }
    }
}

impl<Q, A> Default for Calls<Q, A> {
    fn default() -> Self {
        let (status, wake, waiting) = (CallStatus::default(), None, VecDeque::new());
        Self(Mutex::new(Inner { status, wake, waiting }))
    }
}

impl<Q, A> Calls<Q, A> {
    /// Asks the guest, and waits for its answer for `limit` at most. `check` sees the versions first.
    pub(super) fn call(
        &self,
        question: Q,
        limit: Duration,
        check: impl FnOnce(Versions) -> Result<(), CallError>,
    ) -> Result<A, CallError> {
        let begun = Instant::now();
        let reply = self.ask(question, check)?;
        match reply.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(CallError::NoAnswer(begun.elapsed().max(limit))),
            Err(RecvTimeoutError::Disconnected) => Err(CallError::Gone),
        }
    }

    fn ask(
        &self,
        question: Q,
        check: impl FnOnce(Versions) -> Result<(), CallError>,
    ) -> Result<Receiver<Result<A, CallError>>, CallError> {
        let mut inner = lock(&self.0);
        match inner.status.contact {
            Contact::None => return Err(CallError::NoDriver),
            Contact::NoCommonVersion => return Err(CallError::NoCommonVersion),
            Contact::Agreed(versions) => check(versions)?,
        }
        if inner.waiting.len() >= MOST_WAITING {
            return Err(CallError::Busy);
        }
        let (reply, answer) = sync_channel(1);
        inner.waiting.push_back(Call { question, reply });
        let wake = inner.wake.clone();
        drop(inner);
        if let Some(wake) = wake {
            wake();
        }
        Ok(answer)
    }

    /// A channel was opened; `wake` brings its thread to poll.
    pub(super) fn opened(&self, wake: Wake) {
        lock(&self.0).wake = Some(wake);
    }

    /// Guest and host have come so far.
    pub(super) fn set_contact(&self, contact: Contact) {
        let mut inner = lock(&self.0);
        inner.status.contact = contact;
        inner.status.versions = contact.versions().or(inner.status.versions);
    }

    /// What is known.
    pub(super) fn status(&self) -> CallStatus {
        lock(&self.0).status
    }

    /// The channel was closed; who waits is told.
    pub(super) fn closed(&self) {
        let mut inner = lock(&self.0);
        inner.status.contact = Contact::None;
        inner.wake = None;
        let gone = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(gone);
    }

    /// The next call, which goes to the guest now.
    pub(super) fn next(&self) -> Option<Call<Q, A>> {
        let mut inner = lock(&self.0);
        let call = inner.waiting.pop_front()?;
        inner.status.asked += 1;
        Some(call)
    }

    /// The guest has answered.
    pub(super) fn count_answer(&self) {
        lock(&self.0).status.answered += 1;
    }

    /// Puts a question in the line to whose answer nobody listens.
    pub(super) fn push(&self, question: Q) {
        let (reply, _) = sync_channel(1);
        lock(&self.0).waiting.push_back(Call { question, reply });
    }
}
