//! Guests that end well, die, hang, garble and lie.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn verdicts() -> Verdicts {
    Verdicts::new(&names(&["f::a", "f::b", "f::c"]))
}

fn ended(code: u8) -> Ending {
    Ending { code: Some(code), text: format!("the guest ended with code {code}") }
}

fn killed() -> Ending {
    Ending { code: None, text: "did not end within its time limit".into() }
}

fn begin(name: &str) -> String {
    format!("@enl {{\"event\":\"case-begin\",\"facility\":\"F\",\"name\":\"{name}\"}}\n")
}

fn case(name: &str, result: &str) -> String {
    format!(
        "{}@enl {{\"event\":\"case\",\"facility\":\"F\",\"name\":\"{name}\",\"source\":\"S\",\
         \"result\":\"{result}\",\"reason\":\"because\"}}\n",
        begin(name)
    )
}

fn outcomes(verdicts: &Verdicts) -> [Outcome; 3] {
    ["f::a", "f::b", "f::c"].map(|name| verdicts.of(name).unwrap().outcome)
}

use Outcome::{Deviation, Fail, Pass, Skip};

#[test]
fn a_good_end_leaves_nothing_to_complain_of() {
    let mut verdicts = verdicts();
    let console = case("f::a", "pass") + &case("f::b", "skip") + &case("f::c", "deviation");
    verdicts.take(&console, &ended(0));
    assert_eq!(outcomes(&verdicts), [Pass, Skip, Deviation]);
    assert!(verdicts.problems.is_empty() && !verdicts.wants(1));
    assert_eq!(verdicts.of("f::b").unwrap().reason, "because");
}

#[test]
fn a_case_that_hangs_has_failed_and_the_rest_is_run_again_after_it() {
    let mut verdicts = verdicts();
    verdicts.take(&(case("f::a", "pass") + &begin("f::b")), &killed());
    assert!(verdicts.wants(1));
    assert_eq!(verdicts.last_ended(), Some("f::b"));
    verdicts.take(&case("f::c", "pass"), &ended(0));
    assert_eq!(outcomes(&verdicts), [Pass, Fail, Pass]);
    let reason = verdicts.of("f::b").unwrap().reason;
    assert_eq!(reason, "did not end: did not end within its time limit");
    assert!(verdicts.problems.is_empty() && !verdicts.wants(2), "{:?}", verdicts.problems);
}

#[test]
fn a_case_that_panics_the_kernel_tells_the_panic() {
    let mut verdicts = verdicts();
    let panic = "@enl {\"event\":\"panic\",\"message\":\"heap is corrupt\"}\n";
    verdicts.take(&(begin("f::a") + panic), &ended(3));
    assert_eq!(verdicts.of("f::a").unwrap().reason, "did not end: heap is corrupt");
    assert!(verdicts.wants(1));
}

#[test]
fn a_guest_that_stops_between_cases_is_started_again_after_the_last() {
    let mut verdicts = verdicts();
    verdicts.take(&case("f::a", "fail"), &ended(1));
    assert!(verdicts.wants(1));
    assert_eq!(verdicts.last_ended(), Some("f::a"));
}

#[test]
fn a_guest_that_never_begins_fails_everything_and_is_not_started_for_ever() {
    let mut verdicts = verdicts();
    verdicts.take("", &killed());
    assert!(!verdicts.wants(1));
    assert_eq!(outcomes(&verdicts), [Fail; 3]);
    assert!(verdicts.of("f::a").unwrap().reason.starts_with("was not run: did not end"));
}

#[test]
fn a_silent_guest_with_code_0_has_passed_nothing() {
    let mut verdicts = verdicts();
    verdicts.take("", &ended(0));
    assert_eq!(outcomes(&verdicts), [Fail; 3]);
}

#[test]
fn cases_that_were_not_asked_for_are_a_complaint_and_no_result() {
    let mut verdicts = verdicts();
    let all: String = ["f::a", "f::b", "f::c"].map(|name| case(name, "pass")).concat();
    verdicts.take(&(case("f::made_up", "pass") + &all), &ended(0));
    assert_eq!(outcomes(&verdicts), [Pass; 3]);
    assert_eq!(verdicts.of("f::made_up"), None);
    assert!(verdicts.problems[0].contains("f::made_up"), "{:?}", verdicts.problems);
}

#[test]
fn of_two_results_neither_is_believed() {
    let mut verdicts = verdicts();
    let rest = case("f::b", "pass") + &case("f::c", "pass");
    verdicts.take(&(case("f::a", "fail") + &case("f::a", "pass") + &rest), &ended(1));
    assert_eq!(outcomes(&verdicts), [Fail, Pass, Pass]);
    assert!(verdicts.problems.iter().any(|problem| problem.contains("two results for f::a")));
}

#[test]
fn a_case_that_begins_before_another_ends_ends_that_one() {
    let mut verdicts = verdicts();
    let rest = case("f::b", "pass") + &case("f::c", "pass");
    verdicts.take(&(begin("f::a") + &rest), &ended(0));
    assert_eq!(outcomes(&verdicts), [Fail, Pass, Pass]);
}

fn torn(ending: &Ending) -> Verdicts {
    let mut verdicts = verdicts();
    let line = "@enl {\"event\":\"case\",\"facility\":\"F\",\"name\":\"f::a\",\"resu";
    verdicts.take(&(begin("f::a") + line), ending);
    assert_eq!(verdicts.of("f::a").unwrap().outcome, Fail);
    verdicts
}

#[test]
fn a_torn_line_of_a_guest_that_ended_by_itself_is_a_complaint() {
    let verdicts = torn(&ended(0));
    assert!(verdicts.problems[0].starts_with("malformed event line"), "{:?}", verdicts.problems);
}

#[test]
fn a_torn_line_of_a_guest_that_was_killed_is_none() {
    let verdicts = torn(&killed());
    assert!(verdicts.problems.is_empty(), "{:?}", verdicts.problems);
}

#[test]
fn an_exit_code_that_disagrees_is_a_complaint() {
    for (result, code) in [("pass", 1), ("fail", 0), ("pass", 4)] {
        let mut verdicts = Verdicts::new(&names(&["f::a"]));
        verdicts.take(&case("f::a", result), &ended(code));
        assert_eq!(verdicts.problems.len(), 1, "{result} {code}");
    }
}

#[test]
fn an_unheard_of_result_is_no_result() {
    let mut verdicts = Verdicts::new(&names(&["f::a"]));
    verdicts.take(&case("f::a", "splendid"), &ended(0));
    assert_eq!(verdicts.of("f::a").unwrap().outcome, Fail);
}

#[test]
fn what_would_confuse_a_terminal_does_not_get_there() {
    assert_eq!(clean("a\u{1b}[2Jb\r\n"), "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}");
    assert_eq!(clean("ab\u{202E}c"), "ab\u{FFFD}c");
    let long = clean(&"ä".repeat(10_000));
    assert_eq!(long.chars().count(), MAX_REASON + 1);
}

#[test]
fn complaints_have_an_end() {
    let mut verdicts = verdicts();
    let flood: String = (0..1000).map(|n| case(&format!("x::{n}"), "pass")).collect();
    verdicts.take(&flood, &ended(0));
    assert_eq!(verdicts.problems.len(), MAX_PROBLEMS);
}
