//! Many starts of the lab in a row, counted: the proof that a recipe is reliable.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::job::{Batch, Exit, Progress};
use super::runner::Lab;

/// What many starts came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProveReport {
    /// The recipe, in one line.
    pub place: String,
    /// Starts made.
    pub starts: u32,
    /// Starts in which every job ended with code 0 and the lab kept responding.
    pub clean: u32,
    /// Starts in which the lab was lost: number from 1, and why.
    pub lost: Vec<(u32, String)>,
    /// Starts in which the lab worked but a job did not end with code 0.
    pub wrong: Vec<(u32, String)>,
    /// Stalls that a lab got over.
    pub warnings: Vec<(u32, String)>,
    /// Time from QEMU's start to the agent's first word, for each start that got there.
    pub boots: Vec<Duration>,
}

impl ProveReport {
    /// Shortest, middle and longest time to the agent's first word.
    pub fn boot_times(&self) -> Option<(Duration, Duration, Duration)> {
        let mut boots = self.boots.clone();
        boots.sort();
        Some((*boots.first()?, *boots.get(boots.len() / 2)?, *boots.last()?))
    }
}

/// Starts the lab anew this many times and runs the batch in each. A lab that is lost counts as such; it is
/// not started again for the same number.
///
/// # Errors
/// If the lab cannot even be tried.
pub fn prove(
    lab: &Lab,
    starts: u32,
    batch: &Batch,
    after_each: &mut dyn FnMut(&ProveReport),
) -> Result<ProveReport> {
    let lab = lab.with_max_restarts(0);
    let mut report = ProveReport { place: lab.place(batch.cpus), ..Default::default() };
    for number in 1..=starts {
        let result = lab.run_batch(batch, &mut |_: Progress<'_>| {})?;
        report.starts = number;
        report.boots.extend(&result.boots);
        report.warnings.extend(result.warnings.into_iter().map(|warning| (number, warning)));
        let wrong = result.jobs.iter().find(|job| job.exit != Exit::Exited(0));
        match (result.restarts.first(), wrong) {
            (Some(lost), _) => {
                let job = lost.job.as_deref().unwrap_or("start");
                let log = lost.console_log.display();
                report.lost.push((number, format!("{job}: {}; log: {log}", lost.reason)));
            }
            (None, Some(job)) => report.wrong.push((
                number,
                format!("{}: {:?}; {}", job.name, job.exit, last_line(&job.stderr_text())),
            )),
            (None, None) => report.clean += 1,
        }
        after_each(&report);
    }
    Ok(report)
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or("no words on standard error")
}
