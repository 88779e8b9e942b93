//! Stock Debian Linux on our host: a Hyper-V guest that we did not write.

use anyhow::Result;
use hypervisor_host::outcome::Reason;
use hypervisor_host::report::Report;

use super::host::report;
use super::kvm::{Check, paths};
use crate::lab::{Batch, Executor, Job, JobResult, Parts, Step, linux_guest};
use crate::outcome::{Case, Results, Suite};
use crate::suites::trial::{REPORT, exit_text};
use crate::vmm::{Guest, Vmm, counted_vps};

/// Name of the suite.
pub const SUITE: &str = "stock Linux on our host";
/// What Linux prints when it has found the interface (Linux, `arch/x86/kernel/cpu/mshyperv.c`).
const DETECTED: &str = "Hypervisor detected: Microsoft Hyper-V";
/// Ends the shell's answer; no command line echoes it in this form.
const ANSWERED: &str = "answer-ends-here";

/// Boots Linux to its shell with 1 and 4 virtual processors, asks it what it found, switches it off.
pub fn checks(executor: &Executor, batch: &mut Batch, results: &mut Results) -> Result<Vec<Check>> {
    let parts = match (Parts::find(), executor) {
        (Ok(parts), _) => parts,
        (Err(error), Executor::Lab(_)) => return Err(error),
        (Err(error), Executor::Native(_)) => {
            let cases = vec![Case::skip("boots to a shell prompt", format!("{error:#}"))];
            results.add(Suite { name: SUITE.into(), cases });
            return Ok(Vec::new());
        }
    };
    let linux = linux_guest(&parts)?;
    batch.add_files(&linux.files);
    let check = |vps: u32| {
        let guest = Guest {
            kernel: linux.kernel.clone(),
            initrd: Some(linux.initrd.clone()),
            cmdline: linux.cmdline.clone(),
            vps,
            memory_mib: 256,
        };
        let options = vec!["--report".into(), REPORT.into()];
        let argv = Vmm::OurHost { options }.argv(&paths(), &guest);
        let name = format!("Linux {}, {}", linux.release, counted_vps(vps));
        let job = Job::new(name.as_str(), argv)
            .timeout(180)
            .collect(REPORT)
            .step(Step::WaitFor(linux.prompt.clone()))
            .step(Step::Send("dmesg | grep -i hyper; echo answer-\"ends\"-here\n".into()))
            .step(Step::WaitFor(ANSWERED.into()))
            .step(Step::Send("poweroff -f\n".into()));
        Check { job, judge: Box::new(move |result| judge(&name, vps, result)) }
    };
    Ok([1, 4].map(check).into())
}

fn judge(name: &str, vps: u32, result: &JobResult) -> Vec<Case> {
    let console = result.stdout_text();
    let answered = console.contains(ANSWERED);
    let case = |what: &str, holds: bool, otherwise: String| {
        Case::check(format!("{name}: {what}"), (!holds).then_some(otherwise))
    };
    let tail = || {
        let lines: Vec<_> =
            console.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        format!(
            "{}; last lines: {lines:?}; {}",
            exit_text(&result.exit),
            result.stderr_text().trim()
        )
    };
    let found = format!("cpus={vps}");
    let cpus = console.lines().any(|line| line.trim_end().ends_with(&found));
    vec![
        case("boots to a shell prompt", answered, tail()),
        case("detects Microsoft Hyper-V", console.contains(DETECTED), tail()),
        case("finds every virtual processor", answered && cpus, tail()),
        case("switches off", answered && switched_off(result), tail()),
    ]
}

/// A kernel that panics resets its machine, which ends with code 0 too; only the report tells them apart.
fn switched_off(result: &JobResult) -> bool {
    let switched = |report: Report| report.exit.reason == Reason::PowerOff;
    result.exit.code() == Some(0) && report(result).is_ok_and(switched)
}
