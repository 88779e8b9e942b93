//! `make run`: boots the kernel on our host, runs its tests, and measures what its locks spin.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};
use hypervisor_host::config::Policy;
use hypervisor_host::partition::vp::allowed_cpus;
use hypervisor_host::report::Report;
use kernel::cmdline::LOCK_NAMES;
use serde::Serialize;

use crate::artifacts::Artifacts;
use crate::events;
use crate::lab::{Batch, Executor, Job, JobResult};
use crate::outcome::{Case, Counts, Results, Suite, write_file};
use crate::plot;
use crate::progress::{Printer, choose_executor};
use crate::spin_study;
use crate::study::{self, Row, Saving, Setting};
use crate::suites::host::{SMALL_TEST, boot_exits, report};
use crate::suites::kvm::{self, guest, note_restarts, paths};
use crate::suites::trial::{REPORT, Trial, exit_text};
use crate::vmm::{Vmm, counted_vps};

/// What `make run` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Virtual processors that contend
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub vps: u32,
    /// Processors that they share
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Acquisitions by each virtual processor, with each lock
    #[arg(long, default_value_t = 150_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub acquisitions: u64,
    /// Iterations of the work loop inside the critical section
    #[arg(long, default_value_t = 100)]
    pub hold: u32,
    /// Iterations of the work loop between two acquisitions
    #[arg(long, default_value_t = 1000)]
    pub gap: u32,
    /// Locks to measure, each plain one with its enlightened twin
    #[arg(long, value_delimiter = ',', default_value = "spin,spin-enlightened", value_parser = LOCK_NAMES)]
    pub locks: Vec<String>,
    /// What the host may do with a long spin wait
    #[arg(long, value_delimiter = ',', default_value = "none,yield,directed", value_parser = policy_names())]
    pub policies: Vec<String>,
    /// Rounds of a wait after which a lock notifies the hypervisor, or `never` [default: 4095 natively, 32 in
    /// the lab]
    #[arg(long)]
    pub spin_threshold: Option<String>,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// Names of the report and its plot.
const JSON: &str = "run.json";
const PLOT: &str = "spin-wait.svg";

/// `target/report/run.json`.
#[derive(Debug, Serialize)]
struct RunReport {
    guest: GuestFacts,
    host: HostFacts,
    tests: Counts,
    spin_wait: Vec<Row>,
    savings: Vec<Saving>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GuestFacts {
    vps: u32,
    hypervisor: String,
    /// Exits from the first instruction to the first test with one virtual processor.
    boot_exits: u64,
    /// The same with all virtual processors.
    boot_exits_all_vps: u64,
    kernel_bytes: u64,
}

#[derive(Debug, Serialize)]
struct HostFacts {
    kvm: &'static str,
    place: String,
    cpus: u32,
    rss_overhead_bytes: u64,
}

/// Runs the study; whether everything was as it should be.
pub fn run(artifacts: &Artifacts, options: &Options, tests: &[String]) -> Result<bool> {
    // What stays behind if this run goes wrong must not be an earlier one's.
    for name in [JSON, PLOT] {
        let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(name));
    }
    let executor = choose_executor(&artifacts.host)?;
    let cpus = options.cpus.min(available_cpus(&executor));
    let mut results = Results::default();
    if cpus < options.cpus {
        results.note(format!("{} processors were asked for, {cpus} can be had", options.cpus));
    }
    let settings = settings(options, cpus);
    let trial = tests_trial(options.vps, tests);

    let mut batch = kvm::batch(artifacts, cpus);
    let one = host(&[], SMALL_TEST, 1);
    batch.job(Job::new("boot with 1 VP", one).collect(REPORT));
    batch.job(trial.job(&paths()).collect(REPORT));
    for setting in &settings {
        batch.job(study_job(options, setting, &executor)?);
    }
    let mut printer = Printer::new(batch.jobs.len(), options.verbose);
    let done = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    note_restarts(&mut results, &done);
    let [single, tested, studied @ ..] = &done.jobs[..] else { bail!("the batch lost jobs") };

    println!();
    results.add(Suite { name: trial.suite.clone(), cases: trial.cases(tested) });
    let (rows, cases) = judge(&settings, studied, options);
    results.add(Suite { name: "the study's counts".into(), cases });

    let report = assemble(artifacts, &executor, options, cpus, single, tested, rows, &results)?;
    publish(artifacts, &report, &results)?;
    Ok(report.tests.failed == 0)
}

