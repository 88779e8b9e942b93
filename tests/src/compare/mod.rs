//! `make compare`: the same disk and network work by every way to a device, and what each operation costs in visits to the hypervisor.
//!
//! The ways are emulated devices (IDE by port I/O and by DMA, DEC 21140A), synthetic ones (`storvsc`, `netvsc`), and virtio of stock QEMU as the
//! modern reference; the guests are our kernel and stock Linux. Every guest goes all its ways in one start.
//!
//! - `lab.sh` runs beside a guest, wherever KVM is; `guest.sh` inside Linux, the kernel's job `io-bench` inside ours
//! - `record`: from a guest's words and its host's counters to figures; `findings`: what they say
//! - `outcome`: what a system did and what it could not do
//! - `table`, `drawings`, `page`, `text`: for people; [`check`]: a small one as a part of `make test`

pub mod check;
mod drawings;
mod findings;
mod outcome;
mod page;
mod record;
mod table;
mod text;

use anyhow::{Context, Result, bail};

use crate::artifacts::Artifacts;
use crate::lab::{
    BESIDE_SCRIPT, Batch, BatchFile, ForeignQemu, Job, LinuxKind, Parts, foreign_qemu, linux_guest,
};
use crate::outcome::{Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::kvm::{batch, note_restarts};
use crate::suites::trial::REPORT;
use findings::Ratio;
use outcome::{Outcome, Skip};
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
/// Bytes of a guest's line that is looked at while it runs.
const MOST_LINE: usize = 1 << 12;

/// What `make compare` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Operations of each piece of work; fewer where each costs very much
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(64..=100_000))]
    pub operations: u32,
    /// Only these systems
    #[arg(long, value_delimiter = ',', default_value = "ours,linux,linux-pio,qemu-linux")]
    pub systems: Vec<System>,
    /// Write the results into the documentation
    #[arg(long)]
    pub update_docs: bool,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// A guest on a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize)]
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
    /// Operations of each piece of work, as they were asked for.
    operations: u32,
    /// What was found, in sentences.
    lead: Vec<String>,
    figures: Vec<Figure>,
    /// Synthetic against emulated devices, with what was aimed at.
    ratios: Vec<Ratio>,
    /// What could not be done here, and why.
    skips: Vec<Skip>,
    /// What went wrong.
    failures: Vec<String>,
    /// Whatever else a reader must know.
    notes: Vec<String>,
}

impl Comparison {
    /// Those of the ratios at which something was aimed.
    fn aims(&self) -> impl Iterator<Item = &Ratio> {
        self.ratios.iter().filter(|ratio| ratio.aim.is_some())
    }
}

/// Measures, prints the table, writes the reports; whether nothing went wrong. An aim that is missed is a finding, and so is what can't be
/// had here.
///
/// # Errors
///
/// The lab is missing, or nothing at all was measured.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    for name in [JSON, HTML] {
        let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(name));
    }
    let comparison = measure(artifacts, options)?;
    if comparison.figures.is_empty() {
        let why = comparison.skips.iter().map(ToString::to_string);
        let why: Vec<_> = comparison.failures.iter().cloned().chain(why).collect();
        bail!("nothing was measured: {}", why.join("; "));
    }
    print!("\n{}", table::table(&comparison));
    write_file(&artifacts.reports.join(JSON), &serde_json::to_vec_pretty(&comparison)?)?;
    write_file(&artifacts.reports.join(HTML), page::page(&comparison)?.as_bytes())?;
    println!("reports: {}, {HTML} beside it", artifacts.reports.join(JSON).display());
    if options.update_docs {
        update_docs(artifacts, options, &comparison)?;
    }
    println!("{}", table::verdict(&comparison));
    Ok(comparison.failures.is_empty())
}

/// Only a whole run belongs there.
fn update_docs(artifacts: &Artifacts, options: &Options, comparison: &Comparison) -> Result<()> {
    let all = <System as clap::ValueEnum>::value_variants();
    if !comparison.failures.is_empty() || all.iter().any(|it| !options.systems.contains(it)) {
        bail!("the documentation stays as it is: that needs a run of all systems without failures");
    }
    for name in text::update(&artifacts.root, comparison)? {
        println!("written: {name}");
    }
    Ok(())
}

