//! `make soak`: our kernel on our host reads, writes and sends at random for as long as it is told, and checks every byte.
//!
//! The kernel's job `soak` does the work (`vsc_cases::soak`), on a scratch disk and two cards of one switch; `make test` has a few seconds of it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::artifacts::Artifacts;
use crate::events;
use crate::lab::{Job, JobResult};
use crate::outcome::{Case, Results, write_file};
use crate::progress::{Printer, choose_executor};
use crate::suites::kvm::{Check, HOST, KERNEL, batch, note_restarts};
use crate::suites::trial::{REPORT, exit_text};
use crate::vmm::counted_vps;

/// Name of the suite.
pub const SUITE: &str = "random I/O, every byte checked";
/// Seconds in `make test`.
const SHORT_SECONDS: u32 = 5;
/// What reading all blocks back at the end may take, and the start, in seconds.
const ALLOWANCE_SECONDS: u32 = 180;
/// Name of the report.
const JSON: &str = "soak.json";

/// What `make soak` may be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Virtual processors, each with channels of its own (4 at most)
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub vps: u32,
    /// Also show what the guest prints
    #[arg(long)]
    pub verbose: bool,
}

/// The kernel's event `soak`: what was done and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// Random reads of the disk.
    pub reads: u64,
    /// Random writes.
    pub writes: u64,
    /// Those of both that were of several pieces, or not of 4 KiB.
    pub scattered: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read and written at random.
    pub disk_bytes: u64,
    /// Frames that went from one card to the other and came back.
    pub frames: u64,
    /// Bytes of them, counted once.
    pub frame_bytes: u64,
    /// Blocks and frames that were lost.
    pub lost: u64,
    /// Blocks and frames that were not what they should have been.
    pub corrupt: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests of the disk whose time was over, and resets for that reason.
    pub late: u64,
}

/// `target/report/soak.json`.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// What it ran on, in one line.
    place: String,
    seconds: u32,
    vps: u32,
    done: Soak,
    notes: Vec<String>,
}

/// Soaks, prints what was done, writes the report; whether nothing was lost or corrupt.
///
/// # Errors
///
/// The lab or its parts are missing, or the guest did not come to its end.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<bool> {
    let _absent_is_fine = std::fs::remove_file(artifacts.reports.join(JSON));
    let executor = choose_executor(&artifacts.host)?;
    let mut batch = batch(artifacts, 1);
    batch.job(job(options.seconds, options.vps));
    let mut printer = Printer::new(batch.jobs.len(), options.verbose);
    let outcome = executor.run_batch(&batch, &mut |news| printer.show(news))?;
    let mut results = Results::default();
    note_restarts(&mut results, &outcome);
    let [result] = &outcome.jobs[..] else { bail!("the batch lost its job") };
    let (done, wrong) = judge(result)?;
    let Options { seconds, vps, .. } = *options;
    println!("\n{done}");
    if let Some(wrong) = &wrong {
        println!("{wrong}");
    }
    let report =
        Report { schema: 1, place: outcome.place, seconds, vps, done, notes: results.notes };
    let file = artifacts.reports.join(JSON);
    write_file(&file, &serde_json::to_vec_pretty(&report)?)?;
    println!("report: {}", file.display());
    println!("{}", if wrong.is_none() { "0 lost, 0 corrupt" } else { "FAILED" });
    Ok(wrong.is_none())
}

/// A few seconds of it, as a test.
pub fn check() -> Check {
    let name = format!("{SHORT_SECONDS} s of random I/O, {}", counted_vps(2));
    let judge = move |result: &JobResult| match judge(result) {
        Ok((done, None)) if done.reads > 0 && done.writes > 0 && done.frames > 0 => {
            vec![Case::pass(name.as_str())]
        }
        Ok((done, None)) => {
            let text = result.stdout_text();
            let told: Vec<_> = text.lines().filter(|line| line.contains(" soak: ")).collect();
            vec![Case::fail(name.as_str(), format!("hardly anything: {done}; {told:?}"))]
        }
        Ok((done, Some(wrong))) => vec![Case::fail(name.as_str(), format!("{wrong}; {done}"))],
        Err(error) => vec![Case::fail(name.as_str(), format!("{error:#}"))],
    };
    Check { job: job(SHORT_SECONDS, 2), judge: Box::new(judge) }
}

