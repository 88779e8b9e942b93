//! The design: which measurements, in which boots, in which order.
//!
//! The full product of locks × policies × virtual processors × processors × critical sections × thresholds has some
//! 40,000 cells. What is measured instead:
//!
//! - the **core**: locks × policies × virtual processors × processors in full, at one section and one threshold;
//! - the **section** sweep: locks × critical sections, 4 virtual processors on 2;
//! - the **threshold** sweep: the locks that have one × thresholds, 4 virtual processors on 2.
//!
//! Policy, threshold and processors need a boot; locks, numbers of virtual processors and repetitions within it do not.
//! So each lock runs in the same boot as its plain twin and as its own run on as many virtual processors as processors.
//! Every repetition is a batch of its own with all boots and all locks in an order of its own, so that whatever drifts
//! on the machine falls on all alike.

use serde::{Deserialize, Serialize};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// In a few minutes: enough to see whether everything works.
    Quick,
    /// In a quarter of an hour, in the lab too.
    #[default]
    Usual,
    /// On real processors: every threshold and every policy in every sweep.
    Full,
}

/// Which part of the design a measurement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Locks × policies × virtual processors × processors.
    Core,
    /// Critical sections of several lengths.
    Section,
    /// Thresholds.
    Threshold,
}

/// A threshold: rounds, or never.
pub type Threshold = Option<u32>;

/// One boot of the guest, with several measurements in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// What for.
    pub part: Part,
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Processors that the virtual ones share.
    pub cpus: u32,
    /// Virtual processors that the guest has; not all take part in each measurement.
    pub vps: u32,
    /// Rounds between two notifications.
    pub threshold: Threshold,
    /// Iterations of the critical section's loop.
    pub hold: u32,
    /// Locks, each with the virtual processors that take part, in the order in which they are measured.
    pub entries: Vec<(String, u32)>,
}

impl Boot {
    /// For people, and the job's name.
    pub fn name(&self) -> String {
        let Self { part, policy, cpus, hold, .. } = self;
        let threshold = threshold_name(self.threshold);
        format!("{part:?}: {policy}, {cpus} CPUs, section {hold}, threshold {threshold}")
    }

    /// The value of the kernel's `study`.
    pub fn study(&self) -> String {
        let words: Vec<_> =
            self.entries.iter().map(|(lock, vps)| format!("{lock}@{vps}")).collect();
        words.join(",")
    }
}

/// `32` or `never`.
pub fn threshold_name(threshold: Threshold) -> String {
    threshold.map_or("never".into(), |rounds| rounds.to_string())
}

/// What the design is made for.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Every policy of the host.
    pub policies: &'a [String],
    /// Most processors that can be had.
    pub cpus: u32,
    /// Whether it is the lab, where a round of waiting takes long and a time slice has few of them.
    pub lab: bool,
}

/// The design.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How much.
    pub size: Size,
    /// How often everything is repeated.
    pub repetitions: u32,
    /// How long each lock is measured, in ms.
    pub duration_ms: u32,
    /// Iterations of the loop between two acquisitions.
    pub gap: u32,
    /// Virtual processors of the core.
    pub vps: Vec<u32>,
    /// Processors of the core.
    pub cpus: Vec<u32>,
    /// Critical section of the core and of the threshold sweep.
    pub hold: u32,
    /// Critical sections of the sweep.
    pub holds: Vec<u32>,
    /// Threshold of the core and of the section sweep.
    pub threshold: Threshold,
    /// Thresholds of the sweep.
    pub thresholds: Vec<Threshold>,
    /// Policies of the core.
    pub policies: Vec<String>,
    /// Policies of the sweeps.
    pub sweep_policies: Vec<String>,
}

/// Virtual processors of the sweeps: twice as many as processors.
const SWEEP_VPS: u32 = 4;

impl Plan {
    /// The design for this place.
    pub fn new(size: Size, place: &Place<'_>) -> Self {
        let (repetitions, duration_ms) = match size {
            Size::Quick => (1, 100),
            Size::Usual => (3, 250),
            Size::Full => (5, 1000),
        };
        let only = |wanted: &[&str]| {
            let wanted = |policy: &&String| wanted.contains(&policy.as_str());
            place.policies.iter().filter(wanted).cloned().collect()
        };
        Self {
            size,
            repetitions,
            duration_ms,
            gap: 1000,
            vps: vec![1, 2, 4, 8],
            cpus: [1, 2].into_iter().filter(|&cpus| cpus <= place.cpus).collect(),
            hold: 100,
            holds: vec![10, 1000, 10_000],
            threshold: Some(if place.lab { 32 } else { 4096 }),
            thresholds: thresholds(size, place.lab),
            policies: place.policies.to_vec(),
            sweep_policies: match size {
                Size::Quick => only(&["yield"]),
                Size::Usual => only(&["yield", "directed", "park"]),
                Size::Full => place.policies.to_vec(),
            },
        }
    }

