//! Stock Linux with devices to try: what its suites ([`synthetic`](super::synthetic), [`emulated`](super::emulated)) share.
//!
//! `lab.sh` runs beside a machine, wherever KVM is, and `cases.sh` inside; each suite has two scripts more that begin with them. All print
//! a line for each case. A guest that stops on the way has failed, whatever cases came before.

use anyhow::Result;

use super::kvm::HOST;
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Executor, JobResult, Parts};
use crate::outcome::{Case, Results, Suite};
use crate::suites::trial::exit_text;

/// What the scripts inside a guest begin with: `cases.sh` there.
pub const GUEST_SCRIPT: &str = include_str!("linux_devices/cases.sh");
/// What those beside it begin with, from the repository, and its name in a batch.
const LAB_SCRIPT: &str = "tests/src/suites/linux_devices/lab.sh";
const LAB_NAME: &str = "linux-lab.sh";
const PROBE: &str = "guest-probe";

/// The lab's parts; without them where they are not needed otherwise, `suite` is skipped.
///
/// # Errors
///
/// The lab's parts are missing though it is needed.
pub fn parts(suite: &str, executor: &Executor, results: &mut Results) -> Result<Option<Parts>> {
    match (Parts::find(), executor) {
        (Ok(parts), _) => Ok(Some(parts)),
        (Err(error), Executor::Lab(_)) => Err(error),
        (Err(error), Executor::Native(_)) => {
            let cases = vec![Case::skip("Linux boots", format!("{error:#}"))];
            results.add(Suite { name: suite.into(), cases });
            Ok(None)
        }
    }
}

/// Adds what all scripts need.
pub fn add_files(artifacts: &Artifacts, batch: &mut Batch) {
    debug_assert_eq!(HOST, "hypervisor-host", "the scripts' name for it");
    batch
        .shared_file(artifacts.root.join(LAB_SCRIPT), LAB_NAME)
        .shared_file(&artifacts.probe, PROBE);
}

/// The last thing that a machine says which went all the way.
const LAST: &str = "Linux switches off when asked";

/// A job's cases: those that its lines tell of, and whether it went all the way.
pub fn judge(name: &str, result: &JobResult) -> Vec<Case> {
    let (text, machine) = (result.stdout_text(), format!("{name}: "));
    let mut cases: Vec<Case> = text.lines().filter_map(|line| case(&machine, line)).collect();
    if !text.contains(&format!("CASE {LAST}")) {
        let lines: Vec<_> =
            text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        let reason = format!(
            "it stopped on the way: {}; last lines: {lines:?}; {}",
            exit_text(&result.exit),
            result.stderr_text().trim()
        );
        cases.push(Case::fail(format!("{name}: goes all the way"), reason));
    }
    cases
}

/// The case that a line tells of: `CASE name ok`, `CASE name FAIL reason`, `CASE name SKIP reason`.
/// Its name gets `prefix`.
pub fn case(prefix: &str, line: &str) -> Option<Case> {
    let rest = line.trim_end().strip_prefix("CASE ")?;
    let name = |name: &str| format!("{prefix}{name}");
    if let Some(passed) = rest.strip_suffix(" ok") {
        return Some(Case::pass(name(passed)));
    }
    if let Some((failed, reason)) = rest.split_once(" FAIL ") {
        return Some(Case::fail(name(failed), reason));
    }
    let (skipped, reason) = rest.split_once(" SKIP ")?;
    Some(Case::skip(name(skipped), reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Verdict;

    fn verdicts(stdout: &str) -> Vec<Verdict> {
        judge("x", &JobResult::of_test(0, stdout)).iter().map(|case| case.verdict).collect()
    }

    #[test]
    fn a_machine_that_stops_on_the_way_has_failed() {
        let text = "CASE a ok\r\nnoise\nCASE b FAIL because\n";
        assert_eq!(verdicts(text), [Verdict::Pass, Verdict::Fail, Verdict::Fail]);
        assert_eq!(verdicts(""), [Verdict::Fail]);
    }

    #[test]
    fn a_machine_that_goes_all_the_way_says_so_last() {
        let text = format!("CASE a SKIP no card\nCASE {LAST} ok\n");
        assert_eq!(verdicts(&text), [Verdict::Skip, Verdict::Pass]);
    }
}
