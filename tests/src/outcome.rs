//! What the tests found: cases in suites, counted, and written as text, JUnit XML and JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::events::Verdict;

/// One test's result.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// The test's name within its suite.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it failed or was skipped; empty for a pass.
    pub reason: String,
    /// Wall-clock time it took, where one was taken.
    #[serde(skip)]
    pub time: Option<Duration>,
}

impl Case {
    /// A test that did what it should.
    pub fn pass(name: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Pass, reason: String::new(), time: None }
    }

    /// A test that did not.
    pub fn fail(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Fail, reason: reason.into(), time: None }
    }

    /// A test that could not be tried.
    pub fn skip(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Skip, reason: reason.into(), time: None }
    }

    /// A pass if `wrong` is `None`, else a failure for that reason.
    pub fn check(name: impl Into<String>, wrong: Option<String>) -> Self {
        match wrong {
            None => Self::pass(name),
            Some(reason) => Self::fail(name, reason),
        }
    }
}

/// Tests that ran on one thing, such as *our host with 4 virtual processors*.
#[derive(Debug, Clone, Serialize)]
pub struct Suite {
    /// What they ran on.
    pub name: String,
    /// Their results.
    pub cases: Vec<Case>,
}

/// How many tests passed, failed and were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tests that did what they should.
    pub passed: usize,
    /// Tests that did not.
    pub failed: usize,
    /// Tests that could not be tried here.
    pub skipped: usize,
}

impl Counts {
    /// Counts of `cases`.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let mut counts = Self::default();
        for case in cases {
            match case.verdict {
                Verdict::Pass => counts.passed += 1,
                Verdict::Fail => counts.failed += 1,
                Verdict::Skip => counts.skipped += 1,
            }
        }
        counts
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl fmt::Display for Suite {
    /// One line for the suite, then one for each reason why cases failed or were skipped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, Counts::of(&self.cases))?;
        let mut reasons: Vec<(&Case, usize)> = Vec::new();
        for case in self.cases.iter().filter(|case| case.verdict != Verdict::Pass) {
            let same = |(first, _): &&mut (&Case, usize)| {
                (first.verdict, &first.reason) == (case.verdict, &case.reason)
            };
            match reasons.iter_mut().find(same) {
                Some((_, count)) => *count += 1,
                None => reasons.push((case, 1)),
            }
        }
        for (first, count) in reasons {
            let word = if first.verdict == Verdict::Fail { "FAIL" } else { "SKIP" };
            let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            write!(f, "\n  {word} {}{more}: {}", first.name, first.reason)?;
        }
        Ok(())
    }
}

/// All suites of one run of `make test`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Results {
    /// In the order they ran.
    pub suites: Vec<Suite>,
    /// What a reader must know to judge them, such as a lab that was started again.
    pub notes: Vec<String>,
}

impl Results {
    /// Prints `suite` and keeps it.
    pub fn add(&mut self, suite: Suite) {
        println!("{suite}");
        self.suites.push(suite);
    }

    /// Prints `note` and keeps it.
    pub fn note(&mut self, note: String) {
        println!("note: {note}");
        self.notes.push(note);
    }

    /// Counts over all suites.
    pub fn counts(&self) -> Counts {
        Counts::of(self.suites.iter().flat_map(|suite| &suite.cases))
    }

    /// Writes `tests.json` and `junit.xml` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::json!({
            "counts": self.counts(), "notes": self.notes, "suites": self.suites,
        });
        write_file(&folder.join("tests.json"), &serde_json::to_vec_pretty(&json)?)?;
        write_file(&folder.join("junit.xml"), self.junit().to_string()?.as_bytes())
    }

    fn junit(&self) -> quick_junit::Report {
        let mut report = quick_junit::Report::new("enlighten");
        for suite in &self.suites {
            let mut out = quick_junit::TestSuite::new(suite.name.as_str());
            out.add_test_cases(suite.cases.iter().map(junit_case));
            report.add_test_suite(out);
        }
        report
    }
}

fn junit_case(case: &Case) -> quick_junit::TestCase {
    use quick_junit::{NonSuccessKind, TestCaseStatus};
    let mut status = match case.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Skip => TestCaseStatus::skipped(),
    };
    if case.verdict != Verdict::Pass {
        status.set_message(case.reason.as_str());
    }
    let mut out = quick_junit::TestCase::new(case.name.as_str(), status);
    if let Some(time) = case.time {
        out.set_time(time);
    }
    out
}

/// Writes `bytes` to `path`, making its folder.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        results.add(Suite {
            name: "one".into(),
            cases: vec![Case::pass("a"), Case::fail("b", "1 < 2 & so"), Case::skip("c", "no KVM")],
        });
        results
    }

    #[test]
    fn counts_are_kept_apart() {
        let counts = results().counts();
        assert_eq!(counts, Counts { passed: 1, failed: 1, skipped: 1 });
        assert_eq!(counts.to_string(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn text_names_failures_and_skips_with_their_reasons() {
        let text = results().suites[0].to_string();
        assert!(text.contains("FAIL b: 1 < 2 & so"), "{text}");
        assert!(text.contains("SKIP c: no KVM"), "{text}");
    }

    #[test]
    fn many_cases_with_one_reason_take_one_line() {
        let cases = ["a", "b", "c"].map(|name| Case::skip(name, "no KVM")).into();
        let text = Suite { name: "suite".into(), cases }.to_string();
        assert_eq!(text, "suite: 0 passed, 0 failed, 3 skipped\n  SKIP a and 2 more: no KVM");
    }

    #[test]
    fn junit_escapes_reasons_and_marks_skips() {
        let xml = results().junit().to_string().unwrap();
        assert!(xml.contains("1 &lt; 2 &amp; so"), "{xml}");
        assert!(xml.contains("<skipped"), "{xml}");
        assert!(xml.contains("tests=\"3\""), "{xml}");
    }
}