/// The study's counts with every lock and policy, as a test: too few acquisitions to conclude anything from.
///
/// On one processor: counts need no second one, and a lab with one is the most reliable (`docs/lab.md`).
pub fn small(artifacts: &Artifacts, results: &mut Results) -> Result<()> {
    let executor = choose_executor(&artifacts.host)?;
    let options = Options {
        vps: 4,
        cpus: 1,
        acquisitions: 250,
        hold: 200,
        gap: 200,
        locks: LOCK_NAMES.map(String::from).into(),
        policies: policies(),
        spin_threshold: None,
        verbose: false,
    };
    let settings = settings(&options, options.cpus);
    let mut batch = kvm::batch(artifacts, options.cpus);
    for setting in &settings {
        batch.job(study_job(&options, setting, &executor)?);
    }
    spin_study::add_small_scaling(artifacts, &executor, &mut batch)?;
    let mut printer = Printer::new(batch.jobs.len(), false);
    let done = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    note_restarts(results, &done);
    let [studied @ .., bare, guest] = &done.jobs[..] else { bail!("the batch lost jobs") };
    let (_, cases) = judge(&settings, studied, &options);
    results.add(Suite { name: "the study's counts".into(), cases });
    let cases = spin_study::judge_small_scaling(artifacts, bare, guest);
    results.add(Suite { name: "the work that guests and bare machines do alike".into(), cases });
    Ok(())
}

/// Every policy of our host.
pub fn policies() -> Vec<String> {
    possible_policies().map(|policy| policy.get_name().to_string()).collect()
}

fn possible_policies() -> impl Iterator<Item = PossibleValue> {
    Policy::value_variants().iter().filter_map(ValueEnum::to_possible_value)
}

fn policy_names() -> PossibleValuesParser {
    PossibleValuesParser::new(possible_policies())
}

/// A batch of one job: the kernel boots on our host with as many virtual processors as the lab has.
pub fn boot_batch(artifacts: &Artifacts, cpus: u32) -> Batch {
    let mut batch = kvm::batch(artifacts, cpus);
    batch.job(Job::new("boot", host(&[], SMALL_TEST, cpus)).collect(REPORT));
    batch
}

/// Rows of all settings that could be measured, and a verdict on each setting.
fn judge(settings: &[Setting], done: &[JobResult], options: &Options) -> (Vec<Row>, Vec<Case>) {
    let (mut rows, mut cases) = (Vec::new(), Vec::new());
    for (setting, result) in settings.iter().zip(done) {
        match measured(setting, result) {
            Ok(measured) => {
                let total = options.acquisitions * u64::from(setting.vps);
                cases.extend(study::checks(setting, &measured, &options.locks, total));
                rows.extend(measured);
            }
            Err(error) => cases.push(Case::fail(setting.name(), format!("{error:#}"))),
        }
    }
    (rows, cases)
}

/// Processors that guests can be given here.
pub fn available_cpus(executor: &Executor) -> u32 {
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    let here = u32::try_from(here).unwrap_or(u32::MAX);
    match executor {
        Executor::Native(_) => here,
        Executor::Lab(lab) => lab.parts().max_cpus().min(here.max(2)),
    }
}

/// Every policy under over-commitment, and one boot with a processor for each virtual one.
fn settings(options: &Options, cpus: u32) -> Vec<Setting> {
    let setting = |policy: &String| Setting { policy: policy.clone(), vps: options.vps, cpus };
    let baseline = Setting { policy: "none".into(), vps: options.vps.min(cpus), cpus };
    let mut settings = vec![baseline];
    settings.extend(options.policies.iter().map(setting));
    settings.dedup();
    settings
}

fn host(options: &[&str], cmdline: &str, vps: u32) -> Vec<String> {
    let mut words: Vec<String> = options.iter().map(ToString::to_string).collect();
    words.extend(["--report".into(), REPORT.into()]);
    Vmm::OurHost { options: words }.argv(&paths(), &guest(cmdline.into(), vps, 64))
}

fn tests_trial(vps: u32, tests: &[String]) -> Trial {
    Trial {
        suite: format!("guest tests, {}", counted_vps(vps)),
        vmm: Vmm::OurHost { options: vec!["--report".into(), REPORT.into()] },
        guest: guest("events log=warn test=all".into(), vps, 64),
        asked: tests.to_vec(),
        timeout_seconds: 60,
    }
}

/// A threshold above an ordinary wait and well below a time slice. In the lab a round of waiting takes longer than
/// on a processor, so a slice has fewer of them.
fn default_threshold(executor: &Executor) -> &'static str {
    match executor {
        Executor::Native(_) => "4095",
        Executor::Lab(_) => "32",
    }
}

