//! `make costs`: what free locks, the clock and VMBus's ring cost on this machine, side by side.
//!
//! Runs the Criterion benches of `hv-enlightenments` and `vmbus-ring` and reads what Criterion leaves. On a machine that does other things
//! too, the least time of all samples says what the instructions cost, the median what else went on; ratios
//! are of the least times. What our drivers cost beside is counted in instructions, which are the same whenever they are counted.

mod drivers;
mod rings;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use self::drivers::Instructions;
use self::rings::Flow;
use crate::artifacts::Artifacts;
use crate::outcome::write_file;
use crate::suites::cargo::cargo;

/// Beside what a bench of the same group is put, and the most it should cost of that.
type Others = &'static [(&'static str, Option<f64>)];

/// The benches of ours: group, name and others.
const COMPARED: &[(&str, &str, Others)] = &[
    ("mutex", "tas", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("mutex", "spin-relax", &[("spin", Some(1.0))]),
    ("mutex", "ticket", &[("spin-ticket", Some(1.0)), ("parking_lot", None), ("std", None)]),
    // `spin` has no queue lock; its test-and-set lock is the cheapest there can be.
    ("mutex", "mcs", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("mutex", "mcs-idling", &[("spin", None), ("parking_lot", None), ("std", None)]),
    ("read", "fair-rw", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("read", "fair-rw-idling", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("write", "fair-rw", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("write", "fair-rw-idling", &[("spin", Some(1.0)), ("parking_lot", None), ("std", None)]),
    ("clock", "tsc-page", &[("rdtsc", Some(2.0)), ("lfence-rdtsc-lfence", Some(2.0))]),
    ("clock", "clock", &[("rdtsc", None), ("lfence-rdtsc-lfence", None)]),
    ("ring-8", "vmbus-ring", BESIDE_ONE),
    ("ring-8", "vmbus-ring-batch", BESIDE_ONE),
    ("ring-512", "vmbus-ring", BESIDE_ONE),
    ("ring-512", "vmbus-ring-batch", BESIDE_ONE),
    ("ring-4096", "vmbus-ring", BESIDE_A_PAGE),
    ("ring-4096", "vmbus-ring-batch", BESIDE_A_PAGE),
    // Two copies for each packet, at least.
    ("ring-4096", "vmbus-ring-scattered", BESIDE_ONE),
];

/// A small packet costs what surrounds it, which a copy has not.
const BESIDE_ONE: Others = &[("memcpy", None), ("rtrb", None), ("virtio-queue", Some(1.0))];
/// A packet of a page flows at 70 % of what copying does.
const BESIDE_A_PAGE: Others =
    &[("memcpy", Some(1.43)), ("rtrb", None), ("virtio-queue", Some(1.0))];

/// More than the goal by this much is noise: one machine never gives the same time twice.
const NOISE: f64 = 1.05;

/// Criterion's `sample.json`: for each sample, how often and how long.
#[derive(Debug, Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Nanoseconds of one acquisition and release, of one reading, or of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// The best sample's.
    pub least_ns: f64,
    /// The middle sample's.
    pub median_ns: f64,
}

/// One bench beside another.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// `group/name` of ours.
    pub of: String,
    /// `group/name` of theirs.
    pub to: String,
    /// Least time of ours by least time of theirs.
    pub ratio: f64,
    /// The most it should be, if that was said.
    pub goal: Option<f64>,
}

/// `costs.json`.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// By `group/name`.
    pub benches: BTreeMap<String, Cost>,
    /// In the order of the table.
    pub ratios: Vec<Ratio>,
    /// Those of `benches` that move packets.
    pub flows: BTreeMap<String, Flow>,
    /// Of our drivers.
    pub instructions: Instructions,
}

/// Measures, prints the table, writes `costs.json`.
///
/// # Errors
///
/// If the benches can't be run, or have not left what Criterion leaves.
pub fn run(artifacts: &Artifacts) -> Result<bool> {
    let folder = artifacts.reports.join("criterion");
    let status = cargo(artifacts)
        .args(["bench", "--locked", "-p", "hv-enlightenments", "-p", "vmbus-ring"])
        .args(["--bench", "locks", "--bench", "clock", "--bench", "ring"])
        .args(["--", "--noplot", "--quiet"])
        .args(["--warm-up-time", "0.3", "--measurement-time", "1.5", "--sample-size", "50"])
        .env("CRITERION_HOME", &folder)
        .status()
        .context("cannot run cargo bench")?;
    if !status.success() {
        bail!("cannot measure: cargo bench ended with {status}; see above");
    }
    let mut costs = collect(&folder)?;
    costs.instructions = drivers::measure(artifacts)?;
    print(&costs);
    let file = artifacts.reports.join("costs.json");
    write_file(&file, &serde_json::to_vec_pretty(&costs)?)?;
    println!("report: {}", file.display());
    Ok(true)
}

/// What Criterion left in `folder`.
fn collect(folder: &Path) -> Result<Costs> {
    let mut benches = BTreeMap::new();
    let mut ratios = Vec::new();
    for (group, name, others) in COMPARED {
        let of = format!("{group}/{name}");
        let ours = read(folder, &of, &mut benches)?;
        for (other, goal) in *others {
            let to = format!("{group}/{other}");
            let theirs = read(folder, &to, &mut benches)?;
            let ratio = ours.least_ns / theirs.least_ns;
            ratios.push(Ratio { of: of.clone(), to, ratio, goal: *goal });
        }
    }
    let flows = rings::flows(&benches);
    Ok(Costs { benches, ratios, flows, instructions: Instructions::default() })
}

fn read(folder: &Path, name: &str, benches: &mut BTreeMap<String, Cost>) -> Result<Cost> {
    if let Some(&cost) = benches.get(name) {
        return Ok(cost);
    }
    let file = folder.join(name).join("new/sample.json");
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let cost = cost(&text).with_context(|| format!("cannot use {}", file.display()))?;
    benches.insert(name.to_owned(), cost);
    Ok(cost)
}

/// The cost of one iteration, from `sample.json`.
fn cost(text: &[u8]) -> Result<Cost> {
    let samples: Samples = serde_json::from_slice(text)?;
    if samples.iters.len() != samples.times.len() {
        bail!("{} times of {} samples", samples.times.len(), samples.iters.len());
    }
    let each = samples.times.iter().zip(&samples.iters).map(|(time, iterations)| time / iterations);
    let mut each: Vec<f64> = each.filter(|time| time.is_finite() && *time > 0.0).collect();
    each.sort_by(f64::total_cmp);
    let least_ns = *each.first().context("no samples")?;
    Ok(Cost { least_ns, median_ns: each[each.len() / 2] })
}

fn print(costs: &Costs) {
    println!("\n{:<30} {:>9} {:>9}  times what the other costs", "", "least", "median");
    for (name, cost) in &costs.benches {
        let ratios: Vec<_> =
            costs.ratios.iter().filter(|ratio| ratio.of == *name).map(Ratio::text).collect();
        println!(
            "{name:<30} {:>6.2} ns {:>6.2} ns  {}",
            cost.least_ns,
            cost.median_ns,
            ratios.join(", ")
        );
    }
    let above = costs.ratios.iter().filter(|ratio| ratio.is_above()).count();
    println!("{above} of {} comparisons are above their goal", costs.ratios.len());
    rings::print(&costs.flows);
    drivers::print(&costs.instructions);
}

impl Ratio {
    fn is_above(&self) -> bool {
        self.goal.is_some_and(|goal| self.ratio > goal * NOISE)
    }

    fn text(&self) -> String {
        let other = self.to.split_once('/').map_or(self.to.as_str(), |(_, name)| name);
        let goal = match self.goal {
            Some(goal) if self.is_above() => format!(" (goal {goal}: above)"),
            Some(goal) => format!(" (goal {goal})"),
            None => String::new(),
        };
        format!("{:.2} × {other}{goal}", self.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_least_and_the_middle_of_the_samples() {
        let text = br#"{"sampling_mode":"Linear","iters":[1,2,4],"times":[30,20,48]}"#;
        assert_eq!(cost(text).unwrap(), Cost { least_ns: 10.0, median_ns: 12.0 });
    }

    #[test]
    fn samples_that_make_no_sense_are_refused() {
        for text in [
            "",
            "{}",
            r#"{"iters":[],"times":[]}"#,
            r#"{"iters":[1],"times":[1,2]}"#,
            r#"{"iters":[0],"times":[1]}"#,
        ] {
            assert!(cost(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ratio_is_above_its_goal_only_beyond_the_noise() {
        let ratio = |ratio, goal| Ratio { of: "a/b".into(), to: "a/c".into(), ratio, goal };
        assert!(!ratio(1.04, Some(1.0)).is_above());
        assert!(ratio(1.06, Some(1.0)).is_above());
        assert!(!ratio(9.0, None).is_above());
        assert_eq!(ratio(2.2, Some(2.0)).text(), "2.20 × c (goal 2: above)");
        assert_eq!(ratio(0.5, None).text(), "0.50 × c");
    }

    #[test]
    fn what_is_compared_is_measured() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let benches = [
            "hv-enlightenments/benches/locks.rs",
            "hv-enlightenments/benches/clock.rs",
            "vmbus-ring/benches/ring.rs",
        ]
        .map(|file| std::fs::read_to_string(root.join(file)).unwrap())
        .concat();
        for (group, name, others) in COMPARED {
            for name in others.iter().map(|(other, _)| other).chain([name, group]) {
                assert!(benches.contains(&format!("\"{name}\"")), "{name}");
            }
        }
    }
}
