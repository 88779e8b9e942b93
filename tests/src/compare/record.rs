//! From a guest's words and its host's counters to figures.

use std::collections::BTreeMap;

use hv_abi::host::Mark;
use serde::{Deserialize, Serialize};

use super::System;
use crate::io_work::Work;

/// KVM's counters that say why a guest was left, in words; the rest, such as accesses to registers of the processor, has no counter.
const REASONS: [(&str, &str); 6] = [
    ("io_exits", "ports"),
    ("insn_emulation", EMULATED),
    ("hypercalls", "hypercalls"),
    ("halt_exits", "halts"),
    ("irq_exits", "the host's own interrupts"),
    ("irq_window_exits", "interrupt windows"),
];
/// One of these that may count an exit a second time: string instructions at ports, and, on a processor that does not save where the next
/// instruction is, as the lab's, whatever KVM skips (Linux, `svm_skip_emulated_instruction`).
const EMULATED: &str = "emulated instructions";
/// The rest.
const REST: &str = "the rest";

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
    /// The same by reason.
    pub(super) exits_by_reason: BTreeMap<String, f64>,
    /// Exits that reached the monitor's program; nobody counts them in QEMU.
    pub(super) user_exits: Option<f64>,
    /// The same by reason.
    pub(super) user_exits_by_reason: BTreeMap<String, f64>,
    /// Interrupts that the guest got, its timer's included.
    pub(super) interrupts: f64,
    /// Instructions of the guest, where the processor counts them.
    pub(super) instructions: Option<f64>,
    /// Bytes that the monitor's program copied; nobody counts them in QEMU.
    pub(super) copied_bytes: Option<f64>,
    /// KVM's counters that changed.
    pub(super) kvm: BTreeMap<String, f64>,
    /// What the devices counted.
    pub(super) devices: BTreeMap<String, f64>,
    /// Bytes in a second, as a multiple of the slowest way that did the same work.
    pub(super) speed: f64,
}

/// What our host's report says, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HostReport {
    marks: Vec<Snapshot>,
    /// Why the guest's instructions can't be counted.
    #[serde(default)]
    pub(super) guest_instructions_why: Option<String>,
}

/// Counters at a mark: of our host's report, or a line of `guest-probe watch-marks`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Snapshot {
    mark: u32,
    #[serde(default)]
    kvm: BTreeMap<String, u64>,
    #[serde(default)]
    kvm_exits: Option<u64>,
    #[serde(default)]
    user_exits: Option<u64>,
    #[serde(default)]
    user_exits_by_reason: BTreeMap<String, u64>,
    #[serde(default)]
    guest_instructions: Option<u64>,
    #[serde(default)]
    devices: BTreeMap<String, u64>,
}

impl HostReport {
    /// Its snapshots.
    pub(super) fn snapshots(self) -> Vec<Snapshot> {
        let with_exits = |mut snapshot: Snapshot| {
            snapshot.kvm.extend(snapshot.kvm_exits.map(|exits| ("exits".to_owned(), exits)));
            snapshot
        };
        self.marks.into_iter().map(with_exits).collect()
    }
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
    instructions: Option<u64>,
    devices: BTreeMap<String, u64>,
}

fn change(from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(name, &to): (&String, &u64)| {
        (name.clone(), to.saturating_sub(from.get(name).copied().unwrap_or_default()))
    };
    to.iter().map(since).collect()
}

/// How much more the second is.
fn more(from: Option<u64>, to: Option<u64>) -> Option<u64> {
    from.zip(to).map(|(from, to)| to.saturating_sub(from))
}

