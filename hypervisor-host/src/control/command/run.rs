//! Asks, and ends with the right code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::super::client::{Client, ClientError};
use super::super::machine::{Ended, MOST_WAIT_SECONDS, Waited};
use super::super::protocol::{MACHINE, Request};
use super::super::{Failure, FailureKind};
use super::{CtlArgs, What, say};
use crate::error::CODE_BAD_INPUT;
use crate::process::tell;
use crate::vsp::ic::heartbeat::Pulse;

/// Exit code when the machine or its guest says no.
pub const CODE_NO: u8 = 1;

/// Does what the arguments ask for.
pub fn run(args: &CtlArgs) -> ExitCode {
    match ask(args) {
        Ok(code) => ExitCode::from(code),
        Err(Refusal::Client(error)) => fail(&error, CODE_BAD_INPUT),
        Err(Refusal::Machine(failure)) => match failure.kind {
            FailureKind::BadRequest if failure.message.contains("; ") => {
                fail(&failure, CODE_BAD_INPUT)
            }
            FailureKind::BadRequest => fail(&format_args!("{failure}{ADVICE}"), CODE_BAD_INPUT),
            FailureKind::Failed => fail(&failure, CODE_NO),
        },
    }
}

/// What to do about a request that the machine does not understand and has no advice for.
const ADVICE: &str = "; see hypervisor-host ctl --help";

enum Refusal {
    Client(ClientError),
    Machine(Failure),
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Machine(failure)
    }
}

fn fail(what: &dyn std::fmt::Display, code: u8) -> ExitCode {
    tell(what);
    ExitCode::from(code)
}

fn ask(args: &CtlArgs) -> Result<u8, Refusal> {
    let mut client = Client::connect(&args.control)?;
    let answer = client.ask(&args.what.request(args.timeout))??;
    if let What::Shutdown(shutdown) = &args.what
        && let Some(seconds) = shutdown.wait
    {
        return wait(args, &mut client, seconds);
    }
    print(args, &answer);
    Ok(match &args.what {
        What::Heartbeat if pulse(&answer) != Some(Pulse::Ok) => CODE_NO,
        _ => 0,
    })
}

fn pulse(answer: &Value) -> Option<Pulse> {
    Pulse::deserialize(answer.get("pulse")?).ok()
}

/// Waits until the machine has ended.
fn wait(args: &CtlArgs, client: &mut Client, seconds: u32) -> Result<u8, Refusal> {
    let limit = Duration::from_secs(seconds.into());
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed()).as_secs_f64().ceil();
        // No more than fits, as it came from so many seconds.
        let left = (left as u32).min(MOST_WAIT_SECONDS);
        let request = Request::new(MACHINE, "wait").with("seconds", left);
        let answer = client.ask(&request)??;
        match Waited::deserialize(&answer) {
            Ok(Waited { ended: Some(ended) }) => {
                print(args, &answer);
                return Ok(code_of(&ended));
            }
            _ if begun.elapsed() >= limit => {
                let message = format!(
                    "the guest was asked to end, and has not within {seconds} seconds; look at its console"
                );
                return Err(Failure::failed(message).into());
            }
            _ => {}
        }
    }
}

/// A machine that died has not ended as it should.
fn code_of(ended: &Ended) -> u8 {
    use crate::outcome::Reason;
    match ended.reason {
        Reason::PowerOff | Reason::Reset | Reason::GuestExit | Reason::DebugExit => 0,
        _ => CODE_NO,
    }
}

/// Standard output that is closed early takes no answer; the exit code is one too.
fn print(args: &CtlArgs, answer: &Value) {
    let text = if args.json { answer.to_string() } else { say::text(&args.what, answer) };
    if !text.is_empty() {
        let _ = writeln!(io::stdout(), "{text}");
    }
}
