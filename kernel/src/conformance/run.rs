//! Runs cases and prints the matrix: as events for our runner, and as text for whoever reads a serial port.

use alloc::string::String;
use alloc::vec::Vec;

use kernel::cmdline::Conformance;
use kernel::matrix::{HEAD, Outcome, Row, Rule, Tally};

use super::{CaseInfo, Facility, Problem, TestResult};
use crate::guest_tests::{Test, records};
use crate::machine::console::{self, println};
use crate::machine::{exit, vp};

/// A case of the image.
#[derive(Clone, Copy)]
struct Case {
    test: &'static Test,
    info: &'static CaseInfo,
}

impl Case {
    fn name(&self) -> &'static str {
        self.test.name()
    }
}

/// What came of a case that did not pass.
struct Remark {
    case: Case,
    outcome: Outcome,
    reason: String,
}

/// All cases of `facility`, in the image's order.
fn cases_of(facility: Facility) -> impl Iterator<Item = Case> {
    let case = |test: &'static Test| Some(Case { test, info: test.info? });
    records().iter().filter_map(case).filter(move |case| case.info.facility == facility)
}

/// The cases of the matrix, in its order.
fn matrix() -> Vec<Case> {
    Facility::ALL.into_iter().flat_map(cases_of).collect()
}

/// Runs the cases that are asked for; the exit code.
pub(crate) fn run(options: &Conformance<'_>) -> u8 {
    match choose(options) {
        Ok(cases) => run_cases(&cases),
        Err(name) => {
            println!(
                "cannot run case `{name}`: there is no case or facility of that name; `list` prints the cases"
            );
            exit::BAD_INPUT
        }
    }
}

/// The cases that are asked for, or the name that is none.
fn choose<'a>(options: &Conformance<'a>) -> Result<Vec<Case>, &'a str> {
    let mut cases = match options.names {
        None => matrix(),
        Some(names) => {
            let found: Result<Vec<_>, _> = names.split(',').map(named).collect();
            found?.concat()
        }
    };
    if let Some(after) = options.after {
        let at = cases.iter().position(|case| case.name() == after).ok_or(after)?;
        cases.drain(..=at);
    }
    Ok(cases)
}

/// The case of that name, or the cases of the facility of that name.
fn named(name: &str) -> Result<Vec<Case>, &str> {
    let facility = Facility::ALL.into_iter().find(|facility| facility.name() == name);
    if let Some(facility) = facility {
        return Ok(cases_of(facility).collect());
    }
    let all = matrix().into_iter().chain(cases_of(Facility::Selftest));
    let found: Vec<_> = all.filter(|case| case.name() == name).collect();
    if found.is_empty() { Err(name) } else { Ok(found) }
}

fn run_cases(cases: &[Case]) -> u8 {
    println!("conformance: {} cases on {} VPs", cases.len(), vp::online().count());
    let mut remarks = Vec::new();
    let mut facilities: Vec<(Facility, Tally)> = Vec::new();
    for &case in cases {
        let (outcome, reason) = run_case(case);
        match facilities.iter_mut().find(|(facility, _)| *facility == case.info.facility) {
            Some((_, tally)) => tally.add(outcome),
            None => {
                let mut tally = Tally::default();
                tally.add(outcome);
                facilities.push((case.info.facility, tally));
            }
        }
        if outcome != Outcome::Pass {
            remarks.push(Remark { case, outcome, reason });
        }
    }
    print_matrix(&facilities, &remarks)
}

fn run_case(case: Case) -> (Outcome, String) {
    let facility = case.info.facility.name();
    console::event("case-begin", |event| {
        event.str("facility", facility).str("name", case.name()).end()
    });
    let (outcome, reason) = judge((case.test.function)());
    println!("{:<9} {:<11} {}", outcome.label(), facility, Rule(case.name()));
    console::event("case", |event| {
        let event = event
            .str("facility", facility)
            .str("name", case.name())
            .str("source", case.info.source)
            .str("result", outcome.name());
        if outcome == Outcome::Pass { event.end() } else { event.str("reason", &reason).end() }
    });
    (outcome, reason)
}

fn judge(result: TestResult) -> (Outcome, String) {
    match result {
        Ok(()) => (Outcome::Pass, String::new()),
        Err(Problem::Skip(reason)) => (Outcome::Skip, reason),
        Err(Problem::Fail(reason)) => (Outcome::Fail, reason),
        Err(Problem::Deviation { what, source }) => {
            (Outcome::Deviation, alloc::format!("{what} ({source})"))
        }
    }
}

/// Prints the table and what did not pass; the exit code.
fn print_matrix(facilities: &[(Facility, Tally)], remarks: &[Remark]) -> u8 {
    let mut total = Tally::default();
    println!("\n{HEAD}");
    for (facility, tally) in facilities {
        total += *tally;
        println!("{}", Row { name: facility.name(), tally: Some(*tally) });
    }
    println!("{}", Row { name: "total", tally: Some(total) });
    for outcome in [Outcome::Skip, Outcome::Deviation, Outcome::Fail] {
        let those = || remarks.iter().filter(|remark| remark.outcome == outcome);
        if those().next().is_some() {
            println!("");
        }
        for Remark { case, reason, .. } in those() {
            let (label, source) = (outcome.label(), case.info.source);
            println!("{label} {} [{source}]: {reason}", case.name());
        }
    }
    println!("");
    if total.count(Outcome::Fail) == 0 { exit::SUCCESS } else { exit::FAILURE }
}