/// The first processors that may be used: natively by this process, in the lab any.
pub fn cpu_list(executor: &Executor, count: u32) -> Result<String> {
    let allowed = match executor {
        Executor::Native(_) => allowed_cpus().context("cannot ask for the usable processors")?,
        Executor::Lab(_) => (0..count as usize).collect(),
    };
    Ok(list(&allowed, count))
}

fn list(cpus: &[usize], count: u32) -> String {
    cpus.iter().take(count as usize).map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn study_job(options: &Options, setting: &Setting, executor: &Executor) -> Result<Job> {
    let threshold = options.spin_threshold.as_deref().unwrap_or(default_threshold(executor));
    let Options { acquisitions, hold, gap, locks, .. } = options;
    let locks = locks.join(",");
    let cmdline =
        format!("events log=warn study={locks} acquisitions={acquisitions} hold={hold} gap={gap}");
    let cpus = cpu_list(executor, setting.cpus)?;
    let host_options =
        [["--policy", &setting.policy], ["--cpus", &cpus], ["--spin-threshold", threshold]];
    let argv = host(host_options.as_flattened(), &cmdline, setting.vps);
    Ok(Job::new(setting.name(), argv).timeout(120).collect(REPORT))
}

fn measured(setting: &Setting, result: &JobResult) -> Result<Vec<Row>> {
    if result.exit.code() != Some(0) {
        bail!("{}; {}", exit_text(&result.exit), result.stderr_text().trim());
    }
    let seen = long_spins_by_section(&report(result)?)?;
    study::merge(setting, &events::studies(&result.stdout_text()), &seen)
        .map_err(anyhow::Error::msg)
}

/// What the host counted between each pair of marks.
fn long_spins_by_section(report: &Report) -> Result<Vec<u64>> {
    use hv_abi::host::Mark;
    let mut seen = Vec::new();
    let mut begun = None;
    for mark in &report.marks {
        if mark.mark == Mark::MEASURE_BEGIN.0 {
            begun = Some(mark.long_spins);
        } else if mark.mark == Mark::MEASURE_END.0 {
            let begin = begun.take().context("a section ends that never began")?;
            seen.push(mark.long_spins - begin);
        }
    }
    Ok(seen)
}

#[expect(clippy::too_many_arguments, reason = "one report from all that was found")]
fn assemble(
    artifacts: &Artifacts,
    executor: &Executor,
    options: &Options,
    cpus: u32,
    single: &JobResult,
    tested: &JobResult,
    rows: Vec<Row>,
    results: &Results,
) -> Result<RunReport> {
    let (one, all) = (report(single)?, report(tested)?);
    let boot = events::boot(&tested.stdout_text()).context("the guest did not come up")?;
    Ok(RunReport {
        guest: GuestFacts {
            vps: boot.vps,
            hypervisor: boot.hypervisor,
            boot_exits: boot_exits(&one)?,
            boot_exits_all_vps: boot_exits(&all)?,
            kernel_bytes: std::fs::metadata(&artifacts.kernel)?.len(),
        },
        host: HostFacts {
            kvm: executor.kind(),
            place: executor.place(options.cpus),
            cpus,
            rss_overhead_bytes: all.memory.overhead_bytes,
        },
        tests: results.counts(),
        savings: study::savings(&rows),
        spin_wait: rows,
        notes: results.notes.clone(),
    })
}

/// Prints and writes the report.
fn publish(artifacts: &Artifacts, report: &RunReport, results: &Results) -> Result<()> {
    let RunReport { guest, host, .. } = report;
    println!("\n{}", study::table(&report.spin_wait));
    for sentence in study::summary(&report.savings) {
        println!("{sentence}");
    }
    println!(
        "\nhypervisor {}; kernel image {} bytes; {} exits from the first instruction to the first test \
         with 1 VP ({} with {}); host memory beyond the guest's RAM {} KiB",
        guest.hypervisor,
        guest.kernel_bytes,
        guest.boot_exits,
        guest.boot_exits_all_vps,
        guest.vps,
        host.rss_overhead_bytes >> 10,
    );
    let json = artifacts.reports.join(JSON);
    let svg = artifacts.reports.join(PLOT);
    write_file(&json, &serde_json::to_vec_pretty(report)?)?;
    let title = format!("Spin iterations per acquisition ({})", host.place);
    plot::draw(&svg, &title, "spin iterations per acquisition", &study::bars(&report.spin_wait))?;
    println!("report: {}, {}", json.display(), svg.display());
    println!("{}", results.counts());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_usable_processors_are_named() {
        // A container may have processors 2, 3 and 7 of its machine.
        assert_eq!(list(&[2, 3, 7], 2), "2,3");
        assert_eq!(list(&[5], 1), "5");
    }
}
