//! Our driver for DEC's 21140A on QEMU's `tulip`, which we did not write: bytes go to an echo server behind QEMU's user network, whose TCP we did not write either, and
//! come back.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kvm::Check;
use super::tcg::KERNEL;
use super::trial::exit_text;
use crate::events::PREFIX;
use crate::guest_tests::Ending;
use crate::lab::{Exit, Job, JobResult};
use crate::outcome::Case;
use crate::vmm::{Guest, Paths, Vmm};

/// Where `cat` answers, on the user network, and where the guest is.
const SERVER: &str = "10.0.2.100";
const ADDRESS: &str = "10.0.2.15/24";
const MAC: &str = "02:15:5d:01:02:03";
/// How the card's descriptors are connected.
const MODES: [&str; 2] = ["ring", "chained"];
/// Bytes each way.
const BYTES: u64 = 256 << 10;

const VMM: Vmm = Vmm::Qemu { machine: "pc", cpu: "max", accel: "tcg" };

/// The event `tulip` (`docs/interfaces.md`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Echo {
    mode: String,
    mac: String,
    bytes: u64,
    frames_in: u64,
    frames_out: u64,
    interrupts: u64,
    demands: u64,
    malformed: u64,
    errors: u64,
}

/// On QEMU's software processor.
pub fn on_tcg(paths: &Paths) -> Check {
    let cmdline = format!("events log=warn tulip={SERVER} ip={ADDRESS}");
    let guest = Guest { kernel: KERNEL.into(), initrd: None, cmdline, vps: 2, memory_mib: 64 };
    let network = format!("user,id=net,restrict=on,guestfwd=tcp:{SERVER}:7-cmd:cat");
    let card = format!("tulip,netdev=net,mac={MAC}");
    let mut argv = VMM.argv(paths, &guest);
    argv.extend(["-netdev", &network, "-device", &card].map(String::from));
    let job = Job::new("QEMU tcg pc, tulip", argv).timeout(180);
    Check { job, judge: Box::new(judge) }
}

fn judge(result: &JobResult) -> Vec<Case> {
    let text = result.stdout_text();
    let events = text.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX));
    let echoes: BTreeMap<_, _> = events
        .filter_map(|event| serde_json::from_str::<Echo>(event).ok())
        .map(|echo| (echo.mode.clone(), echo))
        .collect();
    let mut cases: Vec<_> = MODES
        .into_iter()
        .flat_map(|mode| match echoes.get(mode) {
            Some(echo) => judge_echo(mode, echo),
            None => vec![Case::fail(format!("{mode}: bytes come back"), "nothing was told of it")],
        })
        .collect();
    let ending = match &result.exit {
        Exit::Exited(code) => VMM.ending(*code),
        other => Ending { code: None, text: exit_text(other) },
    };
    let wrong = (ending.code != Some(0)).then(|| {
        let last = text.lines().rev().find(|line| !line.starts_with(PREFIX)).unwrap_or_default();
        format!("{}; last line: {last}; {}", ending.text, result.stderr_text().trim())
    });
    cases.push(Case::check("the guest ends well", wrong));
    cases
}

fn judge_echo(mode: &str, echo: &Echo) -> Vec<Case> {
    let check = |name: &str, holds: bool| {
        Case::check(format!("{mode}: {name}"), (!holds).then(|| format!("{echo:?}")))
    };
    vec![
        check("bytes come back", echo.bytes == BYTES && echo.errors == 0 && echo.malformed == 0),
        check("the serial ROM has the address", echo.mac == MAC),
        check("interrupts and demands are for many frames", {
            let frames = echo.frames_in + echo.frames_out;
            frames > 0 && echo.interrupts < frames && echo.demands < echo.frames_out
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Verdict;

    fn verdicts(code: i32, stdout: &str) -> Vec<Verdict> {
        judge(&JobResult::of_test(code, stdout)).iter().map(|case| case.verdict).collect()
    }

    fn event(mode: &str, errors: u64) -> String {
        format!(
            "@enl {{\"event\":\"tulip\",\"mode\":\"{mode}\",\"mac\":\"{MAC}\",\"full_duplex\":1,\"bytes\":262144,\"frames_out\":207,\
             \"frames_in\":353,\"interrupts\":24,\"demands\":25,\"malformed\":0,\"errors\":{errors}}}\n"
        )
    }

    #[test]
    fn a_guest_that_says_nothing_has_failed() {
        assert_eq!(verdicts(1, ""), [Verdict::Fail, Verdict::Fail, Verdict::Pass]);
        assert_eq!(verdicts(3, "noise\n"), [Verdict::Fail; 3]);
    }

    #[test]
    fn both_modes_and_the_end_count() {
        let good = event("ring", 0) + &event("chained", 0);
        assert_eq!(verdicts(1, &good), [Verdict::Pass; 7]);
        let bad = event("ring", 1) + &event("chained", 0);
        assert_eq!(verdicts(1, &bad).iter().filter(|it| **it == Verdict::Fail).count(), 1);
    }
}
