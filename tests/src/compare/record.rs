//! From a guest's words and its host's counters to figures.

use std::collections::BTreeMap;

use hv_abi::host::Mark;
use hypervisor_host::report::MarkReport;
use serde::{Deserialize, Serialize};

use super::System;
use crate::bench::event;

/// Emulated, synthetic: which must be how many times cheaper in exits, for what (issue of the comparison, and `docs/synthetic-vs-emulated.md`).
const AIMS: [(&str, &str, &str, u64, f64); 3] = [
    ("storvsc", "ide-pio", "read", 4096, 50.0),
    ("storvsc", "ide-dma", "read", 4096, 5.0),
    ("netvsc", "tulip", "send", 1514, 20.0),
];

/// A piece of work that a guest did between two marks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Work {
    /// The driver.
    pub(super) path: String,
    /// `read`, `write`, `send` or `receive`; `nothing` for what marks cost themselves.
    pub(super) work: String,
    /// Requests at a time; 0: as many as there is room for.
    pub(super) depth: u32,
    /// How often.
    pub(super) operations: u64,
    /// Bytes of each.
    pub(super) bytes: u64,
    /// By the guest's clock, in 100 ns.
    pub(super) elapsed_100ns: u64,
}

/// What one piece of work cost. All counts are for one operation.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    /// Who did it.
    pub(super) system: System,
    /// What.
    #[serde(flatten)]
    pub(super) work: Work,
    /// Exits from the guest, those that the kernel handles alone included; those of the marks are not.
    pub(super) exits: f64,
    /// Exits that reached the monitor's program; nobody counts them in QEMU.
    pub(super) user_exits: Option<f64>,
    /// Interrupts that the guest got, its timer's included.
    pub(super) interrupts: f64,
    /// Bytes that the monitor's program copied; nobody counts them in QEMU.
    pub(super) copied_bytes: Option<f64>,
    /// KVM's counters that changed.
    pub(super) kvm: BTreeMap<String, f64>,
    /// The program's exits by reason.
    pub(super) user_exits_by_reason: BTreeMap<String, f64>,
    /// Bytes in a second, as a multiple of the slowest way that did the same work.
    pub(super) speed: f64,
}

/// A ratio of exits that is aimed at, and what it is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Aim {
    pub(super) system: System,
    pub(super) synthetic: String,
    pub(super) emulated: String,
    pub(super) work: String,
    pub(super) bytes: u64,
    /// Exits of the emulated way for one of the synthetic one, each at its best depth.
    pub(super) ratio: f64,
    /// The least that it should be.
    pub(super) aim: f64,
}

impl Aim {
    pub(super) fn is_reached(&self) -> bool {
        self.ratio >= self.aim
    }
}

/// Counters at a mark.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Snapshot {
    mark: u32,
    kvm: BTreeMap<String, u64>,
    #[serde(default)]
    user_exits: Option<u64>,
    #[serde(default)]
    user_exits_by_reason: BTreeMap<String, u64>,
    #[serde(default)]
    devices: BTreeMap<String, u64>,
}

/// What a guest says that it did: the kernel's events, or the lines of `guest.sh`.
pub(super) fn works(text: &str) -> Vec<Work> {
    text.lines().filter_map(|line| event(line).or_else(|| words(line))).collect()
}

/// `IO storvsc read 32 2000 4096 1234567`.
fn words(line: &str) -> Option<Work> {
    let mut words = line.trim().strip_prefix("IO ")?.split_whitespace();
    let (path, work) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(Work {
        path,
        work,
        depth: number()?.try_into().ok()?,
        operations: number()?,
        bytes: number()?,
        elapsed_100ns: number()?,
    })
}

/// Snapshots of our host.
pub(super) fn reported(marks: &[MarkReport]) -> Vec<Snapshot> {
    let snapshot = |mark: &MarkReport| {
        let mut kvm = mark.kvm.clone();
        kvm.extend(mark.kvm_exits.map(|exits| ("exits".to_owned(), exits)));
        Snapshot {
            mark: mark.mark,
            kvm,
            user_exits: Some(mark.user_exits),
            user_exits_by_reason: mark.user_exits_by_reason.clone(),
            devices: mark.devices.clone(),
        }
    };
    marks.iter().map(snapshot).collect()
}

/// Snapshots of `guest-probe watch-marks`, each a line after `MARK`.
pub(super) fn watched(text: &str) -> Vec<Snapshot> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("MARK "));
    lines.filter_map(|json| serde_json::from_str(json).ok()).collect()
}

