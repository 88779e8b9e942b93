//! One measurement as the guest and the host saw it, what follows from it, and the table of all of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hypervisor_host::report::{MarkReport, Report};
use serde::{Deserialize, Serialize};

use super::plan::{Boot, Part};
use crate::events::Study;

/// What the host counted between the marks of one measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Long spin waits that it was told of.
    pub long_spins: u64,
    /// Returns to user space, all virtual processors.
    pub user_exits: u64,
    /// Exits to the kernel, all virtual processors; absent if the kernel does not count.
    pub kvm_exits: Option<u64>,
    /// Time between the marks in ns of its clock.
    pub elapsed_ns: u64,
}

/// One lock, measured once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Part of the design.
    pub part: Part,
    /// Repetition, from 0 on.
    pub repetition: u32,
    /// Boot within the repetition, from 0 on.
    pub boot: u32,
    /// Place in the boot, from 0 on.
    pub position: u32,
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Processors that the virtual ones share.
    pub cpus: u32,
    /// The guest's counts.
    #[serde(flatten)]
    pub guest: Study,
    /// The host's counts.
    pub host: HostView,
}

/// `part` of `whole`; 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Record {
    /// Acquisitions in a second.
    pub fn throughput(&self) -> f64 {
        share(self.guest.acquisitions as f64 * 1e7, self.guest.elapsed_100ns as f64)
    }

    /// Rounds waited for each acquisition.
    pub fn spins_per_acquisition(&self) -> f64 {
        share(self.guest.spin_iterations as f64, self.guest.acquisitions as f64)
    }

    /// Notifications for 1000 acquisitions.
    pub fn notifications_per_1000(&self) -> f64 {
        share(self.guest.long_spin_notifications as f64 * 1000.0, self.guest.acquisitions as f64)
    }

    /// Share of the virtual processors' time, running or not, between asking for the lock and having it.
    pub fn waiting_share(&self) -> f64 {
        let time_ns = self.guest.elapsed_100ns as f64 * 100.0 * f64::from(self.guest.vps);
        share(self.guest.waited_ns as f64, time_ns)
    }

    /// Share of the time on processors that went into rounds of waiting: rounds × time of one round, which the guest
    /// measured while alone.
    pub fn spinning_share(&self) -> f64 {
        let spun_ns =
            self.guest.spin_iterations as f64 * self.guest.ns_per_1000_rounds as f64 / 1e3;
        let most = self.guest.elapsed_100ns as f64 * f64::from(self.guest.vps.min(self.cpus));
        let ran = if self.guest.runtime_100ns > 0 { self.guest.runtime_100ns as f64 } else { most };
        share(spun_ns, ran * 100.0).min(1.0)
    }

    /// Hand-offs to a virtual processor that was not running, for 1000 acquisitions.
    pub fn asleep_per_1000(&self) -> f64 {
        share(self.guest.hand_offs_asleep as f64 * 1000.0, self.guest.acquisitions as f64)
    }

    /// Of the hand-offs, the share that went to a virtual processor that was not running.
    pub fn asleep_share(&self) -> f64 {
        share(self.guest.hand_offs_asleep as f64, self.guest.hand_offs as f64)
    }

    /// Jain's index of the acquisitions by virtual processor: 1 if all have had the lock equally often, 1/n if one has
    /// had it alone (Jain, Chiu, Hawe: *A Quantitative Measure of Fairness*, DEC-TR-301, 1984).
    pub fn fairness(&self) -> f64 {
        let each = || self.guest.per_vp.iter().map(|vp| vp.acquisitions as f64);
        let (sum, squares) = (each().sum::<f64>(), each().map(|x| x * x).sum::<f64>());
        share(sum * sum, squares * self.guest.per_vp.len() as f64)
    }

    /// Most acquisitions by a virtual processor for each by the one with the fewest; `None` if that had none.
    pub fn max_to_min(&self) -> Option<f64> {
        let each = || self.guest.per_vp.iter().map(|vp| vp.acquisitions);
        let (least, most) = (each().min()?, each().max()?);
        (least > 0).then(|| most as f64 / least as f64)
    }
}

/// Joins what the guest said in `boot` with what the host counted.
///
/// # Errors
///
/// If the guest did not measure what it was asked to, or the host saw something else.
pub fn join(
    boot: &Boot,
    repetition: u32,
    number: u32,
    guest: Vec<Study>,
    marks: &[MarkReport],
) -> Result<Vec<Record>> {
    let host = sections(marks)?;
    let asked = boot.entries.len();
    ensure!(
        guest.len() == asked && host.len() == asked,
        "of {asked} measurements the guest told of {}, the host of {}",
        guest.len(),
        host.len()
    );
    let mut records = Vec::new();
    for ((position, (lock, vps)), (guest, host)) in
        (0..).zip(&boot.entries).zip(guest.into_iter().zip(host))
    {
        ensure!(
            guest.lock == *lock && guest.vps == *vps && guest.per_vp.len() == *vps as usize,
            "{lock}@{vps} was asked for, {}@{} was measured",
            guest.lock,
            guest.vps
        );
        let (policy, cpus, part) = (boot.policy.clone(), boot.cpus, boot.part);
        records.push(Record {
            part,
            repetition,
            boot: number,
            position,
            policy,
            cpus,
            guest,
            host,
        });
    }
    Ok(records)
}

