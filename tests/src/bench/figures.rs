//! From a guest's words and its host's counters to figures.

use std::collections::BTreeMap;

use hv_abi::host::Mark;
use hypervisor_host::report::MarkReport;
use serde::Serialize;

use super::Guest;
use crate::io_work::Work;

/// Most exits of one operation of this work, if that is an aim.
fn aim(work: &Work) -> Option<f64> {
    match (&work.work[..], work.depth) {
        ("read" | "write", 1) => Some(2.0),
        ("read" | "write", 32) => Some(0.2),
        ("send", _) => Some(0.1),
        _ => None,
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
    /// Instructions that the guest retired, its kernel's and its programs', those around the marks included; `null` if the machine does not count.
    pub guest_instructions: Option<f64>,
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
    let instructions = begin.guest_instructions.zip(end.guest_instructions);
    let (before, after) = (&begin.vmbus, &end.vmbus);
    Ok(Figure {
        guest,
        work: work.clone(),
        exits,
        user_exits: each(begin.user_exits + 1, end.user_exits),
        guest_instructions: instructions.map(|(from, to)| each(from, to)),
        aim: aim(work),
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
    use crate::io_work::works;

    /// What so many exits each come to.
    pub(in crate::bench) fn figure(work: &str, depth: u32, exits: f64) -> Figure {
        let work =
            Work { work: work.into(), depth, ..works("IO storvsc read 1 100 4096 1")[0].clone() };
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
            guest_instructions: Some(exits * 1000),
            long_spins: 0,
            answers: Default::default(),
            idle: Default::default(),
            vmbus: Default::default(),
            devices: BTreeMap::default(),
        }
    }

    #[test]
    fn exits_are_counted_for_each_operation_without_those_of_the_marks() {
        let work = &works("IO storvsc read 1 10 4096 77")[0];
        let marks =
            [mark(Mark::BOOTED, 3), mark(Mark::MEASURE_BEGIN, 100), mark(Mark::MEASURE_END, 121)];
        let figures = figures(Guest::Ours, std::slice::from_ref(work), &marks).unwrap();
        assert_eq!((figures[0].exits, figures[0].kvm["halt_exits"]), (2.0, 1.0));
        assert_eq!(figures[0].guest_instructions, Some(2100.0));
        assert!(!figures[0].misses_aim());
    }

    #[test]
    fn a_lost_section_is_an_error_and_not_a_shift() {
        let work = works("IO storvsc read 1 10 4096 77");
        assert!(super::figures(Guest::Linux, &work, &[mark(Mark::MEASURE_BEGIN, 1)]).is_err());
    }
}
