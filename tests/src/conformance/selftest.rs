//! The framework under test: cases that hang, fault and panic on purpose, on QEMU's software processor.
//!
//! Several processors help one another; one alone, with interrupts off, is killed and its guest started again.

use anyhow::Result;

use super::columns::Column;
use super::judge::{Outcome, Verdicts};
use super::{SELFTEST, run_tcg};
use crate::artifacts::Artifacts;
use crate::image::{CaseInfo, list_cases};
use crate::outcome::{Case, Results, Suite};

/// Seconds after which the machine is killed: enough for all that the guest ends by itself.
const MACHINE_LIMIT: u32 = 40;
/// What only the runner can end on one processor.
const BEYOND_HELP: &str = "selftest::a_hang_with_interrupts_off";

/// How a case must end, and what its reason must say.
fn expected(name: &str, vps: u32) -> (Outcome, &'static str) {
    let short = name.rsplit("::").next().unwrap_or(name);
    match short {
        "a_pass" | "a_job_for_every_processor" => (Outcome::Pass, ""),
        "a_skip" => (Outcome::Skip, "to be seen skipped"),
        "a_deviation" => (Outcome::Deviation, "TLFS"),
        "a_failure" => (Outcome::Fail, "it is \"2\" <b>&"),
        "a_hang_on_another_processor" | "an_exception_on_another_processor" if vps == 1 => {
            (Outcome::Skip, "only one processor")
        }
        "a_hang_with_interrupts_off" if vps == 1 => (Outcome::Fail, "did not end"),
        "an_unexpected_exception" | "an_exception_on_another_processor" => {
            (Outcome::Fail, "invalid opcode")
        }
        // The framework has the timers of a machine that has no others.
        "a_panic_in_a_timers_call" | "a_timers_call" => (Outcome::Skip, "no timer can be started"),
        "a_panic" => (Outcome::Fail, "there is a number"),
        _ => (Outcome::Fail, "was stopped"),
    }
}

/// Runs them all, and adds what came of it to `results`.
pub(super) fn run(artifacts: &Artifacts, results: &mut Results) -> Result<()> {
    let mut cases = list_cases(&artifacts.kernel)?;
    cases.retain(|case| case.facility == SELFTEST);
    // The guest goes on after the hang, if anything comes after it.
    cases.sort_by_key(|case| (case.name != BEYOND_HELP, case.name.clone()));
    let columns = [("pc", "qemu64", 1), ("q35", "max", 4)]
        .map(|(machine, cpu, vps)| Column::selftest(machine, cpu, vps, &cases, MACHINE_LIMIT));
    let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    let mut verdicts = [Verdicts::new(&names), Verdicts::new(&names)];
    run_tcg(artifacts, &columns, &mut verdicts, false)?;
    for (column, verdicts) in columns.iter().zip(&verdicts) {
        let name = format!("conformance, cases that misbehave, {}", column.title());
        results.add(Suite { name, cases: judge(&cases, verdicts, column.vps) });
    }
    Ok(())
}

fn judge(cases: &[CaseInfo], verdicts: &Verdicts, vps: u32) -> Vec<Case> {
    let one = |case: &CaseInfo| {
        let (outcome, part) = expected(&case.name, vps);
        let found = verdicts.of(&case.name);
        let good = found
            .as_ref()
            .is_some_and(|found| found.outcome == outcome && found.reason.contains(part));
        let wrong = (!good).then(|| format!("{found:?}, not {outcome:?} with \"{part}\""));
        Case::check(format!("{} is told as it is", case.name), wrong)
    };
    let mut judged: Vec<_> = cases.iter().map(one).collect();
    let problems = &verdicts.problems;
    let wrong = (!problems.is_empty()).then(|| problems.join("; "));
    judged.push(Case::check("ends as it says", wrong));
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_is_told_otherwise_is_a_failure() {
        let case = |name: &str| CaseInfo {
            facility: SELFTEST.into(),
            name: name.into(),
            source: String::new(),
        };
        let cases = [case("selftest::a_pass"), case("selftest::a_panic")];
        let silent = Verdicts::new(&cases.clone().map(|case| case.name));
        let judged = judge(&cases, &silent, 4);
        let failed = judged.iter().filter(|case| case.verdict == crate::events::Verdict::Fail);
        assert_eq!(failed.count(), 2);
    }
}
