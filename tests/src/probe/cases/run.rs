//! Runs the cases that are wanted, tells of them as our kernel does, and ends the machine.

use std::arch::x86_64::__cpuid;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use vsc_cases::{CaseResult, Problem};

use super::registry::{LinuxCase, all};
use super::system;
use crate::conformance::judge::Outcome;
use crate::events::{Boot, Event, PREFIX};
use crate::probe::bench;

/// Variable of the environment with the cases or facilities to run, with commas between them: a word of the kernel's command line.
pub const CASES_VARIABLE: &str = "enl_cases";
/// The case after which to go on.
pub const AFTER_VARIABLE: &str = "enl_after";
/// Time for one case. The slowest, on the lab's processor, takes some seconds.
const CASE_LIMIT: Duration = Duration::from_secs(60);
/// First of the hypervisor's CPUID leaves (TLFS §2.4.1).
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// Runs what the environment names, and ends the machine.
///
/// # Errors
///
/// The machine does not end.
pub fn run_and_end() -> anyhow::Result<String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    tell(&Event::Boot(boot()));
    let cases = chosen(&all(), &variable(CASES_VARIABLE), &variable(AFTER_VARIABLE));
    let failed = cases.iter().filter(|case| !run(case)).count();
    let code = u8::from(failed > 0);
    tell(&Event::End { code });
    bench::end_machine(code)?;
    anyhow::bail!("the machine did not end")
}

/// Those that are wanted by name or facility, in their order.
fn chosen(all: &[LinuxCase], wanted: &str, after: &str) -> Vec<LinuxCase> {
    let words: Vec<&str> = wanted.split(',').collect();
    let is_wanted =
        |case: &&LinuxCase| words.contains(&case.facility) || words.contains(&case.name);
    let from = all.iter().position(|case| case.name == after).map_or(0, |at| at + 1);
    all[from..].iter().filter(is_wanted).copied().collect()
}

/// Runs a case; whether it did not fail. One that does not end is left behind, and the machine with it: what it has blocked,
/// others would wait for.
fn run(case: &LinuxCase) -> bool {
    tell(&Event::CaseBegin { name: case.name.into() });
    let (done, result) = channel();
    let body = case.run;
    std::thread::spawn(move || done.send(body()));
    let result = match result.recv_timeout(CASE_LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(Problem::Fail("the case panicked".into())),
        Err(RecvTimeoutError::Timeout) => {
            let reason = format!("it did not end within {CASE_LIMIT:?}; {}", system::log_end());
            tell(&ended(case, Err(Problem::Fail(reason))));
            // Without an end: the runner starts the guest again for the cases after this one.
            let _nothing_else_to_do = bench::end_machine(1);
            return false;
        }
    };
    let good = !matches!(result, Err(Problem::Fail(_)));
    tell(&ended(case, result));
    good
}

fn ended(case: &LinuxCase, result: CaseResult) -> Event {
    let (result, reason) = match result {
        Ok(()) => (Outcome::Pass, String::new()),
        Err(Problem::Skip(reason)) => (Outcome::Skip, reason),
        Err(Problem::Fail(reason)) => (Outcome::Fail, reason),
    };
    Event::Case { name: case.name.into(), result, reason }
}

fn tell(event: &Event) {
    match serde_json::to_string(event) {
        Ok(text) => println!("{PREFIX}{text}"),
        Err(error) => println!("no event: {error}"),
    }
}

fn boot() -> Boot {
    let leaf = __cpuid(HYPERVISOR_LEAF);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    let text = String::from_utf8_lossy(signature.as_flattened());
    let signature = text.trim_end_matches('\0');
    Boot {
        vps: system::processors(),
        hypervisor: if signature.is_empty() { "none".into() } else { signature.into() },
        protocol: "linux64".into(),
        memory_bytes: system::memory_bytes(),
        kernel_bytes: 0,
        apic: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;

    fn names(wanted: &str, after: &str) -> Vec<&'static str> {
        chosen(&all(), wanted, after).iter().map(|case| case.name).collect()
    }

    #[test]
    fn facilities_and_cases_are_chosen_by_name_and_unknown_words_choose_nothing() {
        let integration = names("Integration,synthetic::scsi::naca_is_refused,x::y", "");
        assert_eq!(integration.len(), 3, "{integration:?}");
        assert!(names("", "").is_empty());
    }

    #[test]
    fn a_guest_that_is_started_again_goes_on_after_a_case() {
        let all = names("Network", "");
        assert_eq!(names("Network", all[2]), all[3..]);
        assert!(names("Network", all[all.len() - 1]).is_empty());
    }

    #[test]
    fn what_is_told_is_what_the_runner_reads() {
        let case = all()[0];
        let event = ended(&case, Err(Problem::Skip("no \"bus\"\n".into())));
        let text = format!("{PREFIX}{}", serde_json::to_string(&event).unwrap());
        assert_eq!(events::events(&text), [event]);
        let text = format!("{PREFIX}{}", serde_json::to_string(&Event::Boot(boot())).unwrap());
        assert!(events::boot(&text).is_some(), "{text}");
    }
}
