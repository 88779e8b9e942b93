//! Cases that misbehave on purpose, to test the framework. They run only by their names.

use super::{TestResult, cases, check, skip};
use crate::machine::cpu;

cases!(Selftest: [
    a_pass => "docs/conformance.md",
    a_failure => "docs/conformance.md",
    a_skip => "docs/conformance.md",
    a_deviation => "docs/conformance.md",
    a_hang_with_interrupts_on => "docs/conformance.md",
]);

fn a_pass() -> TestResult {
    Ok(())
}

fn a_failure() -> TestResult {
    check!(1 + 1 == 3, "it is \"2\" <b>&");
    Ok(())
}

fn a_skip() -> TestResult {
    skip!("to be seen skipped")
}

fn a_deviation() -> TestResult {
    super::deviates!("it does something else", "TLFS §0.0")
}

fn a_hang_with_interrupts_on() -> TestResult {
    loop {
        cpu::pause();
    }
}
