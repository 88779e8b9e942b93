//! Stock Linux's drivers of synthetic devices on our host: VMBus, disks, network, integration components.
//!
//! One machine for each combination. `lab.sh` runs beside it, wherever KVM is, and `guest.sh` inside; both print a line for
//! each case. A guest that stops on the way has all cases that were expected of it and did not come counted as failed.

use anyhow::Result;

use super::kvm::{Check, HOST};
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Executor, Job, JobResult, LinuxKind, Parts, linux_guest};
use crate::outcome::{Case, Results, Suite};
use crate::suites::trial::{REPORT, exit_text};
use crate::vmm::counted_vps;

/// Name of the suite.
pub const SUITE: &str = "stock Linux's drivers of synthetic devices on our host";
/// The script that runs inside the guest.
pub const GUEST_SCRIPT: &str = include_str!("synthetic/guest.sh");
/// The script beside it, from the repository.
const LAB_SCRIPT: &str = "tests/src/suites/synthetic/lab.sh";

/// A machine: processors, version of VMBus, more options.
struct Machine {
    vps: u32,
    version: &'static str,
    more: &'static [&'static str],
}

/// One with everything at the newest version that Linux 6.1 knows; and, as old as it still speaks, one with sub-channels.
/// The last can leave the bus: with synthetic timers Linux can't (docs/conformance.md).
const MACHINES: [Machine; 3] = [
    Machine { vps: 1, version: "5.3", more: &[] },
    Machine { vps: 4, version: "5.3", more: &[] },
    Machine { vps: 2, version: "3.0", more: &["--hv-disable", "synthetic-timers"] },
];

/// The jobs, each with what judges it.
///
/// # Errors
///
/// The lab's parts are missing though it is needed.
pub fn checks(
    artifacts: &Artifacts,
    executor: &Executor,
    batch: &mut Batch,
    results: &mut Results,
) -> Result<Vec<Check>> {
    let parts = match (Parts::find(), executor) {
        (Ok(parts), _) => parts,
        (Err(error), Executor::Lab(_)) => return Err(error),
        (Err(error), Executor::Native(_)) => {
            let cases = vec![Case::skip("Linux boots", format!("{error:#}"))];
            results.add(Suite { name: SUITE.into(), cases });
            return Ok(Vec::new());
        }
    };
    let linux = linux_guest(&parts, LinuxKind::Synthetic)?;
    // The kernel is in the batch already, for the guests without devices.
    batch.add_files(&[linux.initrd_file]);
    batch.file(artifacts.root.join(LAB_SCRIPT), "lab.sh");
    batch.shared_file(&artifacts.probe, "guest-probe");
    let check = |machine: &Machine| {
        let Machine { vps, version, more } = machine;
        let name = format!("Linux {}, {}, VMBus {version}", linux.release, counted_vps(*vps));
        let vps = vps.to_string();
        let argv = ["sh", "./lab.sh", &vps, version, "256"].into_iter();
        let job =
            Job::new(name.as_str(), argv.chain(more.iter().copied())).timeout(400).collect(REPORT);
        Check { job, judge: Box::new(move |result| judge(&name, result)) }
    };
    debug_assert_eq!(HOST, "hypervisor-host", "the script's name for it");
    Ok(MACHINES.iter().map(check).collect())
}

/// The last thing that a machine says which went all the way.
const LAST: &str = "Linux switches off when asked";

fn judge(name: &str, result: &JobResult) -> Vec<Case> {
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
