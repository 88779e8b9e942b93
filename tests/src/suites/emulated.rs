//! Stock Linux's drivers of emulated devices on our host: IDE disks and a CD-ROM by `ata_piix`, a DEC 21140A by `tulip`.
//!
//! One machine by DMA alone with the lab's kernel, one with several processors, a disk by port I/O and the card with Debian's generic
//! kernel: the lab's has no `tulip`. `lab.sh` runs beside it, wherever KVM is, and `guest.sh` inside ([`linux_devices`]).

use anyhow::{Context, Result};

use super::host::report;
use super::kvm::Check;
use super::linux_devices;
use crate::artifacts::Artifacts;
use crate::iso;
use crate::lab::{Batch, Executor, Job, JobResult, LinuxKind, NO_GENERIC_KERNEL, linux_guest};
use crate::outcome::{Case, Results, write_file};
use crate::probe::pattern;
use crate::sha256::sha256;
use crate::suites::trial::REPORT;
use crate::vmm::counted_vps;

/// Name of the suite.
pub const SUITE: &str = "stock Linux's drivers of emulated devices on our host";
/// The script that runs inside the guest.
pub const GUEST_SCRIPT: &str = include_str!("emulated/guest.sh");
/// The script beside it, from the repository, and its name in a batch.
const LAB_SCRIPT: &str = "tests/src/suites/emulated/lab.sh";
const LAB_NAME: &str = "emulated.sh";
/// The CD-ROM among a batch's files.
const CD_ROM: &str = "emulated.iso";

/// A machine.
struct Machine {
    vps: u32,
    kind: LinuxKind,
    /// How the first disk of the second channel is accessed.
    mode: &'static str,
    /// What the script is told of the network: there is a driver (`net`), another machine tries it, or the reason why nobody does.
    net: &'static str,
}

/// Both machines, with what kernels there are.
fn machines(has_generic: bool) -> [Machine; 2] {
    let (kind, net) = match has_generic {
        true => (LinuxKind::EmulatedGeneric, "net"),
        false => (LinuxKind::Emulated, NO_GENERIC_KERNEL),
    };
    [
        Machine { vps: 1, kind: LinuxKind::Emulated, mode: "dma", net: "untried" },
        Machine { vps: 4, kind, mode: "pio", net },
    ]
}

/// The jobs, each with what judges it. The lab's own kernel must be in the batch already.
///
/// # Errors
///
/// The lab's parts are missing though it is needed, or a file can't be made.
pub fn checks(
    artifacts: &Artifacts,
    executor: &Executor,
    batch: &mut Batch,
    results: &mut Results,
) -> Result<Vec<Check>> {
    let Some(parts) = linux_devices::parts(SUITE, executor, results)? else {
        return Ok(Vec::new());
    };
    linux_devices::add_files(artifacts, batch);
    let cd_rom = artifacts.root.join("target/lab/guests").join(CD_ROM);
    write_file(&cd_rom, &medium()?)?;
    batch.file(cd_rom, CD_ROM).file(artifacts.root.join(LAB_SCRIPT), LAB_NAME);
    let mut checks = Vec::new();
    for machine in machines(parts.generic.is_some()) {
        let Machine { vps, kind, mode, net } = machine;
        let linux = linux_guest(&parts, kind)?;
        for file in [&linux.kernel_file, &linux.initrd_file] {
            batch.shared_file(&file.from, &file.to);
        }
        let name = format!("Linux {}, {}, {mode}", linux.release, counted_vps(vps));
        let inside = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let (kernel, initrd) = (inside(&linux.kernel), inside(&linux.initrd));
        let script = format!("./{LAB_NAME}");
        let argv = ["sh", &script, &vps.to_string(), &kernel, &initrd, mode, net];
        let job = Job::new(name.as_str(), argv).timeout(400).collect(REPORT);
        let judge = move |result: &JobResult| judge(&name, net == "net", result);
        checks.push(Check { job, judge: Box::new(judge) });
    }
    Ok(checks)
}

/// A CD-ROM's image, with the checksums of its files as one more.
fn medium() -> Result<Vec<u8>> {
    let mut large = vec![0; 1_500_001];
    pattern::fill(3, 0, &mut large);
    let files: [(&str, &[u8]); 4] = [
        ("EMPTY.TXT", b""),
        ("LARGE.BIN", &large),
        ("README.TXT", b"A CD-ROM for tests.\n"),
        ("FOLDER/SECTOR.BIN", &large[..2048]),
    ];
    let mut sums = String::new();
    for (name, content) in files {
        // Linux shows these names in small letters (`isofs`, option `map=normal`).
        sums.push_str(&format!("{}  {}\n", sha256(content)?, name.to_lowercase()));
    }
    let mut files = files.to_vec();
    files.push(("SUMS.TXT", sums.as_bytes()));
    iso::image("ENLIGHTEN", &files).context("cannot make a CD-ROM's image")
}

fn judge(name: &str, has_card: bool, result: &JobResult) -> Vec<Case> {
    let mut cases = linux_devices::judge(name, result);
    let tried = result.stdout_text().contains("CASE network: a link ok");
    cases.extend(counted(name, has_card && tried, result));
    cases
}

/// What the host counted, as far as Linux could not see it.
fn counted(name: &str, has_card: bool, result: &JobResult) -> Vec<Case> {
    let report = match report(result) {
        Ok(report) => report,
        Err(error) => return vec![Case::fail(format!("{name}: a report"), format!("{error:#}"))],
    };
    let case = |what: &str, holds: bool, told: String| {
        Case::check(format!("{name}: {what}"), (!holds).then_some(told))
    };
    let (flushes, discards) =
        report.ide.first().map_or((0, 0), |disk| (disk.flushes, disk.discards));
    let mut cases =
        vec![case("ide: flushes reach the disk", flushes > 0, format!("{:?}", report.ide))];
    if result.stdout_text().contains("CASE ide: discard ok") {
        cases.push(case("ide: discards reach the disk", discards > 0, format!("{:?}", report.ide)));
    }
    if has_card {
        let card = report.emulated_nets.first();
        let good = card.is_some_and(|card| card.chip.setup_frames > 0 && card.chip.bus_errors == 0);
        cases.push(case(
            "network: setup frames come, and no bus errors",
            good,
            format!("{card:?}"),
        ));
        let filtered = card.is_some_and(|card| card.card.counts.rx_filtered >= 40);
        cases.push(case(
            "network: the chip's filter keeps frames out",
            filtered,
            format!("{card:?}"),
        ));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Verdict;

    #[test]
    fn without_the_generic_kernel_the_card_is_skipped_with_a_reason() {
        let told: Vec<_> = machines(false).iter().map(|machine| machine.net).collect();
        assert_eq!(told, ["untried", NO_GENERIC_KERNEL]);
        assert!(machines(true).iter().any(|machine| machine.net == "net"));
    }

    #[test]
    fn a_machine_without_a_report_has_failed() {
        let cases = judge("x", true, &JobResult::of_test(0, "CASE a ok\n"));
        let verdicts: Vec<_> = cases.iter().map(|case| case.verdict).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Fail, Verdict::Fail]);
    }

    #[test]
    fn the_medium_holds_the_checksums_of_its_files() {
        let image = medium().unwrap();
        let sum = sha256(b"A CD-ROM for tests.\n").unwrap();
        let line = format!("{sum}  readme.txt\n");
        assert!(image.windows(line.len()).any(|window| window == line.as_bytes()));
    }
}
