//! The aims for exits as a part of `make test`: our guest on our host, few operations, counts only.

use super::{Figure, Guest, Measured, add_scripts, of_guest};
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job, JobResult};
use crate::outcome::Case;
use crate::suites::kvm::Check;
use crate::suites::trial::REPORT;

/// Name of the suite.
pub const SUITE: &str = "exits for each read, write and packet of our guest on our host";
/// Operations of each work: enough for what happens once in a while to weigh little.
const OPERATIONS: &str = "512";
/// Works that have an aim: reads and writes one and 32 at a time, packets.
const WORKS_WITH_AIM: usize = 5;

/// The job with what judges it; adds its scripts to `batch`.
pub fn check(artifacts: &Artifacts, batch: &mut Batch) -> Check {
    add_scripts(artifacts, batch);
    let guest = Guest::Ours;
    let argv = ["sh", "./bench.sh", guest.name(), OPERATIONS, guest.memory_mib()];
    let job = Job::new(SUITE, argv).timeout(120).collect(REPORT);
    Check { job, judge: Box::new(judge) }
}

fn judge(result: &JobResult) -> Vec<Case> {
    match of_guest(Guest::Ours, result) {
        Ok(Measured { figures, uncounted }) => {
            let mut cases = cases(&figures);
            cases.push(counted(&figures, uncounted));
            cases
        }
        Err(error) => vec![Case::fail("the work is done", format!("{error:#}"))],
    }
}

fn cases(figures: &[Figure]) -> Vec<Case> {
    let one = |figure: &Figure| {
        let aim = figure.aim?;
        let depth = match figure.work.depth {
            0 => "in a burst".into(),
            depth => format!("{depth} at a time"),
        };
        let name = format!("{}, {depth}: at most {aim} exits each", figure.work.work);
        let wrong = (figure.exits > aim).then(|| format!("{:.3}", figure.exits));
        Some(Case::check(name, wrong))
    };
    let mut cases: Vec<_> = figures.iter().filter_map(one).collect();
    let missing =
        (cases.len() < WORKS_WITH_AIM).then(|| format!("{} of {WORKS_WITH_AIM}", cases.len()));
    cases.push(Case::check("every work with an aim was done", missing));
    cases
}

/// Instructions have no aim, but where the machine counts them, each work has its number.
fn counted(figures: &[Figure], uncounted: Option<String>) -> Case {
    let name = "instructions of the guest are counted";
    match uncounted {
        Some(reason) => Case::skip(name, reason),
        None => {
            let missing = figures.iter().any(|figure| figure.guest_instructions.is_none());
            Case::check(name, missing.then(|| "a work has none".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figure;
    use super::*;
    use crate::events::Verdict;

    #[test]
    fn more_exits_than_the_aim_fail_and_so_does_a_work_that_is_missing() {
        let figures = [figure("read", 1, 2.0), figure("read", 32, 0.21), figure("other", 1, 9.0)];
        let verdicts: Vec<_> = cases(&figures).iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Fail]);
        let skipped = counted(&figures, Some("no counter".into()));
        assert_eq!(
            (skipped.verdict, counted(&figures, None).verdict),
            (Verdict::Skip, Verdict::Pass)
        );
    }
}
