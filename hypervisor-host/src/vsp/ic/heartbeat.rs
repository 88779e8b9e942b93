//! Heartbeat: whether the guest still answers.
//!
//! Every two seconds the guest is sent a number, which it returns increased by one. An answer that has not come when the next
//! request is due counts as missed, and as late if it comes after all. A guest that leaves eight requests
//! unanswered gets no further ones until it answers, so that its ring has room when it comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hv_abi::ic::heartbeat::{
    ApplicationState, HEARTBEAT_MIN_BYTES, HEARTBEAT_PERIOD_MS, HEARTBEAT_V3, HEARTBEAT_VERSIONS,
    HeartbeatMessage,
};
use hv_abi::ic::{HEARTBEAT_INSTANCE, HEARTBEAT_INTERFACE, IcMessageType, IcVersion};
use serde::{Deserialize, Serialize};
use zerocopy::{FromZeros, IntoBytes};

use super::calls::{Contact, Wake};
use super::component::Component;
use super::error::IcError;
use super::message::Answer;
use super::session::{Next, Session, Versions, unexpected};
use crate::stats::lock;

/// Requests without an answer after which no more are sent.
const MOST_OPEN: usize = 8;
/// Requests missed in a row after which the guest counts as lost.
pub const LOST_AFTER: u64 = 3;
const PERIOD: Duration = Duration::from_millis(HEARTBEAT_PERIOD_MS);

/// Whether a guest lives, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pulse {
    /// No driver has answered yet.
    NoContact,
    /// The last request was answered in time, or its time is not over.
    Ok,
    /// The last requests were not answered in time.
    Late,
    /// [`LOST_AFTER`] or more in a row were not.
    Lost,
}

/// How a guest's application says it is. Linux never says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Application {
    /// Nothing is said, or nothing that makes sense.
    Unknown,
    /// Well.
    Healthy,
    /// A critical error.
    Critical,
    /// Stopped.
    Stopped,
}

/// What is known of a guest's heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatStatus {
    /// In one word.
    pub pulse: Pulse,
    /// How the guest's application is.
    pub application: Application,
    /// How far guest and host are.
    pub contact: Contact,
    /// What they last agreed on, also when the channel is closed by now.
    pub versions: Option<Versions>,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered in time.
    pub answered: u64,
    /// Requests not answered in time.
    pub missed: u64,
    /// Of these, how many were answered later.
    pub late: u64,
    /// Milliseconds since the last answer.
    pub last_answer_ms: Option<u64>,
    /// Microseconds from the last request that was answered to its answer.
    pub round_trip_us: Option<u64>,
}

#[derive(Debug, Default)]
struct Heart {
    contact: Contact,
    versions: Option<Versions>,
    application: Option<ApplicationState>,
    sent: u64,
    answered: u64,
    missed: u64,
    late: u64,
    missed_in_a_row: u64,
    last_answer: Option<Instant>,
    round_trip: Option<Duration>,
}

/// The component.
#[derive(Debug, Default, Clone)]
pub struct Heartbeat(Arc<Mutex<Heart>>);