/// What was counted between each pair of marks.
fn sections(marks: &[MarkReport]) -> Result<Vec<HostView>> {
    use hv_abi::host::Mark;
    let (mut found, mut begun) = (Vec::new(), None::<&MarkReport>);
    for mark in marks {
        if mark.mark == Mark::MEASURE_BEGIN.0 {
            begun = Some(mark);
        } else if mark.mark == Mark::MEASURE_END.0 {
            let begin = begun.take().context("a section ends that never began")?;
            let exits = mark.kvm_exits.zip(begin.kvm_exits);
            found.push(HostView {
                long_spins: mark.long_spins.saturating_sub(begin.long_spins),
                user_exits: mark.user_exits.saturating_sub(begin.user_exits),
                kvm_exits: exits.map(|(end, begin)| end.saturating_sub(begin)),
                elapsed_ns: mark.elapsed_ns.saturating_sub(begin.elapsed_ns),
            });
        }
    }
    Ok(found)
}

/// What the policy did with each long spin wait of a boot: the numbers of the report's `long_spins`, by their names.
pub fn answers(report: &Report) -> BTreeMap<String, u64> {
    let json = serde_json::to_value(&report.long_spins).unwrap_or_default();
    let fields = json.as_object().cloned().unwrap_or_default();
    let counts = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
    counts.filter(|(name, _)| !["spins", "other_waits"].contains(&name.as_str())).collect()
}

/// The first line of the table.
pub const CSV_HEADER: &str = "part,repetition,boot,position,policy,cpus,vps,lock,threshold,hold,gap,duration_ms,\
    acquisitions,elapsed_100ns,runtime_100ns,spin_iterations,notifications,idles,kicks,waits,waited_ns,\
    wait_p50_ns,wait_p99_ns,wait_max_ns,hand_offs,hand_offs_asleep,holds_interrupted,late_ns,visit_ns,\
    ns_per_1000_rounds,host_long_spins,host_user_exits,host_kvm_exits,host_elapsed_ns,throughput_per_s,\
    spins_per_acquisition,notifications_per_1000,waiting_share,spinning_share,fairness_jain,max_to_min";