    /// The boots of one repetition, in the order of that repetition.
    pub fn boots(&self, repetition: u32, locks: &[&str]) -> Vec<Boot> {
        let mut order = Shuffle::new(repetition);
        let most_cpus = self.cpus.iter().copied().max().unwrap_or(1);
        let boot = |part, policy: &String, cpus, threshold, hold, entries: Vec<_>| Boot {
            part,
            policy: policy.clone(),
            cpus,
            vps: entries.iter().map(|(_, vps)| *vps).max().unwrap_or(1),
            threshold,
            hold,
            entries,
        };
        let all = |vps: &[u32]| cross(locks, vps);
        let base = most_cpus.min(SWEEP_VPS);
        let mut boots = Vec::new();
        for policy in &self.policies {
            for &cpus in &self.cpus {
                let entries = all(&self.vps);
                boots.push(boot(Part::Core, policy, cpus, self.threshold, self.hold, entries));
            }
        }
        for policy in &self.sweep_policies {
            for &hold in &self.holds {
                let entries = all(&[base, SWEEP_VPS]);
                boots.push(boot(Part::Section, policy, most_cpus, self.threshold, hold, entries));
            }
            let with_threshold: Vec<&str> =
                locks.iter().copied().filter(|lock| has_threshold(lock)).collect();
            for &threshold in &self.thresholds {
                let entries = cross(&with_threshold, &[SWEEP_VPS]);
                boots.push(boot(Part::Threshold, policy, most_cpus, threshold, self.hold, entries));
            }
        }
        for boot in &mut boots {
            order.shuffle(&mut boot.entries);
        }
        order.shuffle(&mut boots);
        boots
    }
}

/// Whether a lock does something at the threshold: tells the hypervisor, or idles.
pub fn has_threshold(lock: &str) -> bool {
    plain_twin(lock).is_some()
}

/// The plain lock of the same algorithm; `None` for one that is plain itself.
pub fn plain_twin(lock: &str) -> Option<&str> {
    lock.split_once('-').map(|(plain, _)| plain)
}

fn thresholds(size: Size, lab: bool) -> Vec<Threshold> {
    let exponents: Vec<u32> = match (size, lab) {
        (Size::Quick, _) => vec![3, 6, 10, 16],
        (Size::Usual, true) => vec![2, 4, 6, 8, 10, 12, 14, 16],
        (Size::Usual, false) => (6..=16).step_by(2).collect(),
        (Size::Full, _) => (6..=16).collect(),
    };
    exponents.into_iter().map(|exponent| Some(1 << exponent)).chain([None]).collect()
}

fn cross(locks: &[&str], vps: &[u32]) -> Vec<(String, u32)> {
    let with = |lock: &&str| vps.iter().map(|&vps| (lock.to_string(), vps)).collect::<Vec<_>>();
    locks.iter().flat_map(with).collect()
}

/// An order that looks random and is the same on every machine: xorshift64 and Fisher-Yates.
struct Shuffle(u64);

impl Shuffle {
    fn new(repetition: u32) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ u64::from(repetition) << 32)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let other = usize::try_from(self.0 % (last as u64 + 1)).unwrap_or(0);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: [&str; 4] = ["tas", "mcs", "tas-enlightened", "mcs-notifying"];

    fn plan(size: Size) -> Plan {
        let policies = ["none", "yield", "directed", "park"].map(String::from);
        Plan::new(size, &Place { policies: &policies, cpus: 2, lab: true })
    }

    #[test]
    fn every_repetition_has_the_same_measurements_in_another_order() {
        let plan = plan(Size::Usual);
        let (one, two) = (plan.boots(0, &LOCKS), plan.boots(1, &LOCKS));
        assert_ne!(one, two);
        let sorted = |boots: Vec<Boot>| {
            let key = |mut boot: Boot| {
                boot.entries.sort();
                (boot.name(), boot.study())
            };
            let mut keys: Vec<_> = boots.into_iter().map(key).collect();
            keys.sort();
            keys
        };
        assert_eq!(sorted(one), sorted(two));
    }

    #[test]
    fn each_lock_runs_in_the_boot_of_its_plain_twin_and_of_its_own_baseline() {
        for boot in plan(Size::Usual).boots(0, &LOCKS) {
            if boot.part == Part::Threshold {
                continue;
            }
            for (lock, vps) in &boot.entries {
                let twin = plain_twin(lock).unwrap_or(lock).to_string();
                assert!(boot.entries.contains(&(twin, *vps)), "{boot:?}");
                assert!(boot.entries.contains(&(lock.clone(), boot.cpus)), "{boot:?}");
            }
        }
    }

    #[test]
    fn the_core_is_the_full_product() {
        let boots = plan(Size::Quick).boots(0, &LOCKS);
        let core: Vec<_> = boots.iter().filter(|boot| boot.part == Part::Core).collect();
        assert_eq!(core.len(), 4 * 2);
        assert!(core.iter().all(|boot| boot.entries.len() == LOCKS.len() * 4 && boot.vps == 8));
    }

    #[test]
    fn the_full_sweep_has_every_power_of_two_and_never() {
        let wanted: Vec<_> = (6..=16).map(|n| Some(1 << n)).chain([None]).collect();
        assert_eq!(plan(Size::Full).thresholds, wanted);
    }

    #[test]
    fn one_processor_is_enough_for_a_smaller_study() {
        let policies = ["yield".to_string()];
        let place = Place { policies: &policies, cpus: 1, lab: false };
        let plan = Plan::new(Size::Usual, &place);
        assert!(plan.boots(0, &LOCKS).iter().all(|boot| boot.cpus == 1));
    }

    #[test]
    fn a_lock_that_does_something_at_the_threshold_has_a_plain_twin() {
        assert_eq!(plain_twin("mcs-notifying"), Some("mcs"));
        assert_eq!(plain_twin("mcs"), None);
        assert!(has_threshold("tas-enlightened") && !has_threshold("tas"));
    }
}
