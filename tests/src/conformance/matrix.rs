//! The matrix: every case on every column, as a report says it (`conformance.json`, docs/conformance.md).

use serde::Serialize;

use super::columns::{Column, Kind, System};
use super::deviations::{KNOWN, explain};
use super::judge::{Outcome, Verdict, Verdicts, clean};
use crate::image::CaseInfo;
use crate::lab::{Executor, Parts};
use crate::outcome::{Case, Suite};

/// Version of the report's layout.
const SCHEMA: u32 = 1;

/// All results.
#[derive(Debug, Serialize)]
pub struct Matrix {
    /// `SCHEMA`.
    pub schema: u32,
    /// Whether all cases ran on all columns: not if the command line named some.
    pub whole: bool,
    /// What it ran on.
    pub ran_on: RanOn,
    /// In the order of each case's `results`.
    pub columns: Vec<ColumnReport>,
    /// In the order of the specification.
    pub facilities: Vec<FacilityReport>,
    /// What a reader must know to judge it.
    pub notes: Vec<String>,
}

/// What the matrix ran on.
#[derive(Debug, Default, Serialize)]
pub struct RanOn {
    /// `native`, `lab`, or empty if nothing ran on KVM.
    pub kvm: String,
    /// The same in a sentence.
    pub place: String,
    /// Release of the kernel whose KVM it is.
    pub kvm_kernel: String,
    /// Version of the QEMU that is the foreign monitor, with KVM and without.
    pub qemu: String,
    /// Version of the QEMU that is the lab; empty natively.
    pub lab_qemu: String,
    /// This machine's processor.
    pub processor: String,
}

/// A column.
#[derive(Debug, Serialize)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub kind: Kind,
    /// What booted.
    pub system: System,
    /// Virtual processors.
    pub vps: u32,
    /// Vendor signature that the guest saw.
    pub hypervisor: String,
    /// How many cases ended how.
    pub counts: Counts,
    /// What was wrong beyond single cases.
    pub problems: Vec<String>,
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As the rule says.
    pub pass: usize,
    /// Not so.
    pub fail: usize,
    /// Could not be tried.
    pub skip: usize,
    /// A known deviation.
    pub deviation: usize,
}

/// A facility's cases.
#[derive(Debug, Serialize)]
pub struct FacilityReport {
    /// Its name.
    pub name: String,
    /// Its cases.
    pub cases: Vec<CaseReport>,
}

/// A row.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The rule: the name in words.
    pub rule: String,
    /// What it rests on.
    pub source: String,
    /// One for each column that it ran on.
    pub results: Vec<Cell>,
}

/// A case on a column.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Index of the column.
    pub column: usize,
    /// How it ended.
    pub result: Outcome,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl RanOn {
    /// This machine, with that QEMU.
    pub fn here(qemu: &str) -> Self {
        Self { qemu: clean(qemu), processor: processor(), ..Self::default() }
    }

    /// And where KVM is.
    pub fn kvm(&mut self, executor: &Executor, parts: Option<&Parts>) {
        self.kvm = executor.kind().into();
        self.place = executor.place(1);
        self.kvm_kernel = match (executor, parts) {
            (Executor::Lab(_), Some(parts)) => {
                self.lab_qemu = parts.qemu_version.clone();
                parts.kernel_release.clone()
            }
            _ => read("/proc/sys/kernel/osrelease"),
        };
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).into()
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Pass => self.pass += 1,
            Outcome::Fail => self.fail += 1,
            Outcome::Skip => self.skip += 1,
            Outcome::Deviation => self.deviation += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.pass + self.fail + self.skip + self.deviation
    }
}

impl Matrix {
    /// Puts the columns' verdicts together.
    pub fn new(
        ran_on: RanOn,
        whole: bool,
        cases: &[CaseInfo],
        columns: &[Column],
        verdicts: Vec<Verdicts>,
        notes: Vec<String>,
    ) -> Self {
        let mut cases = cases.to_vec();
        cases.sort_by(|a, b| (place_of(&a.facility), a).cmp(&(place_of(&b.facility), b)));
        let mut facilities: Vec<FacilityReport> = Vec::new();
        let mut counts = vec![Counts::default(); columns.len()];
        for case in &cases {
            let row = row(case, columns, &verdicts);
            row.results.iter().for_each(|cell| counts[cell.column].add(cell.result));
            match facilities.last_mut().filter(|facility| facility.name == case.facility) {
                Some(facility) => facility.cases.push(row),
                None => facilities
                    .push(FacilityReport { name: case.facility.clone(), cases: vec![row] }),
            }
        }
        let column = |((column, verdicts), counts): ((&Column, Verdicts), Counts)| ColumnReport {
            name: column.title(),
            kind: column.kind,
            system: column.system,
            vps: column.vps,
            hypervisor: verdicts.hypervisor,
            counts,
            problems: verdicts.problems,
        };
        let columns = columns.iter().zip(verdicts).zip(counts).map(column).collect();
        Self { schema: SCHEMA, whole, ran_on, columns, facilities, notes }
    }

    /// Every case.
    pub fn cases(&self) -> impl Iterator<Item = &CaseReport> {
        self.facilities.iter().flat_map(|facility| &facility.cases)
    }

    /// Failures of our own host, in all its columns.
    pub fn failures_of_ours(&self) -> usize {
        let ours = self.columns.iter().filter(|column| column.kind != Kind::Foreign);
        ours.map(|column| column.counts.fail + column.problems.len()).sum()
    }

