//! From a guest's words and its host's counters to figures.

use std::collections::BTreeMap;

use hv_abi::host::Mark;
use hypervisor_host::report::MarkReport;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Guest;
use crate::events::PREFIX;

/// A piece of work that a guest did between two marks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Work {
    /// `read`, `write` or `send`.
    pub work: String,
    /// Requests at a time; 0: as many as there is room for.
    pub depth: u32,
    /// How often.
    pub operations: u64,
    /// Bytes of each.
    pub bytes: u64,
    /// By the guest's clock, in 100 ns.
    pub elapsed_100ns: u64,
}

impl Work {
    /// Most exits of one operation, if that is an aim.
    pub fn aim(&self) -> Option<f64> {
        match (&self.work[..], self.depth) {
            ("read" | "write", 1) => Some(2.0),
            ("read" | "write", 32) => Some(0.2),
            ("send", _) => Some(0.1),
            _ => None,
        }
    }
}

/// What one piece of work cost. All counts are for one operation.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Who did it.
    pub guest: Guest,
    /// What.
    #[serde(flatten)]
    pub work: Work,
    /// Exits from the guest, those that the kernel handles alone included; those of the mark are not.
    pub exits: f64,
    /// Exits that reached our host's program.
    pub user_exits: f64,
    /// Most that `exits` should be.
    pub aim: Option<f64>,
    /// The program's exits by reason.
    pub user_exits_by_reason: BTreeMap<String, f64>,
    /// The kernel's counters that changed.
    pub kvm: BTreeMap<String, f64>,
    /// Signals of the guest that reached the program.
    pub signals_received: f64,
    /// Signals to the guest.
    pub signals_sent: f64,
    /// Packets of the guest.
    pub packets_received: f64,
    /// Packets to the guest.
    pub packets_sent: f64,
}

impl Figure {
    /// Whether it is ours and costs more than it should.
    pub fn misses_aim(&self) -> bool {
        self.guest == Guest::Ours && self.aim.is_some_and(|aim| self.exits > aim)
    }
}

/// What a guest says that it did: the kernel's events, or the lines of `guest.sh`.
pub(super) fn works(text: &str) -> Vec<Work> {
    text.lines().filter_map(|line| event(line).or_else(|| words(line))).collect()
}

/// The kernel's event `io`, as far as `W` wants to know of it.
pub(crate) fn event<W: DeserializeOwned>(line: &str) -> Option<W> {
    let json: serde_json::Value =
        serde_json::from_str(line.trim_end().strip_prefix(PREFIX)?).ok()?;
    (json.get("event")? == "io").then(|| serde_json::from_value(json).ok())?
}

/// `IO read 32 2000 4096 1234567`.
fn words(line: &str) -> Option<Work> {
    let mut words = line.trim().strip_prefix("IO ")?.split_whitespace();
    let work = words.next()?.to_owned();
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(Work {
        work,
        depth: number()?.try_into().ok()?,
        operations: number()?,
        bytes: number()?,
        elapsed_100ns: number()?,
    })
}

/// Joins the k-th piece of work with the k-th pair of marks.
///
/// # Errors
///
/// Says which of the two has more, or that the host's kernel does not count.
pub(super) fn figures(
    guest: Guest,
    works: &[Work],
    marks: &[MarkReport],
) -> Result<Vec<Figure>, String> {
    let sections = sections(marks);
    if sections.len() != works.len() {
        let (told, counted) = (works.len(), sections.len());
        return Err(format!("{} told of {told} pieces of work, {counted} counted", guest.name()));
    }
    works.iter().zip(sections).map(|(work, section)| figure(guest, work, section)).collect()
}

fn sections(marks: &[MarkReport]) -> Vec<(&MarkReport, &MarkReport)> {
    let is_pair = |pair: &&[MarkReport]| {
        pair[0].mark == Mark::MEASURE_BEGIN.0 && pair[1].mark == Mark::MEASURE_END.0
    };
    marks.windows(2).filter(is_pair).map(|pair| (&pair[0], &pair[1])).collect()
}

