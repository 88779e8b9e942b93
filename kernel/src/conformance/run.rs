//! Runs cases and prints the matrix: as events for our runner, and as text for whoever reads a serial port.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernel::cmdline::Conformance;
use kernel::matrix::{HEAD, Outcome, Row, Rule, Tally};

use super::{CaseInfo, Facility, Problem, TestResult};
use crate::guest_tests::{Test, records};
use crate::machine::console::{self, println};
use crate::machine::fault::{self, End};
use crate::machine::watchdog::{self, Abandoned};
use crate::machine::{exit, symbols, vp};

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
pub(crate) fn run(options: &Conformance<'_>, case_limit: u32) -> u8 {
    match choose(options) {
        Ok(cases) => run_cases(&cases, case_limit),
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
    let mut cases: Vec<Case> = match options.names {
        None => matrix(),
        Some(names) => {
            let found: Result<Vec<_>, _> = names.split(',').map(named).collect();
            found?.concat()
        }
    };
    // Stable: all others stay in their order.
    cases.sort_by_key(|case| case.info.is_last);
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

fn run_cases(cases: &[Case], case_limit: u32) -> u8 {
    watchdog::start(case_limit);
    say(format_args!(
        "conformance: {} cases, virtual processors: {}",
        cases.len(),
        vp::online().count()
    ));
    let mut remarks = Vec::new();
    let mut facilities: Vec<(Facility, Tally)> = Vec::new();
    let mut rest = cases.iter();
    for &case in &mut rest {
        let Done { outcome, reason, usable } = run_case(case);
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
        if !usable {
            break;
        }
    }
    if rest.len() == 0 {
        watchdog::stop();
    }
    let code = print_matrix(&facilities, &remarks);
    if let Some(next) = rest.as_slice().first() {
        let count = rest.len();
        println!(
            "{count} cases were not run, from {} on: a processor that hung did not come back",
            next.name()
        );
    }
    code
}

/// Prints a line of the matrix, unless events say the same: on an emulated UART each character costs an exit.
fn say(line: fmt::Arguments<'_>) {
    if !console::has_events() {
        println!("{line}");
    }
}

/// What came of a case.
struct Done {
    outcome: Outcome,
    reason: String,
    /// Whether another case can be run.
    usable: bool,
}

fn run_case(case: Case) -> Done {
    let facility = case.info.facility.name();
    console::event("case-begin", |event| event.str("name", case.name()).end());
    let mut result = None;
    let ended = watchdog::run(|| result = Some((case.test.function)()));
    let usable = ended.as_ref().map_or_else(|abandoned| abandoned.usable, |()| true);
    let (outcome, reason) = match (ended, result) {
        (Ok(()), Some(result)) => judge(result),
        (Ok(()), None) => (Outcome::Fail, "it returned nothing".into()),
        (Err(abandoned), _) => (Outcome::Fail, describe(&abandoned)),
    };
    say(format_args!("{:<9} {:<11} {}", outcome.label(), facility, Rule(case.name())));
    console::event("case", |event| {
        let event = event
            .str("facility", facility)
            .str("name", case.name())
            .str("source", case.info.source)
            .str("result", outcome.name());
        if outcome == Outcome::Pass { event.end() } else { event.str("reason", &reason).end() }
    });
    Done { outcome, reason, usable }
}

/// Why a case was abandoned, in words.
fn describe(abandoned: &Abandoned) -> String {
    let vp = abandoned.vp;
    match abandoned.end {
        End::Hung { at } => format!("hung at {} on vp{vp} and was stopped", Place(at)),
        End::Exception { fault, at } => format!(
            "exception {} ({}), error code {:#x}, at {} on vp{vp}",
            fault.vector,
            fault::name(fault.vector),
            fault.error_code,
            Place(at)
        ),
        End::Panic => format!("panic on vp{vp}: {}", watchdog::panic_message()),
    }
}

/// An address of code, as function and offset.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match symbols::lookup(self.0) {
            Some((name, offset)) => write!(f, "{name}+{offset:#x}"),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

fn judge(result: TestResult) -> (Outcome, String) {
    match result {
        Ok(()) => (Outcome::Pass, String::new()),
        Err(Problem::Skip(reason)) => (Outcome::Skip, reason),
        Err(Problem::Fail(reason)) => (Outcome::Fail, reason),
        Err(Problem::Deviation { what, source }) => {
            (Outcome::Deviation, format!("{what} ({source})"))
        }
    }
}

/// Prints the table and what did not pass; the exit code.
fn print_matrix(facilities: &[(Facility, Tally)], remarks: &[Remark]) -> u8 {
    let mut total = Tally::default();
    say(format_args!("\n{HEAD}"));
    for (facility, tally) in facilities {
        total += *tally;
        say(format_args!("{}", Row { name: facility.name(), tally: Some(*tally) }));
    }
    say(format_args!("{}\n", Row { name: "total", tally: Some(total) }));
    print_skips(remarks);
    for outcome in [Outcome::Deviation, Outcome::Fail] {
        for Remark { case, reason, .. } in remarks.iter().filter(|remark| remark.outcome == outcome)
        {
            let (label, source) = (outcome.label(), case.info.source);
            say(format_args!("{label} {} [{source}]: {reason}", case.name()));
        }
    }
    if total.count(Outcome::Fail) == 0 { exit::SUCCESS } else { exit::FAILURE }
}

/// Prints each reason for which cases were skipped once; which they were stands above.
fn print_skips(remarks: &[Remark]) {
    let skips = || remarks.iter().filter(|remark| remark.outcome == Outcome::Skip);
    for (index, remark) in skips().enumerate() {
        let same = |other: &&Remark| other.reason == remark.reason;
        if !skips().take(index).any(|earlier| same(&earlier)) {
            let count = skips().filter(same).count();
            say(format_args!("skip {count:>4}: {}", remark.reason));
        }
    }
}