/// A machine with a scratch disk and two cards.
fn job(seconds: u32, vps: u32) -> Job {
    let limit = seconds + ALLOWANCE_SECONDS;
    let script = format!(
        "export XDG_RUNTIME_DIR=$PWD; rm -f soak.img; truncate -s 64M soak.img || exit 2; \
         exec ./{HOST} run --kernel ./{KERNEL} --cmdline 'events log=info soak={seconds}' --vps {vps} --memory 128M \
         --disk soak.img --net switch=soak --net switch=soak --report {REPORT} --timeout {limit}"
    );
    Job::new("soak", ["sh", "-c", &script]).timeout(limit + 30).collect(REPORT)
}

/// What the guest says it did, and what is wrong, if anything is.
fn judge(result: &JobResult) -> Result<(Soak, Option<String>)> {
    let text = result.stdout_text();
    let ended = || format!("it {}; {}", exit_text(&result.exit), result.stderr_text().trim());
    let done = read(&text).with_context(|| format!("the guest tells nothing: {}", ended()))?;
    let clean = (done.lost, done.corrupt, done.failed, done.late) == (0, 0, 0, 0);
    let wrong = (!clean || result.exit.code() != Some(0)).then(|| {
        let told = text.lines().find(|line| line.contains("soak: ") && line.contains("ERROR"));
        format!("{}; {}", told.unwrap_or_default(), ended())
    });
    Ok((done, wrong))
}

/// The event in a console's text.
fn read(text: &str) -> Option<Soak> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        #[serde(flatten)]
        rest: serde_json::Value,
    }
    text.lines().filter_map(|line| line.trim_end().strip_prefix(events::PREFIX)).find_map(|json| {
        let line: Line = serde_json::from_str(json).ok()?;
        (line.event == "soak").then(|| serde_json::from_value(line.rest).ok())?
    })
}

impl std::fmt::Display for Soak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mebibytes = |bytes: u64| bytes >> 20;
        write!(
            f,
            "{} reads and {} writes ({} MiB; {} in pieces or not of 4 KiB), {} flushes; {} frames there and back ({} MiB); \
             {} lost, {} corrupt, {} failed, {} late",
            self.reads,
            self.writes,
            mebibytes(self.disk_bytes),
            self.scattered,
            self.flushes,
            self.frames,
            mebibytes(self.frame_bytes),
            self.lost,
            self.corrupt,
            self.failed,
            self.late
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Verdict;

    fn line(frames: u64, lost: u64) -> String {
        format!(
            "@enl {{\"event\":\"soak\",\"reads\":5,\"writes\":6,\"scattered\":1,\"flushes\":0,\"disk_bytes\":45056,\
             \"frames\":{frames},\"frame_bytes\":900,\"lost\":{lost},\"corrupt\":0,\"failed\":0,\"late\":0}}\r\n"
        )
    }

    fn verdict(code: i32, stdout: &str) -> Verdict {
        (check().judge)(&JobResult::of_test(code, stdout))[0].verdict
    }

    #[test]
    fn what_was_done_is_read_from_the_console() {
        let text = format!("[soak] INFO\n@enl {{\"event\":\"end\",\"code\":0}}\n{}", line(7, 0));
        let done = read(&text).unwrap();
        assert_eq!((done.reads, done.writes, done.frames, done.frame_bytes), (5, 6, 7, 900));
        assert_eq!(read("@enl {\"event\":\"soak\"}\n@enl nonsense\n"), None);
    }

    #[test]
    fn only_a_clean_end_with_work_of_every_kind_passes() {
        assert_eq!(verdict(0, &line(7, 0)), Verdict::Pass);
        assert_eq!(verdict(1, &line(7, 0)), Verdict::Fail);
        assert_eq!(verdict(0, &line(7, 1)), Verdict::Fail);
        assert_eq!(verdict(0, &line(0, 0)), Verdict::Fail);
        assert_eq!(verdict(0, "nothing"), Verdict::Fail);
    }
}
