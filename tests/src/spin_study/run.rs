//! Runs the design, repetition by repetition, and keeps what it has after each of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use hypervisor_host::report::Report;
use kernel::cmdline::LOCK_NAMES;

use super::data::{Data, Failure, Findings, Made, SCHEMA};
use super::plan::{Boot, Part, Place, Plan, Size, threshold_name};
use super::record::{CSV_HEADER, answers, csv_row, join};
use super::scaling::{code_differs, pair};
use super::{chart, docs, drawings, page, tables};
use crate::artifacts::Artifacts;
use crate::events;
use crate::lab::{Batch, Executor, Exit, Job, JobResult};
use crate::main_job::{available_cpus, cpu_list, policies};
use crate::outcome::{Case, Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::host::report;
use crate::suites::kvm::{self, note_restarts, paths};
use crate::suites::trial::{REPORT, exit_text};
use crate::vmm::{Guest, Vmm};

/// What `make study` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// In a few minutes: enough to see whether everything works
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// On real processors: every threshold and every policy in every sweep, for a second each
    #[arg(long)]
    pub full: bool,
    /// How often everything is repeated
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repetitions: Option<u32>,
    /// Only these parts of the study
    #[arg(long, value_delimiter = ',', default_value = "core,section,threshold,scaling")]
    pub only: Vec<Which>,
    /// Measure nothing: take the data from this study.json
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Also refresh the figures in docs/
    #[arg(long)]
    pub update_docs: bool,
    /// Also show what the guests print
    #[arg(long)]
    pub verbose: bool,
}

/// Parts of the study that can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Locks × policies × virtual processors × processors
    Core,
    /// Critical sections of several lengths
    Section,
    /// Thresholds
    Threshold,
    /// The guest against the bare machine
    Scaling,
}

impl Options {
    fn size(&self) -> Size {
        match (self.quick, self.full) {
            (true, _) => Size::Quick,
            (_, true) => Size::Full,
            _ => Size::Usual,
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.only.contains(&match part {
            Part::Core => Which::Core,
            Part::Section => Which::Section,
            Part::Threshold => Which::Threshold,
        })
    }
}

/// Names in the folder of reports.
const CSV: &str = "study.csv";
const JSON: &str = "study.json";
const PAGE: &str = "study.html";
/// What a boot left that did not end as it should.
const FAILURES: &str = "study-failures";
/// The program for the bare machine, among a batch's files.
const BARE: &str = "bare-metal";
/// Most processors that scaling is measured on.
const SCALING_CPUS: u32 = 4;
/// Pairs of guest and bare machine in a repetition.
const SCALING_PAIRS: u32 = 4;
/// Memory of a guest that only takes locks, and of one that streams through it, in MiB.
const LOCK_MEMORY_MIB: u32 = 64;
const SCALING_MEMORY_MIB: u32 = 640;

/// Runs the study; whether all went as it should.
pub fn run(kit: &Artifacts, options: &Options) -> Result<bool> {
    let data = match &options.from {
        Some(path) => Data::read(path)?,
        None => Study::new(kit, options)?.run()?,
    };
    publish(kit, options, &data)?;
    Ok(data.failures.iter().all(|failure| failure.only_slow))
}

/// A study under way.
struct Study<'a> {
    kit: &'a Artifacts,
    options: &'a Options,
    executor: Executor,
    scaling_cpus: u32,
    data: Data,
}

/// What a job of a batch is.
enum Task {
    Boot(u32, Boot),
    Bare,
    Guest,
}

impl<'a> Study<'a> {
    fn new(kit: &'a Artifacts, options: &'a Options) -> Result<Self> {
        let executor = choose_executor(&kit.host)?;
        let cpus = available_cpus(&executor);
        let policies = policies();
        let lab = matches!(executor, Executor::Lab(_));
        let mut plan = Plan::new(options.size(), &Place { policies: &policies, cpus, lab });
        plan.repetitions = options.repetitions.unwrap_or(plan.repetitions);
        let made = Made {
            begun: now(),
            kvm: executor.kind().into(),
            place: executor.place(cpus.min(2)),
            machine_cpus: std::thread::available_parallelism().map_or(0, usize::from),
            ..Made::default()
        };
        let data = Data {
            schema: SCHEMA,
            made,
            plan,
            records: Vec::new(),
            answers: BTreeMap::new(),
            failures: Vec::new(),
            scaling: Vec::new(),
            notes: Vec::new(),
        };
        let scaling_cpus = cpus.min(SCALING_CPUS);
        Ok(Self { kit, options, executor, scaling_cpus, data })
    }

