//! All that one run of the study found, as `study.json` has it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::findings::{Aim, Cell, aims, cells};
use super::plan::Plan;
use super::record::Record;
use super::scaling::{Pair, Width, widths};

/// Changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// What was measured, and on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Data {
    /// [`SCHEMA`].
    pub schema: u32,
    /// On what, and when.
    pub made: Made,
    /// The design.
    pub plan: Plan,
    /// Every measurement, in the order in which it was made within each repetition.
    pub records: Vec<Record>,
    /// By policy: what the host did with the long spin waits of all boots.
    pub answers: BTreeMap<String, BTreeMap<String, u64>>,
    /// Boots and measurements that did not end, or not as they should.
    pub failures: Vec<Failure>,
    /// Work done in the guest and on the bare machine.
    pub scaling: Vec<Pair>,
    /// What a reader must know to judge all this.
    pub notes: Vec<String>,
}

/// Where and when.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Made {
    /// Date and time (UTC) of the begin.
    pub begun: String,
    /// Seconds that it took.
    pub seconds: u64,
    /// `native` or `lab`.
    pub kvm: String,
    /// What it ran on, in one line.
    pub place: String,
    /// Processors of the machine that ran it, or ran the lab.
    pub machine_cpus: usize,
    /// That machine's load average over one minute, before each repetition and at the end.
    pub load: Vec<f64>,
}

/// Something that did not go as it should.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// Repetition.
    pub repetition: u32,
    /// The boot.
    pub boot: String,
    /// What happened.
    pub what: String,
    /// Whether it only took too long, which is a result.
    pub only_slow: bool,
}

/// `study.json`: the data, and what follows from it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    data: &'a Data,
    findings: &'a Findings,
}

/// What follows from the data.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Whether the study's aim is reached, by setting.
    pub aims: Vec<Aim>,
    /// Medians of every cell.
    pub cells: Vec<Cell>,
    /// Guest against bare machine.
    pub widths: Vec<Width>,
}

impl Data {
    /// What follows.
    pub fn findings(&self) -> Findings {
        let cells = cells(&self.records);
        Findings { aims: aims(&cells), widths: widths(&self.scaling), cells }
    }

    /// Writes `study.json`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, path: &Path, findings: &Findings) -> Result<()> {
        let report = Report { data: self, findings };
        crate::outcome::write_file(path, &serde_json::to_vec_pretty(&report)?)
    }

    /// Reads a `study.json`; what follows from the data is left aside.
    ///
    /// # Errors
    /// If it can't be read, or is of another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let file = || format!("cannot read {}. Make it with: make study", path.display());
        let text = std::fs::read(path).with_context(file)?;
        let data: Self = serde_json::from_slice(&text).with_context(file)?;
        if data.schema != SCHEMA {
            bail!(
                "{} has schema {}, this program has {SCHEMA}. Run: make study",
                path.display(),
                data.schema
            );
        }
        Ok(data)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::{Place, Size};
    use super::super::record::tests::record;
    use super::*;

    pub(crate) fn data() -> Data {
        let policies = ["yield".to_string()];
        let place = Place { policies: &policies, cpus: 2, lab: true };
        let records = [
            ("tas", &[100, 100][..], 20),
            ("tas", &[25, 25, 25, 25], 10_000),
            ("tas-enlightened", &[100, 100], 20),
            ("tas-enlightened", &[48, 48, 48, 48], 192),
        ];
        Data {
            schema: SCHEMA,
            made: Made { place: "a <lab>".into(), load: vec![0.5], ..Made::default() },
            plan: Plan::new(Size::Quick, &place),
            records: records.map(|(lock, each, spins)| record(lock, "yield", each, spins)).into(),
            answers: BTreeMap::from([("yield".into(), BTreeMap::from([("yielded".into(), 7)]))]),
            failures: Vec::new(),
            scaling: Vec::new(),
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let path = std::env::temp_dir().join(format!("enl-study-{}.json", std::process::id()));
        let data = data();
        data.write(&path, &data.findings()).unwrap();
        let read = Data::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(read.records, data.records);
        assert_eq!(read.plan, data.plan);
    }

    #[test]
    fn what_is_no_study_is_refused() {
        let path = std::env::temp_dir().join(format!("enl-no-study-{}.json", std::process::id()));
        for text in ["", "{}", "[1]", "{\"schema\":1,\"records\":[{\"lock\":5}]}"] {
            std::fs::write(&path, text).unwrap();
            assert!(format!("{:#}", Data::read(&path).unwrap_err()).contains("make study"));
        }
        std::fs::remove_file(path).unwrap();
    }
}
