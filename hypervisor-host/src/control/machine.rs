//! What can be asked of the machine itself: how it is, and to be told when it ends.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::protocol::MACHINE;
use super::{Arguments, Facility, Failure, answer};
use crate::outcome::{Ending, Outcome, Reason};
use std::os::fd::AsRawFd;

/// Seconds that a client may wait with one request. One that is gone is noticed only then.
pub const MOST_WAIT_SECONDS: u32 = 60;

/// Where the ending of a machine can be seen.
pub trait HasEnding: Send + Sync {
    /// It.
    fn ending(&self) -> &Ending;
}

impl HasEnding for crate::partition::shared::Shared {
    fn ending(&self) -> &Ending {
        &self.ending
    }
}

/// The answer to `wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// How the machine ended; `None`: it still runs.
    pub ended: Option<Ended>,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// Exit code of its process.
    pub code: u8,
    /// More, for a person.
    pub detail: Option<String>,
}

impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        let Outcome { reason, code, detail } = outcome.clone();
        Self { reason, code, detail }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    seconds: u32,
}

/// The facility.
pub struct MachineFacility {
    machine: Arc<dyn HasEnding>,
    description: Value,
}

impl MachineFacility {
    /// Of a machine that `description` describes.
    pub fn new(machine: Arc<dyn HasEnding>, description: Value) -> Self {
        Self { machine, description }
    }

    fn wait(&self, wait: Wait) -> Result<Waited, Failure> {
        let seconds = wait.seconds.min(MOST_WAIT_SECONDS);
        let ending = self.machine.ending();
        wait_readable(ending, Duration::from_secs(seconds.into()))
            .map_err(|error| Failure::failed(format!("cannot wait: {error}")))?;
        Ok(Waited { ended: ending.get().map(Ended::from) })
    }
}

fn wait_readable(ending: &Ending, limit: Duration) -> std::io::Result<()> {
    let epoll = Epoll::new()?;
    let interest = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, ending.event().as_raw_fd(), interest)?;
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    epoll.wait(milliseconds, &mut [EpollEvent::default()]).map(drop)
}

impl Facility for MachineFacility {
    fn name(&self) -> &'static str {
        MACHINE
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["status", "wait"]
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        match verb {
            "wait" => answer(&self.wait(arguments.read()?)?),
            // Alone, without arguments, it is everybody's.
            _ => Err(Failure::bad_request("status takes no arguments")),
        }
    }

    fn status(&self) -> Value {
        let ended = self.machine.ending().get().map(Ended::from);
        let mut status = self.description.clone();
        if let Value::Object(status) = &mut status {
            status.insert("ended".into(), json!(ended));
        }
        status
    }
}
