//! Requests and answers, and the lines that they travel in.
//!
//! A request is `{"on":"kvp","do":"get","key":"OSName"}`: facility, verb, and the verb's arguments. The answer is
//! `{"ok":…}` or `{"error":"…","kind":"failed"}`. Each is one line; answers come in the order of requests.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Arguments, Facilities, Failure, FailureKind};

/// Bytes of a line, its end included, at most.
pub const MOST_LINE_BYTES: usize = 64 << 10;

/// Name of the facility that every machine has: its verb `status` asks all others.
pub const MACHINE: &str = "machine";

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Of which facility.
    pub on: String,
    /// What.
    #[serde(rename = "do")]
    pub verb: String,
    /// With what.
    #[serde(flatten)]
    pub arguments: Map<String, Value>,
}

impl Request {
    /// Without arguments.
    pub fn new(on: &str, verb: &str) -> Self {
        Self { on: on.into(), verb: verb.into(), arguments: Map::new() }
    }

    /// With one more argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It was done.
    Done {
        /// What came of it.
        ok: Value,
    },
    /// It was not.
    Failed {
        /// Why.
        error: String,
        /// Whose fault it is.
        kind: FailureKind,
    },
}

impl From<Result<Value, Failure>> for Answer {
    fn from(result: Result<Value, Failure>) -> Self {
        match result {
            Ok(ok) => Self::Done { ok },
            Err(Failure { kind, message }) => Self::Failed { error: message, kind },
        }
    }
}

impl From<Answer> for Result<Value, Failure> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done { ok } => Ok(ok),
            Answer::Failed { error, kind } => Err(Failure { kind, message: error }),
        }
    }
}

/// Does what a line asks for.
pub fn handle(line: &[u8], facilities: &Facilities) -> Answer {
    perform(line, facilities).into()
}

fn perform(line: &[u8], facilities: &Facilities) -> Result<Value, Failure> {
    let request: Request = serde_json::from_slice(line)
        .map_err(|error| Failure::bad_request(format!("the line is no request: {error}")))?;
    if request.on == MACHINE && request.verb == "status" && request.arguments.is_empty() {
        let parts = facilities.iter().map(|it| (it.name().into(), it.status()));
        return Ok(Value::Object(parts.collect()));
    }
    let facility = facilities.iter().find(|it| it.name() == request.on);
    let facility = facility.ok_or_else(|| no_such("facility", &request.on, &names(facilities)))?;
    let verbs = facility.verbs();
    if !verbs.contains(&request.verb.as_str()) {
        let what = format!("verb of {}", request.on);
        return Err(no_such(&what, &request.verb, verbs));
    }
    facility.call(&request.verb, Arguments(request.arguments))
}

fn names(facilities: &Facilities) -> Vec<&'static str> {
    facilities.iter().map(|it| it.name()).collect()
}

fn no_such(what: &str, name: &str, there_are: &[&str]) -> Failure {
    // Whatever was sent: no more of it than a person would read.
    let name: String = name.chars().take(40).collect();
    let there_are = there_are.join(", ");
    Failure::bad_request(format!("this machine has no {what} '{name}', only: {there_are}"))
}

/// Reads a line without its end; `None` at the end of all.
///
/// # Errors
/// The line is too long ([`io::ErrorKind::InvalidData`]), or reading fails.
pub fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = from.take(MOST_LINE_BYTES as u64);
    if limited.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match line.pop_if(|last| *last == b'\n') {
        Some(_) => Ok(Some(line)),
        None if line.len() >= MOST_LINE_BYTES => {
            let text = format!("a line has {MOST_LINE_BYTES} bytes at most");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
        // The last line need not have an end.
        None => Ok(Some(line)),
    }
}

/// Writes a line.
///
/// # Errors
/// Writing fails.
pub fn write_line<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)
}