    fn run(mut self) -> Result<Data> {
        self.clear()?;
        let begun = Instant::now();
        if self.options.only.contains(&Which::Scaling) {
            self.check_code()?;
        }
        for repetition in 0..self.data.plan.repetitions {
            println!("repetition {} of {}", repetition + 1, self.data.plan.repetitions);
            self.data.made.load.extend(load());
            self.repeat(repetition)?;
            self.data.made.seconds = begun.elapsed().as_secs();
            self.data.write(&self.kit.reports.join(JSON), &self.data.findings())?;
        }
        self.data.made.load.extend(load());
        Ok(self.data)
    }

    /// What stays behind if this run goes wrong must not be an earlier one's.
    fn clear(&self) -> Result<()> {
        for name in [JSON, PAGE] {
            let _absent_is_fine = fs::remove_file(self.kit.reports.join(name));
        }
        let _absent_is_fine = fs::remove_dir_all(self.kit.reports.join(FAILURES));
        write_file(&self.kit.reports.join(CSV), format!("{CSV_HEADER}\n").as_bytes())
    }

    fn check_code(&mut self) -> Result<()> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        if let Some(wrong) =
            code_differs(&read(&self.kit.linked_kernel)?, &read(&self.kit.bare_metal)?)?
        {
            bail!("cannot compare guest and bare machine: {wrong}. Build both with: make build");
        }
        self.data.notes.push("The work's functions are byte for byte the same in the kernel and in the program for the bare machine.".into());
        Ok(())
    }

    fn repeat(&mut self, repetition: u32) -> Result<()> {
        let tasks = self.tasks(repetition);
        let most_cpus = self.data.plan.cpus.iter().copied().max().unwrap_or(1);
        let mut batch = kvm::batch(self.kit, most_cpus.max(self.scaling_cpus));
        batch.file(&self.kit.bare_metal, BARE);
        for task in &tasks {
            let job = self.job(task)?;
            batch.job(job);
        }
        let results = self.run_batch(&batch)?;
        let mut bare = None;
        for (task, result) in tasks.iter().zip(&results) {
            match task {
                Task::Boot(number, boot) => self.take_boot(repetition, *number, boot, result),
                Task::Bare => bare = Some(result),
                Task::Guest => self.take_pair(repetition, bare.take(), result),
            }
        }
        Ok(())
    }

    /// The boots, and between them, evenly, guest and bare machine in turn.
    fn tasks(&self, repetition: u32) -> Vec<Task> {
        let boots = self.data.plan.boots(repetition, &LOCK_NAMES);
        let wanted = boots.into_iter().filter(|boot| self.options.wants(boot.part));
        let mut tasks: Vec<Task> =
            (0..).zip(wanted).map(|(number, boot)| Task::Boot(number, boot)).collect();
        if self.options.only.contains(&Which::Scaling) {
            let step = tasks.len() / SCALING_PAIRS as usize;
            for pair in (0..SCALING_PAIRS as usize).rev() {
                tasks.splice(pair * step..pair * step, [Task::Bare, Task::Guest]);
            }
        }
        tasks
    }

    fn job(&self, task: &Task) -> Result<Job> {
        let amount = match self.executor {
            Executor::Native(_) => 50,
            Executor::Lab(_) => 8,
        };
        Ok(match task {
            Task::Boot(_, boot) => self.boot_job(boot)?,
            Task::Bare => bare_job(&self.executor, amount, self.scaling_cpus)?,
            Task::Guest => guest_job(&self.executor, amount, self.scaling_cpus)?,
        })
    }

    fn boot_job(&self, boot: &Boot) -> Result<Job> {
        let Plan { duration_ms, gap, .. } = self.data.plan;
        let cmdline = format!(
            "events log=warn study={} duration={duration_ms} hold={} gap={gap}",
            boot.study(),
            boot.hold
        );
        let cpus = cpu_list(&self.executor, boot.cpus)?;
        // A lock that is handed on by time slices takes one for each waiter after the time is over.
        let measuring = u64::from(duration_ms) * boot.entries.len() as u64 / 1000;
        let limit = u32::try_from(3 * measuring + 30)?;
        let (seconds, threshold) = (limit.to_string(), threshold_name(boot.threshold));
        let options = [
            ["--policy", &boot.policy],
            ["--cpus", &cpus],
            ["--spin-threshold", &threshold],
            ["--timeout", &seconds],
        ];
        let argv = host(options.as_flattened(), cmdline, boot.vps, LOCK_MEMORY_MIB);
        Ok(Job::new(boot.name(), argv).timeout(limit + 60).collect(REPORT))
    }

    fn run_batch(&mut self, batch: &Batch) -> Result<Vec<JobResult>> {
        let mut printer = Printer::new(batch.jobs.len(), self.options.verbose);
        let done = self.executor.run_batch(batch, &mut |news| printer.show(news))?;
        let mut results = Results::default();
        note_restarts(&mut results, &done);
        self.data.notes.extend(results.notes);
        Ok(done.jobs)
    }

    /// Keeps what a boot measured; what did not go well is kept with all that it left.
    fn take_boot(&mut self, repetition: u32, number: u32, boot: &Boot, result: &JobResult) {
        let mut told = events::studies(&result.stdout_text());
        let mut asked = boot.clone();
        let slow = matches!(result.exit, Exit::Exited(124) | Exit::TimedOut);
        if result.exit.code() != Some(0) {
            let next = boot
                .entries
                .get(told.len())
                .map_or(String::new(), |(lock, vps)| format!(" in {lock}@{vps}"));
            let what =
                format!("{}{next}: {}", exit_text(&result.exit), last_line(&result.stderr_text()));
            self.fail(repetition, &boot.name(), what, slow, result);
            // What was measured before is as good as ever.
            asked.entries.truncate(told.len());
            told.truncate(asked.entries.len());
        }
        let joined = report(result).and_then(|report| {
            self.count_answers(boot, &report);
            join(&asked, repetition, number, told, &report.marks)
        });
        match joined {
            Ok(records) => {
                for record in &records {
                    let (guest, host) =
                        (record.guest.long_spin_notifications, record.host.long_spins);
                    let plain = super::plan::plain_twin(&record.guest.lock).is_none();
                    if guest != host || plain && guest != 0 {
                        let lock = &record.guest.lock;
                        let what = format!(
                            "{lock}: the guest made {guest} notifications, the host saw {host}"
                        );
                        self.fail(repetition, &boot.name(), what, false, result);
                    }
                }
                let rows: String = records.iter().map(|record| csv_row(record) + "\n").collect();
                if let Err(error) = self.append(&rows) {
                    self.data.notes.push(format!("{CSV} is not complete: {error:#}"));
                }
                self.data.records.extend(records);
            }
            Err(error) if result.exit.code() == Some(0) => {
                self.fail(repetition, &boot.name(), format!("{error:#}"), false, result);
            }
            // That it failed is told already.
            Err(_) => {}
        }
    }

    fn count_answers(&mut self, boot: &Boot, report: &Report) {
        let sum = self.data.answers.entry(boot.policy.clone()).or_default();
        for (name, count) in answers(report) {
            let old = sum.entry(name).or_default();
            *old = old.saturating_add(count);
        }
    }

    fn take_pair(&mut self, repetition: u32, bare: Option<&JobResult>, guest: &JobResult) {
        let Some(bare) = bare else { return };
        for side in [bare, guest] {
            if side.exit.code() != Some(0) {
                let what = format!("{}: {}", exit_text(&side.exit), last_line(&side.stderr_text()));
                return self.fail(repetition, &side.name, what, false, side);
            }
        }
        let (bare, told) =
            (events::scalings(&bare.stdout_text()), events::scalings(&guest.stdout_text()));
        match pair(repetition, bare, &told) {
            Ok(pairs) => self.data.scaling.extend(pairs),
            Err(what) => self.fail(repetition, "scaling", what, false, guest),
        }
    }

    fn append(&self, rows: &str) -> Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(self.kit.reports.join(CSV))?;
        Ok(file.write_all(rows.as_bytes())?)
    }

    fn fail(
        &mut self,
        repetition: u32,
        boot: &str,
        what: String,
        only_slow: bool,
        result: &JobResult,
    ) {
        println!("  {boot}: {what}");
        let folder = self.kit.reports.join(FAILURES).join(self.data.failures.len().to_string());
        let parts = [("stdout", &result.stdout), ("stderr", &result.stderr)];
        let files = result.files.iter().map(|(name, content)| (name.as_str(), content));
        for (name, content) in parts.into_iter().chain(files) {
            if let Err(error) = write_file(&folder.join(name), content) {
                self.data.notes.push(format!("the evidence of a failure is lost: {error:#}"));
            }
        }
        self.data.failures.push(Failure { repetition, boot: boot.into(), what, only_slow });
    }
}

