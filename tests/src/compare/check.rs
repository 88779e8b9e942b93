//! A small comparison as a part of `make test`: our guest on our host by the ways that are quick, counts only.

use super::findings::{Ratio, ratios, sentence};
use super::outcome::{Outcome, of_system};
use super::{System, add_scripts};
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job, JobResult};
use crate::outcome::Case;
use crate::suites::kvm::Check;
use crate::suites::trial::REPORT;

/// Name of the suite.
pub const SUITE: &str = "the same work by emulated and synthetic devices on our host";
/// The ways that are gone. Port I/O would take longer than all others.
const PATHS: &str = "storvsc,ide-dma,netvsc,tulip";
/// Operations of each work.
const OPERATIONS: &str = "128";
/// Most exits of one operation of our emulated devices with our drivers: what a request by DMA takes, and a frame of a burst.
const MOST_EXITS: [(&str, &str, u64, f64); 3] = [
    ("ide-dma", "read", 4096, 16.0),
    ("ide-dma", "write", 4096, 16.0),
    ("tulip", "send", 1514, 0.25),
];

/// The job with what judges it; adds its scripts to `batch`.
pub fn check(artifacts: &Artifacts, batch: &mut Batch) -> Check {
    add_scripts(artifacts, batch);
    let argv = ["sh", "./compare.sh", System::Ours.name(), PATHS, OPERATIONS];
    let job = Job::new(SUITE, argv).timeout(240).collect(REPORT);
    Check { job, judge: Box::new(judge) }
}

fn judge(result: &JobResult) -> Vec<Case> {
    cases(&of_system(System::Ours, PATHS, result))
}

fn cases(outcome: &Outcome) -> Vec<Case> {
    let mut cases: Vec<_> = PATHS.split(',').map(|path| of_path(outcome, path)).collect();
    for (path, work, bytes, most) in MOST_EXITS {
        let figures = outcome.figures.iter().filter(|figure| {
            let done = &figure.work;
            done.path == path && done.work == work && done.bytes == bytes
        });
        if let Some(dearest) = figures.map(|figure| figure.exits).reduce(f64::max) {
            let name = format!("{path}: a {work} of {bytes} bytes takes {most} exits at most");
            cases.push(Case::check(name, (dearest > most).then(|| format!("{dearest:.3}"))));
        }
    }
    // The aims for disks are far from what happens; that for cards is known to be missed.
    let is_of_disks = |ratio: &&Ratio| ratio.aim.is_some() && ratio.synthetic == "storvsc";
    for ratio in ratios(&outcome.figures).iter().filter(is_of_disks) {
        let name = format!("{} takes fewer exits than {}", ratio.synthetic, ratio.emulated);
        cases.push(Case::check(name, ratio.is_missed().then(|| sentence(ratio))));
    }
    let wrong = (!outcome.failures.is_empty()).then(|| outcome.failures.join("; "));
    cases.push(Case::check("nothing went wrong", wrong));
    cases
}

/// Whether there are figures of a way.
fn of_path(outcome: &Outcome, path: &str) -> Case {
    let name = format!("{path}: work is done and counted");
    if let Some(skip) = outcome.skips.iter().find(|skip| skip.what == path) {
        return Case::skip(name, skip.reason.as_str());
    }
    let is_there = outcome.figures.iter().any(|figure| figure.work.path == path);
    Case::check(name, (!is_there).then(|| "no figures".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Skip;
    use super::super::record::tests::example;
    use super::*;
    use crate::events::Verdict;

    #[test]
    fn too_many_exits_a_missing_way_and_a_failure_are_failures_and_a_skip_is_a_skip() {
        let mut figures = example();
        figures[1].work.path = "ide-dma".into();
        let skips = vec![Skip::new(System::Ours, "tulip", "no TAP")];
        let outcome = Outcome { figures, skips, failures: vec!["x".into()] };
        let told: Vec<_> =
            cases(&outcome).into_iter().map(|case| (case.name, case.verdict)).collect();
        let expected = [
            ("storvsc: work is done and counted", Verdict::Pass),
            ("ide-dma: work is done and counted", Verdict::Pass),
            ("netvsc: work is done and counted", Verdict::Fail),
            ("tulip: work is done and counted", Verdict::Skip),
            ("ide-dma: a read of 4096 bytes takes 16 exits at most", Verdict::Fail),
            ("storvsc takes fewer exits than ide-dma", Verdict::Pass),
            ("nothing went wrong", Verdict::Fail),
        ];
        assert_eq!(told, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }
}
