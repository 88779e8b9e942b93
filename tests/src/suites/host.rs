//! Our host's budgets, and how it ends when things go wrong.

use anyhow::{Context, Result, bail};
use hypervisor_host::report::Report;

use super::images;
use super::kvm::{Check, guest, paths};
use super::trial::{REPORT, exit_text};
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job, JobResult};
use crate::outcome::Case;
use crate::vmm::Vmm;

/// Most exits from the first instruction to the first test with one virtual processor.
pub const MAX_BOOT_EXITS: u64 = 200;
/// Most memory that the host needs beyond the guest's RAM.
pub const MAX_OVERHEAD_BYTES: u64 = 12 << 20;

/// A test that costs next to nothing, for runs that are about something else.
pub const SMALL_TEST: &str = "events log=warn test=boot::memory_map_is_sane";
/// A workload that ends no earlier than its time limit.
const ENDLESS: &str = "study=spin study-vps=1 acquisitions=1000000000";

/// All checks; adds the files that they need to `batch`.
pub fn checks(artifacts: &Artifacts, batch: &mut Batch) -> Result<Vec<Check>> {
    let triple_fault = artifacts.root.join("target/lab/guests/triple-fault.elf");
    crate::outcome::write_file(&triple_fault, &images::pvh(images::TRIPLE_FAULT))?;
    batch.file(triple_fault, "triple-fault");
    let argv = |cmdline: &str, vps: u32, options: &[&str]| {
        let options = options.iter().map(ToString::to_string).collect();
        Vmm::OurHost { options }.argv(&paths(), &guest(cmdline.into(), vps, 64))
    };
    let mut faulty = guest(String::new(), 1, 16);
    faulty.kernel = "triple-fault".into();
    let faulty =
        Vmm::OurHost { options: vec!["--report".into(), REPORT.into()] }.argv(&paths(), &faulty);
    let interrupted = |signal: &str| {
        let mut words = vec!["busybox".to_string(), "timeout".into(), "-s".into(), signal.into()];
        words.push("4".into());
        words.extend(argv(ENDLESS, 2, &["--report", REPORT]));
        words
    };
    Ok(vec![
        check("budgets, 1 VP", argv(SMALL_TEST, 1, &["--report", REPORT]), budgets),
        check("budgets, 4 VPs", argv(SMALL_TEST, 4, &["--report", REPORT]), memory_budget),
        check(
            "a time limit ends with 124",
            argv(ENDLESS, 2, &["--timeout", "3", "--report", REPORT]),
            |r| ends("a time limit ends with 124", r, 124),
        ),
        check("Ctrl-C ends with 130", interrupted("INT"), |r| ends("Ctrl-C ends with 130", r, 130)),
        check("SIGTERM ends with 130", interrupted("TERM"), |r| {
            ends("SIGTERM ends with 130", r, 130)
        }),
        check("a triple fault prints the registers", faulty, triple_fault_prints_registers),
        check(
            "an unknown word on the command line",
            argv("bogus=1", 1, &["--report", REPORT]),
            |r| ends("an unknown word on the kernel's command line ends with 2", r, 2),
        ),
        check(
            "a panic is told by the crash registers",
            argv("panic", 2, &["--report", REPORT]),
            panic_is_told,
        ),
        check("an unknown test", argv("test=no::such_test", 1, &["--report", REPORT]), |r| {
            ends("an unknown test ends with 2", r, 2)
        }),
    ])
}

fn check(
    name: &str,
    argv: Vec<String>,
    judge: impl Fn(&JobResult) -> Vec<Case> + 'static,
) -> Check {
    Check { job: Job::new(name, argv).timeout(60).collect(REPORT), judge: Box::new(judge) }
}

/// The host's report among a job's files.
pub fn report(result: &JobResult) -> Result<Report> {
    let bytes = result.files.get(REPORT).with_context(|| {
        format!("no report ({}; {})", exit_text(&result.exit), result.stderr_text().trim())
    })?;
    serde_json::from_slice(bytes).context("the report is malformed")
}

