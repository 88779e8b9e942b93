//! The table for a terminal.

use std::fmt::Write as _;

use super::findings::{Ratio, sentence};
use super::record::Figure;
use super::{Comparison, System};
use crate::io_work::Work;

/// A row for each piece of work and way, the same work together; then what follows from it, and what is not there.
pub(super) fn table(comparison: &Comparison) -> String {
    let mut out = format!(
        "{:<8} {:>7} {:>5} {:>6}  {:<11} {:<14} {:>9} {:>10} {:>10} {:>9} {:>12} {:>8}\n",
        "work",
        "bytes",
        "depth",
        "times",
        "way",
        "guest",
        "exits",
        "to program",
        "interrupts",
        "copied",
        "instructions",
        "speed"
    );
    for figure in sorted(&comparison.figures) {
        let work = &figure.work;
        let _ = writeln!(
            out,
            "{:<8} {:>7} {:>5} {:>6}  {:<11} {:<14} {:>9.3} {:>10} {:>10.3} {:>9} {:>12} {:>7.1}x",
            work.work,
            work.bytes,
            depth(work.depth),
            work.operations,
            work.path,
            figure.system.title(),
            figure.exits,
            optional(figure.user_exits, 3),
            figure.interrupts,
            optional(figure.copied_bytes, 0),
            optional(figure.instructions, 0),
            figure.speed,
        );
    }
    out.push('\n');
    for lead in &comparison.lead {
        let _ = writeln!(out, "{lead}");
    }
    for ratio in comparison.aims() {
        let _ = writeln!(out, "{}", sentence(ratio));
    }
    for skip in &comparison.skips {
        let _ = writeln!(out, "SKIP: {skip}");
    }
    for note in &comparison.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for failure in &comparison.failures {
        let _ = writeln!(out, "FAILED: {failure}");
    }
    out
}

/// How it went, in one line.
pub(super) fn verdict(comparison: &Comparison) -> String {
    let aims: Vec<&Ratio> = comparison.aims().collect();
    let missed = aims.iter().filter(|ratio| ratio.is_missed()).count();
    format!(
        "{} figures, {} failed, {} skipped; {} of {} aims reached{}",
        comparison.figures.len(),
        comparison.failures.len(),
        comparison.skips.len(),
        aims.len() - missed,
        aims.len(),
        if missed == 0 { "" } else { ", why not the others is said above" }
    )
}

/// A piece of work, in words.
pub(super) fn title(work: &Work) -> String {
    let Work { path, work: name, operations, bytes, .. } = work;
    format!("{path}: {operations} times {name} of {bytes} bytes, {}", depth(work.depth))
}

/// How many requests at a time.
pub(super) fn depth(depth: u32) -> String {
    if depth == 0 { "burst".into() } else { depth.to_string() }
}

/// A value with so many digits behind the point, or a dash for one that nobody counts.
pub(super) fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}

/// The figures, the same work together.
pub(super) fn sorted(figures: &[Figure]) -> Vec<&Figure> {
    const ORDER: [&str; 4] = ["read", "write", "send", "receive"];
    let mut sorted: Vec<_> = figures.iter().collect();
    sorted.sort_by_key(|figure| {
        let work = &figure.work;
        let place = ORDER.iter().position(|name| *name == work.work);
        let foreign = figure.system == System::QemuLinux;
        (place, work.bytes, work.depth, work.operations, foreign, figure.system != System::Ours)
    });
    sorted
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::outcome::Skip;
    use super::super::{findings, record};
    use super::*;

    pub(crate) fn comparison() -> Comparison {
        let figures = record::tests::example();
        Comparison {
            schema: 2,
            place: "here & there".into(),
            operations: 10,
            lead: findings::lead(&figures),
            ratios: findings::ratios(&figures),
            figures,
            skips: vec![Skip::new(System::Linux, "tulip", "no driver")],
            failures: vec!["linux: <script>".into()],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn every_figure_finding_skip_failure_and_note_is_told() {
        let text = table(&comparison());
        for part in [
            "storvsc",
            "ide-pio",
            "60.000",
            "4.0x",
            "60.0 times as many",
            "SKIP: linux, tulip: no driver",
            "note: a note",
            "FAILED: linux",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_verdict_counts() {
        assert_eq!(verdict(&comparison()), "2 figures, 1 failed, 1 skipped; 1 of 1 aims reached");
    }
}
