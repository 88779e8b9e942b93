//! Our driver for DEC's 21140A on QEMU's `tulip`, which we did not write, and on our host's: bytes go to an echo server behind QEMU's user network or
//! Linux's TAP device, whose TCP we did not write either, and come back.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kvm::Check;
use super::linux_devices;
use super::tcg::KERNEL;
use super::trial::exit_text;
use crate::artifacts::Artifacts;
use crate::events::PREFIX;
use crate::guest_tests::Ending;
use crate::lab::{Batch, Exit, Job, JobResult};
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
    Check { job, judge: Box::new(|result| judge(&VMM, result)) }
}

/// The script beside our host, from the repository, and its name in a batch.
const LAB_SCRIPT: &str = "tests/src/suites/tulip/lab.sh";
const LAB_NAME: &str = "tulip.sh";
/// What it says where it can't do anything.
const NO_TAP: &str = "no TAP device can be made here";

/// On our host. Adds the files that it needs to `batch`, which has host and kernel.
pub fn on_our_host(artifacts: &Artifacts, batch: &mut Batch) -> Check {
    linux_devices::add_files(artifacts, batch);
    batch.file(artifacts.root.join(LAB_SCRIPT), LAB_NAME);
    let script = format!("./{LAB_NAME}");
    let job = Job::new("our host, tulip", ["sh", &script, MAC]).timeout(300);
    Check { job, judge: Box::new(judge_our_host) }
}

fn judge_our_host(result: &JobResult) -> Vec<Case> {
    if result.stdout_text().contains(NO_TAP) {
        return vec![Case::skip("DEC 21140A: bytes come back", NO_TAP)];
    }
    let mut cases = judge(&Vmm::OurHost { options: vec![] }, result);
    for case in &mut cases {
        case.name = format!("DEC 21140A, {}", case.name);
    }
    cases
}

fn judge(vmm: &Vmm, result: &JobResult) -> Vec<Case> {
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
        Exit::Exited(code) => vmm.ending(*code),
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
        judge(&VMM, &JobResult::of_test(code, stdout)).iter().map(|case| case.verdict).collect()
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
    fn without_a_tap_device_our_host_is_skipped() {
        let cases = judge_our_host(&JobResult::of_test(0, "no TAP device can be made here\n"));
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].verdict, Verdict::Skip);
    }

    #[test]
    fn both_modes_and_the_end_count() {
        let good = event("ring", 0) + &event("chained", 0);
        assert_eq!(verdicts(1, &good), [Verdict::Pass; 7]);
        let bad = event("ring", 1) + &event("chained", 0);
        assert_eq!(verdicts(1, &bad).iter().filter(|it| **it == Verdict::Fail).count(), 1);
    }
}
