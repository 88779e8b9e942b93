//! The tables, as Markdown: for the document, the page and the terminal alike.

use std::fmt::Write as _;

use super::data::{Data, Findings};
use super::findings::{AIM_FEWER_SPINS, AIM_RETAINED, Cell};
use super::plan::{Part, Size, plain_twin, threshold_name};
use super::scaling;

/// A heading and a table, or a few sentences.
#[derive(Debug, Clone)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Sentences before the table; each is a paragraph.
    pub text: Vec<String>,
    /// Rows of cells, the first of them the head.
    pub rows: Vec<Vec<String>>,
}

impl Section {
    /// As Markdown, the heading at this level.
    pub fn markdown(&self, level: usize) -> String {
        let mut out = format!("{} {}\n\n", "#".repeat(level), self.title);
        for sentence in &self.text {
            let _ = writeln!(out, "{sentence}\n");
        }
        for (index, row) in self.rows.iter().enumerate() {
            let _ = writeln!(out, "| {} |", row.join(" | "));
            if index == 0 {
                let _ = writeln!(out, "|{}", " --- |".repeat(row.len()));
            }
        }
        out
    }
}

/// Everything, in order.
pub fn sections(data: &Data, findings: &Findings) -> Vec<Section> {
    let mut sections = vec![place(data), aims(findings)];
    let core = || findings.cells.iter().filter(|cell| cell.key.part == Part::Core);
    let cpus = core().map(|cell| cell.key.cpus).max().unwrap_or(1);
    let mut over: Vec<u32> = core().map(|cell| cell.key.vps).filter(|vps| *vps > cpus).collect();
    over.sort_unstable();
    over.dedup();
    for &vps in &over {
        sections.push(by_policy(&findings.cells, vps, cpus));
    }
    for policy in &data.plan.policies {
        if let Some(&vps) = over.iter().min() {
            sections.push(details(&findings.cells, policy, vps, cpus));
        }
    }
    sections.extend([
        thresholds(findings),
        answers(data),
        scaling_table(data, findings),
        failures(data),
    ]);
    // The first tells where; of the others only those with something in them.
    let mut first = true;
    sections.retain(|section| std::mem::take(&mut first) || !section.rows.is_empty());
    sections
}

fn place(data: &Data) -> Section {
    let (made, plan) = (&data.made, &data.plan);
    let load: Vec<_> = made.load.iter().map(|load| format!("{load:.1}")).collect();
    let size = match plan.size {
        Size::Quick => "quick",
        Size::Usual => "usual",
        Size::Full => "full",
    };
    let mut text = vec![
        format!(
            "{}; {} processors under it, with a load average of {} before each repetition and at the end.",
            made.place,
            made.machine_cpus,
            load.join(", ")
        ),
        format!(
            "{}, {} s, size *{size}*: {} measurements of {} ms, {} repetitions, work between two acquisitions {}, \
            critical section {}, threshold {} where not said otherwise.",
            made.begun,
            made.seconds,
            data.records.len(),
            plan.duration_ms,
            repetitions_done(data),
            plan.gap,
            plan.hold,
            threshold_name(plan.threshold)
        ),
    ];
    if let Some(first) = data.records.first().map(|record| &record.guest) {
        text.push(format!("A round of waiting takes {} ns here while nothing disturbs it, a visit to the host's program \
            {:.1} µs; *late* is {:.1} µs.", first.ns_per_1000_rounds / 1000, first.visit_ns as f64 / 1e3,
            first.late_ns as f64 / 1e3));
    }
    text.extend(data.notes.iter().cloned());
    Section { title: "What it ran on".into(), text, rows: Vec::new() }
}

/// An interrupted run has fewer repetitions than its design.
fn repetitions_done(data: &Data) -> String {
    let done = data.records.iter().map(|record| record.repetition + 1).max().unwrap_or(0);
    let planned = data.plan.repetitions;
    if done == planned { planned.to_string() } else { format!("{done} of {planned}") }
}

fn aims(findings: &Findings) -> Section {
    let mut rows = vec![strings(&[
        "policy",
        "VPs on CPUs",
        "lock",
        "throughput kept",
        "of the fastest",
        "fewer spins",
        "reached",
    ])];
    for aim in &findings.aims {
        let fewer = aim.fewer_spins.map_or("never spins".into(), |by| format!("{by:.0} ×"));
        rows.push(vec![
            aim.policy.clone(),
            format!("{} on {}", aim.vps, aim.cpus),
            aim.lock.clone(),
            percent(aim.retained),
            percent(aim.of_best),
            fewer,
            if aim.reached { "yes" } else { "**no**" }.into(),
        ]);
    }
    let text = format!(
        "The aim: the best lock that is not plain keeps {} of the throughput it has on as many virtual processors as \
         processors, and spins {AIM_FEWER_SPINS:.0} times less for each acquisition than the plain lock of the same \
         algorithm. *Of the fastest*: throughput, of that of whichever lock is fastest on as many virtual processors as \
         processors in the same boot; the best lock is chosen by this.",
        percent(AIM_RETAINED)
    );
    Section { title: "The aim".into(), text: vec![text], rows: only_with_data(rows) }
}

