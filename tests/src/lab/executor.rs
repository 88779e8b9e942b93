//! Runs a batch natively or in the lab, whichever this machine allows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::initramfs::check_name;
use super::job::{Batch, BatchResult, Exit, Job, JobResult, MAX_FILE_BYTES, Progress};
use super::process;
use super::runner::{Lab, LabConfig, Partial};

/// Set to `native` or `lab`, this environment variable overrides the choice.
pub const CHOICE_VARIABLE: &str = "ENL_KVM";

/// Where batches run.
#[derive(Debug, Clone)]
pub enum Executor {
    /// On this machine's own KVM.
    Native(Native),
    /// In the lab.
    Lab(Box<Lab>),
}

impl Executor {
    /// Asks `PROGRAM check`, our host's, whether `/dev/kvm` can run a guest here (exit code 0) or not (2).
    ///
    /// # Errors
    /// If the program cannot answer, or the lab is needed and not there.
    pub fn choose(program: &Path) -> Result<Self> {
        match std::env::var(CHOICE_VARIABLE).as_deref() {
            Ok("native") => return Ok(Self::Native(Native::default())),
            Ok("lab") => return Self::lab(None),
            Ok("auto" | "") | Err(_) => {}
            Ok(other) => bail!("{CHOICE_VARIABLE} is '{other}'. Set it to native, lab or auto."),
        }
        let output = Command::new(program)
            .arg("check")
            .output()
            .with_context(|| format!("cannot run {} check", program.display()))?;
        match output.status.code() {
            Some(0) => Ok(Self::Native(Native::default())),
            Some(2) => Self::lab(last_line(&output.stdout).or(last_line(&output.stderr))),
            _ => bail!(
                "{} check ended with {}, neither 0 nor 2: {}",
                program.display(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }

    fn lab(why: Option<String>) -> Result<Self> {
        let mut lab = Lab::new(LabConfig::new()?)?;
        lab.why = why;
        Ok(Self::Lab(Box::new(lab)))
    }

    /// `native` or `lab`, as the report says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Native(_) => "native",
            Self::Lab(_) => "lab",
        }
    }

    /// What a batch that wants this many processors runs on, in one line.
    pub fn place(&self, cpus: u32) -> String {
        match self {
            Self::Native(_) => Native::PLACE.to_owned(),
            Self::Lab(lab) => lab.place(cpus),
        }
    }

    /// Runs a batch. A job's failure is a result, not an error.
    ///
    /// # Errors
    /// If the batch cannot even be tried.
    pub fn run_batch(
        &self,
        batch: &Batch,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<BatchResult> {
        match self {
            Self::Native(native) => native.run_batch(batch, progress),
            Self::Lab(lab) => lab.run_batch(batch, progress),
        }
    }
}

/// The last line that is not blank.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Runs jobs as processes of this machine, in a directory that has the batch's files as links.
#[derive(Debug, Clone)]
pub struct Native {
    /// Where those directories are made.
    pub scratch: PathBuf,
}

impl Default for Native {
    fn default() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        Self { scratch: root.join("target/lab") }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Native {
    const PLACE: &str = "native: this machine's own /dev/kvm";

    /// As [`Executor::run_batch`].
    ///
    /// # Errors
    /// If the directory cannot be made or a file is missing.
    pub fn run_batch(
        &self,
        batch: &Batch,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<BatchResult> {
        progress(Progress::Place(Self::PLACE));
        let directory = Directory::new(&self.scratch, batch)?;
        let mut jobs = Vec::new();
        for (index, job) in batch.jobs.iter().enumerate() {
            progress(Progress::JobBegin(index, &job.name));
            let result = run_job(index, job, &directory.0, progress);
            progress(Progress::JobEnd(index, &result.exit));
            jobs.push(result);
        }
        Ok(BatchResult {
            jobs,
            restarts: Vec::new(),
            warnings: Vec::new(),
            place: Self::PLACE.to_owned(),
            boots: Vec::new(),
        })
    }
}

fn run_job(
    index: usize,
    job: &Job,
    directory: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> JobResult {
    let mut partial = Partial::default();
    let finished = process::run(job, directory, &mut |stream, data| {
        progress(Progress::Output(index, stream, data));
        partial.output(stream, data);
    });
    let mut exit = finished.exit;
    for path in &job.collect {
        let file = directory.join(path);
        let Ok(metadata) = fs::metadata(&file) else { continue };
        match fs::read(&file) {
            Ok(data) if metadata.len() <= MAX_FILE_BYTES => partial.file(job, path.clone(), &data),
            Ok(_) => {}
            Err(error) => exit = Exit::NotStarted(format!("cannot read {path} back: {error}")),
        }
    }
    partial.finish(job, exit, finished.duration, finished.dropped_bytes)
}

/// A directory of links, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(scratch: &Path, batch: &Batch) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = scratch.join(format!("native-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let directory = Self(path);
        for file in &batch.files {
            check_name(&file.to)?;
            let from = fs::canonicalize(&file.from)
                .with_context(|| format!("cannot find {}", file.from.display()))?;
            let to = directory.0.join(&file.to);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))?;
            }
            symlink(&from, &to).with_context(|| format!("cannot place '{}'", file.to))?;
        }
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::job::Stream;

    fn native() -> Native {
        Native { scratch: std::env::temp_dir() }
    }

    #[test]
    fn the_last_words_of_a_check_are_its_reason() {
        assert_eq!(last_line(b"a\nno VMX here \n\n").as_deref(), Some("no VMX here"));
        assert_eq!(last_line(b" \n"), None);
    }

    #[test]
    fn a_native_batch_finds_its_files_and_brings_results_back() {
        let source = std::env::temp_dir().join(format!("enl-native-{}", std::process::id()));
        fs::write(&source, "content").unwrap();
        let mut batch = Batch::new(1);
        batch.file(&source, "dir/input");
        batch.job(
            Job::new("copy", ["/bin/sh", "-c", "cp -L dir/input out; echo done"]).collect("out"),
        );
        batch.job(Job::new("next", ["/bin/sh", "-c", "cat out; exit 3"]).collect("none"));
        let mut streamed = Vec::new();
        let result = native()
            .run_batch(&batch, &mut |news| {
                if let Progress::Output(0, Stream::Stdout, data) = news {
                    streamed.extend_from_slice(data);
                }
            })
            .unwrap();
        fs::remove_file(source).unwrap();
        let [copy, next] = result.jobs.as_slice() else { panic!("{result:?}") };
        assert_eq!((copy.exit.code(), next.exit.code()), (Some(0), Some(3)));
        assert_eq!(copy.files["out"], b"content");
        assert_eq!(next.stdout_text(), "content");
        assert!(next.files.is_empty());
        assert_eq!(streamed, b"done\n");
        assert_eq!((copy.attempts, result.restarts.len()), (1, 0));
    }

    #[test]
    fn a_missing_file_is_named_before_anything_runs() {
        let mut batch = Batch::new(1);
        batch.file("/no/such/file", "x").job(Job::new("x", ["true"]));
        let error = native().run_batch(&batch, &mut |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/file"), "{error:#}");
    }

    #[test]
    fn a_scratch_directory_is_gone_afterwards() {
        let mut batch = Batch::new(1);
        batch.job(Job::new("where", ["/bin/pwd"]));
        let result = native().run_batch(&batch, &mut |_| {}).unwrap();
        let path = result.jobs[0].stdout_text();
        assert!(path.contains("native-") && !Path::new(path.trim()).exists(), "{path}");
    }
}
