//! What our drivers cost, in instructions: the bench `instructions` of the in-process machine.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::artifacts::Artifacts;
use crate::suites::cargo::cargo;

/// What the bench says.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Instructions {
    /// Instructions of one operation, by `driver/work-bytes/requests at a time`.
    pub of: BTreeMap<String, f64>,
    /// Why some were not counted.
    pub skipped: Vec<String>,
}

/// Runs the bench.
///
/// # Errors
///
/// It can't be run, or counts nothing without a reason.
pub(super) fn measure(artifacts: &Artifacts) -> Result<Instructions> {
    let output = cargo(artifacts)
        .args(["bench", "--locked", "-p", "in-process", "--bench", "instructions"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo bench")?;
    if !output.status.success() {
        bail!("cannot count instructions: cargo bench ended with {}; see above", output.status);
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// From lines `COUNT name number` and `SKIP name reason`.
fn parse(text: &str) -> Result<Instructions> {
    let mut all = Instructions::default();
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("COUNT ") {
            let (name, number) = count.split_once(' ').context("a count without a number")?;
            let number = number.parse().with_context(|| format!("not a number: {number:?}"))?;
            all.of.insert(name.to_owned(), number);
        } else if let Some(skipped) = line.strip_prefix("SKIP ") {
            all.skipped.push(skipped.to_owned());
        }
    }
    if all.of.is_empty() && all.skipped.is_empty() {
        bail!("the bench counted nothing");
    }
    Ok(all)
}

pub(super) fn print(all: &Instructions) {
    println!("\n{:<30} {:>12}", "our drivers", "instructions");
    for (name, count) in &all.of {
        println!("{name:<30} {count:>12.0}");
    }
    for skipped in &all.skipped {
        println!("SKIP {skipped}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_reasons_are_told_apart_and_other_lines_ignored() {
        let all = parse("running\nCOUNT a/b/1 12.5\nSKIP c/d/1 not here\n").unwrap();
        assert_eq!(all.of, BTreeMap::from([("a/b/1".into(), 12.5)]));
        assert_eq!(all.skipped, ["c/d/1 not here"]);
    }

    #[test]
    fn nothing_at_all_is_an_error() {
        for text in ["", "running 0 tests", "COUNT a", "COUNT a many"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
