//! What a job is, what a batch of them is, and what comes back.
//!
//! Every job runs in one and the same directory, which holds the batch's files. Jobs name files
//! relative to it (`./hypervisor-host`, `out.json`), so the same job runs in the lab and natively.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most bytes kept of each output stream of a job; what comes after is counted and dropped.
pub const MAX_OUTPUT_BYTES: usize = 4 << 20;
/// Most bytes brought back of one collected file.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Time a job has if it does not say.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 60;

/// One command, or a built-in of the agent (its name begins with `@`, see [`super::agent`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Name for reports.
    pub name: String,
    /// Program and arguments; a program with a `/` is relative to the batch's directory.
    pub argv: Vec<String>,
    /// Environment variables set beside those of the agent or the caller.
    pub env: Vec<(String, String)>,
    /// What is typed, and when. Without steps, standard input is empty.
    pub stdin: Vec<Step>,
    /// Time limit in seconds of the machine the job runs on.
    pub timeout_seconds: u32,
    /// Files to bring back, relative to the batch's directory. Removed before the job starts.
    pub collect: Vec<String>,
}

/// One step of a job's scripted standard input. The input stays open after the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Wait until standard output shows this text, after what an earlier step waited for.
    WaitFor(String),
    /// Type this text.
    Send(String),
    /// Close standard input.
    Close,
}

impl Job {
    /// A job with the default time limit, nothing on standard input and nothing to bring back.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            timeout_seconds: DEFAULT_TIMEOUT_SECONDS,
            collect: Vec::new(),
        }
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// Adds a file to bring back.
    #[must_use]
    pub fn collect(mut self, path: impl Into<String>) -> Self {
        self.collect.push(path.into());
        self
    }

    /// Adds a step of scripted input.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.stdin.push(step);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A file taken along: its place here, and its name in the batch's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFile {
    /// Where it is on this machine. Its permissions go along.
    pub from: PathBuf,
    /// Its relative path in the batch's directory.
    pub to: String,
}

/// Jobs that share one start of the lab, and the files they need.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Processors of the lab: 1 unless a job needs two (docs/lab.md says what each costs).
    pub cpus: u32,
    /// Memory of the lab in MiB.
    pub memory_mib: u32,
    /// What the jobs find in their directory.
    pub files: Vec<BatchFile>,
    /// What runs, in this order.
    pub jobs: Vec<Job>,
}

impl Batch {
    /// An empty batch for a lab with this many processors and 2 GiB of memory.
    pub fn new(cpus: u32) -> Self {
        Self { cpus, memory_mib: 2048, files: Vec::new(), jobs: Vec::new() }
    }

    /// Adds a file under a relative name.
    pub fn file(&mut self, from: impl AsRef<Path>, to: impl Into<String>) -> &mut Self {
        self.files.push(BatchFile { from: from.as_ref().to_owned(), to: to.into() });
        self
    }

    /// Adds a file that several jobs of a batch have in common; the first one counts.
    pub fn shared_file(&mut self, from: impl AsRef<Path>, to: &str) -> &mut Self {
        if self.files.iter().all(|file| file.to != to) {
            self.file(from, to);
        }
        self
    }

    /// Adds several files, as [`super::guests`] lists them.
    pub fn add_files(&mut self, files: &[BatchFile]) -> &mut Self {
        self.files.extend_from_slice(files);
        self
    }

    /// Adds a job.
    pub fn job(&mut self, job: Job) -> &mut Self {
        self.jobs.push(job);
        self
    }
}

/// Which output stream of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It ended by itself, with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It ran longer than allowed, while the lab still responded.
    TimedOut,
    /// It could not be started; the reason.
    NotStarted(String),
    /// The lab was lost, more often than it may be started again; the reason.
    LabLost(String),
}

impl Exit {
    /// The exit code, if there was one.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(*code),
            _ => None,
        }
    }
}

/// What a job left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// The job's name.
    pub name: String,
    /// How it ended.
    pub exit: Exit,
    /// Its standard output, the first [`MAX_OUTPUT_BYTES`].
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
    /// Bytes of output beyond those kept.
    pub dropped_bytes: u64,
    /// The collected files that exist, by the name the job gave.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Time it took, on the clock of the machine it ran on.
    pub duration: Duration,
    /// Starts: 1, and one more for each lab that was lost while the job ran in it.
    pub attempts: u32,
}

impl JobResult {
    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// A job that ended with `code` and said this, for the tests of what judges jobs.
    #[cfg(test)]
    pub(crate) fn of_test(code: i32, stdout: &str) -> Self {
        Self {
            name: "x".into(),
            exit: Exit::Exited(code),
            stdout: stdout.into(),
            stderr: Vec::new(),
            dropped_bytes: 0,
            files: BTreeMap::new(),
            duration: Duration::ZERO,
            attempts: 1,
        }
    }
}

/// A lab that was lost and started again, or given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// Why it counts as lost.
    pub reason: String,
    /// The job that ran in it then; none while it booted or lay idle.
    pub job: Option<String>,
    /// Its kernel log.
    pub console_log: PathBuf,
}

/// What a batch left.
#[derive(Debug, Clone)]
pub struct BatchResult {
    /// One result for each job, in the batch's order.
    pub jobs: Vec<JobResult>,
    /// Labs lost on the way.
    pub restarts: Vec<Restart>,
    /// Stalls that a lab's kernel reported and got over; one line each.
    pub warnings: Vec<String>,
    /// What it ran on, in one line.
    pub place: String,
    /// Time from the start of QEMU until the agent answered, for each start of the lab.
    pub boots: Vec<Duration>,
}

/// News while a batch runs.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// What the batch runs on, in one line, once before anything else.
    Place(&'a str),
    /// The lab's agent answered, this long after QEMU's start.
    LabUp(Duration),
    /// A job begins: its index in the batch and its name.
    JobBegin(usize, &'a str),
    /// A job printed something.
    Output(usize, Stream, &'a [u8]),
    /// A job ended.
    JobEnd(usize, &'a Exit),
    /// The lab was lost; `again` tells whether it is started again.
    LabLost {
        /// What happened.
        restart: &'a Restart,
        /// Whether the lab is started again.
        again: bool,
    },
    /// The lab's kernel reported a stall.
    Warning(&'a str),
}