/// The report of a guest that ended well.
fn good_report(result: &JobResult) -> Result<Report> {
    if result.exit.code() != Some(0) {
        bail!("{}; {}", exit_text(&result.exit), result.stderr_text().trim());
    }
    report(result)
}

/// Exits until the guest said that it is up.
pub fn boot_exits(report: &Report) -> Result<u64> {
    let booted = hv_abi::host::Mark::BOOTED.0;
    let mark = report.marks.iter().find(|mark| mark.mark == booted);
    let mark = mark.context("the guest never set the mark BOOTED")?;
    // The kernel counts every exit, also those that it serves itself.
    mark.kvm_exits.context("this KVM does not count exits")
}

fn budgets(result: &JobResult) -> Vec<Case> {
    let name = format!("at most {MAX_BOOT_EXITS} exits until the first test, 1 VP");
    let exits = good_report(result).and_then(|report| boot_exits(&report));
    let boot = match exits {
        Ok(exits) if exits <= MAX_BOOT_EXITS => Case::pass(name),
        Ok(exits) => Case::fail(name, format!("{exits} exits")),
        Err(error) => Case::fail(name, format!("{error:#}")),
    };
    let mut cases = memory_budget(result);
    cases.push(boot);
    cases
}

fn memory_budget(result: &JobResult) -> Vec<Case> {
    let name =
        format!("{}: at most {} MiB beyond the guest's RAM", result.name, MAX_OVERHEAD_BYTES >> 20);
    vec![match good_report(result).map(|report| report.memory.overhead_bytes) {
        Ok(bytes) if bytes <= MAX_OVERHEAD_BYTES => Case::pass(name),
        Ok(bytes) => Case::fail(name, format!("{bytes} bytes")),
        Err(error) => Case::fail(name, format!("{error:#}")),
    }]
}

/// The host ended with `code`, wrote its report, and no panic is to be seen.
fn ends(name: &str, result: &JobResult, code: i32) -> Vec<Case> {
    let stderr = result.stderr_text();
    let wrong = if result.exit.code() != Some(code) {
        Some(format!("{}; {}", exit_text(&result.exit), stderr.trim()))
    } else if stderr.contains("panicked") {
        Some(format!("the host panicked: {}", stderr.trim()))
    } else {
        report(result).err().map(|error| format!("{error:#}"))
    };
    vec![Case::check(name, wrong)]
}

/// The guest ends with its own code, and the host prints and keeps what it told before.
fn panic_is_told(result: &JobResult) -> Vec<Case> {
    const MESSAGE: &str = "as asked for on the command line, with 2 VPs";
    let mut cases = ends("a panic ends with 3", result, 3);
    let told = report(result).map(|report| {
        let [crash] = &report.crashes[..] else {
            return Some(format!("{} crashes in the report", report.crashes.len()));
        };
        let right = crash.parameters[0] == 3 && crash.message.as_deref() == Some(MESSAGE);
        (!right).then(|| format!("{crash:?}"))
    });
    let wrong = told.unwrap_or_else(|error| Some(format!("{error:#}")));
    cases.push(Case::check("a panic's message is in the host's report", wrong));
    let printed = result.stderr_text().contains(MESSAGE);
    let wrong = (!printed).then(|| format!("not in: {}", result.stderr_text().trim()));
    cases.push(Case::check("a panic's message is printed by the host", wrong));
    cases
}

fn triple_fault_prints_registers(result: &JobResult) -> Vec<Case> {
    let mut cases = ends("a triple fault ends with 125", result, 125);
    let name = "a triple fault prints the registers";
    let stderr = result.stderr_text();
    let lower = stderr.to_lowercase();
    cases.push(if ["rip", "rsp", "cr3"].iter().all(|register| lower.contains(register)) {
        Case::pass(name)
    } else if let Some(why) = stderr.lines().find(|line| line.contains("does not keep")) {
        // AMD-V: KVM resets the VP before user space sees it (Linux, arch/x86/kvm/svm/svm.c).
        Case::skip(name, why.trim())
    } else {
        Case::fail(name, format!("no registers in: {}", stderr.trim()))
    });
    cases
}
