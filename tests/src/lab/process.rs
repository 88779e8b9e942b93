//! Runs a job as a local process: by the agent in the lab, and natively by the runner itself.
//!
//! The job gets a process group of its own, which is killed when the job's program ends or its time is
//! up. Output is handed on as it comes; scripted input is typed when the output shows what it waits for.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::job::{Exit, Job, MAX_OUTPUT_BYTES, Step, Stream};
use super::{builtin, protocol, sys};

/// How often the process is looked at while it prints nothing.
const POLL: Duration = Duration::from_millis(20);
/// Time between asking a process to end and killing it: enough to write a report.
const GRACE: Duration = Duration::from_secs(5);
/// Time in which output that is still in the pipes may arrive after the group was killed.
const DRAIN: Duration = Duration::from_secs(2);

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit code, signal, or that its time was up.
    pub exit: Exit,
    /// How long it ran.
    pub duration: Duration,
    /// Bytes of output that were not handed on.
    pub dropped_bytes: u64,
}

/// Runs the job in `directory` and hands its output to `sink` as it comes, at most
/// [`MAX_OUTPUT_BYTES`] of each stream.
pub fn run(job: &Job, directory: &Path, sink: &mut dyn FnMut(Stream, &[u8])) -> Finished {
    let start = Instant::now();
    for path in &job.collect {
        // A file left by an earlier job must not pass for this one's.
        let _absent_is_fine = fs::remove_file(directory.join(path));
    }
    if let Some(exit) = job.argv.first().and_then(|name| builtin::run(name, sink)) {
        return Finished { exit, duration: start.elapsed(), dropped_bytes: 0 };
    }
    match Running::start(job, directory) {
        Err(error) => {
            Finished { exit: Exit::NotStarted(error), duration: start.elapsed(), dropped_bytes: 0 }
        }
        Ok(running) => running.finish(start, sink),
    }
}

struct Running {
    child: Child,
    output: Receiver<(Stream, Vec<u8>)>,
    script: Script,
    timeout: Duration,
}

