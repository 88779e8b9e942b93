//! `make demo`: the kernel serves the files of a FAT disk over HTTP, and curl fetches them.
//!
//! - `site`: the files and the disk image
//! - `demo.sh`: runs beside the machine, wherever KVM is: sets up the network, fetches, compares
//! - `verdict`: what its lines say
//!
//! `make test` does the same with a smaller file ([`checks`]).

mod site;
mod verdict;

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::artifacts::Artifacts;
use crate::lab::{Batch, BatchResult, Executor, Job, Progress, Stream, taken_along};
use crate::outcome::{Case, Counts, Results, Suite, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::kvm::{self, Check, note_restarts};
use crate::suites::trial::REPORT;
use site::Fat;

/// Name of the suite in `make test`.
pub const SUITE: &str = "files over HTTP from our kernel on our host";
/// The script, from the repository.
const SCRIPT: &str = "tests/src/demo/demo.sh";
/// Name of the report.
const JSON: &str = "demo.json";
const MEMORY_MIB: &str = "256";
const CURL: &str = "/usr/bin/curl";
/// For all of it, with the slowest of labs.
const TIMEOUT_SECONDS: u32 = 900;

/// What `make demo` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=512))]
    pub large_mib: u32,
    /// Serve until Ctrl-C instead of fetching, for a browser; not in the lab
    #[arg(long)]
    pub stay: bool,
    /// Also show all that the script says
    #[arg(long)]
    pub verbose: bool,
}

/// `target/report/demo.json`.
#[derive(Debug, serde::Serialize)]
struct DemoReport {
    schema: u32,
    /// What it ran on, in one line.
    place: String,
    cases: Vec<Case>,
    figures: verdict::Figures,
    notes: Vec<String>,
}

/// Makes the image, starts the machine, fetches, and says what came; whether all was right.
///
/// # Errors
///
/// A tool, the lab or the network is missing.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(JSON));
    let executor = choose_executor(&artifacts.host)?;
    if options.stay && matches!(executor, Executor::Lab(_)) {
        bail!(
            "nobody can look into the lab with a browser. Leave out --stay, or use a machine whose /dev/kvm runs guests"
        );
    }
    let network = network(&executor, is_root(), has_passt())?;
    println!("making a FAT image with a file of {} MiB", options.large_mib);
    let mut batch = kvm::batch(artifacts, 1);
    let folder = add_site(artifacts, &mut batch, "disk", options.large_mib, Fat::Fat16)?;
    if options.stay {
        return stay(&batch, &folder.join("stay"), network);
    }
    let job = job("curl fetches files", &executor, network, &mut batch)?;
    batch.job(job);
    let done = watch(&executor, &batch, options.verbose)?;
    let mut results = Results::default();
    note_restarts(&mut results, &done);
    let [result] = &done.jobs[..] else { bail!("the batch lost its job") };
    let report = DemoReport {
        schema: 1,
        place: done.place.clone(),
        cases: verdict::cases(result),
        figures: verdict::figures(result),
        notes: results.notes,
    };
    publish(artifacts, &report)
}

/// The same as one job of a batch, with a small file on FAT32.
///
/// # Errors
///
/// A tool is missing.
pub fn checks(
    artifacts: &Artifacts,
    executor: &Executor,
    batch: &mut Batch,
    results: &mut Results,
) -> Result<Vec<Check>> {
    const NAME: &str = "curl fetches files from our kernel";
    let network = match network(executor, is_root(), has_passt()) {
        Ok(network) => network,
        Err(error) => {
            let cases = vec![Case::skip(NAME, format!("{error:#}"))];
            results.add(Suite { name: SUITE.into(), cases });
            return Ok(Vec::new());
        }
    };
    add_site(artifacts, batch, "small", 4, Fat::Fat32)?;
    let job = job(NAME, executor, network, batch)?;
    Ok(vec![Check { job, judge: Box::new(verdict::cases) }])
}

