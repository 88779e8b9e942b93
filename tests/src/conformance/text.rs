//! The matrix for a terminal: counts by facility and column, then everything that did not pass, with its reason.

use std::fmt;

use super::columns::Kind;
use super::judge::Outcome;
use super::matrix::{CaseReport, ColumnReport, Counts, Matrix};

/// Cases that are named one by one where a reason is shared; of more, only the number is told.
const MOST_NAMES: usize = 4;

/// The matrix as text.
pub struct Report<'a>(pub &'a Matrix);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matrix = self.0;
        table(f, matrix, |column| column.kind != Kind::Fallback)?;
        if matrix.columns.iter().any(|column| column.kind == Kind::Fallback) {
            writeln!(f, "\nour host with a part switched off, 2 VPs:")?;
            fallbacks(f, matrix)?;
        }
        writeln!(f)?;
        remarks(f, matrix)?;
        for column in &matrix.columns {
            for problem in &column.problems {
                writeln!(f, "WRONG {}: {problem}", column.name)?;
            }
        }
        for note in &matrix.notes {
            writeln!(f, "note: {note}")?;
        }
        let ours = matrix.failures_of_ours();
        let cases = matrix.cases().count();
        let columns = matrix.columns.len();
        writeln!(f, "{cases} cases on {columns} columns; failures of our host: {ours}")
    }
}

/// A legend of numbered columns, then a line for each facility.
fn table(
    f: &mut fmt::Formatter<'_>,
    matrix: &Matrix,
    shown: impl Fn(&ColumnReport) -> bool,
) -> fmt::Result {
    let columns: Vec<_> =
        (0..matrix.columns.len()).filter(|&i| shown(&matrix.columns[i])).collect();
    for &index in &columns {
        writeln!(f, "[{}] {}", index + 1, matrix.columns[index].name)?;
    }
    writeln!(
        f,
        "cells: passed of those that could be tried; F failed, d known deviation, - nothing to try"
    )?;
    write!(f, "{:<12}", "")?;
    for &index in &columns {
        write!(f, "{:>12}", format!("[{}]", index + 1))?;
    }
    writeln!(f)?;
    for facility in &matrix.facilities {
        write!(f, "{:<12}", facility.name)?;
        for &index in &columns {
            write!(f, "{:>12}", cell(&counts(&facility.cases, index)))?;
        }
        writeln!(f)?;
    }
    write!(f, "{:<12}", "total")?;
    for &index in &columns {
        write!(f, "{:>12}", cell(&matrix.columns[index].counts))?;
    }
    writeln!(f)
}

fn counts<'a>(cases: impl IntoIterator<Item = &'a CaseReport>, column: usize) -> Counts {
    let mut counts = Counts::default();
    for case in cases {
        for cell in case.results.iter().filter(|cell| cell.column == column) {
            counts.add(cell.result);
        }
    }
    counts
}

/// Such as `12/12`, `10/12 1F 1d`, `-`.
fn cell(counts: &Counts) -> String {
    let tried = counts.total() - counts.skip;
    if tried == 0 {
        return "-".into();
    }
    let mut out = format!("{}/{tried}", counts.pass);
    for (count, letter) in [(counts.fail, 'F'), (counts.deviation, 'd')] {
        if count > 0 {
            out += &format!(" {count}{letter}");
        }
    }
    out
}

/// A line for each part that was switched off.
fn fallbacks(f: &mut fmt::Formatter<'_>, matrix: &Matrix) -> fmt::Result {
    for (index, column) in matrix.columns.iter().enumerate() {
        if column.kind == Kind::Fallback {
            writeln!(f, "[{:>2}] {:<48} {:>12}", index + 1, column.name, cell(&column.counts))?;
        }
    }
    Ok(())
}

/// Cases that did not pass for one and the same reason.
struct Remark<'a> {
    result: Outcome,
    reason: &'a str,
    cases: Vec<&'a CaseReport>,
    columns: Vec<usize>,
}

/// Every result but a pass, by result and reason, worst last.
fn remarks(f: &mut fmt::Formatter<'_>, matrix: &Matrix) -> fmt::Result {
    let mut remarks: Vec<Remark<'_>> = Vec::new();
    for case in matrix.cases() {
        for cell in case.results.iter().filter(|cell| cell.result != Outcome::Pass) {
            let same = |remark: &Remark<'_>| {
                (remark.result, remark.reason) == (cell.result, cell.reason.as_str())
            };
            let at = remarks.iter().position(same).unwrap_or_else(|| {
                let reason = cell.reason.as_str();
                remarks.push(Remark {
                    result: cell.result,
                    reason,
                    cases: vec![],
                    columns: vec![],
                });
                remarks.len() - 1
            });
            let remark = &mut remarks[at];
            if !remark.cases.iter().any(|known| known.name == case.name) {
                remark.cases.push(case);
            }
            if !remark.columns.contains(&cell.column) {
                remark.columns.push(cell.column);
            }
        }
    }
    remarks.sort_by_key(|remark| std::cmp::Reverse(remark.result));
    remarks.iter().try_for_each(|remark| writeln!(f, "{remark}"))
}

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.result {
            Outcome::Fail => "FAIL",
            Outcome::Deviation => "DEVIATION",
            Outcome::Skip => "SKIP",
            Outcome::Pass => "pass",
        };
        write!(f, "{word} {}", ranges(&self.columns))?;
        // A failure is worth every name.
        if self.result != Outcome::Skip || self.cases.len() <= MOST_NAMES {
            for (index, case) in self.cases.iter().enumerate() {
                let comma = if index == 0 { " " } else { ", " };
                write!(f, "{comma}{}", case.name)?;
                if self.result != Outcome::Skip {
                    write!(f, " [{}]", case.source)?;
                }
            }
        } else {
            write!(f, " {} cases", self.cases.len())?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Indices from 0 as a person reads them: `[1,3-5]`.
fn ranges(columns: &[usize]) -> String {
    let mut sorted: Vec<_> = columns.iter().map(|index| index + 1).collect();
    sorted.sort_unstable();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    format!("[{}]", runs.iter().map(run).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::super::matrix::tests::example;
    use super::*;

    #[test]
    fn cells_tell_passes_of_those_tried() {
        let counts = |pass, fail, skip, deviation| Counts { pass, fail, skip, deviation };
        assert_eq!(cell(&counts(12, 0, 3, 0)), "12/12");
        assert_eq!(cell(&counts(10, 1, 0, 1)), "10/12 1F 1d");
        assert_eq!(cell(&counts(0, 0, 9, 0)), "-");
    }

    #[test]
    fn every_result_but_a_pass_is_told_with_its_reason() {
        let text = Report(&example(Outcome::Fail)).to_string();
        assert!(text.contains("FAIL [1] synic::a_<slot> [TLFS §1]: because"), "{text}");
        assert!(text.contains("SKIP [2] synic::b: no Hyper-V interface"), "{text}");
        assert!(text.contains("DEVIATION [2] synic::c [TLFS §1]: otherwise (TLFS §2)"), "{text}");
        assert!(text.contains("failures of our host: 1"), "{text}");
    }

    #[test]
    fn columns_are_told_as_ranges() {
        assert_eq!(ranges(&[4, 0, 2, 3]), "[1,3-5]");
        assert_eq!(ranges(&[7]), "[8]");
    }
}
