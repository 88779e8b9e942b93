//! Runs a batch in the lab, and starts a lab that was lost again, at most twice.
//!
//! Jobs that ended keep their results; the lab that is started again goes on with the first unfinished one.

mod folder;
mod session;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::initramfs;
use super::job::{
    Batch, BatchResult, Exit, Job, JobResult, MAX_FILE_BYTES, MAX_OUTPUT_BYTES, Progress, Restart,
    Stream,
};
use super::parts::Parts;
use super::protocol::Message;
use super::watchdog::Limits;
use folder::Folder;
use session::Session;

/// How the lab behaves.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// The program that becomes process 1 (see [`super::agent`]): a static one.
    pub agent: PathBuf,
    /// When a lab counts as lost.
    pub limits: Limits,
    /// How often a lost lab is started again within one batch.
    pub max_restarts: u32,
}

impl LabConfig {
    /// This program as the agent, the usual limits, two restarts.
    ///
    /// # Errors
    /// If this program cannot tell its own path.
    pub fn new() -> Result<Self> {
        // The link, not its target: it also leads to a program that was replaced by a build meanwhile.
        let agent = PathBuf::from("/proc/self/exe");
        fs::metadata(&agent).context("cannot read /proc/self/exe")?;
        Ok(Self { agent, limits: Limits::default(), max_restarts: 2 })
    }
}

/// The lab. It holds nothing while no batch runs.
#[derive(Debug, Clone)]
pub struct Lab {
    parts: Parts,
    config: LabConfig,
    pub(super) why: Option<String>,
}

impl Lab {
    /// The lab of this source tree.
    ///
    /// # Errors
    /// If its parts are missing; the text says what to run.
    pub fn new(config: LabConfig) -> Result<Self> {
        Ok(Self { parts: Parts::find()?, config, why: None })
    }

    /// The lab's parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Why this machine's own KVM is not used, in the words of our host's check; none if nobody asked it.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The same lab with another limit on restarts.
    #[must_use]
    pub fn with_max_restarts(&self, max_restarts: u32) -> Self {
        Self { config: LabConfig { max_restarts, ..self.config.clone() }, ..self.clone() }
    }

    /// The recipe for a batch that wants this many processors, in one line.
    pub fn place(&self, wanted_cpus: u32) -> String {
        let cpus = wanted_cpus.min(self.parts.max_cpus());
        let less = if cpus < wanted_cpus {
            format!(" ({wanted_cpus} need QEMU 10: run tests/setup.sh --force to try again)")
        } else {
            String::new()
        };
        format!(
            "lab: QEMU {} TCG, {cpus} processor{}{less}; kernel {}; KVM inside",
            self.parts.qemu_version,
            if cpus == 1 { "" } else { "s" },
            self.parts.kernel_release,
        )
    }

    /// Runs a batch. A job's failure is a result, not an error.
    ///
    /// # Errors
    /// If the lab cannot even be tried: a file that cannot be read, QEMU that cannot be started.
    pub fn run_batch(
        &self,
        batch: &Batch,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<BatchResult> {
        let place = self.place(batch.cpus);
        progress(Progress::Place(&place));
        let initrd = initramfs::build(&self.parts, &self.config.agent, &batch.files)?;
        let folder = Folder::new(&self.parts.directory, &initrd)?;
        drop(initrd);
        let mut run = BatchRun {
            lab: self,
            batch,
            folder,
            progress,
            attempts: vec![0; batch.jobs.len()],
            result: BatchResult {
                jobs: Vec::new(),
                restarts: Vec::new(),
                warnings: Vec::new(),
                place,
                boots: Vec::new(),
            },
        };
        run.all()?;
        Ok(run.result)
    }
}

/// A batch on its way.
struct BatchRun<'a> {
    lab: &'a Lab,
    batch: &'a Batch,
    folder: Folder,
    progress: &'a mut dyn FnMut(Progress<'_>),
    attempts: Vec<u32>,
    result: BatchResult,
}

