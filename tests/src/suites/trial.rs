//! A trial: one guest on one monitor, asked for some of its tests.

use crate::events::Verdict;
use crate::guest_tests::{Ending, judge};
use crate::lab::{Exit, Job, JobResult};
use crate::outcome::Case;
use crate::vmm::{Guest, Paths, Vmm};

/// Name of a guest's host report in the batch's directory.
pub const REPORT: &str = "report.json";

/// One start of a virtual machine.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The suite that its cases belong to.
    pub suite: String,
    /// What runs the guest.
    pub vmm: Vmm,
    /// The guest.
    pub guest: Guest,
    /// The tests that it must give a result for.
    pub asked: Vec<String>,
    /// Time limit in seconds of the machine that the monitor runs on.
    pub timeout_seconds: u32,
}

impl Trial {
    /// The trial as a job of a batch.
    pub fn job(&self, paths: &Paths) -> Job {
        let name = match &self.asked[..] {
            [one] => format!("{}: {one}", self.suite),
            _ => self.suite.clone(),
        };
        Job::new(name, self.vmm.argv(paths, &self.guest)).timeout(self.timeout_seconds)
    }

    /// A case for every test asked for.
    ///
    /// With several tests one more says whether the guest ended as its results say; with one, that test
    /// fails if it did not.
    pub fn cases(&self, result: &JobResult) -> Vec<Case> {
        let mut cases = judge(&self.asked, &result.stdout_text(), &self.ending(result));
        if let [only, end] = &mut cases[..] {
            if end.verdict == Verdict::Fail && only.verdict != Verdict::Fail {
                *only = Case::fail(&only.name, format!("passed, but {}", end.reason));
            }
            cases.truncate(1);
        }
        for case in &mut cases {
            case.time = Some(result.duration / u32::try_from(self.asked.len()).unwrap_or(1).max(1));
        }
        cases
    }

    /// How the machine ended, and the monitor's last word if that was not the guest's own end.
    pub fn ending(&self, result: &JobResult) -> Ending {
        let mut ending = match &result.exit {
            Exit::Exited(code) => self.vmm.ending(*code),
            other => Ending { code: None, text: exit_text(other) },
        };
        if ending.code.is_none() {
            // What the monitor itself said last is most often the reason.
            let stderr = result.stderr_text();
            if let Some(line) = stderr.lines().rev().find(|line| !line.trim().is_empty()) {
                ending.text = format!("{} ({})", ending.text, line.trim());
            }
        }
        ending
    }
}

/// How a job ended, in words.
pub fn exit_text(exit: &Exit) -> String {
    match exit {
        Exit::Exited(code) => format!("ended with code {code}"),
        Exit::Signaled(signal) => format!("ended by signal {signal}"),
        Exit::TimedOut => "did not end within its time limit".into(),
        Exit::NotStarted(why) => format!("could not be started: {why}"),
        Exit::LabLost(why) => format!("the lab was lost: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn trial(asked: &[&str]) -> Trial {
        Trial {
            suite: "suite".into(),
            vmm: Vmm::OurHost { options: vec![] },
            guest: Guest {
                kernel: "k".into(),
                initrd: None,
                cmdline: String::new(),
                vps: 1,
                memory_mib: 16,
            },
            asked: asked.iter().map(ToString::to_string).collect(),
            timeout_seconds: 5,
        }
    }

    fn result(exit: Exit, stdout: &str, stderr: &str) -> JobResult {
        let duration = Duration::from_secs(2);
        JobResult { exit, stderr: stderr.into(), duration, ..JobResult::of_test(0, stdout) }
    }

    const PASS_A: &str = "@enl {\"event\":\"test\",\"name\":\"a\",\"result\":\"pass\"}\n";

    #[test]
    fn a_single_test_that_passed_in_a_machine_that_died_has_failed() {
        let cases =
            trial(&["a"]).cases(&result(Exit::Exited(125), PASS_A, "error: triple fault\n"));
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].verdict, Verdict::Fail);
        assert!(cases[0].reason.contains("triple fault"), "{}", cases[0].reason);
    }

    #[test]
    fn a_lost_lab_fails_every_test_that_has_no_result() {
        let cases = trial(&["a", "b"]).cases(&result(Exit::LabLost("no beat".into()), PASS_A, ""));
        let verdicts: Vec<_> = cases.iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Fail]);
        assert!(cases[1].reason.contains("no beat"), "{}", cases[1].reason);
    }

    #[test]
    fn a_good_end_passes() {
        let cases = trial(&["a"]).cases(&result(Exit::Exited(0), PASS_A, ""));
        assert_eq!(cases[0].verdict, Verdict::Pass);
    }
}