/// Joins the k-th piece of work with the k-th pair of marks.
///
/// # Errors
///
/// Says which of the two has more, or that KVM does not count.
pub(super) fn figures(
    system: System,
    works: &[Work],
    snapshots: &[Snapshot],
) -> Result<Vec<Figure>, String> {
    let is_pair = |pair: &&[Snapshot]| {
        pair[0].mark == Mark::MEASURE_BEGIN.0 && pair[1].mark == Mark::MEASURE_END.0
    };
    let sections: Vec<_> = snapshots.windows(2).filter(is_pair).map(Section::new).collect();
    if sections.len() != works.len() {
        return Err(format!(
            "it told of {} pieces of work, {} counted",
            works.len(),
            sections.len()
        ));
    }
    if sections.iter().any(|section| !section.kvm.contains_key("exits")) {
        return Err("this kernel's KVM does not count exits".into());
    }
    // What marks cost themselves: as measured, else the visit of the second one.
    let nothing = works.iter().position(|work| work.work == "nothing");
    let of_marks = nothing.map_or_else(Section::one_visit, |index| sections[index].clone());
    let pairs = works.iter().zip(&sections).filter(|(work, _)| work.work != "nothing");
    Ok(pairs.map(|(work, section)| section.figure(system, work, &of_marks)).collect())
}

/// What changed between two marks.
#[derive(Debug, Clone, Default)]
struct Section {
    kvm: BTreeMap<String, u64>,
    user_exits: Option<u64>,
    user_exits_by_reason: BTreeMap<String, u64>,
    devices: BTreeMap<String, u64>,
}

fn change(from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(name, &to): (&String, &u64)| {
        (name.clone(), to.saturating_sub(from.get(name).copied().unwrap_or_default()))
    };
    to.iter().map(since).collect()
}

impl Section {
    fn new(pair: &[Snapshot]) -> Self {
        let (begin, end) = (&pair[0], &pair[1]);
        Self {
            kvm: change(&begin.kvm, &end.kvm),
            user_exits: begin.user_exits.zip(end.user_exits).map(|(a, b)| b.saturating_sub(a)),
            user_exits_by_reason: change(&begin.user_exits_by_reason, &end.user_exits_by_reason),
            devices: change(&begin.devices, &end.devices),
        }
    }

    fn one_visit() -> Self {
        let kvm = BTreeMap::from([("exits".to_owned(), 1), ("io_exits".to_owned(), 1)]);
        let by_reason = BTreeMap::from([("port-write".to_owned(), 1)]);
        Self { kvm, user_exits: Some(1), user_exits_by_reason: by_reason, ..Self::default() }
    }

    fn figure(&self, system: System, work: &Work, of_marks: &Self) -> Figure {
        let each = |count: u64| count as f64 / work.operations.max(1) as f64;
        let less = |counts: &BTreeMap<String, u64>, marks: &BTreeMap<String, u64>| {
            let rest = change(marks, counts).into_iter().filter(|(_, count)| *count != 0);
            rest.map(|(name, count)| (name, each(count))).collect::<BTreeMap<_, _>>()
        };
        let kvm = less(&self.kvm, &of_marks.kvm);
        let get = |name: &str| kvm.get(name).copied().unwrap_or_default();
        let copied: u64 = self
            .devices
            .iter()
            .filter(|(name, _)| name.ends_with(".copied_bytes"))
            .map(|(_, count)| count)
            .sum();
        let user = self.user_exits.zip(of_marks.user_exits);
        Figure {
            system,
            work: work.clone(),
            exits: get("exits"),
            user_exits: user.map(|(all, marks)| each(all.saturating_sub(marks))),
            interrupts: get("irq_injections"),
            copied_bytes: self.user_exits.map(|_| each(copied)),
            user_exits_by_reason: less(&self.user_exits_by_reason, &of_marks.user_exits_by_reason),
            kvm,
            speed: 0.0,
        }
    }
}

/// Sets every figure's speed.
pub(super) fn compare_speeds(figures: &mut [Figure]) {
    let rate =
        |work: &Work| (work.bytes * work.operations) as f64 / work.elapsed_100ns.max(1) as f64;
    let mut slowest: BTreeMap<(String, u64), f64> = BTreeMap::new();
    for Figure { work, .. } in figures.iter() {
        let least = slowest.entry((work.work.clone(), work.bytes)).or_insert(f64::INFINITY);
        *least = least.min(rate(work));
    }
    for figure in figures {
        let work = &figure.work;
        let least = slowest.get(&(work.work.clone(), work.bytes)).copied().unwrap_or(1.0);
        figure.speed = rate(work) / least;
    }
}

