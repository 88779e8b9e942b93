//! From a guest's console to a result for every case that it was asked for.
//!
//! A guest may die, hang, garble its lines or lie. Every case gets exactly one result all the same: a case that began
//! and never ended has failed, what the guest tells of cases that it was not asked for is only a complaint, and of two
//! results for one case the worse counts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::events::{Event, Line, parse};
use crate::guest_tests::Ending;

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 600;
/// Most complaints that are kept about one column.
const MAX_PROBLEMS: usize = 20;

/// How a case ended, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not as the rule says.
    Fail,
    /// In a way in which this hypervisor is known to deviate from its specification.
    Deviation,
    /// It could not be tried here.
    Skip,
    /// As the rule says.
    Pass,
}

/// A case's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not pass; empty if it did.
    pub reason: String,
}

/// Results of one column, from all starts of its guest.
#[derive(Debug, Clone)]
pub struct Verdicts {
    /// Every case that was asked for; none while there is no result.
    cases: BTreeMap<String, Option<Verdict>>,
    /// Who the guest says that its hypervisor is.
    pub hypervisor: String,
    /// What was wrong beyond single cases.
    pub problems: Vec<String>,
    /// The case that ended the guest last.
    ended_at: Option<String>,
    /// Whether the last start brought anything new.
    progress: bool,
    /// How the guest ended last.
    ending: String,
}

impl Verdicts {
    /// No results yet.
    pub fn new(asked: &[String]) -> Self {
        Self {
            cases: asked.iter().map(|name| (name.clone(), None)).collect(),
            hypervisor: String::new(),
            problems: Vec::new(),
            ended_at: None,
            progress: true,
            ending: "it was not started".into(),
        }
    }

    /// Whether the guest is to be started in this round, counted from 0: at first, and again for the cases after one
    /// that ended it.
    pub fn wants(&self, round: u32) -> bool {
        let unfinished = self.cases.values().any(Option::is_none);
        round == 0 || unfinished && self.progress && self.ended_at.is_some()
    }

    /// The case after which the guest is to go on.
    pub fn last_ended(&self) -> Option<&str> {
        self.ended_at.as_deref()
    }

    /// Takes what the guest printed in one start, and how its machine ended.
    pub fn take(&mut self, console: &str, ending: &Ending) {
        let mut start = Start { seen: Vec::new(), running: None, panic: None, failed: false };
        // A guest that is killed in the middle of a line has not lied.
        let whole = match (ending.code, console.rfind('\n')) {
            (None, Some(end)) => &console[..end],
            _ => console,
        };
        for line in parse(whole) {
            self.line(line, &mut start);
        }
        self.progress = !start.seen.is_empty() || start.running.is_some();
        self.ending = clean(&ending.text);
        self.ended_at = None;
        if let Some(name) = start.running.take() {
            let why = start.panic.take().unwrap_or_else(|| self.ending.clone());
            self.set(&name, Outcome::Fail, format!("did not end: {why}"));
            self.ended_at = Some(name);
        } else if let Some(last) = start.seen.last()
            && self.cases.values().any(Option::is_none)
        {
            // It stopped between two cases, as after one that left a processor behind.
            self.ended_at = Some(last.clone());
        } else {
            self.check_end(ending, start.failed);
        }
    }

    fn line(&mut self, line: Line, start: &mut Start) {
        match line {
            Line::Malformed(why) => self.complain(format!("malformed event line: {why}")),
            Line::Event(Event::Boot(boot)) => self.hypervisor = clean(&boot.hypervisor),
            Line::Event(Event::Panic { message }) => start.panic = Some(clean(&message)),
            Line::Event(Event::CaseBegin { name, .. }) => {
                if let Some(before) = start.running.take() {
                    self.set(&before, Outcome::Fail, "the next case began before it ended".into());
                }
                if self.is_asked(&name) {
                    start.running = Some(name);
                }
            }
            Line::Event(Event::Case { name, result, reason, .. }) => {
                if start.running.as_ref() == Some(&name) {
                    start.running = None;
                }
                if !self.is_asked(&name) {
                    return;
                }
                start.failed |= result == Outcome::Fail;
                if start.seen.contains(&name) {
                    self.complain(format!("two results for {name}"));
                    self.set(&name, Outcome::Fail, "the guest gave two results".into());
                    return;
                }
                self.set(&name, result, clean(&reason));
                start.seen.push(name);
            }
            Line::Event(_) => {}
        }
    }

    /// Whether the case was asked for; complains if not.
    fn is_asked(&mut self, name: &str) -> bool {
        let asked = self.cases.contains_key(name);
        if !asked {
            self.complain(format!("tells of a case that it was not asked for: {}", clean(name)));
        }
        asked
    }

    /// Gives a case its result; the worse one if it has one already.
    fn set(&mut self, name: &str, outcome: Outcome, reason: String) {
        let Some(slot) = self.cases.get_mut(name) else { return };
        let reason = if outcome != Outcome::Pass && reason.is_empty() {
            "the guest gave no reason".into()
        } else if outcome == Outcome::Pass {
            String::new()
        } else {
            reason
        };
        if slot.as_ref().is_none_or(|old| outcome < old.outcome) {
            *slot = Some(Verdict { outcome, reason });
        }
    }

    fn complain(&mut self, what: String) {
        let what = clean(&what);
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }

    /// The exit code must agree with the results of this start.
    fn check_end(&mut self, ending: &Ending, failed: bool) {
        let expected = Some(u8::from(failed));
        if ending.code != expected {
            self.complain(format!(
                "it should have ended with code {}: {}",
                u8::from(failed),
                ending.text
            ));
        }
    }

    /// The result of a case. One that was not asked for has none; one that was asked for always has.
    pub fn of(&self, name: &str) -> Option<Verdict> {
        let given = self.cases.get(name)?.clone();
        Some(given.unwrap_or_else(|| Verdict {
            outcome: Outcome::Fail,
            reason: format!("was not run: {}", self.ending),
        }))
    }
}

/// What one start has told so far.
struct Start {
    /// Cases with a result, in order.
    seen: Vec<String>,
    /// The case that began and has not ended.
    running: Option<String>,
    panic: Option<String>,
    /// A case has failed by the guest's own word.
    failed: bool,
}

/// A guest's text without what would confuse a terminal, cut to a length that a report can hold.
pub fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() || is_formatting(c) { '\u{FFFD}' } else { c };
    let mut out: String = text.chars().take(MAX_REASON).map(visible).collect();
    if text.chars().nth(MAX_REASON).is_some() {
        out.push('…');
    }
    out
}

/// Characters that change the direction of text, or are not seen at all.
fn is_formatting(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
