//! The kernel on QEMU's software processor: machines that we did not write, without Hyper-V.

use anyhow::Result;

use super::trial::Trial;
use super::{add_trial_results, all_tests, foreign, ide, tulip};
use crate::artifacts::Artifacts;
use crate::lab::Batch;
use crate::lab::executor::Native;
use crate::outcome::{Results, Suite};
use crate::progress::Printer;
use crate::vmm::{Guest, Paths, Vmm, counted_vps};

/// Name of the kernel among a batch's files.
pub const KERNEL: &str = "kernel";
/// Each machine, with a processor without x2APIC and one with it, and with few and many processors.
const MACHINES: &[(&str, &str, u32, u32)] = &[
    ("pc", "qemu64", 1, 16),
    ("pc", "qemu64", 4, 64),
    ("q35", "max", 2, 64),
    ("q35", "max", 3, 64),
    ("q35", "max", 64, 128),
    ("microvm,isa-serial=on,acpi=on", "max", 4, 64),
];

/// Runs all guest tests on each machine.
pub fn run(artifacts: &Artifacts, tests: &[String], results: &mut Results) -> Result<()> {
    let paths = Paths { host: String::new(), qemu: vec!["qemu-system-x86_64".into()] };
    let trials: Vec<_> = MACHINES.iter().map(|machine| trial(machine, tests)).collect();
    let mut batch = Batch::new(1);
    batch.file(&artifacts.kernel, KERNEL);
    for trial in &trials {
        batch.job(trial.job(&paths));
    }
    let foreign = foreign::on_tcg(artifacts, &mut batch, &paths.qemu)?;
    let ide = ide::on_tcg(artifacts, &mut batch, &paths, KERNEL)?;
    for check in foreign.iter().chain(&ide) {
        batch.job(check.job.clone());
    }
    let card = tulip::on_tcg(&paths);
    batch.job(card.job.clone());

    let mut printer = Printer::new(batch.jobs.len(), false);
    let done = Native::default().run_batch(&batch, &mut |news| match news {
        // It runs natively, but not on KVM.
        crate::lab::Progress::Place(_) => println!("on this machine, QEMU TCG:"),
        news => printer.show(news),
    })?;
    add_trial_results(results, &trials, &done.jobs);
    let mut jobs = done.jobs.iter().skip(trials.len());
    let cases =
        foreign.iter().zip(jobs.by_ref()).flat_map(|(check, job)| (check.judge)(job)).collect();
    results.add(Suite { name: "a foreign test kernel on QEMU TCG".into(), cases });
    let cases = ide.iter().zip(jobs.by_ref()).flat_map(|(check, job)| (check.judge)(job)).collect();
    results.add(Suite { name: "our driver on QEMU's IDE controllers".into(), cases });
    let cases = jobs.next().map(|job| (card.judge)(job)).unwrap_or_default();
    results.add(Suite { name: "our driver on QEMU's DEC 21143".into(), cases });
    Ok(())
}

fn trial(
    &(machine, cpu, vps, memory_mib): &(&'static str, &'static str, u32, u32),
    tests: &[String],
) -> Trial {
    let vmm = Vmm::Qemu { machine, cpu, accel: "tcg" };
    Trial {
        suite: format!("{vmm}, {cpu}, {}, {memory_mib} MiB", counted_vps(vps)),
        vmm,
        guest: Guest { kernel: KERNEL.into(), initrd: None, cmdline: all_tests(), vps, memory_mib },
        asked: tests.to_vec(),
        timeout_seconds: 120,
    }
}
