//! The spin-wait study: what is run, and how the guest's and the host's counts become one table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::events::Study;
use crate::outcome::Case;
use crate::plot::Bar;
use crate::spin_study::plan::plain_twin;
use crate::vmm::counted_vps;

/// One boot of the study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Virtual processors that contend.
    pub vps: u32,
    /// Processors that they share.
    pub cpus: u32,
}

impl Setting {
    /// A name for files and messages.
    pub fn name(&self) -> String {
        let plural = if self.cpus == 1 { "" } else { "s" };
        let Self { policy, vps, cpus } = self;
        format!("{} on {cpus} processor{plural}, policy {policy}", counted_vps(*vps))
    }

    fn is_over_committed(&self) -> bool {
        self.vps > self.cpus
    }
}

/// One lock in one setting: a row of the table and an element of `spin_wait` in `run.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The lock's name.
    pub lock: String,
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Virtual processors that contended.
    pub vps: u32,
    /// Processors that they shared.
    pub cpus: u32,
    /// Acquisitions by all virtual processors together.
    pub acquisitions: u64,
    /// Long-spin hypercalls that the guest counted.
    pub long_spin_notifications: u64,
    /// Long spin waits that the host counted meanwhile.
    pub long_spins_seen_by_host: u64,
    /// Iterations of the waiting loop, by the guest's count.
    pub spin_iterations: u64,
    /// Time it took in 100 ns.
    pub elapsed_100ns: u64,
}

impl Row {
    /// Not a plain lock: it tells the hypervisor of its waits, or idles in them.
    fn is_enlightened(&self) -> bool {
        plain_twin(&self.lock).is_some()
    }

    fn same_boot(&self, other: &Self) -> bool {
        (&self.policy, self.vps, self.cpus) == (&other.policy, other.vps, other.cpus)
    }
}

/// Joins the guest's k-th measurement with the host's k-th section.
///
/// # Errors
///
/// Says which of the two has more, or that the guest measured with other processors than it was told.
pub fn merge(setting: &Setting, guest: &[Study], host: &[u64]) -> Result<Vec<Row>, String> {
    if guest.len() != host.len() {
        return Err(format!("guest has {} sections, host {}", guest.len(), host.len()));
    }
    if let Some(other) = guest.iter().find(|study| study.vps != setting.vps) {
        return Err(format!("{} measured with {} VPs", other.lock, other.vps));
    }
    let row = |(study, &seen): (&Study, &u64)| Row {
        lock: study.lock.clone(),
        policy: setting.policy.clone(),
        vps: setting.vps,
        cpus: setting.cpus,
        acquisitions: study.acquisitions,
        long_spin_notifications: study.long_spin_notifications,
        long_spins_seen_by_host: seen,
        spin_iterations: study.spin_iterations,
        elapsed_100ns: study.elapsed_100ns,
    };
    Ok(guest.iter().zip(host).map(row).collect())
}

/// The checks every run of the study must pass.
pub fn checks(setting: &Setting, rows: &[Row], locks: &[String], acquisitions: u64) -> Vec<Case> {
    let name = |what: &str| format!("{what} ({})", setting.name());
    let missing = locks.iter().find(|&lock| !rows.iter().any(|row| row.lock == *lock));
    let wrong_work = rows.iter().find(|row| row.acquisitions != acquisitions);
    let unequal =
        rows.iter().find(|row| row.long_spin_notifications != row.long_spins_seen_by_host);
    let talkative =
        rows.iter().find(|row| !row.is_enlightened() && row.long_spin_notifications > 0);
    vec![
        Case::check(
            name("every lock is measured"),
            missing.map(|lock| format!("{lock} is missing")),
        ),
        Case::check(
            name("every acquisition is made"),
            wrong_work.map(|row| format!("{}: {} of {acquisitions}", row.lock, row.acquisitions)),
        ),
        Case::check(
            name("guest and host count the same notifications"),
            unequal.map(|row| {
                let (guest, host) = (row.long_spin_notifications, row.long_spins_seen_by_host);
                format!("{}: guest {guest}, host {host}", row.lock)
            }),
        ),
        Case::check(
            name("plain locks notify nobody"),
            talkative.map(|row| format!("{}: {}", row.lock, row.long_spin_notifications)),
        ),
    ]
}

/// How often the plain lock of the same boot spun for each iteration of the enlightened one.
#[derive(Debug, Clone, Serialize)]
pub struct Saving {
    /// The lock that is not plain.
    pub lock: String,
    /// What the host does with a long spin wait.
    pub policy: String,
    /// Virtual processors.
    pub vps: u32,
    /// Processors.
    pub cpus: u32,
    /// Plain iterations ÷ enlightened iterations; absent if the enlightened lock never spun.
    pub spin_ratio: Option<f64>,
    /// Enlightened time ÷ plain time.
    pub time_ratio: f64,
}

