//! The table for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::record::{Aim, Figure};
use super::{Comparison, System};

/// A row for each piece of work and way, the same work together.
pub(super) fn table(comparison: &Comparison) -> String {
    let mut out = format!(
        "{:<8} {:>7} {:>5}  {:<11} {:<14} {:>9} {:>10} {:>10} {:>9} {:>8}\n",
        "work",
        "bytes",
        "depth",
        "way",
        "guest",
        "exits",
        "to program",
        "interrupts",
        "copied",
        "speed"
    );
    for figure in sorted(&comparison.figures) {
        let work = &figure.work;
        let depth = if work.depth == 0 { "burst".into() } else { work.depth.to_string() };
        let optional = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
        };
        let _ = writeln!(
            out,
            "{:<8} {:>7} {:>5}  {:<11} {:<14} {:>9.3} {:>10} {:>10.3} {:>9} {:>7.1}x",
            work.work,
            work.bytes,
            depth,
            work.path,
            figure.system.title(),
            figure.exits,
            optional(figure.user_exits, 3),
            figure.interrupts,
            optional(figure.copied_bytes, 0),
            figure.speed,
        );
    }
    out.push('\n');
    for aim in &comparison.aims {
        let _ = writeln!(out, "{}", verdict(aim, &comparison.figures));
    }
    for note in &comparison.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// The figures, the same work together.
pub(super) fn sorted(figures: &[Figure]) -> Vec<&Figure> {
    const ORDER: [&str; 4] = ["read", "write", "send", "receive"];
    let mut sorted: Vec<_> = figures.iter().collect();
    sorted.sort_by_key(|figure| {
        let work = &figure.work;
        let place = ORDER.iter().position(|name| *name == work.work);
        (place, work.bytes, work.depth, figure.system == System::QemuLinux)
    });
    sorted
}

/// An aim in a sentence; if it is missed, with what the exits of the dearer part of the ratio are.
pub(super) fn verdict(aim: &Aim, figures: &[Figure]) -> String {
    let Aim { system, synthetic, emulated, work, bytes, ratio, aim: least } = aim;
    let told = format!(
        "{}: {synthetic} takes {ratio:.1} times fewer exits than {emulated} for each {work} of {bytes} bytes; the aim is {least}",
        system.title()
    );
    if aim.is_reached() {
        return told;
    }
    let of = |path: &str| {
        let best = figures.iter().filter(|figure| {
            let same = figure.system.title() == system.title() && figure.work.path == path;
            same && figure.work.work == *work && figure.work.bytes == *bytes
        });
        let best = best.min_by(|a, b| a.exits.total_cmp(&b.exits));
        best.map_or_else(String::new, |figure| {
            let (kvm, user) = (reasons(&figure.kvm), reasons(&figure.user_exits_by_reason));
            format!("{path}: {:.3} exits ({kvm}; to the program: {user})", figure.exits)
        })
    };
    format!("MISSED: {told}. {}. {}", of(synthetic), of(emulated))
}

/// The counters that matter.
fn reasons(counts: &BTreeMap<String, f64>) -> String {
    let parts = counts.iter().filter(|(name, each)| **each >= 0.005 && *name != "exits");
    let list = parts.map(|(name, each)| format!("{name} {each:.2}")).collect::<Vec<_>>().join(", ");
    if list.is_empty() { "none".into() } else { list }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    fn comparison() -> Comparison {
        let figures = record::tests::example();
        let aims = record::aims(&figures);
        Comparison { schema: 1, place: "here".into(), figures, aims, notes: vec!["a note".into()] }
    }

    #[test]
    fn every_figure_aim_and_note_is_told() {
        let text = table(&comparison());
        for part in ["storvsc", "ide-pio", "60.000", "4.0x", "60.0 times fewer", "note: a note"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_missed_aim_says_what_the_exits_are() {
        let mut comparison = comparison();
        comparison.aims[0].aim = 100.0;
        let text = verdict(&comparison.aims[0], &comparison.figures);
        assert!(text.starts_with("MISSED") && text.contains("irq_injections"), "{text}");
    }
}