    /// The columns as suites of `make test`. There a failure of a hypervisor that is not ours is no failure.
    pub fn suites(&self) -> Vec<Suite> {
        let suite = |(index, column): (usize, &ColumnReport)| {
            let cell = |case: &CaseReport| {
                let cell = case.results.iter().find(|cell| cell.column == index)?;
                Some(test_case(&case.name, cell, column.kind))
            };
            let mut cases: Vec<_> = self.cases().filter_map(cell).collect();
            let wrong = (!column.problems.is_empty()).then(|| column.problems.join("; "));
            cases.push(Case::check("ends as it says", wrong));
            Suite { name: format!("conformance, {}", column.name), cases }
        };
        self.columns.iter().enumerate().map(suite).collect()
    }
}

fn test_case(name: &str, cell: &Cell, kind: Kind) -> Case {
    let reason = cell.reason.as_str();
    match (cell.result, kind) {
        (Outcome::Pass, _) => Case::pass(name),
        (Outcome::Skip, _) => Case::skip(name, reason),
        (Outcome::Deviation, _) => Case::skip(name, format!("known deviation: {reason}")),
        (Outcome::Fail, Kind::Foreign) => Case::skip(name, format!("FAIL there: {reason}")),
        (Outcome::Fail, _) => Case::fail(name, reason),
    }
}

/// Where a facility stands in the matrix.
fn place_of(facility: &str) -> usize {
    let known = kernel::matrix::Facility::ALL.iter().position(|known| known.name() == facility);
    known.unwrap_or(usize::MAX)
}

fn row(case: &CaseInfo, columns: &[Column], verdicts: &[Verdicts]) -> CaseReport {
    let cell = |(index, (column, verdicts)): (usize, (&Column, &Verdicts))| {
        let mut verdict = verdicts.of(&case.name)?;
        if !column.is_ours() {
            verdict = explain(KNOWN, &column.name, &case.name, verdict);
        }
        let Verdict { outcome, reason } = verdict;
        Some(Cell { column: index, result: outcome, reason })
    };
    CaseReport {
        name: case.name.clone(),
        rule: kernel::matrix::Rule(&case.name).to_string(),
        source: case.source.clone(),
        results: columns.iter().zip(verdicts).enumerate().filter_map(cell).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two columns, ours and a foreign one, and three cases with every outcome.
    pub(crate) fn example(ours: Outcome) -> Matrix {
        let cell = |column, result, reason: &str| Cell { column, result, reason: reason.into() };
        let case = |name: &str, results| CaseReport {
            name: name.into(),
            rule: kernel::matrix::Rule(name).to_string(),
            source: "TLFS §1".into(),
            results,
        };
        let column = |name: &str, kind| ColumnReport {
            name: name.into(),
            kind,
            system: System::Enlighten,
            vps: 1,
            hypervisor: "Microsoft Hv".into(),
            counts: Counts {
                fail: usize::from(kind == Kind::Ours && ours == Outcome::Fail),
                ..Counts::default()
            },
            problems: Vec::new(),
        };
        Matrix {
            schema: SCHEMA,
            whole: true,
            ran_on: RanOn::default(),
            columns: vec![
                column("our host, 1 VP", Kind::Ours),
                column("QEMU, 1 VP", Kind::Foreign),
            ],
            facilities: vec![FacilityReport {
                name: "SynIC".into(),
                cases: vec![
                    case(
                        "synic::a_<slot>",
                        vec![
                            cell(0, ours, "because"),
                            cell(1, Outcome::Fail, "<script>alert('&')</script>"),
                        ],
                    ),
                    case(
                        "synic::b",
                        vec![
                            cell(0, Outcome::Pass, ""),
                            cell(1, Outcome::Skip, "no Hyper-V interface"),
                        ],
                    ),
                    case(
                        "synic::c",
                        vec![
                            cell(0, Outcome::Pass, ""),
                            cell(1, Outcome::Deviation, "otherwise (TLFS §2)"),
                        ],
                    ),
                ],
            }],
            notes: vec!["the lab stalled <once>".into()],
        }
    }

    #[test]
    fn only_our_own_failures_count() {
        assert_eq!(example(Outcome::Pass).failures_of_ours(), 0);
        assert_eq!(example(Outcome::Fail).failures_of_ours(), 1);
        let mut lied = example(Outcome::Pass);
        lied.columns[1].problems.push("it lied".into());
        assert_eq!(lied.failures_of_ours(), 0);
        lied.columns[0].problems.push("it lied".into());
        assert_eq!(lied.failures_of_ours(), 1);
    }

    #[test]
    fn in_make_test_a_foreign_failure_is_a_skip_with_its_reason() {
        use crate::events::Verdict::{Fail, Pass, Skip};
        let suites = example(Outcome::Fail).suites();
        let verdicts = |index: usize| suites[index].cases.iter().map(|case| case.verdict);
        assert_eq!(verdicts(0).collect::<Vec<_>>(), [Fail, Pass, Pass, Pass]);
        assert_eq!(verdicts(1).collect::<Vec<_>>(), [Skip, Skip, Skip, Pass]);
        assert!(suites[1].cases[0].reason.starts_with("FAIL there: "));
    }

    #[test]
    fn the_report_has_the_documented_fields() {
        let json = serde_json::to_value(example(Outcome::Pass)).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["columns"][1]["kind"], "foreign");
        let case = &json["facilities"][0]["cases"][1];
        assert_eq!(case["rule"], "b");
        assert_eq!(case["results"][1]["result"], "skip");
        assert_eq!(case["results"][0].get("reason"), None);
    }

    #[test]
    fn facilities_stand_in_the_order_of_the_image() {
        assert!(place_of("Discovery") < place_of("SynIC"));
        assert!(place_of("Extended") < place_of("unheard of"));
    }
}