impl Section {
    fn new(pair: &[Snapshot]) -> Self {
        let (begin, end) = (&pair[0], &pair[1]);
        Self {
            kvm: change(&begin.kvm, &end.kvm),
            user_exits: more(begin.user_exits, end.user_exits),
            user_exits_by_reason: change(&begin.user_exits_by_reason, &end.user_exits_by_reason),
            instructions: more(begin.guest_instructions, end.guest_instructions),
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
        let copied =
            self.devices.iter().filter(|(name, _)| name.ends_with(".copied_bytes")).map(|it| it.1);
        Figure {
            system,
            work: work.clone(),
            exits: get("exits"),
            exits_by_reason: by_reason(&kvm),
            user_exits: more(of_marks.user_exits, self.user_exits).map(each),
            user_exits_by_reason: less(&self.user_exits_by_reason, &of_marks.user_exits_by_reason),
            interrupts: get("irq_injections"),
            instructions: self
                .instructions
                .map(|all| each(all.saturating_sub(of_marks.instructions.unwrap_or(0)))),
            copied_bytes: self.user_exits.map(|_| each(copied.sum())),
            devices: less(&self.devices, &of_marks.devices),
            kvm,
            speed: 0.0,
        }
    }
}

/// Exits by reason, as far as KVM's counters tell them apart.
fn by_reason(kvm: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let get = |name: &str| kvm.get(name).copied().unwrap_or_default();
    let mut reasons: BTreeMap<String, f64> =
        REASONS.iter().map(|(name, words)| ((*words).to_owned(), get(name))).collect();
    let rest = get("exits") - reasons.values().sum::<f64>();
    if let Some(emulated) = reasons.get_mut(EMULATED) {
        *emulated += rest.min(0.0);
    }
    reasons.insert(REST.into(), rest);
    // Sums of fractions are not exact.
    reasons.retain(|_, each| *each > 1e-9);
    reasons
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn work(path: &str, name: &str, depth: u32, elapsed_100ns: u64) -> Work {
        let (path, work) = (path.to_owned(), name.to_owned());
        Work { path, work, depth, operations: 10, bytes: 4096, elapsed_100ns }
    }

    /// The report of a host whose guest read by the bus and by the data register.
    const REPORT: &str = r#"{"guest_instructions_why":"no counter","marks":[
        {"mark":1,"kvm_exits":1},
        {"mark":2,"kvm_exits":100,"user_exits":100,"devices":{"ide.copied_bytes":1000}},
        {"mark":3,"kvm_exits":111,"user_exits":111,"kvm":{"io_exits":5},"devices":{"ide.copied_bytes":1110}},
        {"mark":2,"kvm_exits":200,"user_exits":200,"kvm":{"halt_exits":4},"guest_instructions":5000},
        {"mark":3,"kvm_exits":801,"user_exits":801,"kvm":{"halt_exits":34,"irq_injections":10},"guest_instructions":7000}
        ],"new":7}"#;

    pub(crate) fn example() -> Vec<Figure> {
        let works = [work("storvsc", "read", 32, 100), work("ide-pio", "read", 1, 400)];
        let report: HostReport = serde_json::from_str(REPORT).unwrap();
        assert_eq!(report.guest_instructions_why.as_deref(), Some("no counter"));
        let mut figures = figures(System::Ours, &works, &report.snapshots()).unwrap();
        compare_speeds(&mut figures);
        figures
    }

    #[test]
    fn costs_are_for_one_operation_without_those_of_marks() {
        let figures = example();
        assert_eq!((figures[0].exits, figures[1].exits), (1.0, 60.0));
        assert_eq!((figures[0].user_exits, figures[0].copied_bytes), (Some(1.0), Some(11.0)));
        assert_eq!((figures[0].instructions, figures[1].instructions), (None, Some(200.0)));
        assert_eq!((figures[0].speed, figures[1].speed), (4.0, 1.0));
    }

    #[test]
    fn reasons_and_the_rest_add_up_to_the_exits() {
        let reasons = &example()[1].exits_by_reason;
        assert_eq!((reasons["halts"], reasons[REST]), (3.0, 57.0));
        assert_eq!(reasons.len(), 2);
    }

    #[test]
    fn what_counts_twice_is_taken_off_the_emulated_instructions() {
        let counts =
            [("exits", 10.0), ("hypercalls", 6.0), ("insn_emulation", 7.0), ("irq_exits", 3.0)];
        let reasons = by_reason(&counts.map(|(name, each)| (name.to_owned(), each)).into());
        assert_eq!((reasons[EMULATED], reasons.get(REST)), (1.0, None));
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
    fn a_lost_section_is_an_error_and_not_a_shift() {
        let works = [work("storvsc", "read", 1, 1)];
        let begin = Snapshot { mark: Mark::MEASURE_BEGIN.0, ..Snapshot::default() };
        assert!(figures(System::Ours, &works, &[begin]).is_err());
    }
}
