//! `make conformance`: the kernel's conformance cases on every hypervisor at hand, as one matrix.
//!
//! - [`columns`]: what the cases run on
//! - [`judge`]: from a guest's console to a result for every case that was asked for
//! - [`deviations`]: what hypervisors that are not ours are known to do otherwise than the specification says
//! - [`matrix`]: the results, and the report `conformance.json`
//! - [`text`], [`html`]: the matrix for a terminal and for a browser
//!
//! Guests are not trusted: which cases there are, what they are about and what they rest on is read from the image,
//! and what a guest says of them is only a result and a reason. A case that ends its guest has failed, and the guest is
//! started again for the rest.

pub mod columns;
pub mod deviations;
pub mod html;
pub mod judge;
pub mod matrix;
mod selftest;
pub mod text;

use anyhow::{Result, bail};

use crate::artifacts::Artifacts;
use crate::events::{Event, events};
use crate::image::{CaseInfo, list_cases};
use crate::lab::executor::Native;
use crate::lab::{Batch, BatchResult, JobResult, LinuxKind, Parts, foreign_qemu, linux_guest};
use crate::outcome::{Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::kvm::{self, KERNEL, note_restarts};
use columns::{Column, Place, System};
use judge::Verdicts;
use matrix::{Matrix, RanOn};

/// What `make conformance` may be told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Only columns whose name contains one of these, such as TCG,off
    #[arg(long, value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Only these cases or facilities
    #[arg(long, value_delimiter = ',')]
    pub cases: Vec<String>,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// Names of the reports.
const JSON: &str = "conformance.json";
const HTML: &str = "conformance.html";
/// A guest is started again this often for the cases after one that ended it.
const MOST_ROUNDS: u32 = 6;
/// The facility whose cases run only by name.
const SELFTEST: &str = kernel::matrix::Facility::Selftest.name();

/// Runs the matrix and writes the reports; whether our host has no failure.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    let mut results = Results::default();
    let matrix = measure(artifacts, options, &mut results)?;
    print!("\n{}", text::Report(&matrix));
    println!("reports: {}, {HTML} beside it", artifacts.reports.join(JSON).display());
    Ok(matrix.failures_of_ours() == 0)
}

/// The matrix as a part of `make test`: each case on each column is a case of `results`. The framework itself is
/// tested besides, with cases that misbehave.
pub fn part(artifacts: &Artifacts, results: &mut Results) -> Result<()> {
    let matrix = measure(artifacts, &Options::default(), results)?;
    for suite in matrix.suites() {
        results.add(suite);
    }
    selftest::run(artifacts, results)
}

/// Runs all columns and writes both reports.
fn measure(artifacts: &Artifacts, options: &Options, results: &mut Results) -> Result<Matrix> {
    for name in [JSON, HTML] {
        // What stays behind if this run goes wrong must not be an earlier one's.
        let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(name));
    }
    let image = list_cases(&artifacts.kernel)?;
    let cases = choose(&image, &options.cases)?;
    let qemu = foreign_qemu()?;
    let mut columns = columns::all(&image, &cases, &options.columns);
    without_parts(&mut columns, &Parts::find(), results);
    if columns.is_empty() {
        bail!("no column has such a name. Leave --columns out to see them all.");
    }
    let mut verdicts: Vec<_> =
        columns.iter().map(|column| Verdicts::new(&column.asked(&cases))).collect();
    let mut ran_on = RanOn::here(&qemu.version);

    run_tcg(artifacts, &columns, &mut verdicts, options.verbose)?;
    if columns.iter().any(|column| column.place == Place::Kvm) {
        let executor = choose_executor(&artifacts.host)?;
        ran_on.kvm(&executor, Parts::find().ok().as_ref());
        let mut batch = kvm::batch(artifacts, 1);
        batch.add_files(&qemu.files);
        disks(artifacts, &mut batch)?;
        if columns.iter().any(|column| column.system == System::Linux) {
            let linux = linux_guest(&Parts::find()?, LinuxKind::Synthetic)?;
            batch.add_files(&[linux.kernel_file, linux.initrd_file]);
        }
        let paths = crate::vmm::Paths { qemu: qemu.argv, ..kvm::paths() };
        run_place(Place::Kvm, &batch, &paths, &columns, &mut verdicts, &mut |batch| {
            let mut printer = Printer::new(batch.jobs.len(), options.verbose);
            let done = executor.run_batch(batch, &mut |news| printer.show(news))?;
            note_restarts(results, &done);
            Ok(done)
        })?;
    }

    let whole = options.cases.is_empty() && options.columns.is_empty();
    let matrix = Matrix::new(ran_on, whole, &cases, &columns, verdicts, results.notes.clone());
    let json = serde_json::to_vec_pretty(&matrix)?;
    write_file(&artifacts.reports.join(JSON), &json)?;
    write_file(&artifacts.reports.join(HTML), html::page(&matrix).as_bytes())?;
    Ok(matrix)
}

