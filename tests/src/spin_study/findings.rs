//! What all repetitions together say: medians, each lock against its plain twin and against itself without
//! over-commitment, and whether the study's aim is reached.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Part, plain_twin};
use super::record::Record;

/// What distinguishes one cell of the design from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Part of the design.
    pub part: Part,
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Processors.
    pub cpus: u32,
    /// Virtual processors that took part.
    pub vps: u32,
    /// Iterations of the critical section's loop.
    pub hold: u32,
    /// CPUID 0x40000004 EBX; 4294967295: never.
    pub threshold: u32,
    /// The lock.
    pub lock: String,
}

impl Key {
    /// The cell that a record belongs to.
    pub fn of(record: &Record) -> Self {
        Self {
            part: record.part,
            policy: record.policy.clone(),
            cpus: record.cpus,
            vps: record.guest.vps,
            hold: record.guest.hold,
            threshold: record.guest.threshold,
            lock: record.guest.lock.clone(),
        }
    }
}

/// Medians over the repetitions of one cell.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// Repetitions.
    pub repetitions: usize,
    /// Acquisitions in a second.
    pub throughput: f64,
    /// Throughput ÷ that of the same lock, in the same boot, on as many virtual processors as processors.
    pub retained: Option<f64>,
    /// Throughput ÷ that of the fastest lock of the same boot on as many virtual processors as processors.
    pub of_best: Option<f64>,
    /// Rounds waited for each acquisition.
    pub spins_per_acquisition: f64,
    /// Rounds per acquisition of the plain lock of the same boot ÷ this one's; absent for plain locks, and if the lock
    /// never spun.
    pub fewer_spins: Option<f64>,
    /// Throughput ÷ that of the plain lock of the same boot; absent for plain locks.
    pub to_plain: Option<f64>,
    /// Notifications for 1000 acquisitions.
    pub notifications_per_1000: f64,
    /// Share of the virtual processors' time between asking and having.
    pub waiting_share: f64,
    /// Share of the time on processors spent in rounds of waiting.
    pub spinning_share: f64,
    /// Waits, in ns.
    pub wait_p50_ns: f64,
    /// As above.
    pub wait_p99_ns: f64,
    /// As above.
    pub wait_max_ns: f64,
    /// Of the hand-offs, those to a virtual processor that was not running.
    pub asleep_share: f64,
    /// The same for 1000 acquisitions.
    pub asleep_per_1000: f64,
    /// Jain's index.
    pub fairness: f64,
    /// Exits to the host's kernel for each acquisition; absent if it does not count.
    pub exits_per_acquisition: Option<f64>,
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Every cell, in order.
pub fn cells(records: &[Record]) -> Vec<Cell> {
    let mut by_key: BTreeMap<Key, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(Key::of(record)).or_default().push(record);
    }
    by_key.into_iter().map(|(key, same)| cell(key, &same, records)).collect()
}

fn cell(key: Key, same: &[&Record], all: &[Record]) -> Cell {
    let middle = |value: fn(&Record) -> f64| median(same.iter().map(|r| value(r))).unwrap_or(0.0);
    let against = |lock: &str, vps: u32, ratio: fn(&Record, &Record) -> f64| {
        let pair = |one: &&Record| {
            let mut boot = all.iter().filter(|other| same_boot(one, other));
            let other = boot.find(|other| other.guest.lock == lock && other.guest.vps == vps)?;
            Some(ratio(one, other))
        };
        median(same.iter().filter_map(pair))
    };
    let throughput = |one: &Record, other: &Record| one.throughput() / other.throughput();
    let spins =
        |one: &Record, other: &Record| other.spins_per_acquisition() / one.spins_per_acquisition();
    let of_best = |one: &&Record| {
        let boot = all.iter().filter(|other| same_boot(one, other) && other.guest.vps == one.cpus);
        let best = boot.map(Record::throughput).fold(0.0, f64::max);
        (best > 0.0).then(|| one.throughput() / best)
    };
    let twin = plain_twin(&key.lock);
    Cell {
        of_best: median(same.iter().filter_map(of_best)),
        repetitions: same.len(),
        throughput: middle(Record::throughput),
        retained: against(&key.lock, key.cpus, throughput),
        spins_per_acquisition: middle(Record::spins_per_acquisition),
        fewer_spins: twin.and_then(|plain| against(plain, key.vps, spins)),
        to_plain: twin.and_then(|plain| against(plain, key.vps, throughput)),
        notifications_per_1000: middle(Record::notifications_per_1000),
        waiting_share: middle(Record::waiting_share),
        spinning_share: middle(Record::spinning_share),
        wait_p50_ns: middle(|record| record.guest.wait_p50_ns as f64),
        wait_p99_ns: middle(|record| record.guest.wait_p99_ns as f64),
        wait_max_ns: middle(|record| record.guest.wait_max_ns as f64),
        asleep_share: middle(Record::asleep_share),
        asleep_per_1000: middle(Record::asleep_per_1000),
        fairness: middle(Record::fairness),
        exits_per_acquisition: median(same.iter().filter_map(|record| {
            let exits = record.host.kvm_exits? as f64;
            Some(exits / record.guest.acquisitions.max(1) as f64)
        })),
        key,
    }
}

fn same_boot(one: &Record, other: &Record) -> bool {
    (one.part, one.repetition, one.boot) == (other.part, other.repetition, other.boot)
}

/// Least share of the throughput that the best lock should retain.
pub const AIM_RETAINED: f64 = 0.9;
/// Least factor by which it should spin less than the plain lock.
pub const AIM_FEWER_SPINS: f64 = 20.0;

