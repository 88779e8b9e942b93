//! Requests from other threads to a component's open channel, and the answers back.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    contact: Contact,
    wake: Option<Wake>,
    waiting: VecDeque<Call<Q, A>>,
}

/// How far guest and host have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
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

impl<Q, A> Default for Calls<Q, A> {
    fn default() -> Self {
        Self(Mutex::new(Inner { contact: Contact::None, wake: None, waiting: VecDeque::new() }))
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
        match inner.contact {
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
        lock(&self.0).contact = contact;
    }

    /// How far they have come.
    pub(super) fn contact(&self) -> Contact {
        lock(&self.0).contact
    }

    /// The channel was closed; who waits is told.
    pub(super) fn closed(&self) {
        *lock(&self.0) = Inner { contact: Contact::None, wake: None, waiting: VecDeque::new() };
    }

    /// The next call.
    pub(super) fn next(&self) -> Option<Call<Q, A>> {
        lock(&self.0).waiting.pop_front()
    }

    /// Puts a call that nobody waits for before all others.
    pub(super) fn push(&self, question: Q) {
        let (reply, _) = sync_channel(1);
        lock(&self.0).waiting.push_back(Call { question, reply });
    }
}
