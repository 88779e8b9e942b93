//! What a person sees while a batch runs: where it runs, each job as it begins and ends.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::lab::{Executor, Exit, Progress};
use crate::suites::trial::exit_text;

/// Native or lab, as `host`, our host's program, says; prints why, if it is the lab.
pub fn choose_executor(host: &Path) -> Result<Executor> {
    let executor = Executor::choose(host)?;
    if let Executor::Lab(lab) = &executor
        && let Some(why) = lab.why()
    {
        println!("{why}");
    }
    Ok(executor)
}

/// Prints a line for each job that ends; the job's own output only on request.
#[derive(Debug)]
pub struct Printer {
    jobs: usize,
    begun: Instant,
    name: String,
    verbose: bool,
}

impl Printer {
    /// For a batch of so many jobs.
    pub fn new(jobs: usize, verbose: bool) -> Self {
        Self { jobs, begun: Instant::now(), name: String::new(), verbose }
    }

    /// Takes one piece of news.
    pub fn show(&mut self, news: Progress<'_>) {
        match news {
            Progress::Place(place) => println!("{place}"),
            Progress::LabUp(time) => println!("lab: up after {:.1} s", time.as_secs_f64()),
            Progress::JobBegin(_, name) => {
                self.begun = Instant::now();
                self.name = name.to_owned();
            }
            Progress::Output(_, _, bytes) if self.verbose => {
                print!("{}", String::from_utf8_lossy(bytes));
            }
            Progress::Output(..) => {}
            Progress::JobEnd(index, exit) => self.job_end(index, exit),
            Progress::LabLost { restart, again } => {
                let next = if again { "starting it again" } else { "giving up" };
                println!("lab: lost ({}); {next}", restart.reason);
            }
            Progress::Warning(text) => println!("lab: warning: {text}"),
        }
        // A terminal shows each line at once, a pipe only when told to.
        let _ = std::io::stdout().flush();
    }

    fn job_end(&self, index: usize, exit: &Exit) {
        let end = match exit {
            Exit::Exited(0) => String::new(),
            other => format!(": {}", exit_text(other)),
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        println!("  [{:>2}/{}] {} ({seconds:.1} s){end}", index + 1, self.jobs, self.name);
    }
}