/// Locks × policies: throughput kept, and rounds for each acquisition.
fn by_policy(cells: &[Cell], vps: u32, cpus: u32) -> Section {
    let here: Vec<&Cell> = cells
        .iter()
        .filter(|cell| (cell.key.part, cell.key.vps, cell.key.cpus) == (Part::Core, vps, cpus))
        .collect();
    let mut policies: Vec<&str> = here.iter().map(|cell| cell.key.policy.as_str()).collect();
    policies.sort_unstable();
    policies.dedup();
    let mut rows =
        vec![std::iter::once("lock").chain(policies.iter().copied()).map(String::from).collect()];
    for lock in locks(&here) {
        let find = |policy: &&str| {
            let cell = here.iter().find(|cell| {
                (cell.key.lock.as_str(), cell.key.policy.as_str()) == (lock, *policy)
            })?;
            let kept = cell.retained.map_or("–".into(), percent);
            let best = cell.of_best.map_or("–".into(), percent);
            Some(format!("{kept} · {best} · {}", short(cell.spins_per_acquisition)))
        };
        let values = policies.iter().map(|policy| find(policy).unwrap_or_default());
        rows.push(std::iter::once(lock.to_string()).chain(values).collect());
    }
    let text = format!(
        "Throughput, of that of the same lock with {cpus} virtual processors in the same boot · the same, of the fastest \
         lock with {cpus} · rounds of waiting for each acquisition."
    );
    Section {
        title: format!("{vps} virtual processors on {cpus}"),
        text: vec![text],
        rows: only_with_data(rows),
    }
}

/// One policy: everything else.
fn details(cells: &[Cell], policy: &str, vps: u32, cpus: u32) -> Section {
    let here: Vec<&Cell> = cells
        .iter()
        .filter(|cell| (cell.key.part, cell.key.vps, cell.key.cpus) == (Part::Core, vps, cpus))
        .filter(|cell| cell.key.policy == policy)
        .collect();
    let head = [
        "lock",
        "÷ plain",
        "waiting",
        "spinning",
        "notified ‰",
        "p50",
        "p99",
        "max",
        "asleep",
        "asleep ‰",
        "Jain",
        "exits",
    ];
    let mut rows = vec![strings(&head)];
    for lock in locks(&here) {
        let Some(cell) = here.iter().find(|cell| cell.key.lock == lock) else { continue };
        rows.push(vec![
            lock.to_string(),
            cell.to_plain.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            percent(cell.waiting_share),
            percent(cell.spinning_share),
            short(cell.notifications_per_1000),
            time(cell.wait_p50_ns),
            time(cell.wait_p99_ns),
            time(cell.wait_max_ns),
            percent(cell.asleep_share),
            short(cell.asleep_per_1000),
            format!("{:.2}", cell.fairness),
            cell.exits_per_acquisition.map_or(String::new(), short),
        ]);
    }
    let text = "Throughput ÷ that of the plain lock; time of virtual processors spent waiting, and time on processors spent in \
        rounds; notifications for 1000 acquisitions; waits; hand-offs to a virtual processor that was not running, of \
        all hand-offs and for 1000 acquisitions; Jain's index; exits to the host's kernel for each acquisition.";
    Section {
        title: format!("{vps} on {cpus}, policy {policy}"),
        text: vec![text.into()],
        rows: only_with_data(rows),
    }
}

fn thresholds(findings: &Findings) -> Section {
    let here: Vec<&Cell> =
        findings.cells.iter().filter(|cell| cell.key.part == Part::Threshold).collect();
    let mut steps: Vec<u32> = here.iter().map(|cell| cell.key.threshold).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut rows = vec![strings(&["lock", "policy"])];
    let name = |step: &u32| threshold_name((*step != u32::MAX).then_some(*step));
    rows[0].extend(steps.iter().map(name));
    let mut lines: Vec<(&str, &str)> =
        here.iter().map(|cell| (cell.key.lock.as_str(), cell.key.policy.as_str())).collect();
    lines.sort_unstable();
    lines.dedup();
    for (lock, policy) in lines {
        let mut row = strings(&[lock, policy]);
        for step in &steps {
            let key = |cell: &&&Cell| {
                (cell.key.lock.as_str(), cell.key.policy.as_str(), cell.key.threshold)
                    == (lock, policy, *step)
            };
            let text = |cell: &&Cell| {
                format!("{} · {}", short(cell.throughput), short(cell.spins_per_acquisition))
            };
            row.push(here.iter().find(key).map(text).unwrap_or_default());
        }
        rows.push(row);
    }
    let text = "Acquisitions in a second · rounds of waiting for each, 4 virtual processors on 2. Only within a row, \
        and only roughly, do the first numbers compare: each threshold is a boot of its own.";
    Section { title: "Thresholds".into(), text: vec![text.into()], rows: only_with_data(rows) }
}

