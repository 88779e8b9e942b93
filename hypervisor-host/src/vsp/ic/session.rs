//! One open channel: negotiation of versions, then a component's questions and the guest's answers.
//!
//! No input or output is done here, so that everything can be tested byte for byte: [`Engine::receive`] takes what the guest
//! sent, [`Engine::poll`] says what to send, and [`device`](super::device) carries it.

use std::time::Instant;

use hv_abi::ic::negotiate::{FRAMEWORK_VERSIONS, NegotiateAnswer, NegotiateHeader};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion};
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use super::error::IcError;
use super::message::{Answer, request};

/// What guest and host agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Versions {
    /// Of headers and negotiation.
    #[serde(with = "text")]
    pub framework: IcVersion,
    /// Of the component's messages.
    #[serde(with = "text")]
    pub message: IcVersion,
}

/// Versions in reports: `"3.0"`.
mod text {
    use hv_abi::ic::IcVersion;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &IcVersion, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(it)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IcVersion, D::Error> {
        let text = String::deserialize(from)?;
        let parts = text.split_once('.');
        let version = parts.and_then(|(major, minor)| {
            Some(IcVersion::new(major.parse().ok()?, minor.parse().ok()?))
        });
        version.ok_or_else(|| D::Error::custom("no version"))
    }
}

/// What a host offers of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersions {
    /// Of the framework.
    pub framework: Vec<IcVersion>,
    /// Of the component's messages.
    pub message: Vec<IcVersion>,
}

impl OfferedVersions {
    /// All versions of the framework, and these of the message.
    pub fn all(message: &[IcVersion]) -> Self {
        Self { framework: FRAMEWORK_VERSIONS.to_vec(), message: message.to_vec() }
    }
}

/// A component's side of an open channel.
pub trait Session: Send {
    /// Type of its messages.
    const TYPE: IcMessageType;

    /// Versions are agreed on. Comes once, before all that follows.
    fn ready(&mut self, now: Instant, versions: Versions);

    /// There is no version in common; nothing follows.
    fn refused(&mut self) {}

    /// What to ask now as transaction `transaction`, and when to be polled next.
    fn poll(&mut self, now: Instant, transaction: u8) -> Next;

    /// The guest's answer, of type [`TYPE`](Self::TYPE).
    ///
    /// # Errors
    /// It answers nothing, or makes no sense.
    fn answer(&mut self, now: Instant, answer: &Answer<'_>) -> Result<(), IcError>;
}

/// What a session wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// Message to send. When there is one, poll again.
    pub request: Option<Vec<u8>>,
    /// When to poll again, if nothing comes before.
    pub at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    Asked,
    Ready(Versions),
    NoCommonVersion,
}

/// A session with what is before it.
pub struct Engine<S> {
    offered: OfferedVersions,
    phase: Phase,
    transaction: u8,
    session: S,
}

impl<S: Session> Engine<S> {
    /// Before the first message.
    pub fn new(offered: OfferedVersions, session: S) -> Self {
        Self { offered, phase: Phase::Start, transaction: 0, session }
    }

    /// The payload to send now, if there is one; then poll again. And when to poll if nothing comes before.
    pub fn poll(&mut self, now: Instant) -> (Option<Vec<u8>>, Option<Instant>) {
        match self.phase {
            Phase::Start => {
                self.phase = Phase::Asked;
                let body = self.negotiation();
                (Some(request(IcMessageType::NEGOTIATE, None, self.transaction, &body)), None)
            }
            Phase::Asked | Phase::NoCommonVersion => (None, None),
            Phase::Ready(versions) => {
                let transaction = self.transaction.wrapping_add(1);
                let Next { request: body, at } = self.session.poll(now, transaction);
                let payload = body.map(|body| {
                    self.transaction = transaction;
                    request(S::TYPE, Some(versions), transaction, &body)
                });
                (payload, at)
            }
        }
    }

    fn negotiation(&self) -> Vec<u8> {
        let header = NegotiateHeader {
            framework_count: self.offered.framework.len() as u16,
            message_count: self.offered.message.len() as u16,
            _reserved: 0,
        };
        let (framework, message) = (&self.offered.framework, &self.offered.message);
        [header.as_bytes(), framework.as_bytes(), message.as_bytes()].concat()
    }

    /// Takes the payload of a packet.
    ///
    /// # Errors
    /// The guest breaks the protocol.
    pub fn receive(&mut self, now: Instant, payload: &[u8]) -> Result<(), IcError> {
        let answer = Answer::parse(payload)?;
        match self.phase {
            Phase::Asked
                if answer.message_type == IcMessageType::NEGOTIATE
                    && answer.transaction == self.transaction =>
            {
                match self.agreed(&answer)? {
                    Some(versions) => {
                        self.phase = Phase::Ready(versions);
                        self.session.ready(now, versions);
                    }
                    None => {
                        self.phase = Phase::NoCommonVersion;
                        self.session.refused();
                    }
                }
                Ok(())
            }
            Phase::Ready(_) if answer.message_type == S::TYPE => self.session.answer(now, &answer),
            _ => Err(unexpected(&answer)),
        }
    }

    /// What the guest chose; `None` if it likes nothing.
    fn agreed(&self, answer: &Answer<'_>) -> Result<Option<Versions>, IcError> {
        let chosen: NegotiateAnswer = answer.read(size_of::<NegotiateHeader>())?;
        let counts = (chosen.header.framework_count, chosen.header.message_count);
        match counts {
            _ if answer.status != IcStatus::S_OK => return Ok(None),
            (0, 0) => return Ok(None),
            (1, 1) => {}
            (framework, message) => return Err(IcError::VersionCount { framework, message }),
        }
        let NegotiateAnswer { framework, message, .. } =
            answer.read(size_of::<NegotiateAnswer>())?;
        for (version, offered) in
            [(framework, &self.offered.framework), (message, &self.offered.message)]
        {
            if !offered.contains(&version) {
                return Err(IcError::VersionNotOffered(version));
            }
        }
        Ok(Some(Versions { framework, message }))
    }
}

/// An answer that nothing waits for.
pub(super) fn unexpected(answer: &Answer<'_>) -> IcError {
    let Answer { message_type, transaction, .. } = *answer;
    IcError::Unexpected { message_type, transaction }
}