/// The best enlightened lock of one over-committed setting of the core.
#[derive(Debug, Clone, Serialize)]
pub struct Aim {
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Virtual processors.
    pub vps: u32,
    /// Processors.
    pub cpus: u32,
    /// The fastest lock that is not plain, among those that spin less by the factor aimed at; if none does, among all.
    pub lock: String,
    /// Throughput ÷ its own on as many virtual processors as processors.
    pub retained: f64,
    /// Throughput ÷ that of the fastest lock on as many virtual processors as processors.
    pub of_best: f64,
    /// The factor by which it spins less than its plain twin; absent if it never spun.
    pub fewer_spins: Option<f64>,
    /// Whether both aims are reached.
    pub reached: bool,
}

/// One for each policy and number of virtual processors above that of the most processors.
pub fn aims(cells: &[Cell]) -> Vec<Aim> {
    let core = || cells.iter().filter(|cell| cell.key.part == Part::Core);
    let cpus = core().map(|cell| cell.key.cpus).max().unwrap_or(1);
    let mut settings: Vec<_> = core()
        .filter(|cell| cell.key.cpus == cpus && cell.key.vps > cpus)
        .map(|cell| (cell.key.policy.clone(), cell.key.vps))
        .collect();
    settings.sort();
    settings.dedup();
    let best = |(policy, vps): (String, u32)| {
        let here = |cell: &&Cell| {
            let key = &cell.key;
            (key.cpus, key.vps, &key.policy) == (cpus, vps, &policy)
                && plain_twin(&key.lock).is_some()
        };
        let spins_less = |cell: &Cell| cell.fewer_spins.is_none_or(|by| by >= AIM_FEWER_SPINS);
        let rank = |cell: &Cell| (spins_less(cell), cell.of_best.unwrap_or(0.0));
        let best = core().filter(here).max_by(|a, b| {
            let ((a_less, a), (b_less, b)) = (rank(a), rank(b));
            a_less.cmp(&b_less).then(a.total_cmp(&b))
        })?;
        let (retained, of_best) = (best.retained?, best.of_best?);
        let reached = retained >= AIM_RETAINED && spins_less(best);
        let (lock, fewer_spins) = (best.key.lock.clone(), best.fewer_spins);
        Some(Aim { policy, vps, cpus, lock, retained, of_best, fewer_spins, reached })
    };
    settings.into_iter().filter_map(best).collect()
}

impl Aim {
    /// For a person.
    pub fn sentence(&self) -> String {
        let Self { policy, vps, cpus, lock, retained, .. } = self;
        let spins = match self.fewer_spins {
            Some(by) => format!("spins {by:.0} times less than the plain lock"),
            None => "never spins".into(),
        };
        let verdict = if self.reached { "reached" } else { "NOT reached" };
        format!(
            "{vps} on {cpus}, policy {policy}: {lock} keeps {:.0} % of its throughput and {spins}: {verdict}",
            retained * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_ignores_what_is_no_number() {
        assert_eq!(median([3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median([1.0, 2.0, f64::NAN, f64::INFINITY]), Some(1.5));
        assert_eq!(median([]), None);
    }

    fn repetition(number: u32, drift: u64) -> Vec<Record> {
        let mut records = vec![
            record("tas", "yield", &[100 * drift; 2], 20),
            record("tas", "yield", &[25 * drift; 4], 10_000 * drift),
            record("tas-enlightened", "yield", &[100 * drift; 2], 20),
            record("tas-enlightened", "yield", &[48 * drift; 4], 192 * drift),
        ];
        for (record, position) in records.iter_mut().zip(0..) {
            (record.repetition, record.position) = (number, position);
        }
        records
    }

    #[test]
    fn a_machine_that_drifts_between_boots_changes_no_ratio() {
        let records: Vec<_> =
            [(0, 1), (1, 50), (2, 3)].map(|(n, drift)| repetition(n, drift)).concat();
        let cells = cells(&records);
        let cell = cells
            .iter()
            .find(|cell| cell.key.lock == "tas-enlightened" && cell.key.vps == 4)
            .unwrap();
        assert_eq!(cell.repetitions, 3);
        assert!((cell.retained.unwrap() - 0.96).abs() < 1e-9);
        assert!((cell.fewer_spins.unwrap() - 100.0).abs() < 1e-9);
        assert!((cell.to_plain.unwrap() - 1.92).abs() < 1e-9);
    }

    #[test]
    fn the_aim_needs_both_throughput_and_spins() {
        let aims = aims(&cells(&repetition(0, 1)));
        let [aim] = &aims[..] else { panic!("{aims:?}") };
        assert!(aim.reached, "{}", aim.sentence());
        assert!(aim.sentence().contains("keeps 96 %"), "{}", aim.sentence());
        let mut wasteful = repetition(0, 1);
        wasteful[3].guest.spin_iterations *= 10;
        let aims = super::aims(&cells(&wasteful));
        assert!(!aims[0].reached && aims[0].sentence().contains("NOT reached"));
    }

    #[test]
    fn a_lock_that_never_spins_has_no_factor_and_reaches_it() {
        let mut records = repetition(0, 1);
        records[3].guest.spin_iterations = 0;
        let aims = aims(&cells(&records));
        assert_eq!(aims[0].fewer_spins, None);
        assert!(aims[0].reached);
    }

    #[test]
    fn nothing_measured_reaches_nothing() {
        assert!(aims(&cells(&[])).is_empty());
    }
}
