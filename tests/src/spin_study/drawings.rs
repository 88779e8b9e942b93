//! Which charts there are.

use super::chart::{Drawing, Line, Panel};
use super::findings::Cell;
use super::plan::Part;

/// All charts: the name of the file, and the drawing. A chart without data is left out.
pub fn drawings(cells: &[Cell]) -> Vec<(&'static str, Drawing)> {
    let core = |cell: &Cell| cell.key.part == Part::Core;
    let section = |cell: &Cell| cell.key.part == Part::Section && cell.key.vps > cell.key.cpus;
    let threshold = |cell: &Cell| cell.key.part == Part::Threshold;
    let retained = |cell: &Cell| cell.retained;
    let spins = |cell: &Cell| Some(cell.spins_per_acquisition);
    let all = [
        (
            "study-throughput.svg",
            Chart {
                title: "Throughput, of that on as many virtual processors as processors",
                x: ("virtual processors", |cell| cell.key.vps),
                y: ("share", false),
                cells: &core,
                value: &retained,
            },
        ),
        (
            "study-spins.svg",
            Chart {
                title: "Rounds of waiting for each acquisition",
                x: ("virtual processors", |cell| cell.key.vps),
                y: ("rounds", true),
                cells: &core,
                value: &spins,
            },
        ),
        (
            "study-section.svg",
            Chart {
                title: "Throughput of 4 on 2 processors, of that of 2 on 2, by critical section",
                x: ("iterations in the section", |cell| cell.key.hold),
                y: ("share", false),
                cells: &section,
                value: &retained,
            },
        ),
        (
            "study-threshold.svg",
            Chart {
                title: "Rounds of waiting for each acquisition, 4 on 2 processors, by threshold",
                x: ("threshold", |cell| cell.key.threshold),
                y: ("rounds", true),
                cells: &threshold,
                value: &spins,
            },
        ),
        (
            "study-notifications.svg",
            Chart {
                title: "Notifications for 1000 acquisitions, 4 on 2 processors, by threshold",
                x: ("threshold", |cell| cell.key.threshold),
                y: ("notifications", true),
                cells: &|cell| threshold(cell) && cell.key.lock != "mcs-enlightened",
                value: &|cell| Some(cell.notifications_per_1000),
            },
        ),
        (
            "study-threshold-throughput.svg",
            Chart {
                title: "Acquisitions in a second, 4 on 2 processors, by threshold",
                x: ("threshold", |cell| cell.key.threshold),
                y: ("acquisitions/s", true),
                cells: &threshold,
                value: &|cell| Some(cell.throughput),
            },
        ),
    ];
    let draw = |(name, chart): (_, Chart<'_>)| Some((name, chart.drawing(cells)?));
    all.into_iter().filter_map(draw).collect()
}

struct Chart<'a> {
    title: &'a str,
    x: (&'a str, fn(&Cell) -> u32),
    /// What it is, and whether the axis is logarithmic.
    y: (&'a str, bool),
    cells: &'a dyn Fn(&Cell) -> bool,
    value: &'a dyn Fn(&Cell) -> Option<f64>,
}

impl Chart<'_> {
    fn drawing(&self, cells: &[Cell]) -> Option<Drawing> {
        let cells: Vec<&Cell> = cells.iter().filter(|cell| (self.cells)(cell)).collect();
        let mut steps: Vec<u32> = cells.iter().map(|cell| self.x.1(cell)).collect();
        steps.sort_unstable();
        steps.dedup();
        let mut settings: Vec<(u32, &str)> =
            cells.iter().map(|cell| (cell.key.cpus, cell.key.policy.as_str())).collect();
        settings.sort_unstable();
        settings.dedup();
        let panel = |&(cpus, policy): &(u32, &str)| {
            let here = |cell: &&&Cell| (cell.key.cpus, cell.key.policy.as_str()) == (cpus, policy);
            let here: Vec<&Cell> = cells.iter().filter(here).copied().collect();
            let plural = if cpus == 1 { "" } else { "s" };
            Panel {
                title: format!("policy {policy}, {cpus} processor{plural}"),
                lines: self.lines(&here, &steps),
            }
        };
        let panels: Vec<Panel> = settings.iter().map(panel).collect();
        let policies = settings.iter().filter(|setting| setting.0 == settings[0].0).count();
        let name = |step: &u32| if *step == u32::MAX { "never".into() } else { step.to_string() };
        (!panels.is_empty()).then(|| Drawing {
            title: self.title.into(),
            x_title: self.x.0.into(),
            steps: steps.iter().map(name).collect(),
            y_title: self.y.0.into(),
            logarithmic: self.y.1,
            columns: policies.clamp(1, 4),
            panels,
        })
    }

    fn lines(&self, cells: &[&Cell], steps: &[u32]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for cell in cells {
            let Some(value) = (self.value)(cell) else { continue };
            let Some(step) = steps.iter().position(|step| *step == self.x.1(cell)) else {
                continue;
            };
            match lines.iter_mut().find(|line| line.lock == cell.key.lock) {
                Some(line) => line.points.push((step, value)),
                None => {
                    lines.push(Line { lock: cell.key.lock.clone(), points: vec![(step, value)] });
                }
            }
        }
        lines.iter_mut().for_each(|line| line.points.sort_by_key(|point| point.0));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn each_policy_has_a_panel_and_each_lock_a_line() {
        let mut records = Vec::new();
        for (boot, policy) in ["none", "yield"].into_iter().enumerate() {
            for lock in ["tas", "tas-enlightened"] {
                for each in [&[9, 9][..], &[4, 4, 4, 4]] {
                    let mut one = record(lock, policy, each, 50);
                    one.boot = u32::try_from(boot).unwrap();
                    records.push(one);
                }
            }
        }
        let drawings = drawings(&findings::cells(&records));
        let names: Vec<_> = drawings.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["study-throughput.svg", "study-spins.svg"], "no sweep was measured");
        let (_, throughput) = &drawings[0];
        assert_eq!(throughput.steps, ["2", "4"]);
        assert_eq!(throughput.panels.len(), 2);
        let lines = &throughput.panels[1].lines;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].points[0], (0, 1.0));
        assert!(lines[0].points[1].1 < 0.9);
    }
}