impl Heartbeat {
    /// What is known now.
    pub fn status(&self) -> HeartbeatStatus {
        let heart = lock(&self.0);
        let pulse = match (heart.contact, heart.missed_in_a_row) {
            (Contact::Agreed(_), 0) => Pulse::Ok,
            (Contact::Agreed(_), 1..LOST_AFTER) => Pulse::Late,
            (Contact::Agreed(_), _) => Pulse::Lost,
            _ => Pulse::NoContact,
        };
        let since = heart.last_answer.map(|at| at.elapsed().as_millis());
        HeartbeatStatus {
            pulse,
            application: application(heart.application),
            contact: heart.contact,
            versions: heart.versions,
            sent: heart.sent,
            answered: heart.answered,
            missed: heart.missed,
            late: heart.late,
            last_answer_ms: since.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            round_trip_us: heart
                .round_trip
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

fn application(state: Option<ApplicationState>) -> Application {
    match state {
        Some(ApplicationState::HEALTHY) => Application::Healthy,
        Some(ApplicationState::CRITICAL) => Application::Critical,
        Some(ApplicationState::STOPPED) => Application::Stopped,
        _ => Application::Unknown,
    }
}

impl Component for Heartbeat {
    type Session = HeartbeatSession;
    const NAME: &'static str = "heartbeat";
    const INTERFACE: hv_abi::guid::Guid = HEARTBEAT_INTERFACE;
    const INSTANCE: hv_abi::guid::Guid = HEARTBEAT_INSTANCE;
    const VERSIONS: &'static [IcVersion] = &HEARTBEAT_VERSIONS;

    fn open(&self, _wake: Wake) -> HeartbeatSession {
        HeartbeatSession {
            heart: self.0.clone(),
            versions: Versions::default(),
            sequence: 0,
            open: VecDeque::with_capacity(MOST_OPEN),
            due: None,
        }
    }
}

/// One open channel.
#[derive(Debug)]
pub struct HeartbeatSession {
    heart: Arc<Mutex<Heart>>,
    versions: Versions,
    sequence: u64,
    open: VecDeque<Open>,
    due: Option<Instant>,
}

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
struct Open {
    transaction: u8,
    sequence: u64,
    at: Instant,
    missed: bool,
}

impl HeartbeatSession {
    /// The time of the last request is over.
    fn count_missed(&mut self) {
        let full = self.open.len() >= MOST_OPEN;
        let Some(last) = self.open.back_mut() else { return };
        // One that was missed before is no news, unless nothing was sent since.
        if !last.missed || full {
            last.missed = true;
            let mut heart = lock(&self.heart);
            heart.missed += 1;
            heart.missed_in_a_row += 1;
        }
    }
}

impl Session for HeartbeatSession {
    const TYPE: IcMessageType = IcMessageType::HEARTBEAT;

    fn ready(&mut self, now: Instant, versions: Versions) {
        self.versions = versions;
        self.due = Some(now);
        let mut heart = lock(&self.heart);
        heart.contact = Contact::Agreed(versions);
        heart.versions = Some(versions);
        heart.missed_in_a_row = 0;
    }

    fn refused(&mut self) {
        lock(&self.heart).contact = Contact::NoCommonVersion;
    }

    fn poll(&mut self, now: Instant, transaction: u8) -> Next {
        let Some(due) = self.due.filter(|due| *due <= now) else {
            return Next { request: None, at: self.due };
        };
        self.count_missed();
        // From now on rather than from when it was due: a host that slept need not catch up.
        let next = if now - due < PERIOD { due + PERIOD } else { now + PERIOD };
        self.due = Some(next);
        if self.open.len() >= MOST_OPEN {
            return Next { request: None, at: Some(next) };
        }
        let mut message = HeartbeatMessage::new_zeroed();
        message.seq_num = self.sequence;
        self.open.push_back(Open { transaction, sequence: self.sequence, at: now, missed: false });
        self.sequence = self.sequence.wrapping_add(1);
        lock(&self.heart).sent += 1;
        Next { request: Some(message.as_bytes().to_vec()), at: Some(next) }
    }

    fn answer(&mut self, now: Instant, answer: &Answer<'_>) -> Result<(), IcError> {
        let message: HeartbeatMessage = answer.read(HEARTBEAT_MIN_BYTES)?;
        let at = self.open.iter().position(|open| open.transaction == answer.transaction);
        let open = at.and_then(|at| self.open.remove(at)).ok_or_else(|| unexpected(answer))?;
        let (found, expected) = (message.seq_num, open.sequence.wrapping_add(1));
        if found != expected {
            return Err(IcError::Sequence { found, expected });
        }
        let mut heart = lock(&self.heart);
        match open.missed {
            true => heart.late += 1,
            false => heart.answered += 1,
        }
        heart.missed_in_a_row = 0;
        heart.last_answer = Some(now);
        heart.round_trip = Some(now.saturating_duration_since(open.at));
        if self.versions.message >= HEARTBEAT_V3 {
            heart.application = Some(message.application_state);
        }
        Ok(())
    }
}

impl Drop for HeartbeatSession {
    fn drop(&mut self) {
        let mut heart = lock(&self.heart);
        heart.contact = Contact::None;
        heart.application = None;
    }
}
