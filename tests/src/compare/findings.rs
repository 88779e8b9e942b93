//! What the figures say: how many times fewer exits, whether that reaches the aims, and if not, why.

use std::collections::BTreeMap;

use serde::Serialize;

use super::System;
use super::record::Figure;

/// Emulated, synthetic: which must be how many times cheaper in exits, for what (issue of the comparison, and
/// `docs/synthetic-vs-emulated.md`).
const AIMS: [(&str, &str, &str, u64, f64); 3] = [
    ("storvsc", "ide-pio", "read", 4096, 50.0),
    ("storvsc", "ide-dma", "read", 4096, 5.0),
    ("netvsc", "tulip", "send", 1514, 20.0),
];
/// Ways that are set against each other: synthetic, and what it replaces.
const PAIRS: [(&str, &str); 3] =
    [("storvsc", "ide-pio"), ("storvsc", "ide-dma"), ("netvsc", "tulip")];
/// Exits below which one for an operation is not told from none.
const LEAST_EXITS: f64 = 1e-4;
/// Reasons with fewer exits than that part of all are not told.
const TOLD_PART: f64 = 0.02;

/// How many times fewer exits a synthetic device takes than an emulated one for the same work, each at its best depth or in its
/// longest burst.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ratio {
    pub(super) system: System,
    pub(super) synthetic: String,
    pub(super) emulated: String,
    pub(super) work: String,
    pub(super) bytes: u64,
    /// Exits for one operation.
    pub(super) synthetic_exits: f64,
    /// The same.
    pub(super) emulated_exits: f64,
    /// The latter divided by the former.
    pub(super) ratio: f64,
    /// The least that it should be, if that was said.
    pub(super) aim: Option<f64>,
    /// Where it is not reached: why, from the figures.
    pub(super) why: Option<String>,
}

impl Ratio {
    pub(super) fn is_missed(&self) -> bool {
        self.aim.is_some_and(|aim| self.ratio < aim)
    }
}

/// All that can be had from these figures.
pub(super) fn ratios(figures: &[Figure]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for system in [System::Ours, System::Linux] {
        for (synthetic, emulated) in PAIRS {
            let works: std::collections::BTreeSet<_> = figures
                .iter()
                .filter(|figure| figure.work.path == emulated)
                .map(|figure| (figure.work.work.as_str(), figure.work.bytes))
                .collect();
            for (work, bytes) in works {
                let find = |path| best(figures, system, path, work, bytes);
                let Some((cheap, dear)) = find(synthetic).zip(find(emulated)) else { continue };
                ratios.push(ratio(system, cheap, dear));
            }
        }
    }
    ratios
}

/// The figure with the fewest exits of a way, or of its longest burst. Linux goes by port I/O in a start of its own.
pub(super) fn best<'a>(
    figures: &'a [Figure],
    system: System,
    path: &str,
    work: &str,
    bytes: u64,
) -> Option<&'a Figure> {
    let of = |figure: &&Figure| {
        let Figure { work: done, .. } = figure;
        figure.system.title() == system.title()
            && done.path == path
            && done.work == work
            && done.bytes == bytes
    };
    let length = |figure: &Figure| if figure.work.depth == 0 { figure.work.operations } else { 0 };
    figures
        .iter()
        .filter(of)
        .min_by(|a, b| length(b).cmp(&length(a)).then(a.exits.total_cmp(&b.exits)))
}

fn ratio(system: System, cheap: &Figure, dear: &Figure) -> Ratio {
    let (synthetic, emulated) = (&cheap.work.path, &dear.work.path);
    let aim = AIMS.iter().find(|(s, e, work, bytes, _)| {
        *s == synthetic && *e == emulated && *work == cheap.work.work && *bytes == cheap.work.bytes
    });
    let mut ratio = Ratio {
        system,
        synthetic: synthetic.clone(),
        emulated: emulated.clone(),
        work: cheap.work.work.clone(),
        bytes: cheap.work.bytes,
        synthetic_exits: cheap.exits,
        emulated_exits: dear.exits,
        ratio: dear.exits / cheap.exits.max(LEAST_EXITS),
        aim: aim.map(|aim| aim.4),
        why: None,
    };
    ratio.why = ratio.is_missed().then(|| why(&ratio, cheap, dear));
    ratio
}

/// Why an aim is missed: what the exits of both are, and what the emulated driver would have to cost.
fn why(ratio: &Ratio, cheap: &Figure, dear: &Figure) -> String {
    let mut parts = Vec::new();
    let needed = ratio.synthetic_exits * ratio.aim.unwrap_or(1.0);
    if dear.exits < 1.0 {
        parts.push(format!(
            "{} is cheap itself: its driver and the device do {:.0} operations with each exit, for which nothing but rings in memory is needed",
            dear.work.path,
            1.0 / dear.exits.max(LEAST_EXITS)
        ));
    }
    if cheap.exits >= 0.5 {
        parts.push(format!(
            "{} is not batched: it takes about one exit for each operation",
            cheap.work.path
        ));
    }
    parts.push(format!(
        "the aim would need {} to cost {} exits, or {} no more than {}",
        dear.work.path,
        short(needed),
        cheap.work.path,
        short(dear.exits / ratio.aim.unwrap_or(1.0))
    ));
    let exits = [dear, cheap].map(|figure| {
        let device = match of_devices(figure) {
            told if told.is_empty() => told,
            told => format!(" (the device: {told})"),
        };
        format!(
            "{}: {} exits ({}), {} interrupts{device}",
            figure.work.path,
            short(figure.exits),
            reasons(&figure.exits_by_reason),
            short(figure.interrupts)
        )
    });
    format!("{}. {}", parts.join("; "), exits.join("; "))
}

