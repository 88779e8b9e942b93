//! `make bench`: what each read, write and packet costs in visits to the hypervisor, our guest and stock Linux side by side on our host.
//!
//! Each guest sets a mark before and after a piece of work, at which the host takes a snapshot of its counters; the k-th pair of marks
//! belongs to the k-th piece of work that the guest tells of.
//!
//! - `lab.sh` runs beside a guest, wherever KVM is; `guest.sh` inside Linux, the kernel's job `io-bench` inside ours
//! - `figures`: from counters and words to figures
//! - `table`: for people; [`check`]: the aims as a part of `make test`

pub mod check;
mod figures;
mod table;

use anyhow::{Result, bail};

pub use figures::Figure;

use crate::artifacts::Artifacts;
use crate::io_work::works;
use crate::lab::{BESIDE_SCRIPT, Batch, Executor, Job, JobResult, LinuxKind, Parts, linux_guest};
use crate::outcome::{Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::host::report;
use crate::suites::kvm::{batch, note_restarts};
use crate::suites::trial::{REPORT, exit_text};

/// The script that runs inside Linux.
pub const GUEST_SCRIPT: &str = include_str!("guest.sh");
/// The script beside a guest, from the repository.
const LAB_SCRIPT: &str = "tests/src/bench/lab.sh";
/// Name of the report.
const JSON: &str = "bench.json";

/// What `make bench` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Reads, writes and packets of each measurement
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub operations: u32,
    /// Only these guests
    #[arg(long, value_delimiter = ',', default_value = "ours,linux")]
    pub guests: Vec<Guest>,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guest {
    /// Our kernel with `vsc-drivers`
    Ours,
    /// Stock Linux with its own drivers
    Linux,
}

impl Guest {
    /// As the script and the report call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Linux => "linux",
        }
    }

    fn memory_mib(self) -> &'static str {
        match self {
            Self::Ours => "64",
            Self::Linux => "256",
        }
    }
}

/// `target/report/bench.json`.
#[derive(Debug, serde::Serialize)]
struct Bench {
    schema: u32,
    /// What it ran on, in one line.
    place: String,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// What guests cost.
#[derive(Debug, Default)]
struct Measured {
    figures: Vec<Figure>,
    /// Why their instructions are not known.
    uncounted: Option<String>,
}

/// Measures, prints the table, writes the report; whether no aim was missed.
///
/// # Errors
///
/// The lab or its parts are missing, or a guest did not do its work.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(JSON));
    let executor = choose_executor(&artifacts.host)?;
    let mut results = Results::default();
    let (place, measured) = measure(artifacts, &executor, options, &mut results)?;
    let Measured { figures, uncounted } = measured;
    println!("\n{}", table::table(&figures));
    if let Some(reason) = uncounted {
        let note = format!("guest instructions: SKIP: {reason}");
        results.note(note);
    }
    for missed in figures.iter().filter(|figure| figure.misses_aim()) {
        println!("{}", table::missed(missed));
    }
    let bench = Bench { schema: 1, place, figures, notes: results.notes };
    let file = artifacts.reports.join(JSON);
    write_file(&file, &serde_json::to_vec_pretty(&bench)?)?;
    println!("report: {}", file.display());
    println!("{}", table::verdict(&bench.figures));
    Ok(!bench.figures.iter().any(Figure::misses_aim))
}

fn measure(
    artifacts: &Artifacts,
    executor: &Executor,
    options: &Options,
    results: &mut Results,
) -> Result<(String, Measured)> {
    let mut batch = batch(artifacts, 1);
    add_scripts(artifacts, &mut batch);
    if options.guests.contains(&Guest::Linux) {
        let linux = linux_guest(&Parts::find()?, LinuxKind::Synthetic)?;
        batch.add_files(&[linux.kernel_file, linux.initrd_file]);
    }
    for guest in &options.guests {
        let count = options.operations.to_string();
        let argv = ["sh", "./bench.sh", guest.name(), &count, guest.memory_mib()];
        batch.job(Job::new(guest.name(), argv).timeout(400).collect(REPORT));
    }
    let mut printer = Printer::new(batch.jobs.len(), options.verbose);
    let done = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    note_restarts(results, &done);
    let mut all = Measured::default();
    for (guest, result) in options.guests.iter().zip(&done.jobs) {
        let Measured { figures, uncounted } = of_guest(*guest, result)?;
        all.figures.extend(figures);
        all.uncounted = all.uncounted.or(uncounted);
    }
    Ok((done.place, all))
}

/// The script beside the guest, and what it reads.
fn add_scripts(artifacts: &Artifacts, batch: &mut Batch) {
    batch.file(artifacts.root.join(LAB_SCRIPT), "bench.sh");
    batch.shared_file(artifacts.root.join(BESIDE_SCRIPT), "beside.sh");
}

fn of_guest(guest: Guest, result: &JobResult) -> Result<Measured> {
    let text = result.stdout_text();
    let works = works(&text);
    // Linux is not ended by itself, but by a signal to the host.
    if works.is_empty() {
        let (end, err) = (exit_text(&result.exit), result.stderr_text());
        bail!("{}: no work was done; it {end}; {} {}", guest.name(), text.trim(), err.trim());
    }
    let report = report(result)?;
    let figures = figures::figures(guest, &works, &report.marks).map_err(anyhow::Error::msg)?;
    Ok(Measured { figures, uncounted: report.guest_instructions_why })
}
