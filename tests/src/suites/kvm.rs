//! Guests on KVM, natively or in the lab: our kernel on our host and on QEMU, stock Linux on our host.
//!
//! All of it is one batch for a lab with one processor: virtual processors may still be many, and
//! the lab is most reliable so (`docs/lab.md`).

use anyhow::Result;

use super::trial::Trial;
use super::{
    add_trial_results, all_tests, emulated, foreign, host, host_tests, ide, linux, synthetic, tulip,
};
use crate::artifacts::Artifacts;
use crate::bench::check;
use crate::compare;
use crate::demo;
use crate::lab::{Batch, BatchResult, Executor, Job, JobResult, foreign_qemu};
use crate::outcome::{Case, Results, Suite};
use crate::progress::Printer;
use crate::soak;
use crate::vmm::{Guest, Paths, QEMU_HYPERV_CPU, Vmm, counted_vps};

/// Name of the kernel among a batch's files.
pub const KERNEL: &str = "kernel";
/// Name of our host among a batch's files.
pub const HOST: &str = "hypervisor-host";

/// Turns a job's result into cases.
pub type Judge = Box<dyn Fn(&JobResult) -> Vec<Case>>;

/// One job that is not a [`Trial`], with what judges it.
pub struct Check {
    /// The job.
    pub job: Job,
    /// What judges it.
    pub judge: Judge,
}

/// Runs everything, or the suites whose names have `wanted` in them.
pub fn run(
    artifacts: &Artifacts,
    executor: &Executor,
    tests: &[String],
    wanted: &str,
    results: &mut Results,
) -> Result<()> {
    let mut batch = batch(artifacts, 1);
    let qemu = foreign_qemu()?;
    batch.add_files(&qemu.files);
    let paths = Paths { qemu: qemu.argv, ..paths() };
    let foreign = foreign::on_kvm(artifacts, &mut batch, &paths.qemu)?;

    let mut trials = trials(tests);
    trials.retain(|trial| trial.suite.contains(wanted));
    for trial in &trials {
        batch.job(trial.job(&paths));
    }
    let mut suites =
        vec![("our host, its limits and its endings", host::checks(artifacts, &mut batch)?)];
    suites.push(("our host, small guests on KVM", vec![host_tests::check(artifacts, &mut batch)?]));
    suites.push(("a foreign test kernel on KVM", foreign));
    suites.push((linux::SUITE, linux::checks(executor, &mut batch, results)?));
    let devices = synthetic::checks(artifacts, executor, &mut batch, results)?;
    suites.push((synthetic::SUITE, devices));
    let devices = emulated::checks(artifacts, executor, &mut batch, results)?;
    suites.push((emulated::SUITE, devices));
    let drivers = vec![
        ide::on_our_host(artifacts, &mut batch, HOST, KERNEL)?,
        tulip::on_our_host(artifacts, &mut batch),
    ];
    suites.push(("our drivers of emulated devices on our host", drivers));
    suites.push((check::SUITE, vec![check::check(artifacts, &mut batch)]));
    let compared = vec![compare::check::check(artifacts, &mut batch)];
    suites.push((compare::check::SUITE, compared));
    suites.push((soak::SUITE, vec![soak::check()]));
    suites.push((demo::SUITE, demo::checks(artifacts, executor, &mut batch, results)?));
    suites.retain(|(name, _)| name.contains(wanted));
    for check in suites.iter().flat_map(|(_, checks)| checks) {
        batch.job(check.job.clone());
    }

    let mut printer = Printer::new(batch.jobs.len(), false);
    let done = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    note_restarts(results, &done);
    add_trial_results(results, &trials, &done.jobs);
    let mut rest = done.jobs.iter().skip(trials.len());
    for (name, checks) in suites.iter().filter(|(_, checks)| !checks.is_empty()) {
        let judged = checks.iter().zip(&mut rest).flat_map(|(check, job)| (check.judge)(job));
        results.add(Suite { name: (*name).into(), cases: judged.collect() });
    }
    Ok(())
}

/// Keeps in `results` that a lab was lost or stalled while `done` ran.
pub fn note_restarts(results: &mut Results, done: &BatchResult) {
    for restart in &done.restarts {
        let job = restart.job.as_deref().unwrap_or("its start");
        let log = restart.console_log.display();
        results.note(format!("the lab was lost during {job}: {}; its log: {log}", restart.reason));
    }
    for warning in &done.warnings {
        results.note(format!("the lab stalled and went on: {warning}"));
    }
}

fn trials(tests: &[String]) -> Vec<Trial> {
    let our_host = |options: &[&str]| Vmm::OurHost {
        options: options.iter().map(ToString::to_string).collect(),
    };
    let qemu = Vmm::Qemu { machine: "pc", cpu: QEMU_HYPERV_CPU, accel: "kvm" };
    let mut trials: Vec<_> = tests.iter().map(|test| single(our_host(&[]), test)).collect();
    for (vmm, vps, memory_mib) in [
        (our_host(&[]), 1, 16),
        (our_host(&[]), 2, 64),
        (our_host(&[]), 3, 64),
        (our_host(&[]), 8, 64),
        (our_host(&[]), 64, 128),
        (our_host(&["--boot", "linux64"]), 2, 64),
        (our_host(&["--hyperv", "off"]), 2, 64),
        (qemu.clone(), 1, 64),
        (qemu, 4, 64),
    ] {
        trials.push(whole(vmm, vps, memory_mib, tests));
    }
    trials
}

fn single(vmm: Vmm, test: &str) -> Trial {
    Trial {
        suite: format!("{vmm}, 4 VPs, a machine for each test"),
        vmm,
        guest: guest(format!("events log=warn test={test}"), 4, 64),
        asked: vec![test.into()],
        timeout_seconds: 60,
    }
}

fn whole(vmm: Vmm, vps: u32, memory_mib: u32, tests: &[String]) -> Trial {
    Trial {
        suite: format!("{vmm}, {}, {memory_mib} MiB", counted_vps(vps)),
        vmm,
        guest: guest(all_tests(), vps, memory_mib),
        asked: tests.to_vec(),
        timeout_seconds: 180,
    }
}

/// A batch without jobs that has our host and our kernel.
pub fn batch(artifacts: &Artifacts, cpus: u32) -> Batch {
    let mut batch = Batch::new(cpus);
    batch.file(&artifacts.host, HOST).file(&artifacts.kernel, KERNEL);
    batch
}

/// Where our host lies in such a batch.
pub fn paths() -> Paths {
    Paths { host: format!("./{HOST}"), qemu: Vec::new() }
}

/// Our kernel.
pub fn guest(cmdline: String, vps: u32, memory_mib: u32) -> Guest {
    Guest { kernel: KERNEL.into(), initrd: None, cmdline, vps, memory_mib }
}