/// Reasons with their exits, the most first.
pub(super) fn reasons(reasons: &BTreeMap<String, f64>) -> String {
    let all: f64 = reasons.values().sum();
    let mut parts: Vec<_> = reasons.iter().filter(|(_, each)| **each >= all * TOLD_PART).collect();
    parts.sort_by(|a, b| b.1.total_cmp(a.1));
    let list: Vec<_> =
        parts.iter().map(|(name, each)| format!("{name} {}", short(**each))).collect();
    if list.is_empty() { "none".into() } else { list.join(", ") }
}

/// What a device counted of its registers and interrupts; of frames and bytes there are counts elsewhere.
pub(super) fn of_devices(figure: &Figure) -> String {
    const TOLD: [&str; 7] = [
        "commands",
        "data_accesses",
        "doorbells",
        "interrupts",
        "register_accesses",
        "register_reads",
        "register_writes",
    ];
    let parts = figure.devices.iter().filter_map(|(name, each)| {
        let (_, count) = name.rsplit_once('.')?;
        TOLD.contains(&count).then(|| format!("{} {}", count.replace('_', " "), short(*each)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// A count for one operation, with as many digits as tell something.
pub(super) fn short(each: f64) -> String {
    match each {
        each if each >= 100.0 => format!("{each:.0}"),
        each if each >= 10.0 => format!("{each:.1}"),
        each if each >= 1.0 => format!("{each:.2}"),
        each => format!("{each:.3}"),
    }
}

/// A ratio in a sentence; where it misses an aim, with the reason.
pub(super) fn sentence(ratio: &Ratio) -> String {
    let Ratio { system, synthetic, emulated, work, bytes, aim, .. } = ratio;
    let aim = aim.map_or_else(String::new, |aim| format!("; the aim is {aim}"));
    let told = format!(
        "{}: {synthetic} takes {} exits for a {work} of {bytes} bytes, {emulated} {}: {} times as many{aim}",
        system.title(),
        short(ratio.synthetic_exits),
        short(ratio.emulated_exits),
        short(ratio.ratio),
    );
    match &ratio.why {
        Some(why) => format!("MISSED: {told}. {why}"),
        None => told,
    }
}

/// What was found, in a few sentences, for the top of a page: one for each work that has an aim or is a card's, both guests together.
pub(super) fn lead(figures: &[Figure]) -> Vec<String> {
    const WORKS: [(&str, u64, &str); 3] = [
        ("read", 4096, "A read of 4 KiB at the best depth"),
        ("send", 1514, "A frame of 1,514 bytes sent in a burst"),
        ("receive", 1514, "A frame of 1,514 bytes received in a flood"),
    ];
    const PATHS: [&str; 7] =
        ["ide-pio", "ide-dma", "tulip", "storvsc", "netvsc", "virtio-blk", "virtio-net"];
    let mut lead = Vec::new();
    for (work, bytes, title) in WORKS {
        let systems = [System::Ours, System::Linux, System::QemuLinux];
        let told = systems.into_iter().filter_map(|system| {
            let ways = PATHS.into_iter().filter_map(|path| {
                let figure = best(figures, system, path, work, bytes)?;
                Some(format!("{} by {path}", short(figure.exits)))
            });
            let ways: Vec<_> = ways.collect();
            (!ways.is_empty()).then(|| format!("{}: {}", system.title(), ways.join(", ")))
        });
        let told: Vec<_> = told.collect();
        if !told.is_empty() {
            lead.push(format!("{title} costs so many exits: {}.", told.join("; ")));
        }
    }
    lead
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::example;
    use super::*;

    #[test]
    fn a_ratio_is_told_where_both_ways_were_gone() {
        let ratios = ratios(&example());
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].ratio, ratios[0].aim), (60.0, Some(50.0)));
        assert!(!ratios[0].is_missed() && ratios[0].why.is_none());
        assert!(sentence(&ratios[0]).contains("60.0 times as many; the aim is 50"));
    }

    #[test]
    fn a_missed_aim_says_why_and_what_the_exits_are() {
        let mut figures = example();
        figures[1].exits = 0.02;
        let ratio = &ratios(&figures)[0];
        let text = sentence(ratio);
        assert!(ratio.is_missed() && text.starts_with("MISSED"), "{text}");
        for part in ["50 operations with each exit", "halts", "one exit for each operation"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_device_tells_of_its_registers_and_not_of_bytes() {
        let mut figure = example().remove(0);
        figure.devices = [("net1.register_reads", 0.5), ("net1.tx_bytes", 9.0)]
            .map(|(name, each)| (name.to_owned(), each))
            .into();
        assert_eq!(of_devices(&figure), "register reads 0.500");
    }

    #[test]
    fn what_leads_names_each_way_that_was_gone() {
        let lead = lead(&example());
        assert_eq!(lead.len(), 1);
        assert!(lead[0].contains("our kernel: 60.0 by ide-pio, 1.00 by storvsc"), "{}", lead[0]);
    }

    #[test]
    fn few_digits_tell_enough() {
        assert_eq!(
            [0.0, 0.0312, 1.017, 14.04, 1038.2].map(short),
            ["0.000", "0.031", "1.02", "14.0", "1038"]
        );
    }
}
