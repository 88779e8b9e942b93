//! The table for a terminal.

use std::fmt::Write as _;

use super::Figure;

/// A row for each piece of work and guest.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut out = format!(
        "{:<6} {:>5} {:<6} {:>10} {:>5} {:>10} {:>12} {:>10} {:>9} {:>10} {:>8}\n",
        "work",
        "depth",
        "guest",
        "exits each",
        "aim",
        "to program",
        "instructions",
        "halts",
        "injected",
        "signals to",
        "us each"
    );
    let mut sorted: Vec<_> = figures.iter().collect();
    sorted.sort_by_key(|figure| (figure.work.work.clone(), figure.work.depth));
    for figure in sorted {
        let kvm = |name: &str| figure.kvm.get(name).copied().unwrap_or_default();
        let work = &figure.work;
        let depth = if work.depth == 0 { "burst".into() } else { work.depth.to_string() };
        let _ = writeln!(
            out,
            "{:<6} {:>5} {:<6} {:>10.3} {:>5} {:>10.3} {:>12} {:>10.3} {:>9.3} {:>10.3} {:>8.1}",
            work.work,
            depth,
            figure.guest.name(),
            figure.exits,
            figure.aim.map_or_else(String::new, |aim| aim.to_string()),
            figure.user_exits,
            figure.guest_instructions.map_or_else(|| "-".into(), |each| format!("{each:.0}")),
            kvm("halt_exits"),
            kvm("irq_injections"),
            figure.signals_sent,
            work.elapsed_100ns as f64 / 10.0 / work.operations.max(1) as f64,
        );
    }
    out
}

/// How it went, in one line.
pub(super) fn verdict(figures: &[Figure]) -> String {
    let aims = figures.iter().filter(|figure| figure.aim.is_some()).count();
    match figures.iter().filter(|figure| figure.misses_aim()).count() {
        0 => format!("{aims} of {aims} aims met"),
        missed => format!("FAILED: {missed} of {aims} aims missed"),
    }
}

/// What a figure that misses its aim is made of.
pub(super) fn missed(figure: &Figure) -> String {
    let list = |counts: &std::collections::BTreeMap<String, f64>| {
        let parts = counts.iter().filter(|(_, each)| **each >= 0.01);
        parts.map(|(name, each)| format!("{name} {each:.2}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "{} at depth {} misses its aim: KVM counts {}; the program {}",
        figure.work.work,
        figure.work.depth,
        list(&figure.kvm),
        list(&figure.user_exits_by_reason)
    )
}
