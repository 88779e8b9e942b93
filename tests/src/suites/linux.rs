//! Stock Debian Linux on our host: a Hyper-V guest that we did not write.

use anyhow::Result;
use hypervisor_host::outcome::Reason;
use hypervisor_host::report::Report;

use super::host::report;
use super::kvm::{Check, paths};
use crate::lab::{Batch, Executor, Job, JobResult, LinuxKind, Parts, Step, linux_guest};
use crate::outcome::{Case, Results, Suite};
use crate::suites::trial::{REPORT, exit_text};
use crate::vmm::{Guest, Vmm, counted_vps};

/// Name of the suite.
pub const SUITE: &str = "stock Linux on our host";
/// What Linux prints when it has found the interface (Linux, `arch/x86/kernel/cpu/mshyperv.c`).
const DETECTED: &str = "Hypervisor detected: Microsoft Hyper-V";
/// Asks for it, and ends the shell's answer; no command line echoes its end in this form.
const QUESTION: &str = "dmesg | grep -i hyper; cat /sys/devices/system/clocksource/*/current_clocksource; \
    echo answer-\"ends\"-here\n";
/// The end of the answer.
const ANSWERED: &str = "answer-ends-here";

/// Something that Linux says it makes use of.
struct Uses {
    what: &'static str,
    says: &'static str,
}

/// With sources in Linux 6.1: `arch/x86/hyperv/{mmu,hv_apic,hv_spinlock}.c`, `drivers/clocksource/hyperv_timer.c`.
const ENLIGHTENMENTS: [Uses; 4] = [
    Uses {
        what: "flushes translations by hypercall",
        says: "Hyper-V: Using hypercall for remote TLB flush",
    },
    Uses { what: "sends IPIs by hypercall", says: "Hyper-V: Using IPI hypercalls" },
    Uses { what: "waits for locks in the guest idle state", says: "Hyper-V: PV spinlocks enabled" },
    Uses { what: "reads the time from the TSC page", says: "\nhyperv_clocksource_tsc_page" },
];
/// What it says without cluster IPIs, on which the wait for locks depends too.
const WITHOUT_IPIS: [Uses; 2] = [
    Uses {
        what: "flushes translations by hypercall",
        says: "Hyper-V: Using hypercall for remote TLB flush",
    },
    Uses { what: "spins for locks", says: "Hyper-V: PV spinlocks disabled" },
];

/// Boots Linux to its shell with 1 and 4 virtual processors, asks it what it found, switches it off; once more
/// without cluster IPIs.
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
    let linux = linux_guest(&parts, LinuxKind::Plain)?;
    batch.add_files(&[linux.kernel_file, linux.initrd_file]);
    let check = |vps: u32, off: &str, says: &'static [Uses], silent: &'static [Uses]| {
        let guest = Guest {
            kernel: linux.kernel.clone(),
            initrd: Some(linux.initrd.clone()),
            cmdline: linux.cmdline.clone(),
            vps,
            memory_mib: 256,
        };
        let mut options = vec!["--report".into(), REPORT.into()];
        let mut name = format!("Linux {}, {}", linux.release, counted_vps(vps));
        if !off.is_empty() {
            options.extend(["--hv-disable".into(), off.into()]);
            name.push_str(&format!(", without {off}"));
        }
        let argv = Vmm::OurHost { options }.argv(&paths(), &guest);
        let job = Job::new(name.as_str(), argv)
            .timeout(180)
            .collect(REPORT)
            .step(Step::WaitFor(linux.prompt.clone()))
            .step(Step::Send(QUESTION.into()))
            .step(Step::WaitFor(ANSWERED.into()))
            .step(Step::Send("poweroff -f\n".into()));
        let judge = move |result: &JobResult| {
            let mut cases = judge(&name, vps, result);
            cases.extend(makes_use_of(&name, result, says, silent));
            cases
        };
        Check { job, judge: Box::new(judge) }
    };
    Ok(vec![
        check(1, "", &ENLIGHTENMENTS, &[]),
        check(4, "", &ENLIGHTENMENTS, &[]),
        check(4, "cluster-ipi", &WITHOUT_IPIS, &ENLIGHTENMENTS[1..3]),
    ])
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

/// Linux says so, or must not.
fn makes_use_of(name: &str, result: &JobResult, says: &[Uses], silent: &[Uses]) -> Vec<Case> {
    let console = result.stdout_text();
    let answered = console.contains(ANSWERED);
    let found = says.iter().map(|uses| {
        let holds = answered && console.contains(uses.says);
        let otherwise = || format!("it never says {:?}", uses.says.trim());
        Case::check(format!("{name}: {}", uses.what), (!holds).then(otherwise))
    });
    let missing = silent.iter().map(|uses| {
        let holds = answered && !console.contains(uses.says);
        let otherwise = || format!("it says {:?}", uses.says.trim());
        Case::check(format!("{name}: not: {}", uses.what), (!holds).then(otherwise))
    });
    found.chain(missing).collect()
}

/// A kernel that panics resets its machine, which ends with code 0 too; only the report tells them apart.
fn switched_off(result: &JobResult) -> bool {
    let switched = |report: Report| report.exit.reason == Reason::PowerOff;
    result.exit.code() == Some(0) && report(result).is_ok_and(switched)
}
