//! What a system did, and what it could not do.

use std::fmt;

use serde::Serialize;

use super::System;
use super::record::{self, Figure, HostReport};
use crate::io_work::{Work, works};
use crate::lab::{Exit, JobResult};
use crate::suites::trial::{REPORT, exit_text};

/// What can't be had here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Skip {
    pub(super) system: System,
    /// A way, a count, or `all`.
    pub(super) what: String,
    /// Why, for a person.
    pub(super) reason: String,
}

impl Skip {
    pub(super) fn new(system: System, what: &str, reason: impl Into<String>) -> Self {
        Self { system, what: what.into(), reason: reason.into() }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.system.name(), self.what, self.reason)
    }
}

/// Of one system, or of all.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) figures: Vec<Figure>,
    pub(super) skips: Vec<Skip>,
    pub(super) failures: Vec<String>,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.skips.extend(other.skips);
        self.failures.extend(other.failures);
    }
}

/// Reads what a system said and counted, which was to go `paths`, with commas between them.
pub(super) fn of_system(system: System, paths: &str, result: &JobResult) -> Outcome {
    let text = result.stdout_text();
    let works = works(&text);
    let mut outcome = Outcome::default();
    let fail = |what: String| format!("{}: {what}", system.name());
    for line in text.lines().map(str::trim_end) {
        if let Some((what, reason)) = line.strip_prefix("SKIP ").and_then(|it| it.split_once(": "))
        {
            outcome.skips.push(Skip::new(system, what, reason));
        } else if let Some(what) = line.strip_prefix("NO ")
            // Without a network the guest has no card either.
            && !outcome.skips.iter().any(|skip| what.starts_with(&skip.what))
        {
            outcome.failures.push(fail(format!("not done: {what}")));
        }
    }
    if outcome.skips.iter().any(|skip| skip.what == "all") {
        return outcome;
    }
    if result.exit != Exit::Exited(0) || works.is_empty() {
        let (end, err) = (exit_text(&result.exit), result.stderr_text());
        outcome.failures.push(fail(format!("it {end}; {}", err.trim())));
    }
    for path in paths.split(',').filter(|path| works.iter().all(|it| it.path != **path)) {
        let told = outcome.skips.iter().any(|skip| skip.what == path)
            || outcome.failures.iter().any(|failure| failure.contains(path));
        if !told {
            outcome.failures.push(fail(format!("{path} did nothing")));
        }
    }
    match counted(system, &works, &text, result) {
        Ok((figures, why)) => {
            if figures.iter().any(|figure| figure.instructions.is_none()) {
                outcome.skips.push(Skip::new(system, "guest instructions", why));
            }
            outcome.figures = figures;
        }
        Err(problem) => outcome.failures.push(fail(problem)),
    }
    outcome
}

/// The figures, and why the guest's instructions are not among them.
fn counted(
    system: System,
    works: &[Work],
    text: &str,
    result: &JobResult,
) -> Result<(Vec<Figure>, String), String> {
    if system == System::QemuLinux {
        let figures = record::figures(system, works, &record::watched(text))?;
        return Ok((figures, "nobody counts them beside QEMU".into()));
    }
    let bytes = result.files.get(REPORT).ok_or("the host left no report")?;
    let mut report: HostReport = serde_json::from_slice(bytes)
        .map_err(|error| format!("the report is malformed: {error}"))?;
    let why = report.guest_instructions_why.take();
    let why = why.unwrap_or_else(|| "the processor has no counter of them for a guest".into());
    Ok((record::figures(system, works, &report.snapshots())?, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose guest did one piece of work.
    const REPORT_OF_ONE: &str =
        r#"{"marks":[{"mark":2,"kvm_exits":10},{"mark":3,"kvm_exits":31}]}"#;

    fn job(code: i32, stdout: &str) -> JobResult {
        let mut job = JobResult::of_test(code, stdout);
        job.files.insert(REPORT.into(), REPORT_OF_ONE.into());
        job
    }

    #[test]
    fn what_was_done_what_could_not_be_and_what_went_wrong_are_told_apart() {
        let text = "IO storvsc read 1 10 4096 77\r\nSKIP tulip: no driver\r\nNO netvsc send 0 60: no room\r\n";
        let outcome = of_system(System::Linux, "storvsc,ide-dma,netvsc,tulip", &job(0, text));
        assert_eq!(outcome.figures.len(), 1);
        assert_eq!(outcome.figures[0].exits, 2.0);
        assert_eq!(outcome.skips[0], Skip::new(System::Linux, "tulip", "no driver"));
        assert_eq!(outcome.skips[1].what, "guest instructions");
        assert_eq!(
            outcome.failures,
            ["linux: not done: netvsc send 0 60: no room", "linux: ide-dma did nothing"]
        );
    }

    #[test]
    fn a_system_that_can_not_run_at_all_is_skipped_and_one_that_fails_is_not() {
        let outcome = of_system(System::QemuLinux, "virtio-blk", &job(0, "SKIP all: no debugfs\n"));
        assert_eq!((outcome.skips.len(), outcome.failures.len()), (1, 0));
        let outcome = of_system(System::LinuxPio, "ide-pio", &job(1, ""));
        assert!(outcome.failures[0].starts_with("linux-pio: it ended with code 1"));
    }
}