/// The work on the bare machine.
fn bare_job(executor: &Executor, amount: u32, cpus: u32) -> Result<Job> {
    let words = [format!("./{BARE}"), amount.to_string(), cpu_list(executor, cpus)?];
    Ok(Job::new("scaling: bare machine", words).timeout(120))
}

/// The work in the guest.
fn guest_job(executor: &Executor, amount: u32, cpus: u32) -> Result<Job> {
    let list = cpu_list(executor, cpus)?;
    let cmdline = format!("events log=warn scaling={amount}");
    let argv = host(&["--cpus", &list], cmdline, cpus, SCALING_MEMORY_MIB);
    Ok(Job::new("scaling: guest", argv).timeout(120).collect(REPORT))
}

/// Adds a little of the work on both sides to a batch that already has our host and our kernel.
///
/// # Errors
/// If the usable processors can't be told.
pub fn add_small_scaling(kit: &Artifacts, executor: &Executor, batch: &mut Batch) -> Result<()> {
    batch.file(&kit.bare_metal, BARE);
    batch.job(bare_job(executor, 1, 1)?).job(guest_job(executor, 1, 1)?);
    Ok(())
}

/// Whether both sides ran the same code to the same end; no word on how fast.
pub fn judge_small_scaling(kit: &Artifacts, bare: &JobResult, guest: &JobResult) -> Vec<Case> {
    let code = fs::read(&kit.linked_kernel)
        .and_then(|kernel| Ok((kernel, fs::read(&kit.bare_metal)?)))
        .map_err(anyhow::Error::from)
        .and_then(|(kernel, bare)| code_differs(&kernel, &bare));
    let failed = [bare, guest].into_iter().find(|side| side.exit.code() != Some(0));
    let told = |side: &JobResult| events::scalings(&side.stdout_text());
    let wrong = match (failed, pair(0, told(bare), &told(guest))) {
        (Some(side), _) => Some(format!("{} {}", side.name, exit_text(&side.exit))),
        (None, Err(wrong)) => Some(wrong),
        (None, Ok(pairs)) => pairs.is_empty().then(|| "nothing was done".into()),
    };
    vec![
        Case::check(
            "the work's code is the same in the guest and on the bare machine",
            code.unwrap_or_else(|error| Some(format!("{error:#}"))),
        ),
        Case::check("the work comes to the same in the guest and on the bare machine", wrong),
    ]
}