/// A row of the table. No value needs quoting: lock and policy are names from our own lists.
pub fn csv_row(record: &Record) -> String {
    let Record { part, repetition, boot, position, policy, cpus, guest, host } = record;
    let numbers = [
        guest.hold.into(),
        guest.gap.into(),
        guest.duration_ms.into(),
        guest.acquisitions,
        guest.elapsed_100ns,
        guest.runtime_100ns,
        guest.spin_iterations,
        guest.long_spin_notifications,
        guest.idles,
        guest.kicks,
        guest.waits,
        guest.waited_ns,
        guest.wait_p50_ns,
        guest.wait_p99_ns,
        guest.wait_max_ns,
        guest.hand_offs,
        guest.hand_offs_asleep,
        guest.holds_interrupted,
        guest.late_ns,
        guest.visit_ns,
        guest.ns_per_1000_rounds,
        host.long_spins,
        host.user_exits,
    ];
    let part = format!("{part:?}").to_lowercase();
    let threshold =
        super::plan::threshold_name((guest.threshold != u32::MAX).then_some(guest.threshold));
    let mut row = format!("{part},{repetition},{boot},{position},{policy},{cpus},{}", guest.vps);
    row += &format!(",{},{threshold}", guest.lock);
    for number in numbers {
        row += &format!(",{number}");
    }
    row += &format!(",{}", host.kvm_exits.map_or(String::new(), |exits| exits.to_string()));
    row += &format!(",{},{:.1}", host.elapsed_ns, record.throughput());
    for value in [
        record.spins_per_acquisition(),
        record.notifications_per_1000(),
        record.waiting_share(),
        record.spinning_share(),
        record.fairness(),
    ] {
        row += &format!(",{value:.4}");
    }
    row + &format!(",{}", record.max_to_min().map_or(String::new(), |ratio| format!("{ratio:.3}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::events::StudyVp;

    /// A record with these acquisitions by virtual processor, in a tenth of a second.
    pub(crate) fn record(lock: &str, policy: &str, each: &[u64], spins: u64) -> Record {
        let vp = |&acquisitions| StudyVp { acquisitions, ..StudyVp::default() };
        let guest = Study {
            lock: lock.into(),
            vps: u32::try_from(each.len()).unwrap(),
            acquisitions: each.iter().sum(),
            spin_iterations: spins,
            elapsed_100ns: 1_000_000,
            hold: 100,
            threshold: 32,
            per_vp: each.iter().map(vp).collect(),
            ..Study::default()
        };
        let (policy, host) = (policy.into(), HostView::default());
        Record {
            part: Part::Core,
            repetition: 0,
            boot: 0,
            position: 0,
            policy,
            cpus: 2,
            guest,
            host,
        }
    }

    fn boot(entries: &[(&str, u32)]) -> Boot {
        Boot {
            part: Part::Core,
            policy: "yield".into(),
            cpus: 2,
            vps: 4,
            threshold: Some(32),
            hold: 100,
            entries: entries.iter().map(|(lock, vps)| (lock.to_string(), *vps)).collect(),
        }
    }

    fn marks(kinds: &[u32]) -> Vec<MarkReport> {
        let mark = |(number, &mark): (u64, &u32)| MarkReport {
            mark,
            vp: 0,
            elapsed_ns: number * 1000,
            user_exits: number * 10,
            user_exits_by_reason: BTreeMap::default(),
            kvm_exits: Some(number * 100),
            kvm: BTreeMap::default(),
            guest_instructions: None,
            long_spins: number,
            answers: Default::default(),
            idle: Default::default(),
            vmbus: Default::default(),
            devices: BTreeMap::default(),
        };
        (0..).zip(kinds).map(mark).collect()
    }

    #[test]
    fn sections_are_what_lies_between_two_marks() {
        // Booted, begin, end, begin, end (hv_abi::host::Mark).
        let found = sections(&marks(&[1, 2, 3, 2, 3])).unwrap();
        assert_eq!(found.len(), 2);
        let one =
            HostView { long_spins: 1, user_exits: 10, kvm_exits: Some(100), elapsed_ns: 1000 };
        assert_eq!(found[0], one);
        assert!(sections(&marks(&[3])).is_err());
    }

    #[test]
    fn a_guest_that_measured_something_else_is_not_believed() {
        let boot = boot(&[("tas", 2)]);
        let good = record("tas", "yield", &[1, 2], 0).guest;
        let two = marks(&[2, 3]);
        assert_eq!(join(&boot, 0, 0, vec![good.clone()], &two).unwrap().len(), 1);
        let other = record("ticket", "yield", &[1, 2], 0).guest;
        let more_vps = record("tas", "yield", &[1, 2, 3], 0).guest;
        let lies = Study { vps: 2, ..record("tas", "yield", &[1], 0).guest };
        for guest in [vec![other], vec![more_vps], vec![lies], vec![], vec![good.clone(), good]] {
            assert!(join(&boot, 0, 0, guest, &two).is_err());
        }
    }

    #[test]
    fn fairness_is_one_for_equals_and_a_share_for_a_single_winner() {
        assert_eq!(record("tas", "none", &[5, 5, 5, 5], 0).fairness(), 1.0);
        assert_eq!(record("tas", "none", &[8, 0, 0, 0], 0).fairness(), 0.25);
        assert_eq!(record("tas", "none", &[0, 0], 0).fairness(), 0.0);
        assert_eq!(record("tas", "none", &[6, 3], 0).max_to_min(), Some(2.0));
        assert_eq!(record("tas", "none", &[6, 0], 0).max_to_min(), None);
    }

    #[test]
    fn shares_are_of_the_time_there_was() {
        let mut one = record("tas", "none", &[10, 10], 1000);
        // A tenth of a second; 1000 rounds of 10 µs each, on two processors.
        one.guest.ns_per_1000_rounds = 10_000_000;
        assert!((one.spinning_share() - 0.05).abs() < 1e-9, "{}", one.spinning_share());
        one.guest.runtime_100ns = 500_000;
        assert!((one.spinning_share() - 0.2).abs() < 1e-9);
        one.guest.waited_ns = 100_000_000;
        assert!((one.waiting_share() - 0.5).abs() < 1e-9);
        assert!((one.throughput() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn numbers_beyond_all_sense_overflow_nothing() {
        let mut one = record("tas", "none", &[1], u64::MAX);
        one.guest.waited_ns = u64::MAX;
        one.guest.ns_per_1000_rounds = u64::MAX;
        one.guest.per_vp = vec![StudyVp { acquisitions: u64::MAX, ..StudyVp::default() }; 3];
        assert_eq!(one.spinning_share(), 1.0);
        assert!(one.fairness().is_finite() && one.waiting_share().is_finite());
        assert_eq!(csv_row(&one).split(',').count(), CSV_HEADER.split(',').count());
    }

    #[test]
    fn a_row_has_a_value_under_each_heading() {
        let row = csv_row(&record("mcs-enlightened", "park", &[3, 0], 7));
        let columns: BTreeMap<_, _> = CSV_HEADER.split(',').zip(row.split(',')).collect();
        assert_eq!(
            (columns["lock"], columns["policy"], columns["threshold"]),
            ("mcs-enlightened", "park", "32")
        );
        assert_eq!((columns["acquisitions"], columns["spin_iterations"]), ("3", "7"));
        assert_eq!((columns["throughput_per_s"], columns["max_to_min"]), ("30.0", ""));
        assert_eq!(row.split(',').count(), CSV_HEADER.split(',').count());
    }
}
