//! Integration components as facilities.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Arguments, Facilities, Facility, Failure, answer};
use crate::vsp::ic::kvp::Pool;
use crate::vsp::ic::shutdown::{ShutdownKind, ShutdownRequest};
use crate::vsp::ic::{CallError, Component, Components, Heartbeat, Kvp, Shutdown, Timesync};

/// Seconds that a guest has for an answer, unless the request says otherwise.
pub const DEFAULT_SECONDS: u32 = 10;
/// Seconds that a request may give it. Linux gives its own daemon 30.
pub const MOST_SECONDS: u32 = 600;

/// The facilities of a machine's components.
pub fn facilities(components: &Components) -> Facilities {
    fn facility<T: Facility + 'static>(it: T) -> Arc<dyn Facility> {
        Arc::new(it)
    }
    let Components { heartbeat, shutdown, timesync, kvp } = components.clone();
    let all = [
        heartbeat.map(facility),
        shutdown.map(facility),
        timesync.map(facility),
        kvp.map(facility),
    ];
    all.into_iter().flatten().collect()
}

/// What failed, why, and what to do.
fn failure(what: &str, error: &CallError) -> Failure {
    let advice = match error {
        CallError::NoDriver => "try again when the guest has started it",
        CallError::NoCommonVersion | CallError::TooOld { .. } => "use a guest with a newer driver",
        CallError::Busy | CallError::NoAnswer(_) | CallError::Gone => "try again",
        CallError::Refused(_) => "look at what the guest says on its console",
        CallError::NoSuchKey => "list the keys that there are by kvp list",
        CallError::TooLong { .. } => "give a shorter one",
        CallError::Endless(_) => "ask for single keys",
    };
    let message = format!("cannot {what}: {error}; {advice}");
    match error {
        CallError::TooLong { .. } => Failure::bad_request(message),
        _ => Failure::failed(message),
    }
}

fn default_seconds() -> u32 {
    DEFAULT_SECONDS
}

fn limit(seconds: u32) -> Duration {
    Duration::from_secs(seconds.min(MOST_SECONDS).into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Facility for Heartbeat {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["get"]
    }

    fn call(&self, _get: &str, arguments: Arguments) -> Result<Value, Failure> {
        arguments.read::<Nothing>()?;
        answer(&Heartbeat::status(self))
    }

    fn status(&self) -> Value {
        json!(Heartbeat::status(self))
    }
}

impl Facility for Timesync {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["get"]
    }

    fn call(&self, _get: &str, arguments: Arguments) -> Result<Value, Failure> {
        arguments.read::<Nothing>()?;
        answer(&Timesync::status(self))
    }

    fn status(&self) -> Value {
        json!(Timesync::status(self))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShutdownArguments {
    #[serde(default)]
    kind: ShutdownKind,
    #[serde(default)]
    force: bool,
    #[serde(default = "default_seconds")]
    seconds: u32,
}

impl Facility for Shutdown {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["request"]
    }

    fn call(&self, _request: &str, arguments: Arguments) -> Result<Value, Failure> {
        let ShutdownArguments { kind, force, seconds } = arguments.read()?;
        let request = ShutdownRequest { kind, force, timeout_seconds: 0 };
        self.request(request, limit(seconds)).map_err(|error| failure("end the guest", &error))?;
        Ok(json!({}))
    }

    fn status(&self) -> Value {
        json!(Shutdown::status(self))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyArguments {
    pool: Option<Pool>,
    key: String,
    #[serde(default = "default_seconds")]
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetArguments {
    #[serde(default)]
    pool: Pool,
    key: String,
    value: String,
    #[serde(default = "default_seconds")]
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    pool: Pool,
    #[serde(default = "default_seconds")]
    seconds: u32,
}

impl Kvp {
    fn find(&self, arguments: KeyArguments) -> Result<Value, Failure> {
        let KeyArguments { pool, key, seconds } = arguments;
        let found = match pool {
            Some(pool) => self.get(pool, &key, limit(seconds)),
            None => self.get_anywhere(&key, limit(seconds)),
        };
        let value = found.map_err(|error| failure(&format!("read the key '{key}'"), &error))?;
        Ok(json!({ "value": value }))
    }
}

impl Facility for Kvp {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["get", "set", "delete", "list"]
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        match verb {
            "get" => self.find(arguments.read()?),
            "set" => {
                let SetArguments { pool, key, value, seconds } = arguments.read()?;
                self.set(pool, &key, &value, limit(seconds))
                    .map_err(|error| failure(&format!("set the key '{key}'"), &error))?;
                Ok(json!({}))
            }
            "delete" => {
                let KeyArguments { pool, key, seconds } = arguments.read()?;
                self.delete(pool.unwrap_or_default(), &key, limit(seconds))
                    .map_err(|error| failure(&format!("delete the key '{key}'"), &error))?;
                Ok(json!({}))
            }
            _ => {
                let ListArguments { pool, seconds } = arguments.read()?;
                let items = self.list(pool, limit(seconds));
                answer(&items.map_err(|error| failure("list keys", &error))?)
            }
        }
    }

    fn status(&self) -> Value {
        json!(Kvp::status(self))
    }
}
