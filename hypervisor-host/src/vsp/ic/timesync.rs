//! Time synchronisation: tells the guest what time it is.
//!
//! After the channel is opened, and after this computer was suspended, the guest is told to set its clock; every five
//! seconds it gets a sample, of which it may make what it likes. From version 4.0 on the guest's reference time comes
//! with each, so that it matters little how long a message takes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hv_abi::guid::Guid;
use hv_abi::ic::timesync::{
    ICTIMESYNCFLAG_SAMPLE, ICTIMESYNCFLAG_SYNC, TIMESYNC_V4, TIMESYNC_VERSIONS, TimesyncMessage,
    TimesyncRefMessage,
};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion, TIMESYNC_INSTANCE, TIMESYNC_INTERFACE};
use serde::{Deserialize, Serialize};
use zerocopy::{FromZeros, IntoBytes};

use super::calls::{Contact, Wake};
use super::clock::Clocks;
use super::component::Component;
use super::error::IcError;
use super::message::Answer;
use super::session::{Next, Session, Versions, unexpected};
use crate::stats::lock;

/// Between two samples (OpenVMM, `SAMPLE_PERIOD`).
const PERIOD: Duration = Duration::from_secs(5);
/// A computer that was suspended for less need not tell.
const LEAST_SUSPENDED: Duration = Duration::from_millis(500);
/// Messages without an answer after which no more are sent.
const MOST_OPEN: usize = 4;

/// What was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimesyncStatus {
    /// How far guest and host are.
    pub contact: Contact,
    /// What they last agreed on, also when the channel is closed by now.
    pub versions: Option<Versions>,
    /// Times that the guest was told to set its clock.
    pub syncs: u64,
    /// Samples sent.
    pub samples: u64,
    /// Answers.
    pub answered: u64,
    /// Answers that say that it did not work.
    pub refused: u64,
}

/// The component.
#[derive(Clone)]
pub struct Timesync {
    clocks: Arc<dyn Clocks>,
    status: Arc<Mutex<TimesyncStatus>>,
}

impl Timesync {
    /// Tells the time of `clocks`.
    pub fn new(clocks: Arc<dyn Clocks>) -> Self {
        Self { clocks, status: Arc::default() }
    }

    /// What was told so far.
    pub fn status(&self) -> TimesyncStatus {
        *lock(&self.status)
    }
}

impl Component for Timesync {
    type Session = TimesyncSession;
    const NAME: &'static str = "timesync";
    const INTERFACE: Guid = TIMESYNC_INTERFACE;
    const INSTANCE: Guid = TIMESYNC_INSTANCE;
    const VERSIONS: &'static [IcVersion] = &TIMESYNC_VERSIONS;

    fn open(&self, _wake: Wake) -> TimesyncSession {
        TimesyncSession {
            component: self.clone(),
            versions: Versions::default(),
            suspended: self.clocks.suspended(),
            sync: true,
            due: None,
            open: Vec::with_capacity(MOST_OPEN),
            round_trip: Duration::ZERO,
        }
    }
}

/// One open channel.
pub struct TimesyncSession {
    component: Timesync,
    versions: Versions,
    /// How long the computer had been suspended when it was last looked at.
    suspended: Duration,
    /// The guest has yet to be told to set its clock.
    sync: bool,
    due: Option<Instant>,
    open: Vec<(u8, Instant)>,
    round_trip: Duration,
}

impl TimesyncSession {
    fn notice_suspension(&mut self) {
        let suspended = self.component.clocks.suspended();
        self.sync |= suspended.saturating_sub(self.suspended) >= LEAST_SUSPENDED;
        self.suspended = suspended;
    }

    fn message(&self, flags: u8) -> Vec<u8> {
        let sample = self.component.clocks.sample();
        if self.versions.message < TIMESYNC_V4 {
            let mut message = TimesyncMessage::new_zeroed();
            message.parent_time = sample.host_time_100ns.into();
            message.round_trip_time = ((self.round_trip.as_nanos() / 100) as u64).into();
            message.flags = flags;
            return message.as_bytes().to_vec();
        }
        let mut message = TimesyncRefMessage::new_zeroed();
        message.parent_time = sample.host_time_100ns.into();
        message.vm_reference_time = sample.reference_100ns.into();
        message.flags = flags;
        message.as_bytes().to_vec()
    }
}

impl Session for TimesyncSession {
    const TYPE: IcMessageType = IcMessageType::TIMESYNC;

    fn ready(&mut self, now: Instant, versions: Versions) {
        self.versions = versions;
        self.due = Some(now);
        let mut status = lock(&self.component.status);
        status.contact = Contact::Agreed(versions);
        status.versions = Some(versions);
    }

    fn refused(&mut self) {
        lock(&self.component.status).contact = Contact::NoCommonVersion;
    }

    fn poll(&mut self, now: Instant, transaction: u8) -> Next {
        let Some(due) = self.due else { return Next::default() };
        self.notice_suspension();
        if !self.sync && now < due {
            return Next { request: None, at: Some(due) };
        }
        let next = now + PERIOD;
        self.due = Some(next);
        if self.open.len() >= MOST_OPEN {
            // With the next answer there is a poll.
            return Next { request: None, at: Some(next) };
        }
        self.open.push((transaction, now));
        let flags = if self.sync { ICTIMESYNCFLAG_SYNC } else { ICTIMESYNCFLAG_SAMPLE };
        let mut status = lock(&self.component.status);
        match self.sync {
            true => status.syncs += 1,
            false => status.samples += 1,
        }
        drop(status);
        self.sync = false;
        Next { request: Some(self.message(flags)), at: Some(next) }
    }

    fn answer(&mut self, now: Instant, answer: &Answer<'_>) -> Result<(), IcError> {
        let at = self.open.iter().position(|(transaction, _)| *transaction == answer.transaction);
        let (_, asked) = at.map(|at| self.open.remove(at)).ok_or_else(|| unexpected(answer))?;
        self.round_trip = now.saturating_duration_since(asked);
        let mut status = lock(&self.component.status);
        match answer.status {
            IcStatus::S_OK => status.answered += 1,
            _ => status.refused += 1,
        }
        Ok(())
    }
}

impl Drop for TimesyncSession {
    fn drop(&mut self) {
        lock(&self.component.status).contact = Contact::None;
    }
}