impl Running {
    fn start(job: &Job, directory: &Path) -> Result<Self, String> {
        let (program, arguments) = job.argv.split_first().ok_or("the job names no program")?;
        let scripted = !job.stdin.is_empty();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(job.env.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .process_group(0)
            .stdin(if scripted { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = sys::die_with_parent(&mut command)
            .spawn()
            .map_err(|error| format!("cannot start '{program}': {error}"))?;
        let (sender, output) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            forward(Stream::Stdout, stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward(Stream::Stderr, stderr, sender);
        }
        let script = Script::new(job.stdin.clone(), child.stdin.take());
        let timeout = Duration::from_secs(job.timeout_seconds.into());
        Ok(Self { child, output, script, timeout })
    }

    fn finish(mut self, start: Instant, sink: &mut dyn FnMut(Stream, &[u8])) -> Finished {
        let mut limit = OutputLimit::default();
        let mut phase = Phase::Running;
        let mut timed_out = false;
        self.script.advance();
        let (status, end) = loop {
            let closed = self.pass_on(&mut limit, sink);
            match phase {
                // Someone outside the group may hold the pipes open; don't wait for that.
                Phase::Ended(status, when) if closed || when.elapsed() > DRAIN => {
                    break (status, when);
                }
                Phase::Ended(..) => {}
                _ => phase = self.look(phase, start),
            }
            timed_out |= matches!(phase, Phase::Asked(_));
        };
        Finished {
            exit: if timed_out { Exit::TimedOut } else { exit_of(status) },
            duration: end - start,
            dropped_bytes: limit.dropped_bytes,
        }
    }

    /// Hands on one piece of output, or waits a moment; true when there will be none any more.
    fn pass_on(&mut self, limit: &mut OutputLimit, sink: &mut dyn FnMut(Stream, &[u8])) -> bool {
        match self.output.recv_timeout(POLL) {
            Ok((stream, data)) => {
                if stream == Stream::Stdout {
                    self.script.saw(&data);
                }
                let kept = limit.take(stream, &data);
                if !kept.is_empty() {
                    sink(stream, kept);
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                // A program may close its streams long before it ends.
                thread::sleep(POLL);
                true
            }
        }
    }

    /// Looks whether the program ended, and sees to it that it does.
    fn look(&mut self, phase: Phase, start: Instant) -> Phase {
        let group = self.child.id();
        if let Ok(Some(status)) = self.child.try_wait() {
            // What it left behind goes with it.
            sys::signal_group(group, libc::SIGKILL);
            return Phase::Ended(status, Instant::now());
        }
        match phase {
            Phase::Running if start.elapsed() > self.timeout => {
                sys::signal_group(group, libc::SIGTERM);
                Phase::Asked(Instant::now())
            }
            Phase::Asked(when) if when.elapsed() > GRACE => {
                sys::signal_group(group, libc::SIGKILL);
                phase
            }
            _ => phase,
        }
    }
}

/// How far a process is on its way to its end.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    /// Its time was up and it was asked to end.
    Asked(Instant),
    Ended(ExitStatus, Instant),
}

impl Drop for Running {
    fn drop(&mut self) {
        // Until it is reaped its number is its own, so this never hits a stranger.
        if let Ok(None) = self.child.try_wait() {
            sys::signal_group(self.child.id(), libc::SIGKILL);
            let _reaped = self.child.wait();
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Exited(code),
        (None, Some(signal)) => Exit::Signaled(signal),
        (None, None) => Exit::NotStarted(format!("unknown end: {status}")),
    }
}

/// Reads a stream to its end on a thread of its own.
fn forward(stream: Stream, mut from: impl Read + Send + 'static, to: Sender<(Stream, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buffer = vec![0; protocol::CHUNK_BYTES];
        while let Ok(count) = from.read(&mut buffer) {
            let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else { break };
            if to.send((stream, data.to_vec())).is_err() {
                break;
            }
        }
    });
}

/// Keeps the first [`MAX_OUTPUT_BYTES`] of each stream.
#[derive(Debug, Default)]
struct OutputLimit {
    kept: [usize; 2],
    dropped_bytes: u64,
}

impl OutputLimit {
    fn take<'a>(&mut self, stream: Stream, data: &'a [u8]) -> &'a [u8] {
        let kept = &mut self.kept[usize::from(stream == Stream::Stderr)];
        let count = data.len().min(MAX_OUTPUT_BYTES - *kept);
        *kept += count;
        let (head, rest) = data.split_at(count);
        self.dropped_bytes += rest.len() as u64;
        head
    }
}

/// The job's scripted input: what has been seen and what is still to be typed.
struct Script {
    steps: std::collections::VecDeque<Step>,
    seen: Vec<u8>,
    typist: Option<Sender<Vec<u8>>>,
}

impl Script {
    /// Typing happens on a thread, so that a program that does not read cannot hold up its own output.
    fn new(steps: Vec<Step>, stdin: Option<ChildStdin>) -> Self {
        let typist = stdin.map(|mut stdin| {
            let (sender, receiver) = mpsc::channel::<Vec<u8>>();
            thread::spawn(move || {
                for text in receiver {
                    if stdin.write_all(&text).and_then(|()| stdin.flush()).is_err() {
                        break;
                    }
                }
            });
            sender
        });
        Self { steps: steps.into(), seen: Vec::new(), typist }
    }

    fn saw(&mut self, data: &[u8]) {
        if self.steps.is_empty() {
            return;
        }
        self.seen.extend_from_slice(data);
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(step) = self.steps.front() {
            match step {
                Step::WaitFor(text) => match end_of(&self.seen, text.as_bytes()) {
                    Some(end) => drop(self.seen.drain(..end)),
                    None => {
                        // All but what could be the beginning of the text is done with.
                        let spare = self.seen.len().saturating_sub(text.len());
                        self.seen.drain(..spare);
                        return;
                    }
                },
                Step::Send(text) => {
                    if let Some(typist) = &self.typist {
                        let _reader_may_be_gone = typist.send(text.clone().into_bytes());
                    }
                }
                Step::Close => self.typist = None,
            }
            self.steps.pop_front();
        }
    }
}

/// Where `needle` first ends in `haystack`.
fn end_of(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|window| window == needle).map(|at| at + needle.len())
}

#[cfg(test)]
mod tests;