/// Each enlightened lock against the plain one of its own boot.
pub fn savings(rows: &[Row]) -> Vec<Saving> {
    let saving = |row: &Row| {
        let name = plain_twin(&row.lock)?;
        let plain = rows.iter().find(|other| other.lock == name && other.same_boot(row))?;
        let spun = row.spin_iterations > 0;
        Some(Saving {
            lock: row.lock.clone(),
            policy: row.policy.clone(),
            vps: row.vps,
            cpus: row.cpus,
            spin_ratio: spun.then(|| plain.spin_iterations as f64 / row.spin_iterations as f64),
            time_ratio: row.elapsed_100ns as f64 / plain.elapsed_100ns.max(1) as f64,
        })
    };
    rows.iter().filter_map(saving).collect()
}

/// The table for a terminal.
pub fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<22} {:<9} {:>5} {:>4} {:>13} {:>16} {:>9} {:>9} {:>12}\n",
        "lock",
        "policy",
        "VPs",
        "CPUs",
        "acquisitions",
        "spin iterations",
        "notified",
        "seen",
        "time ÷ best"
    );
    let best = rows.iter().map(|row| row.elapsed_100ns).min().unwrap_or(1).max(1);
    for row in rows {
        let _ = writeln!(
            out,
            "{:<22} {:<9} {:>5} {:>4} {:>13} {:>16} {:>9} {:>9} {:>12.2}",
            row.lock,
            row.policy,
            row.vps,
            row.cpus,
            row.acquisitions,
            row.spin_iterations,
            row.long_spin_notifications,
            row.long_spins_seen_by_host,
            row.elapsed_100ns as f64 / best as f64,
        );
    }
    out
}

/// The sentences under the table: what the enlightened locks saved under over-commitment.
pub fn summary(savings: &[Saving]) -> Vec<String> {
    let sentence = |saving: &Saving| {
        let Saving { policy, vps, cpus, .. } = saving;
        let setting = Setting { policy: policy.clone(), vps: *vps, cpus: *cpus };
        let spins = match saving.spin_ratio {
            Some(ratio) => format!("spins {ratio:.1} times less than the plain one"),
            None => "never spins".to_string(),
        };
        setting.is_over_committed().then(|| {
            let Saving { lock, time_ratio, .. } = saving;
            format!("{}: {lock} {spins}, in {time_ratio:.2} times its time", setting.name())
        })
    };
    savings.iter().filter_map(sentence).collect()
}

/// The plot's bars: spin iterations per acquisition.
pub fn bars(rows: &[Row]) -> Vec<Bar> {
    let bar = |row: &Row| Bar {
        label: format!("{}, {} on {}, {}", row.lock, row.vps, row.cpus, row.policy),
        value: row.spin_iterations as f64 / row.acquisitions.max(1) as f64,
        enlightened: row.is_enlightened(),
    };
    rows.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Verdict;

    fn setting() -> Setting {
        Setting { policy: "yield".into(), vps: 4, cpus: 2 }
    }

    fn study(lock: &str, iterations: u64, notifications: u64) -> Study {
        Study {
            lock: lock.into(),
            vps: 4,
            acquisitions: 400,
            long_spin_notifications: notifications,
            spin_iterations: iterations,
            elapsed_100ns: 1000,
            threshold: 4095,
            ..Study::default()
        }
    }

    #[test]
    fn a_lost_section_is_an_error_and_not_a_shift() {
        let guest = [study("spin", 10, 0), study("spin-enlightened", 5, 1)];
        assert!(merge(&setting(), &guest, &[0]).is_err());
        assert!(merge(&setting(), &guest, &[0, 1]).is_ok());
    }

    #[test]
    fn unequal_counts_fail() {
        let guest = [study("spin-enlightened", 5000, 1)];
        let rows = merge(&setting(), &guest, &[2]).unwrap();
        let cases = checks(&setting(), &rows, &["spin-enlightened".into()], 400);
        let failed: Vec<_> = cases.iter().filter(|case| case.verdict == Verdict::Fail).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].reason, "spin-enlightened: guest 1, host 2");
    }

    #[test]
    fn missing_locks_lost_work_and_talkative_plain_locks_fail() {
        let guest = [study("spin", 5000, 1)];
        let rows = merge(&setting(), &guest, &[1]).unwrap();
        let cases = checks(&setting(), &rows, &["spin".into(), "ticket".into()], 500);
        let failed = cases.iter().filter(|case| case.verdict == Verdict::Fail).count();
        assert_eq!(failed, 3, "{cases:?}");
    }

    #[test]
    fn an_enlightened_lock_is_compared_with_the_plain_one_of_its_own_boot() {
        let guest = [study("spin", 1000, 0), study("spin-enlightened", 50, 0)];
        let mut rows = merge(&setting(), &guest, &[0, 0]).unwrap();
        let other = Setting { policy: "none".into(), ..setting() };
        rows.extend(merge(&other, &[study("spin", 7, 0)], &[0]).unwrap());
        let [saving] = &savings(&rows)[..] else { panic!("one pair") };
        assert_eq!(saving.spin_ratio, Some(20.0));
        assert_eq!((saving.lock.as_str(), saving.policy.as_str()), ("spin-enlightened", "yield"));
    }

    #[test]
    fn a_lock_that_never_spun_has_no_ratio() {
        let guest = [study("spin", 1000, 0), study("spin-enlightened", 0, 0)];
        let rows = merge(&setting(), &guest, &[0, 0]).unwrap();
        assert_eq!(savings(&rows)[0].spin_ratio, None);
    }
}