fn measure(artifacts: &Artifacts, options: &Options) -> Result<Comparison> {
    let executor = choose_executor(&artifacts.host)?;
    let Jobs { batch, systems, skips } = jobs(artifacts, options);
    let mut all = Outcome { skips, ..Outcome::default() };
    let mut results = Results::default();
    let mut place = String::new();
    if !systems.is_empty() {
        let mut printer = Printer::new(batch.jobs.len(), options.verbose);
        let mut ticker = Ticker::default();
        let done = executor.run_batch(&batch, &mut |news| {
            if let (crate::lab::Progress::Output(_, _, bytes), false) = (news, options.verbose) {
                ticker.hear(bytes);
            }
            printer.show(news);
        })?;
        note_restarts(&mut results, &done);
        for (system, job) in systems.iter().zip(&done.jobs) {
            all.add(outcome::of_system(*system, system.paths(), job));
        }
        place = done.place;
    }
    record::compare_speeds(&mut all.figures);
    Ok(Comparison {
        schema: 2,
        place,
        operations: options.operations,
        lead: findings::lead(&all.figures),
        ratios: findings::ratios(&all.figures),
        figures: all.figures,
        skips: all.skips,
        failures: all.failures,
        notes: results.notes,
    })
}

/// Says what a guest has done, as it says so.
#[derive(Default)]
struct Ticker(Vec<u8>);

impl Ticker {
    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.0.len() < MOST_LINE {
                    self.0.push(byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.0);
            if let Some(work) = crate::io_work::work(&String::from_utf8_lossy(&line)) {
                println!("    {}", table::title(&work));
            }
        }
    }
}

/// What is to be run, and what can't be.
struct Jobs {
    batch: Batch,
    /// The systems of the jobs.
    systems: Vec<System>,
    skips: Vec<Skip>,
}

fn jobs(artifacts: &Artifacts, options: &Options) -> Jobs {
    let mut batch = batch(artifacts, 1);
    add_scripts(artifacts, &mut batch);
    let mut jobs = Jobs { batch, systems: Vec::new(), skips: Vec::new() };
    let mut linux: Option<Result<Vec<BatchFile>>> = None;
    let mut qemu: Option<Result<ForeignQemu>> = None;
    for &system in &options.systems {
        let needed = needed(system, &mut jobs.batch, &mut linux, &mut qemu);
        let words = match needed {
            Ok(words) => words,
            Err(error) => {
                jobs.skips.push(Skip::new(system, "all", format!("{error:#}")));
                continue;
            }
        };
        let operations = options.operations.to_string();
        let mut argv = vec!["sh", "./compare.sh", system.name(), system.paths(), &operations];
        argv.extend(words.iter().map(String::as_str));
        let job = Job::new(system.name(), argv).timeout(TIMEOUT_SECONDS).collect(REPORT);
        jobs.batch.job(job);
        jobs.systems.push(system);
    }
    jobs
}

/// The script beside a guest, and what it needs.
fn add_scripts(artifacts: &Artifacts, batch: &mut Batch) {
    batch.file(artifacts.root.join(LAB_SCRIPT), "compare.sh");
    batch.shared_file(artifacts.root.join(BESIDE_SCRIPT), "beside.sh");
    batch.shared_file(&artifacts.probe, "guest-probe");
}

/// Takes along what a system needs, once; the words that start QEMU.
fn needed(
    system: System,
    batch: &mut Batch,
    linux: &mut Option<Result<Vec<BatchFile>>>,
    qemu: &mut Option<Result<ForeignQemu>>,
) -> Result<Vec<String>> {
    if system == System::Ours {
        return Ok(Vec::new());
    }
    if linux.is_none() {
        let guest = Parts::find().and_then(|parts| linux_guest(&parts, LinuxKind::Compare));
        let files = guest.map(|guest| vec![guest.kernel_file, guest.initrd_file]);
        if let Ok(files) = &files {
            batch.add_files(files);
        }
        *linux = Some(files);
    }
    if let Some(Err(error)) = linux {
        bail!("no Linux to run: {error:#}");
    }
    if system != System::QemuLinux {
        return Ok(Vec::new());
    }
    let qemu = qemu.get_or_insert_with(|| {
        let qemu = foreign_qemu();
        if let Ok(qemu) = &qemu {
            batch.add_files(&qemu.files);
        }
        qemu
    });
    let qemu = qemu.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
    Ok(qemu.context("no QEMU to run")?.argv.clone())
}