fn host(options: &[&str], cmdline: String, vps: u32, memory_mib: u32) -> Vec<String> {
    let mut words: Vec<String> = options.iter().map(ToString::to_string).collect();
    words.extend(["--report".into(), REPORT.into()]);
    let guest = Guest { kernel: kvm::KERNEL.into(), initrd: None, cmdline, vps, memory_mib };
    Vmm::OurHost { options: words }.argv(&paths(), &guest)
}

fn last_line(text: &str) -> String {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .trim()
        .into()
}

/// The load average over a minute, where Linux tells it.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Date and time, UTC.
fn now() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    date.map_or(String::new(), |date| String::from_utf8_lossy(&date.stdout).trim().into())
}

/// Writes and prints everything.
fn publish(kit: &Artifacts, options: &Options, data: &Data) -> Result<()> {
    let findings = data.findings();
    let sections = tables::sections(data, &findings);
    let mut drawn = Vec::new();
    for (name, drawing) in drawings::drawings(&findings.cells) {
        chart::write(&kit.reports.join(name), &drawing)?;
        drawn.push((name, chart::svg(&drawing)?));
    }
    data.write(&kit.reports.join(JSON), &findings)?;
    let svgs: Vec<String> = drawn.iter().map(|(_, svg)| svg.clone()).collect();
    let page = page::page("What spin locks cost under over-commitment", &sections, &svgs);
    write_file(&kit.reports.join(PAGE), page.as_bytes())?;
    println!();
    sections.iter().for_each(|section| println!("{}", section.markdown(2)));
    summary(data, &findings);
    println!("reports: {}/{{{CSV},{JSON},{PAGE}}}", kit.reports.display());
    if options.update_docs {
        println!("refreshed: {}", docs::update(&kit.root, &sections, &drawn)?.join(", "));
    }
    Ok(())
}

fn summary(data: &Data, findings: &Findings) {
    findings.aims.iter().for_each(|aim| println!("{}", aim.sentence()));
    let bad = data.failures.iter().filter(|failure| !failure.only_slow).count();
    println!(
        "{} measurements in {} s, {} boots went wrong, {} took too long",
        data.records.len(),
        data.made.seconds,
        bad,
        data.failures.len() - bad
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thing_said_is_the_reason() {
        assert_eq!(last_line("a\nb \n\n"), "b");
        assert_eq!(last_line("\n"), "it said nothing");
    }
}
