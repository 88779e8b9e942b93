//! `make compare`: the same disk and network work by every way to a device, and what each operation costs in visits to the hypervisor.
//!
//! The ways are emulated devices (IDE by port I/O and by DMA, DEC 21140A), synthetic ones (`storvsc`, `netvsc`), and virtio of stock QEMU as the
//! modern reference; the guests are our kernel and stock Linux. Every guest goes all its ways in one start.
//!
//! - `lab.sh` runs beside a guest, wherever KVM is; `guest.sh` inside Linux, the kernel's job `io-bench` inside ours
//! - `record`: from a guest's words and its host's counters to figures
//! - `table`, `page`: for people

mod page;
mod record;
mod table;

use anyhow::{Result, bail};

use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job, JobResult, LinuxKind, Parts, foreign_qemu, linux_guest};
use crate::outcome::{Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::kvm::{batch, note_restarts};
use crate::suites::trial::{REPORT, exit_text};
use record::Figure;

/// The script that runs inside Linux.
pub const GUEST_SCRIPT: &str = include_str!("guest.sh");
/// The script beside a guest, from the repository.
const LAB_SCRIPT: &str = "tests/src/compare/lab.sh";
/// Names of the reports.
const JSON: &str = "compare.json";
const HTML: &str = "compare.html";
/// Time for one guest, in seconds of the machine that it runs on.
const TIMEOUT_SECONDS: u32 = 590;

/// What `make compare` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Operations of each piece of work
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub operations: u32,
    /// Only these systems
    #[arg(long, value_delimiter = ',', default_value = "ours,linux,linux-pio,qemu-linux")]
    pub systems: Vec<System>,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// A guest on a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Our kernel on our host
    Ours,
    /// Stock Linux on our host
    Linux,
    /// The same, told not to use DMA for IDE
    LinuxPio,
    /// Stock Linux on stock QEMU
    QemuLinux,
}

impl System {
    /// As the script and the report call it.
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Linux => "linux",
            Self::LinuxPio => "linux-pio",
            Self::QemuLinux => "qemu-linux",
        }
    }

    /// For people.
    fn title(self) -> &'static str {
        match self {
            Self::Ours => "our kernel",
            Self::Linux | Self::LinuxPio => "Linux",
            Self::QemuLinux => "Linux on QEMU",
        }
    }

    /// The ways that it goes.
    fn paths(self) -> &'static str {
        match self {
            Self::Ours => "storvsc,ide-dma,ide-pio,netvsc,tulip",
            Self::Linux => "storvsc,ide-dma,netvsc,tulip",
            Self::LinuxPio => "ide-pio",
            Self::QemuLinux => "virtio-blk,virtio-net",
        }
    }
}

/// `target/report/compare.json`.
#[derive(Debug, serde::Serialize)]
struct Comparison {
    schema: u32,
    /// What it ran on, in one line.
    place: String,
    figures: Vec<Figure>,
    /// The aims, with what came of them.
    aims: Vec<record::Aim>,
    /// Work that could not be done, and whatever else a reader must know.
    notes: Vec<String>,
}

/// Measures, prints the table, writes the reports; whether every piece of work was done.
///
/// # Errors
///
/// The lab or its parts are missing, or a guest did no work at all.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    for name in [JSON, HTML] {
        let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(name));
    }
    let executor = choose_executor(&artifacts.host)?;
    let mut results = Results::default();
    let batch = jobs(artifacts, options)?;
    let mut printer = Printer::new(batch.jobs.len(), options.verbose);
    let done = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    note_restarts(&mut results, &done);
    let (mut figures, mut notes) = (Vec::new(), results.notes);
    let mut whole = true;
    for (system, job) in options.systems.iter().zip(&done.jobs) {
        match of_system(*system, job) {
            Ok((found, missing)) => {
                whole &= missing.is_empty();
                notes.extend(missing);
                figures.extend(found);
            }
            Err(error) => {
                whole = false;
                notes.push(format!("{}: {error:#}", system.name()));
            }
        }
    }
    if figures.is_empty() {
        bail!("no guest did any work: {}", notes.join("; "));
    }
    record::compare_speeds(&mut figures);
    let aims = record::aims(&figures);
    let comparison = Comparison { schema: 1, place: done.place, figures, aims, notes };
    print!("\n{}", table::table(&comparison));
    write_file(&artifacts.reports.join(JSON), &serde_json::to_vec_pretty(&comparison)?)?;
    write_file(&artifacts.reports.join(HTML), page::page(&comparison).as_bytes())?;
    println!("reports: {}, {HTML} beside it", artifacts.reports.join(JSON).display());
    Ok(whole)
}

fn jobs(artifacts: &Artifacts, options: &Options) -> Result<Batch> {
    let mut batch = batch(artifacts, 1);
    batch.file(artifacts.root.join(LAB_SCRIPT), "compare.sh");
    batch.file(&artifacts.probe, "guest-probe");
    if options.systems.iter().any(|system| *system != System::Ours) {
        let linux = linux_guest(&Parts::find()?, LinuxKind::Compare)?;
        batch.add_files(&[linux.kernel_file, linux.initrd_file]);
    }
    let is_wanted = options.systems.contains(&System::QemuLinux);
    let qemu = is_wanted.then(foreign_qemu).transpose()?;
    if let Some(qemu) = &qemu {
        batch.add_files(&qemu.files);
    }
    for system in &options.systems {
        let operations = options.operations.to_string();
        let mut argv = vec!["sh", "./compare.sh", system.name(), system.paths(), &operations];
        if let (System::QemuLinux, Some(qemu)) = (system, &qemu) {
            argv.extend(qemu.argv.iter().map(String::as_str));
        }
        batch.job(Job::new(system.name(), argv).timeout(TIMEOUT_SECONDS).collect(REPORT));
    }
    Ok(batch)
}

/// The figures of a system, and what it could not do.
fn of_system(system: System, result: &JobResult) -> Result<(Vec<Figure>, Vec<String>)> {
    let text = result.stdout_text();
    let works = record::works(&text);
    let mut missing: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("NO "))
        .map(|what| format!("{}: not done: {what}", system.name()))
        .collect();
    if works.is_empty() {
        bail!("no work was done; it {}; {}", exit_text(&result.exit), result.stderr_text().trim());
    }
    for path in system.paths().split(',').filter(|path| works.iter().all(|it| it.path != **path)) {
        if missing.iter().all(|note| !note.contains(path)) {
            missing.push(format!(
                "{}: {path} did nothing; {}",
                system.name(),
                exit_text(&result.exit)
            ));
        }
    }
    let snapshots = match system {
        System::QemuLinux => record::watched(&text),
        _ => record::reported(&crate::suites::host::report(result)?.marks),
    };
    let figures = record::figures(system, &works, &snapshots).map_err(anyhow::Error::msg)?;
    Ok((figures, missing))
}