fn answers(data: &Data) -> Section {
    let mut names: Vec<&String> =
        data.answers.values().flat_map(|answers| answers.keys()).collect();
    names.sort();
    names.dedup();
    let mut rows = vec![vec!["policy".to_string()]];
    rows[0].extend(names.iter().map(|name| name.to_string()));
    for (policy, answers) in &data.answers {
        let count = |name: &&String| answers.get(*name).copied().unwrap_or(0).to_string();
        rows.push(std::iter::once(policy.clone()).chain(names.iter().map(count)).collect());
    }
    let text = "What the host did with the notifications of all boots, by its own count.";
    Section { title: "The host's view".into(), text: vec![text.into()], rows: only_with_data(rows) }
}

fn scaling_table(data: &Data, findings: &Findings) -> Section {
    let head = [
        "work",
        "width",
        "guest ÷ bare",
        "least to greatest",
        "least times",
        "bare: all ÷ one",
        "guest: all ÷ one",
        "repetitions",
    ];
    let mut rows = vec![strings(&head)];
    for width in &findings.widths {
        rows.push(vec![
            width.work.clone(),
            width.width.to_string(),
            format!("{:.3}", width.guest_to_bare),
            format!("{:.3} to {:.3}", width.range.0, width.range.1),
            format!("{:.3}", width.least_times),
            format!("{:.2}", width.bare_scaling),
            format!("{:.2}", width.guest_scaling),
            width.repetitions.to_string(),
        ]);
    }
    let below: Vec<_> =
        findings.widths.iter().filter(|width| width.guest_to_bare < scaling::AIM).collect();
    let mut text = vec![format!(
        "Speed of the guest ÷ speed of {} on the same processors, in the same start, in turn; the median of the ratios of \
         each pair, and bare ÷ guest of the least times. Aim: at least {:.2}; {} of {} reach it.",
        if data.made.kvm == "lab" { "the lab's Linux" } else { "the bare machine" },
        scaling::AIM,
        findings.widths.len() - below.len(),
        findings.widths.len()
    )];
    if !findings.widths.iter().any(|width| width.width == 4) {
        text.push("Width 4: skipped, as there are fewer than 4 processors.".into());
    }
    Section { title: "Scaling".into(), text, rows: only_with_data(rows) }
}

fn failures(data: &Data) -> Section {
    let line = |failure: &super::data::Failure| {
        vec![failure.repetition.to_string(), failure.boot.clone(), failure.what.clone()]
    };
    let mut rows = vec![strings(&["repetition", "boot", "what happened"])];
    rows.extend(data.failures.iter().map(line));
    Section {
        title: "What did not end as it should".into(),
        text: Vec::new(),
        rows: only_with_data(rows),
    }
}

/// Every lock, each plain one before its twins.
fn locks<'a>(cells: &[&'a Cell]) -> Vec<&'a str> {
    let mut locks: Vec<&str> = cells.iter().map(|cell| cell.key.lock.as_str()).collect();
    locks.sort_by_key(|lock| (plain_twin(lock).unwrap_or(lock).to_string(), lock.to_string()));
    locks.dedup();
    locks
}

/// A head alone is no table.
fn only_with_data(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    if rows.len() > 1 { rows } else { Vec::new() }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Three significant digits or so.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 || v == 0.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

fn time(ns: f64) -> String {
    match ns {
        v if v >= 1e6 => format!("{:.1} ms", v / 1e6),
        v if v >= 1e3 => format!("{:.1} µs", v / 1e3),
        v => format!("{v:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::data;
    use super::*;

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        let data = data();
        let sections = sections(&data, &data.findings());
        assert!(sections.len() >= 4);
        for section in sections {
            let head = section.rows.first().map_or(0, Vec::len);
            assert!(section.rows.iter().all(|row| row.len() == head), "{section:?}");
        }
    }

    #[test]
    fn nothing_measured_is_no_table() {
        let mut data = data();
        data.records.clear();
        data.answers.clear();
        let sections = sections(&data, &data.findings());
        assert!(sections.iter().all(|section| section.rows.is_empty()), "{sections:?}");
    }

    #[test]
    fn a_section_is_markdown() {
        let section = Section {
            title: "Title".into(),
            text: vec!["Text.".into()],
            rows: vec![strings(&["a", "b"]), strings(&["1", "2"])],
        };
        assert_eq!(
            section.markdown(2),
            "## Title\n\nText.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
        );
    }
}