fn figure(
    guest: Guest,
    work: &Work,
    (begin, end): (&MarkReport, &MarkReport),
) -> Result<Figure, String> {
    let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / work.operations.max(1) as f64;
    let (Some(from), Some(to)) = (begin.kvm_exits, end.kvm_exits) else {
        return Err("this kernel's KVM does not count exits".into());
    };
    // The mark at the end is an exit of its own.
    let exits = each(from + 1, to);
    let differences = |from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>| {
        let changed = to.iter().map(|(name, &to)| {
            (name.clone(), each(from.get(name).copied().unwrap_or_default(), to))
        });
        changed.filter(|(_, each)| *each != 0.0).collect()
    };
    let (before, after) = (&begin.vmbus, &end.vmbus);
    Ok(Figure {
        guest,
        work: work.clone(),
        exits,
        user_exits: each(begin.user_exits + 1, end.user_exits),
        aim: work.aim(),
        user_exits_by_reason: differences(&begin.user_exits_by_reason, &end.user_exits_by_reason),
        kvm: differences(&begin.kvm, &end.kvm),
        signals_received: each(before.signals_received, after.signals_received),
        signals_sent: each(before.signals_sent, after.signals_sent),
        packets_received: each(before.packets_received, after.packets_received),
        packets_sent: each(before.packets_sent, after.packets_sent),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What so many exits each come to.
    pub(in crate::bench) fn figure(work: &str, depth: u32, exits: f64) -> Figure {
        let work =
            Work { work: work.into(), depth, operations: 100, bytes: 4096, elapsed_100ns: 1 };
        let mark = |count| mark(Mark::MEASURE_END, count);
        let figure = super::figure(Guest::Ours, &work, (&mark(0), &mark(0)));
        Figure { exits, ..figure.unwrap() }
    }

    fn mark(mark: Mark, exits: u64) -> MarkReport {
        MarkReport {
            mark: mark.0,
            vp: 0,
            elapsed_ns: 0,
            user_exits: exits,
            user_exits_by_reason: BTreeMap::default(),
            kvm_exits: Some(exits),
            kvm: BTreeMap::from([("halt_exits".into(), exits / 2)]),
            long_spins: 0,
            answers: Default::default(),
            idle: Default::default(),
            vmbus: Default::default(),
            devices: BTreeMap::default(),
        }
    }

    #[test]
    fn both_guests_words_are_understood_and_noise_is_not() {
        let text = "noise\n@enl {\"event\":\"end\",\"code\":0}\nIO read x\r\nIO read 32 10 4096 77\r\n\
                    @enl {\"event\":\"io\",\"work\":\"send\",\"depth\":0,\"operations\":5,\"bytes\":1514,\"elapsed_100ns\":9}\n";
        let works = works(text);
        assert_eq!(works.len(), 2);
        assert_eq!((works[0].depth, works[0].operations, works[0].elapsed_100ns), (32, 10, 77));
        assert_eq!((&works[1].work[..], works[1].bytes, works[1].aim()), ("send", 1514, Some(0.1)));
    }

    #[test]
    fn exits_are_counted_for_each_operation_without_those_of_the_marks() {
        let work = &works("IO read 1 10 4096 77")[0];
        let marks =
            [mark(Mark::BOOTED, 3), mark(Mark::MEASURE_BEGIN, 100), mark(Mark::MEASURE_END, 121)];
        let figures = figures(Guest::Ours, std::slice::from_ref(work), &marks).unwrap();
        assert_eq!((figures[0].exits, figures[0].kvm["halt_exits"]), (2.0, 1.0));
        assert!(!figures[0].misses_aim());
    }

    #[test]
    fn a_lost_section_is_an_error_and_not_a_shift() {
        let work = works("IO read 1 10 4096 77");
        assert!(super::figures(Guest::Linux, &work, &[mark(Mark::MEASURE_BEGIN, 1)]).is_err());
    }
}
