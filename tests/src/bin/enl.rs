//! `enl`: the program behind `make run` and `make test`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use tests::artifacts::Artifacts;
use tests::lab::{self, Lab};
use tests::outcome::{Case, Results, Suite};
use tests::{
    anywhere, bench, compare, conformance, costs, demo, image, main_job, progress, soak,
    spin_study, suites,
};

/// Boots, tests and measures Enlighten.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Finish the linked kernel: fill its symbol table, strip it
    Image,
    /// List the kernel's tests and conformance cases
    List,
    /// Boot the kernel on our host and measure its spin waits
    Run(main_job::Options),
    /// Study spin locks under over-commitment, and how a guest scales
    Study(spin_study::Options),
    /// Pass every test
    Test(TestOptions),
    /// Measure free locks, the clock and VMBus's ring on this machine, beside others
    Costs,
    /// Count what reads, writes and packets cost in exits, our guest and Linux side by side
    Bench(bench::Options),
    /// Count what the same work costs by emulated, synthetic and virtio devices, for our guest and Linux
    Compare(compare::Options),
    /// Read, write and send at random for minutes, and check every byte
    Soak(soak::Options),
    /// Serve the files of a FAT disk over HTTP from our kernel, and fetch them with curl
    Demo(demo::Options),
    /// Run the conformance matrix
    Conformance(conformance::Options),
    /// Run hypervisor-host wherever KVM is: here, or in the lab
    Host {
        /// Processors of the lab
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
        lab_cpus: u32,
        /// What hypervisor-host is told, such as: run --kernel target/enlighten.elf
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
    /// Start the lab many times in a row and count the clean starts
    ProveLab {
        /// Starts
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        starts: u32,
        /// Processors of the lab
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
        cpus: u32,
    },
}

/// What `make test` may be told.
#[derive(Debug, clap::Args)]
struct TestOptions {
    /// Only these parts
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cargo,loom,fuzz,tcg,kvm,conformance,study"
    )]
    only: Vec<Part>,
    /// Of the part `kvm`, only suites whose names have this in them, such as `emulated`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    suite: String,
    /// Seconds for each fuzz target
    #[arg(long, default_value_t = 10)]
    fuzz_seconds: u32,
    /// Do all of it this often in a row, to find what fails only sometimes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

/// A part of `make test`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Unit, integration and documentation tests
    Cargo,
    /// The locks under the model checker
    Loom,
    /// Every parser under the fuzzer, briefly
    Fuzz,
    /// The kernel on QEMU's software processor
    Tcg,
    /// Guests on KVM, natively or in the lab
    Kvm,
    /// The conformance matrix
    Conformance,
    /// The spin-wait study, small
    Study,
}