/// Leaves Linux out, and says so, where there is none to boot: a machine with KVM of its own needs no lab.
fn without_parts(columns: &mut Vec<Column>, parts: &Result<Parts>, results: &mut Results) {
    let is_linux = |column: &Column| column.system == System::Linux;
    if let Err(error) = parts
        && columns.iter().any(is_linux)
    {
        results.note(format!("Linux was not tried: {error:#}"));
        columns.retain(|column| !is_linux(column));
    }
}

/// The disks of our host's columns: one of zeros that is large enough to write to, one with something to read.
fn disks(artifacts: &Artifacts, batch: &mut Batch) -> Result<()> {
    let folder = artifacts.root.join("target/cases");
    let mut content = vec![0; 1 << 20];
    crate::probe::pattern::fill(1, 0, &mut content);
    for (name, bytes) in [("scratch.img", &vec![0; 16 << 20]), ("readonly.img", &content)] {
        let path = folder.join(name);
        write_file(&path, bytes)?;
        batch.file(path, name);
    }
    Ok(())
}

/// The cases to run: those of the matrix, or those named.
fn choose(all: &[CaseInfo], names: &[String]) -> Result<Vec<CaseInfo>> {
    let is_named = |case: &CaseInfo, name: &String| case.name == *name || case.facility == *name;
    if let Some(name) = names.iter().find(|&name| all.iter().all(|case| !is_named(case, name))) {
        bail!("there is no case or facility {name}. `enl list` lists them.");
    }
    let wanted = |case: &&CaseInfo| {
        if names.is_empty() {
            case.facility != SELFTEST
        } else {
            names.iter().any(|name| is_named(case, name))
        }
    };
    let cases: Vec<_> = all.iter().filter(wanted).cloned().collect();
    if cases.is_empty() {
        // A matrix of no cases would have no failures.
        bail!("the kernel image has no conformance cases. Build it again with: make build");
    }
    Ok(cases)
}

fn run_tcg(
    artifacts: &Artifacts,
    columns: &[Column],
    verdicts: &mut [Verdicts],
    verbose: bool,
) -> Result<()> {
    let mut batch = Batch::new(1);
    batch.file(&artifacts.kernel, KERNEL);
    let qemu = vec!["qemu-system-x86_64".into()];
    let paths = crate::vmm::Paths { host: String::new(), qemu };
    run_place(Place::Tcg, &batch, &paths, columns, verdicts, &mut |batch| {
        let mut printer = Printer::new(batch.jobs.len(), verbose);
        Native::default().run_batch(batch, &mut |news| match news {
            // It runs natively, but not on KVM.
            crate::lab::Progress::Place(_) => println!("on this machine, QEMU TCG:"),
            news => printer.show(news),
        })
    })
}

/// Runs the columns of one place, and those that lost their guest again for the rest of their cases.
fn run_place(
    place: Place,
    files: &Batch,
    paths: &crate::vmm::Paths,
    columns: &[Column],
    verdicts: &mut [Verdicts],
    run: &mut dyn FnMut(&Batch) -> Result<BatchResult>,
) -> Result<()> {
    for round in 0..MOST_ROUNDS {
        let due: Vec<_> = (0..columns.len())
            .filter(|&index| columns[index].place == place && verdicts[index].wants(round))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut batch = files.clone();
        for &index in &due {
            batch.job(columns[index].job(paths, verdicts[index].last_ended()));
        }
        let done = run(&batch)?;
        for (index, job) in due.into_iter().zip(&done.jobs) {
            take(&columns[index], &mut verdicts[index], job);
        }
    }
    Ok(())
}

fn take(column: &Column, verdicts: &mut Verdicts, job: &JobResult) {
    let mut ending = column.trial().ending(job);
    let console = job.stdout_text();
    // On QEMU, Linux can only switch off; its own word is all that there is of a code.
    if column.system == System::Linux && !column.is_ours() && job.exit.code() == Some(0) {
        ending.code = events(&console).iter().find_map(|event| match event {
            Event::End { code } => Some(*code),
            _ => None,
        });
    }
    verdicts.take(&console, &ending);
}
