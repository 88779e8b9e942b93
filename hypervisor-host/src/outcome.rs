//! Why a machine ended, decided once by whoever comes first: a device, a VP, a signal, the clock.

use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

/// What ended a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The guest wrote to its exit port.
    GuestExit,
    /// The guest wrote to the `isa-debug-exit` port.
    DebugExit,
    /// The guest switched its machine off.
    PowerOff,
    /// The guest asked for a reset; the host ends instead.
    Reset,
    /// The guest reported its own crash through the Hyper-V crash registers.
    GuestCrash,
    /// A VP lost its last exception handler.
    TripleFault,
    /// KVM could not run a VP any further.
    KvmError,
    /// `--timeout` was reached.
    Timeout,
    /// Ctrl-C or another signal that asks for an end.
    Interrupted,
}

/// An ending: the reason, the process's exit code and a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What ended the machine.
    pub reason: Reason,
    /// Exit code of the process (`docs/interfaces.md`).
    pub code: u8,
    /// More, for a person; may have several lines (a register dump).
    pub detail: Option<String>,
}

/// Exit code for a machine that ran out of time.
pub const CODE_TIMEOUT: u8 = 124;
/// Exit code for a machine that died.
pub const CODE_DIED: u8 = 125;
/// Exit code for a machine that was interrupted.
pub const CODE_INTERRUPTED: u8 = 130;

impl Outcome {
    /// The guest ended by itself with `code`.
    pub fn guest(reason: Reason, code: u8) -> Self {
        Self { reason, code, detail: None }
    }

    /// The machine died; `detail` says how.
    pub fn died(reason: Reason, detail: String) -> Self {
        Self { reason, code: CODE_DIED, detail: Some(detail) }
    }

    /// The time is up.
    pub fn timeout() -> Self {
        Self { reason: Reason::Timeout, code: CODE_TIMEOUT, detail: None }
    }

    /// The same of a guest that had reported a crash before, if it had: to switch off or to restart is then
    /// no success.
    pub fn after_crash(self, crashed: bool) -> Self {
        match self.reason {
            Reason::PowerOff | Reason::Reset if crashed => {
                Self::died(Reason::GuestCrash, "the guest reported a crash".into())
            }
            _ => self,
        }
    }

    /// Somebody wants an end.
    pub fn interrupted() -> Self {
        Self { reason: Reason::Interrupted, code: CODE_INTERRUPTED, detail: None }
    }
}

/// The one ending of a machine, and a file descriptor that becomes readable with it.
#[derive(Debug)]
pub struct Ending {
    outcome: OnceLock<Outcome>,
    event: EventFd,
}

impl Ending {
    /// No ending yet.
    ///
    /// # Errors
    /// The operating system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { outcome: OnceLock::new(), event: EventFd::new(libc::EFD_NONBLOCK)? })
    }

    /// Ends the machine. Only the first call counts.
    pub fn set(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            // Fails only if the counter overflows, and this happens once.
            let _ = self.event.write(1);
        }
    }

    /// The ending, if it has come.
    pub fn get(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Becomes readable when the ending comes.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_crash_only_the_guests_own_code_counts() {
        let restart = Outcome::guest(Reason::Reset, 0);
        assert_eq!(restart.clone().after_crash(false), restart);
        let crashed = restart.after_crash(true);
        assert_eq!((crashed.reason, crashed.code), (Reason::GuestCrash, 125));
        let own = Outcome::guest(Reason::GuestExit, 3);
        assert_eq!(own.clone().after_crash(true), own);
        assert_eq!(Outcome::timeout().after_crash(true).code, 124);
    }

    #[test]
    fn the_first_ending_wins() {
        let ending = Ending::new().unwrap();
        assert!(ending.get().is_none());
        ending.set(Outcome::guest(Reason::GuestExit, 7));
        ending.set(Outcome::timeout());
        assert_eq!(ending.get().unwrap().code, 7);
        assert_eq!(ending.event().read().unwrap(), 1);
    }
}