impl BatchRun<'_> {
    fn all(&mut self) -> Result<()> {
        let mut starts = 0;
        while self.result.jobs.len() < self.batch.jobs.len() {
            // No loss: all jobs are done.
            let Some((reason, job)) = self.one_start(starts)? else { continue };
            let console = self.folder.keep_console_log(starts);
            let again = starts < self.lab.config.max_restarts;
            let restart = Restart { reason, job, console_log: console };
            (self.progress)(Progress::LabLost { restart: &restart, again });
            self.result.restarts.push(restart);
            if !again {
                self.give_up();
            }
            starts += 1;
        }
        Ok(())
    }

    /// One start of the lab: runs jobs until all are done (none) or the lab is lost (why, and in which job).
    fn one_start(&mut self, number: u32) -> Result<Option<(String, Option<String>)>> {
        let lab = self.lab;
        let cpus = self.batch.cpus.clamp(1, lab.parts.max_cpus());
        let mut session = Session::start(
            &lab.parts,
            lab.config.limits,
            cpus,
            self.batch.memory_mib,
            &self.folder,
            number,
        )?;
        match session.boot() {
            Ok(time) => {
                (self.progress)(Progress::LabUp(time));
                self.result.boots.push(time);
            }
            Err(reason) => return Ok(Some((reason, None))),
        }
        while let Some(job) = self.batch.jobs.get(self.result.jobs.len()) {
            if let Err(reason) = self.one_job(&mut session, job) {
                return Ok(Some((reason, Some(job.name.clone()))));
            }
        }
        Ok(None)
    }

    fn one_job(&mut self, session: &mut Session, job: &Job) -> Result<(), String> {
        let index = self.result.jobs.len();
        if let Some(attempts) = self.attempts.get_mut(index) {
            *attempts += 1;
        }
        (self.progress)(Progress::JobBegin(index, &job.name));
        session.run(index, job)?;
        let mut partial = Partial::default();
        loop {
            let message = session.next();
            for warning in session.take_warnings() {
                (self.progress)(Progress::Warning(&warning));
                self.result.warnings.push(format!("{}: {warning}", job.name));
            }
            match message? {
                Some(Message::Output { id, stream, data }) if id == index => {
                    (self.progress)(Progress::Output(index, stream, &data));
                    partial.output(stream, &data);
                }
                Some(Message::File { id, path, data }) if id == index => {
                    partial.file(job, path, &data);
                }
                Some(Message::Done { id, exit, micros, dropped_bytes }) if id == index => {
                    (self.progress)(Progress::JobEnd(index, &exit));
                    let duration = Duration::from_micros(micros);
                    let result = partial.finish(job, exit, duration, dropped_bytes);
                    self.push(result);
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// All that is left undone gets the reason of the last loss.
    fn give_up(&mut self) {
        let reason = self.result.restarts.last().map_or(String::new(), |last| last.reason.clone());
        while let Some(job) = self.batch.jobs.get(self.result.jobs.len()) {
            let index = self.result.jobs.len();
            let exit = Exit::LabLost(reason.clone());
            (self.progress)(Progress::JobEnd(index, &exit));
            let result = Partial::default().finish(job, exit, Duration::ZERO, 0);
            self.push(result);
        }
    }

    fn push(&mut self, mut result: JobResult) {
        result.attempts = self.attempts.get(self.result.jobs.len()).copied().unwrap_or(0);
        self.result.jobs.push(result);
    }
}

/// What has come of a job so far.
#[derive(Debug, Default)]
pub(super) struct Partial {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Partial {
    pub(super) fn output(&mut self, stream: Stream, data: &[u8]) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(data.get(..room).unwrap_or_default());
    }

    pub(super) fn file(&mut self, job: &Job, path: String, data: &[u8]) {
        if !job.collect.contains(&path) {
            return;
        }
        let file = self.files.entry(path).or_default();
        if (file.len() + data.len()) as u64 <= MAX_FILE_BYTES {
            file.extend_from_slice(data);
        }
    }

    pub(super) fn finish(
        self,
        job: &Job,
        exit: Exit,
        duration: Duration,
        dropped_bytes: u64,
    ) -> JobResult {
        JobResult {
            name: job.name.clone(),
            exit,
            stdout: self.stdout,
            stderr: self.stderr,
            dropped_bytes,
            files: self.files,
            duration,
            attempts: 1,
        }
    }
}

#[cfg(test)]
mod tests;
