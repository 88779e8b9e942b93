//! Suites that `cargo` and scripts run: their output goes to the terminal, and every test of it becomes
//! a case.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::artifacts::Artifacts;
use crate::events::Verdict;
use crate::outcome::{Case, Suite};

/// `cargo` in the repository.
pub fn cargo(artifacts: &Artifacts) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(&artifacts.root);
    command
}

/// Runs `command`, shows what it prints, and turns libtest's lines, or those of a script, into cases.
///
/// A command that fails without naming a failed test, or runs no test at all, is a failed case itself.
pub fn run(name: &str, command: &mut Command) -> Result<Suite> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = child.stdout.take().context("no pipe to the command")?;
    let mut output = String::new();
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    // Bytes, not UTF-8: a test may print anything.
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        output.push_str(&text);
        line.clear();
    }
    let status = child.wait()?;
    let wrong = (!status.success()).then(|| format!("ended with {status}"));
    Ok(Suite { name: name.into(), cases: libtest_cases(name, &output, wrong) })
}

/// The crates that others may have from a registry.
const LIBRARIES: [&str; 4] = ["hv-abi", "vmbus-ring", "hv-enlightenments", "vsc-drivers"];

/// Packs the libraries as for a registry, and builds each from what was packed, the others included. Nothing is sent or fetched: what
/// they depend on is there, or nothing could have been built.
///
/// It is `cargo publish --dry-run` without its one question to the registry, which refuses to be asked offline: whether it has this version
/// already. All libraries are named at once, since a library alone is built with what the registry has of the others.
///
/// # Errors
///
/// `cargo` can't be run.
pub fn packages(artifacts: &Artifacts) -> Result<Suite> {
    let mut command = cargo(artifacts);
    command.args(["package", "--offline", "--locked", "--allow-dirty", "--quiet"]);
    command.args(LIBRARIES.iter().flat_map(|library| ["-p", library]));
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let name = format!("{} can be published", LIBRARIES.join(", "));
    let case = match output.status.success() {
        true => Case::pass(name),
        false => Case::fail(name, String::from_utf8_lossy(&output.stderr)),
    };
    Ok(Suite { name: "cargo package".into(), cases: vec![case] })
}

/// The cases of libtest's `output`; `wrong` says how the command failed, if it did.
pub fn libtest_cases(name: &str, output: &str, wrong: Option<String>) -> Vec<Case> {
    let mut cases = lines_to_cases(output);
    let failed = cases.iter().any(|case| case.verdict == Verdict::Fail);
    match wrong {
        Some(wrong) if !failed => cases.push(Case::fail(name, wrong)),
        _ if cases.is_empty() => cases.push(Case::fail(name, "ran no test")),
        _ => {}
    }
    cases
}

fn lines_to_cases(output: &str) -> Vec<Case> {
    output.lines().filter_map(|line| libtest_case(line).or_else(|| script_case(line))).collect()
}

/// A test in libtest's output: `test NAME ... ok|FAILED|ignored[, reason]`.
fn libtest_case(line: &str) -> Option<Case> {
    let (name, verdict) = line.trim_end().strip_prefix("test ")?.rsplit_once(" ... ")?;
    match verdict.split_once(", ").unwrap_or((verdict, "ignored")) {
        ("ok", _) => Some(Case::pass(name)),
        ("FAILED", _) => Some(Case::fail(name, "see the output above")),
        ("ignored", why) => Some(Case::skip(name, why)),
        _ => None,
    }
}

/// A test in the output of a script, such as `tests/fuzz/run.sh`: `PASS|FAIL NAME: text`.
fn script_case(line: &str) -> Option<Case> {
    let (verdict, rest) = line.split_once(' ')?;
    let (name, text) = rest.split_once(": ")?;
    match verdict {
        "PASS" => Some(Case::pass(name)),
        "FAIL" => Some(Case::fail(name, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_become_cases() {
        let output = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\n\
            test d ... ignored, needs KVM\ntest src/lib.rs - x (line 7) - compile ... ok\n\
            test result: FAILED. 1 passed; 1 failed\n";
        let verdicts: Vec<_> = lines_to_cases(output).iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Skip, Verdict::Pass]);
        assert_eq!(lines_to_cases(output)[2].reason, "needs KVM");
    }

    #[test]
    fn verdicts_of_a_script_become_cases() {
        let output = "Building 2 fuzz targets\nPASS loader: 17 executions in 1 s, 6 of 9 edges\n\
            FAIL acpi: ended with code 77 after 5 executions\n     log: acpi.log\n1 passed, 1 failed\n";
        let cases = libtest_cases("fuzz", output, Some("ended with exit status: 1".into()));
        let seen: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.verdict)).collect();
        assert_eq!(seen, [("loader", Verdict::Pass), ("acpi", Verdict::Fail)]);
        assert_eq!(cases[1].reason, "ended with code 77 after 5 executions");
    }

    #[test]
    fn a_command_that_fails_or_runs_nothing_is_a_failed_case() {
        for script in ["exit 3", "true", "echo 'test a ... ok'; exit 1"] {
            let suite = run("suite", Command::new("sh").args(["-c", script])).unwrap();
            let failed = suite.cases.iter().filter(|case| case.verdict == Verdict::Fail).count();
            assert_eq!(failed, 1, "{script}");
        }
    }

    #[test]
    fn output_that_is_not_text_does_not_stop_it() {
        let script = r"printf '\377\376\n'; echo 'test a ... ok'";
        let suite = run("suite", Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(suite.cases[0].verdict, Verdict::Pass);
    }
}
