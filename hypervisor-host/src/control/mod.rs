//! The control socket: requests to a running machine, one JSON object a line.
//!
//! A part of the host that can be asked for something while a machine runs is a [`Facility`]: `disk`, `net`, `kvp` and so on.
//! [`ControlSocket::bind`] takes the socket's place in the file system before the machine is built, so that a mistake is told
//! early; [`ControlSocket::serve`] then answers by the facilities of the machine. The other end is [`client`], the command
//! `hypervisor-host ctl`.
//!
//! - [`protocol`]: lines, requests and answers
//! - [`socket`]: the file; stale ones are replaced
//! - [`server`]: clients and their threads
//! - [`components`], [`disk`], [`net`], [`machine`]: facilities of integration components, disks, network cards and the
//!   machine itself
//! - [`client`], [`command`]: the other end
//!
//! Whoever can write to the socket can do all of it: the file's mode is 0600.

pub mod client;
pub mod command;
pub mod components;
pub mod disk;
pub mod machine;
pub mod net;
pub mod protocol;
pub mod server;
pub mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::server::ControlServer;
pub use self::socket::{ControlSocket, SocketError};

/// Something that a running machine can be asked for. Requests come from several threads at a time and may take a while; what is
/// asked of one facility keeps no other waiting.
pub trait Facility: Send + Sync {
    /// Its name: the request's `on`.
    fn name(&self) -> &'static str;

    /// What can be asked of it: the request's `do`.
    fn verbs(&self) -> &'static [&'static str];

    /// Does one of its verbs.
    ///
    /// # Errors
    /// Why it can't be done, for a person.
    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure>;

    /// Its part of the machine's status. Quick.
    fn status(&self) -> Value;
}

/// Facilities of a machine.
pub type Facilities = Vec<Arc<dyn Facility>>;

/// What comes with a verb.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arguments(pub Map<String, Value>);

impl Arguments {
    /// The arguments as a struct, which should deny unknown fields.
    ///
    /// # Errors
    /// Something is missing, too much, or of the wrong type.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let wrong = |error| Failure::bad_request(format!("cannot read the arguments: {error}"));
        serde_json::from_value(Value::Object(self.0)).map_err(wrong)
    }
}

/// A facility's answer as JSON.
///
/// # Errors
/// It has no form in JSON.
pub fn answer<T: Serialize>(answer: &T) -> Result<Value, Failure> {
    let wrong = |error| Failure::failed(format!("cannot write the answer: {error}"));
    serde_json::to_value(answer).map_err(wrong)
}

/// Why something was not done: a sentence for a person, without what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// The sentence.
    pub message: String,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The request makes no sense.
    BadRequest,
    /// It makes sense, but was not done.
    Failed,
}

impl Failure {
    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::BadRequest, message: message.into() }
    }

    /// It makes sense, but was not done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Failed, message: message.into() }
    }
}
