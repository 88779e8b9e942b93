//! One start of the lab: QEMU, the line to the agent, and the watchdog over both.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::folder::Folder;
use crate::lab::console::{self, Follower};
use crate::lab::job::Job;
use crate::lab::parts::Parts;
use crate::lab::protocol::{self, CHUNK_BYTES, Decoder, Message, Request};
use crate::lab::qemu::{Qemu, Start};
use crate::lab::watchdog::{Limits, Watchdog};

/// How often the clock and the kernel log are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A running lab.
pub(super) struct Session {
    // Dropped first: it ends the reader's thread.
    _qemu: Qemu,
    stdin: ChildStdin,
    messages: Receiver<Message>,
    watchdog: Watchdog,
    follower: Follower,
    started: Instant,
    looked: Instant,
    warnings: Vec<String>,
    qemu_log: PathBuf,
}

impl Session {
    pub(super) fn start(
        parts: &Parts,
        limits: Limits,
        cpus: u32,
        memory_mib: u32,
        folder: &Folder,
        number: u32,
    ) -> Result<Self> {
        let (initrd, console_log) = (folder.initrd(), folder.console_log(number));
        let qemu_log = folder.qemu_log();
        let started = Instant::now();
        let (qemu, stdin, stdout) = Qemu::start(&Start {
            parts,
            cpus,
            memory_mib,
            initrd: &initrd,
            console_log: &console_log,
            qemu_log: &qemu_log,
        })?;
        let (sender, messages) = mpsc::channel();
        read_messages(stdout, sender);
        Ok(Self {
            _qemu: qemu,
            stdin,
            messages,
            watchdog: Watchdog::new(limits),
            follower: Follower::new(&console_log),
            started,
            looked: started,
            warnings: Vec::new(),
            qemu_log,
        })
    }

    /// Waits for the agent; returns how long it took, or why the lab is lost.
    pub(super) fn boot(&mut self) -> Result<Duration, String> {
        loop {
            match self.next()? {
                Some(Message::Hello { kvm: Ok(()), .. }) => return Ok(self.started.elapsed()),
                Some(Message::Hello { kvm: Err(problem), .. }) => {
                    return Err(format!("it has no KVM: {problem}"));
                }
                _ => {}
            }
        }
    }

    /// Sends a job.
    pub(super) fn run(&mut self, id: usize, job: &Job) -> Result<(), String> {
        self.watchdog.job_begins(Duration::from_secs(job.timeout_seconds.into()));
        let line = protocol::encode(&Request::Run { id, job: job.clone() });
        let sent = self.stdin.write_all(&line).and_then(|()| self.stdin.flush());
        sent.map_err(|error| format!("it takes no requests: {error}"))
    }

    /// The next message, nothing for a while, or why the lab is lost.
    pub(super) fn next(&mut self) -> Result<Option<Message>, String> {
        let message = match self.messages.recv_timeout(LOOK) {
            Ok(message) => {
                self.watchdog.heard();
                Some(message)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Err(self.why_ended()),
        };
        // Many messages may come between two looks.
        if message.is_none() || self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        Ok(message)
    }

    /// Stalls reported since the last call.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn look(&mut self) -> Result<(), String> {
        for finding in self.follower.poll() {
            self.warnings.extend(self.watchdog.reported(finding));
        }
        let elapsed = self.looked.elapsed();
        self.looked = Instant::now();
        self.watchdog.elapsed(elapsed).map_or(Ok(()), Err)
    }

    /// QEMU closed its output: either the lab's kernel gave up, or QEMU itself did.
    fn why_ended(&mut self) -> String {
        if let Err(reason) = self.look() {
            return reason;
        }
        match console::tail(&self.qemu_log, 3) {
            words if words.is_empty() => "QEMU ended".to_owned(),
            words => format!("QEMU ended: {words}"),
        }
    }
}

/// Reads messages until QEMU ends, on a thread of its own.
fn read_messages(mut stdout: ChildStdout, to: Sender<Message>) {
    thread::spawn(move || {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = match stdout.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            for message in decoder.push(buffer.get(..count).unwrap_or_default()) {
                if to.send(message).is_err() {
                    return;
                }
            }
        }
    });
}