/// How the guest is reached: `tap`, or `user` for whoever is not root on a machine of their own.
fn network(executor: &Executor, is_root: bool, has_passt: bool) -> Result<&'static str> {
    match executor {
        Executor::Lab(_) => Ok("tap"),
        Executor::Native(_) if is_root => Ok("tap"),
        Executor::Native(_) if has_passt => Ok("user"),
        Executor::Native(_) => bail!(
            "cannot reach the guest: a TAP device needs root, and passt is not installed. Run this as root, or: apt-get install passt"
        ),
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn has_passt() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("passt").is_file())
}

/// Makes the image and adds it, with the script; gives the folder that it is in.
fn add_site(
    artifacts: &Artifacts,
    batch: &mut Batch,
    name: &str,
    large_mib: u32,
    fat: Fat,
) -> Result<PathBuf> {
    let folder = artifacts.root.join("target/demo");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let site = site::make(&folder, name, large_mib, fat)?;
    batch.file(artifacts.root.join(SCRIPT), "demo.sh");
    batch.file(&site.image, "disk.img").file(&site.wanted, "wanted");
    Ok(folder)
}

/// The script as a job; in the lab curl goes along.
fn job(name: &str, executor: &Executor, network: &str, batch: &mut Batch) -> Result<Job> {
    let job = Job::new(name, ["sh", "./demo.sh", network, MEMORY_MIB]);
    let job = job.timeout(TIMEOUT_SECONDS).collect(REPORT);
    match executor {
        Executor::Native(_) => Ok(job),
        Executor::Lab(_) => {
            let curl = taken_along(Path::new(CURL), "curl")?;
            batch.add_files(&curl.files);
            Ok(job.env("CURL", curl.argv.join(" ")))
        }
    }
}

/// Puts the script in this process's place: the terminal and its signals are the script's and the machine's.
fn stay(batch: &Batch, folder: &Path, network: &str) -> Result<bool> {
    let _leftover = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for file in &batch.files {
        symlink(&file.from, folder.join(&file.to))
            .with_context(|| format!("cannot place '{}'", file.to))?;
    }
    let mut script = Command::new("sh");
    script.args(["./demo.sh", network, MEMORY_MIB, "stay"]).current_dir(folder);
    bail!("cannot run sh: {}. Install a shell", script.exec())
}

/// Runs the batch, and shows each case as it comes.
fn watch(executor: &Executor, batch: &Batch, verbose: bool) -> Result<BatchResult> {
    let mut printer = Printer::new(batch.jobs.len(), verbose);
    let mut lines = verdict::Lines::default();
    executor.run_batch(batch, &mut |news| {
        if let Progress::Output(_, Stream::Stdout, bytes) = news
            && !verbose
        {
            lines
                .take(bytes)
                .iter()
                .filter_map(|line| verdict::shown(line))
                .for_each(|line| println!("{line}"));
        }
        printer.show(news);
    })
}

/// Prints and writes the report; whether all was right.
fn publish(artifacts: &Artifacts, report: &DemoReport) -> Result<bool> {
    println!("\n{}", report.figures);
    println!(
        "In a browser, on a machine whose /dev/kvm runs guests: make demo ARGS=--stay, which says where"
    );
    let file = artifacts.reports.join(JSON);
    write_file(&file, &serde_json::to_vec_pretty(report)?)?;
    println!("report: {}", file.display());
    let counts = Counts::of(&report.cases);
    println!("{counts}");
    Ok(counts.failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Native;

    #[test]
    fn a_user_without_privileges_needs_passt() {
        let native = Executor::Native(Native::default());
        assert_eq!(network(&native, true, false).unwrap(), "tap");
        assert_eq!(network(&native, false, true).unwrap(), "user");
        let error = network(&native, false, false).unwrap_err().to_string();
        assert!(error.contains("apt-get install passt"), "{error}");
    }
}
