//! From a guest's console to test results.
//!
//! A guest that hangs, dies or garbles its output must not lose tests: every test that was asked for
//! gets a result, and a test without one from the guest has failed.

use std::collections::HashMap;

use crate::events::{Event, Line, Verdict, parse};
use crate::outcome::Case;

/// How a virtual machine ended, in a person's words and as the guest's exit code if it had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The guest's own exit code, if it reached its end.
    pub code: Option<u8>,
    /// Such as `guest ended with code 1`, `no end after 30 s`.
    pub text: String,
}

/// Results of the tests in `asked`, from what the guest printed and how its machine ended.
///
/// The last case, `ends as it says`, fails if the exit code does not agree with the results, or if the
/// guest printed an event line that is none.
pub fn judge(asked: &[String], console: &str, ending: &Ending) -> Vec<Case> {
    let lines = parse(console);
    let mut results = HashMap::new();
    let mut running = None;
    let mut panic = None;
    for line in &lines {
        match line {
            Line::Event(Event::TestBegin { name }) => running = Some(name.as_str()),
            Line::Event(Event::Test { name, result, reason }) => {
                running = None;
                results.insert(name.as_str(), (*result, reason.as_str()));
            }
            Line::Event(Event::Panic { message }) => panic = Some(message.as_str()),
            _ => {}
        }
    }
    let case = |name: &String| match results.get(name.as_str()) {
        Some((Verdict::Pass, _)) => Case::pass(name),
        Some((Verdict::Skip, reason)) => Case::skip(name, *reason),
        Some((Verdict::Fail, reason)) => Case::fail(name, *reason),
        None if running == Some(name) => {
            Case::fail(name, format!("did not end: {}", panic.unwrap_or(&ending.text)))
        }
        None => Case::fail(name, format!("was not run: {}", ending.text)),
    };
    let mut cases: Vec<_> = asked.iter().map(case).collect();
    cases.push(Case::check("ends as it says", disagreement(&cases, &lines, ending)));
    cases
}

fn disagreement(cases: &[Case], lines: &[Line], ending: &Ending) -> Option<String> {
    let failed = cases.iter().any(|case| case.verdict == Verdict::Fail);
    let malformed = lines.iter().find_map(|line| match line {
        Line::Malformed(why) => Some(why),
        Line::Event(_) => None,
    });
    match (ending.code, malformed) {
        (_, Some(why)) => Some(format!("malformed event line: {why}")),
        (Some(0), None) if !failed => None,
        (Some(1), None) if failed => None,
        _ => Some(ending.text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS_A: &str = "@enl {\"event\":\"test-begin\",\"name\":\"a\"}\n\
        @enl {\"event\":\"test\",\"name\":\"a\",\"result\":\"pass\"}\n";

    fn asked() -> Vec<String> {
        vec!["a".into(), "b".into(), "c".into()]
    }

    fn ended(code: u8) -> Ending {
        Ending { code: Some(code), text: format!("guest ended with code {code}") }
    }

    fn verdicts(cases: &[Case]) -> Vec<Verdict> {
        cases.iter().map(|case| case.verdict).collect()
    }

    #[test]
    fn a_test_that_never_ended_fails_and_so_do_those_after_it() {
        let console = format!("{PASS_A}@enl {{\"event\":\"test-begin\",\"name\":\"b\"}}\n");
        let hung = Ending { code: None, text: "no end after 30 s".into() };
        let cases = judge(&asked(), &console, &hung);
        use Verdict::{Fail, Pass};
        assert_eq!(verdicts(&cases), [Pass, Fail, Fail, Fail]);
        assert_eq!(cases[1].reason, "did not end: no end after 30 s");
        assert_eq!(cases[2].reason, "was not run: no end after 30 s");
    }

    #[test]
    fn a_silent_guest_with_code_0_has_passed_nothing() {
        let cases = judge(&asked(), "", &ended(0));
        assert!(cases.iter().all(|case| case.verdict == Verdict::Fail));
    }

    #[test]
    fn a_wrong_exit_code_is_a_failure_of_its_own() {
        let asked = vec!["a".to_string()];
        assert_eq!(verdicts(&judge(&asked, PASS_A, &ended(0))), [Verdict::Pass, Verdict::Pass]);
        assert_eq!(verdicts(&judge(&asked, PASS_A, &ended(1))), [Verdict::Pass, Verdict::Fail]);
    }

    #[test]
    fn a_garbled_event_line_is_a_failure() {
        let console = format!("{PASS_A}@enl {{\"event\":\"te");
        let cases = judge(&["a".to_string()], &console, &ended(0));
        assert!(cases[1].reason.starts_with("malformed event line"), "{}", cases[1].reason);
    }

    #[test]
    fn a_panic_names_itself_in_the_running_test() {
        let console = "@enl {\"event\":\"test-begin\",\"name\":\"a\"}\n\
            @enl {\"event\":\"panic\",\"message\":\"heap is corrupt\"}\n";
        let cases = judge(&["a".to_string()], console, &ended(3));
        assert_eq!(cases[0].reason, "did not end: heap is corrupt");
    }
}