/// The aims that can be judged from these figures.
pub(super) fn aims(figures: &[Figure]) -> Vec<Aim> {
    let best = |system: System, path: &str, work: &str, bytes: u64| {
        let of = |figure: &&Figure| {
            // Linux goes by port I/O in a start of its own.
            let same = figure.system.title() == system.title();
            same && figure.work.path == path
                && figure.work.work == work
                && figure.work.bytes == bytes
        };
        figures.iter().filter(of).map(|figure| figure.exits).reduce(f64::min)
    };
    let mut aims = Vec::new();
    for system in [System::Ours, System::Linux] {
        for (synthetic, emulated, work, bytes, aim) in AIMS {
            let pair =
                best(system, synthetic, work, bytes).zip(best(system, emulated, work, bytes));
            let Some((cheap, dear)) = pair else { continue };
            aims.push(Aim {
                system,
                synthetic: synthetic.into(),
                emulated: emulated.into(),
                work: work.into(),
                bytes,
                ratio: dear / cheap.max(1e-6),
                aim,
            });
        }
    }
    aims
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn work(path: &str, name: &str, depth: u32, elapsed_100ns: u64) -> Work {
        let (path, work) = (path.to_owned(), name.to_owned());
        Work { path, work, depth, operations: 10, bytes: 4096, elapsed_100ns }
    }

    fn snapshot(mark: Mark, exits: u64) -> Snapshot {
        let kvm = BTreeMap::from([("exits".into(), exits), ("irq_injections".into(), exits / 2)]);
        let devices = BTreeMap::from([("ide.copied_bytes".into(), exits * 10)]);
        Snapshot { mark: mark.0, kvm, user_exits: Some(exits), devices, ..Snapshot::default() }
    }

    pub(crate) fn example() -> Vec<Figure> {
        let works = [work("storvsc", "read", 32, 100), work("ide-pio", "read", 1, 400)];
        let marks = [
            snapshot(Mark::MEASURE_BEGIN, 100),
            snapshot(Mark::MEASURE_END, 111),
            snapshot(Mark::MEASURE_BEGIN, 200),
            snapshot(Mark::MEASURE_END, 801),
        ];
        let mut figures = figures(System::Ours, &works, &marks).unwrap();
        compare_speeds(&mut figures);
        figures
    }

    #[test]
    fn costs_are_for_one_operation_without_those_of_marks() {
        let figures = example();
        assert_eq!((figures[0].exits, figures[1].exits), (1.0, 60.0));
        assert_eq!((figures[0].user_exits, figures[0].copied_bytes), (Some(1.0), Some(11.0)));
        assert_eq!((figures[0].speed, figures[1].speed), (4.0, 1.0));
    }

    #[test]
    fn what_marks_cost_is_measured_where_there_is_such_a_section() {
        let works = [work("marks", "nothing", 0, 1), work("virtio-blk", "read", 1, 1)];
        let text = "MARK {\"mark\":2,\"kvm\":{\"exits\":0}}\nnoise\nMARK {\"mark\":3,\"kvm\":{\"exits\":40}}\n\
                    MARK {\"mark\":2,\"kvm\":{\"exits\":50}}\nMARK {\"mark\":3,\"kvm\":{\"exits\":100}}\n";
        let figures = figures(System::QemuLinux, &works, &watched(text)).unwrap();
        assert_eq!(figures.len(), 1);
        assert_eq!((figures[0].exits, figures[0].user_exits), (1.0, None));
    }

    #[test]
    fn both_guests_words_are_understood_and_noise_is_not() {
        let text = "noise\nIO read x\r\nIO storvsc read 32 10 4096 77\r\n\
                    @enl {\"event\":\"io\",\"path\":\"netvsc\",\"work\":\"send\",\"depth\":0,\"operations\":5,\"bytes\":1514,\"elapsed_100ns\":9}\n";
        let works = works(text);
        assert_eq!(works.len(), 2);
        assert_eq!((works[0].path.as_str(), works[0].depth, works[1].bytes), ("storvsc", 32, 1514));
    }

    #[test]
    fn a_lost_section_is_an_error_and_not_a_shift() {
        let works = [work("storvsc", "read", 1, 1)];
        assert!(figures(System::Ours, &works, &[snapshot(Mark::MEASURE_BEGIN, 1)]).is_err());
    }

    #[test]
    fn an_aim_is_judged_where_both_ways_were_gone() {
        let aims = aims(&example());
        assert_eq!(aims.len(), 1);
        assert_eq!((aims[0].ratio, aims[0].is_reached()), (60.0, true));
    }
}