fn main() -> ExitCode {
    lab::agent::become_agent_if_asked();
    match run(Arguments::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("enl: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(action: Action) -> Result<u8> {
    let artifacts = Artifacts::find()?;
    let good = match action {
        Action::Image => finish_image(&artifacts),
        Action::List => {
            kernel_tests(&artifacts)?.iter().for_each(|name| println!("{name}"));
            let cases = image::list_cases(&artifacts.kernel)?;
            cases.iter().for_each(|case| println!("{} ({})", case.name, case.facility));
            Ok(true)
        }
        Action::Study(options) => spin_study::run(&artifacts, &options),
        Action::Run(options) => main_job::run(&artifacts, &options, &kernel_tests(&artifacts)?),
        Action::Test(options) if options.repeat == 1 => {
            test(&artifacts, &options, &artifacts.reports)
        }
        Action::Test(options) => test_repeatedly(&artifacts, &options),
        Action::Bench(options) => {
            kernel_tests(&artifacts)?;
            bench::run(&artifacts, &options)
        }
        Action::Compare(options) => {
            kernel_tests(&artifacts)?;
            compare::run(&artifacts, &options)
        }
        Action::Soak(options) => {
            kernel_tests(&artifacts)?;
            soak::run(&artifacts, &options)
        }
        Action::Demo(options) => {
            kernel_tests(&artifacts)?;
            demo::run(&artifacts, &options)
        }
        Action::Costs => costs::run(&artifacts),
        Action::Conformance(options) => {
            kernel_tests(&artifacts)?;
            conformance::run(&artifacts, &options)
        }
        Action::Host { lab_cpus, words } => return anywhere::run(&artifacts, &words, lab_cpus),
        Action::ProveLab { starts, cpus } => prove_lab(&artifacts, starts, cpus),
    };
    Ok(u8::from(!good?))
}

fn finish_image(artifacts: &Artifacts) -> Result<bool> {
    let info = image::finish_image(&artifacts.linked_kernel, &artifacts.kernel)?;
    println!(
        "kernel image: {}, {} bytes, {} symbols",
        artifacts.kernel.display(),
        info.file_bytes,
        info.symbols
    );
    Ok(true)
}

fn kernel_tests(artifacts: &Artifacts) -> Result<Vec<String>> {
    if !artifacts.kernel.exists() {
        finish_image(artifacts)?;
    }
    let tests = image::list_tests(&artifacts.kernel)?;
    if tests.is_empty() {
        // A suite of no tests would pass.
        bail!("{} has no tests. Build it again with: make build", artifacts.kernel.display());
    }
    Ok(tests)
}

/// Whether all of `repeat` runs were green. Each run's reports are kept.
fn test_repeatedly(artifacts: &Artifacts, options: &TestOptions) -> Result<bool> {
    let (mut green, repeat) = (0, options.repeat);
    for run in 1..=repeat {
        println!("\n== Run {run} of {repeat}");
        let reports = artifacts.reports.join(format!("run-{run}"));
        green += u32::from(test(artifacts, options, &reports)?);
    }
    println!("{green} of {repeat} runs green");
    Ok(green == repeat)
}

fn test(artifacts: &Artifacts, options: &TestOptions, reports: &Path) -> Result<bool> {
    let tests = kernel_tests(artifacts)?;
    let mut results = Results::default();
    for part in &options.only {
        println!("\n== {part:?}");
        if let Err(error) = run_part(*part, artifacts, &tests, options, &mut results) {
            // What the other parts found must reach the report all the same.
            let cases = vec![Case::fail("can be tried", format!("{error:#}"))];
            results.add(Suite { name: format!("{part:?}"), cases });
        }
    }
    results.write(reports)?;
    let counts = results.counts();
    println!("\n== Summary");
    for suite in &results.suites {
        println!("{suite}");
    }
    for note in &results.notes {
        println!("note: {note}");
    }
    println!("reports: {}", reports.display());
    println!("{counts}");
    Ok(counts.failed == 0)
}

fn run_part(
    part: Part,
    artifacts: &Artifacts,
    tests: &[String],
    options: &TestOptions,
    results: &mut Results,
) -> Result<()> {
    match part {
        Part::Cargo => {
            results.add(suites::cargo::run("cargo test", &mut cargo_test(artifacts))?);
            results.add(suites::cargo::packages(artifacts)?);
        }
        Part::Loom => results.add(suites::cargo::run("loom", &mut loom(artifacts))?),
        Part::Fuzz => {
            let mut fuzz = fuzz(artifacts, options.fuzz_seconds);
            results.add(suites::cargo::run("fuzz", &mut fuzz)?);
        }
        Part::Tcg => suites::tcg::run(artifacts, tests, results)?,
        Part::Kvm => {
            let executor = progress::choose_executor(&artifacts.host)?;
            suites::kvm::run(artifacts, &executor, tests, &options.suite, results)?;
        }
        Part::Conformance => conformance::part(artifacts, results)?,
        Part::Study => main_job::small(artifacts, results)?,
    }
    Ok(())
}

fn cargo_test(artifacts: &Artifacts) -> Command {
    let mut command = suites::cargo::cargo(artifacts);
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    command
}

fn loom(artifacts: &Artifacts) -> Command {
    let mut command = suites::cargo::cargo(artifacts);
    command.args(["test", "--locked", "--release", "-p", "hv-enlightenments", "-p", "vmbus-ring"]);
    command.args(["--test", "loom"]);
    command
        .env("RUSTFLAGS", "--cfg loom")
        .arg("--target-dir")
        .arg(artifacts.root.join("target/loom"));
    command
}

fn fuzz(artifacts: &Artifacts, seconds: u32) -> Command {
    let mut command = Command::new(artifacts.root.join("tests/fuzz/run.sh"));
    command.args(["--seconds", &seconds.to_string()]);
    command
}

fn prove_lab(artifacts: &Artifacts, starts: u32, cpus: u32) -> Result<bool> {
    let lab = Lab::new(lab::LabConfig::new()?)?;
    let batch = main_job::boot_batch(artifacts, cpus);
    let report = lab::prove(&lab, starts, &batch, &mut |report| {
        println!("{:>3} starts: {} clean", report.starts, report.clean);
    })?;
    println!("{}", report.place);
    for (number, why) in &report.lost {
        println!("start {number}: the lab was lost: {why}");
    }
    for (number, why) in &report.wrong {
        println!("start {number}: wrong: {why}");
    }
    let (least, middle, most) = report.boot_times().context("the lab never came up")?;
    println!(
        "{} of {} clean; up after {least:.1?} to {most:.1?}, median {middle:.1?}",
        report.clean, report.starts
    );
    let json = serde_json::to_vec_pretty(&report)?;
    tests::outcome::write_file(&artifacts.reports.join("lab.json"), &json)?;
    Ok(report.clean == report.starts)
}
