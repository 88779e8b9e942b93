//! Shutdown: asks the guest to end by itself.
//!
//! The guest's answer says only that it will; how it ends shows in the machine's ending.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_abi::guid::Guid;
use hv_abi::ic::shutdown::{
    SHTDN_REASON_FLAG_PLANNED, SHUTDOWN_FLAG_FORCE, SHUTDOWN_FLAG_HIBERNATE, SHUTDOWN_FLAG_RESTART,
    SHUTDOWN_V1, SHUTDOWN_V3_1, SHUTDOWN_V3_2, SHUTDOWN_VERSIONS, ShutdownMessage,
};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion, SHUTDOWN_INSTANCE, SHUTDOWN_INTERFACE};
use serde::{Deserialize, Serialize};
use zerocopy::{FromZeros, IntoBytes};

use super::calls::{Call, CallStatus, Calls, Contact, Wake};
use super::component::Component;
use super::error::{CallError, IcError};
use super::message::Answer;
use super::session::{Next, Session, Versions, unexpected};

/// What the guest shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ShutdownKind {
    /// Switch off.
    #[default]
    PowerOff,
    /// Restart; from version 3.1 on.
    Restart,
    /// Hibernate; from version 3.2 on.
    Hibernate,
}

impl ShutdownKind {
    fn flag(self) -> u32 {
        match self {
            Self::PowerOff => 0,
            Self::Restart => SHUTDOWN_FLAG_RESTART,
            Self::Hibernate => SHUTDOWN_FLAG_HIBERNATE,
        }
    }

    fn first_version(self) -> IcVersion {
        match self {
            Self::PowerOff => SHUTDOWN_V1,
            Self::Restart => SHUTDOWN_V3_1,
            Self::Hibernate => SHUTDOWN_V3_2,
        }
    }
}

/// A request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownRequest {
    /// How.
    pub kind: ShutdownKind,
    /// Whatever stands against it.
    pub force: bool,
    /// How long the guest may take, in seconds; 0 for no limit. Guests that are published ignore it.
    pub timeout_seconds: u32,
}

type ShutdownCalls = Calls<ShutdownRequest, ()>;

/// The component.
#[derive(Default, Clone)]
pub struct Shutdown(Arc<ShutdownCalls>);

impl Shutdown {
    /// Asks the guest to end, and waits until it says that it will, for `limit` at most.
    ///
    /// # Errors
    /// It has no driver, can't, won't, or says nothing.
    pub fn request(&self, request: ShutdownRequest, limit: Duration) -> Result<(), CallError> {
        self.0.call(request, limit, |versions| {
            let (has, needs) = (versions.message, request.kind.first_version());
            if has < needs { Err(CallError::TooOld { has, needs }) } else { Ok(()) }
        })
    }

    /// What is known.
    pub fn status(&self) -> CallStatus {
        self.0.status()
    }
}

impl Component for Shutdown {
    type Session = ShutdownSession;
    const NAME: &'static str = "shutdown";
    const INTERFACE: Guid = SHUTDOWN_INTERFACE;
    const INSTANCE: Guid = SHUTDOWN_INSTANCE;
    const VERSIONS: &'static [IcVersion] = &SHUTDOWN_VERSIONS;

    fn open(&self, wake: Wake) -> ShutdownSession {
        self.0.opened(wake);
        ShutdownSession { calls: self.0.clone(), open: None }
    }
}

/// One open channel.
pub struct ShutdownSession {
    calls: Arc<ShutdownCalls>,
    open: Option<(u8, Call<ShutdownRequest, ()>)>,
}

impl Session for ShutdownSession {
    const TYPE: IcMessageType = IcMessageType::SHUTDOWN;

    fn ready(&mut self, _now: Instant, versions: Versions) {
        self.calls.set_contact(Contact::Agreed(versions));
    }

    fn refused(&mut self) {
        self.calls.set_contact(Contact::NoCommonVersion);
    }

    fn poll(&mut self, _now: Instant, transaction: u8) -> Next {
        if self.open.is_some() {
            return Next::default();
        }
        let Some(call) = self.calls.next() else { return Next::default() };
        let mut message = ShutdownMessage::new_zeroed();
        message.reason_code = SHTDN_REASON_FLAG_PLANNED;
        message.timeout_seconds = call.question.timeout_seconds;
        let force = if call.question.force { SHUTDOWN_FLAG_FORCE } else { 0 };
        message.flags = call.question.kind.flag() | force;
        self.open = Some((transaction, call));
        Next { request: Some(message.as_bytes().to_vec()), at: None }
    }

    fn answer(&mut self, _now: Instant, answer: &Answer<'_>) -> Result<(), IcError> {
        match self.open.take_if(|(transaction, _)| *transaction == answer.transaction) {
            None => Err(unexpected(answer)),
            Some((_, call)) => {
                self.calls.count_answer();
                call.reply(match answer.status {
                    IcStatus::S_OK => Ok(()),
                    status => Err(CallError::Refused(status)),
                });
                Ok(())
            }
        }
    }
}

impl Drop for ShutdownSession {
    fn drop(&mut self) {
        self.calls.closed();
    }
}
