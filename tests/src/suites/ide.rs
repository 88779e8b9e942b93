//! The kernel's IDE driver on controllers that we did not write, QEMU's PIIX3 and PIIX4, and on our host's. What it has written is looked at
//! from outside, too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel::ide::scratch::{
    ACROSS_28_BITS, CD_SEED, MARK, MAX_SECTORS, Region, by_mode, fill_all, is_filled,
};

use super::kvm::Check;
use super::trial::Trial;
use crate::artifacts::Artifacts;
use crate::lab::{Batch, Job, JobResult};
use crate::outcome::{Case, write_file};
use crate::vmm::{Guest, Paths, Vmm};

/// Bytes of the disk that is written in each mode, of one that is no scratch disk, of one that needs addresses of 48 bits, and of a CD-ROM.
const SCRATCH_BYTES: u64 = 8 << 20;
const OTHER_BYTES: u64 = 1 << 20;
const LARGE_BYTES: u64 = 200 << 30;
const CD_BYTES: usize = 1200 << 10;
/// Sector of the large disk at which its last region begins, and its seed.
const LAST: Region = Region { seed: 49, lba: LARGE_BYTES / 512 - 40, sectors: 40 };

/// Each machine: its name, what of it, and whether the controller has to be added to it.
const MACHINES: [(&str, &str, bool); 2] = [("pc", "PIIX3", false), ("q35", "PIIX4", true)];

/// What the guest tries with all four drives, in its order.
const TRIED: [&str; 12] = [
    "ide::pio::polled",
    "ide::pio::interrupts",
    "ide::pio_multiple::polled",
    "ide::pio_multiple::interrupts",
    "ide::dma::polled",
    "ide::dma::interrupts",
    "ide::errors_are_told_and_do_no_harm",
    "ide::beyond_28_bits",
    "ide::cd_rom::pio::polled",
    "ide::cd_rom::dma::polled",
    "ide::cd_rom::pio::interrupts",
    "ide::cd_rom::dma::interrupts",
];

/// The files of one machine.
#[derive(Debug, Clone)]
struct Images {
    folder: PathBuf,
    prefix: String,
}

impl Images {
    fn name(&self, what: &str) -> String {
        format!("{}-{what}.img", self.prefix)
    }

    fn path(&self, what: &str) -> PathBuf {
        self.folder.join(self.name(what))
    }

    /// Makes them anew; those with holes take no room.
    fn make(&self, batch: &mut Batch) -> Result<()> {
        for (what, bytes, mark) in [
            ("scratch", SCRATCH_BYTES, &MARK[..]),
            ("other", OTHER_BYTES, &b"somebody's"[..]),
            ("large", LARGE_BYTES, &MARK[..]),
        ] {
            let path = self.path(what);
            write_file(&path, mark)?;
            let file = File::options().write(true).open(&path).context("an image just made")?;
            file.set_len(bytes).with_context(|| format!("cannot make {}", path.display()))?;
        }
        write_file(&self.path("cd"), &cd_rom())?;
        for what in ["scratch", "other", "large", "cd"] {
            batch.file(self.path(what), self.name(what));
        }
        Ok(())
    }

    /// QEMU's options for four drives.
    fn options(&self, add_controller: bool) -> Vec<String> {
        let mut options = Vec::new();
        let (kinds, places) = (["hd", "hd", "hd", "cd"], [(0, 0), (0, 1), (1, 0), (1, 1)]);
        let bus = if add_controller { "p4" } else { "ide" };
        if add_controller {
            options.extend(["-device".into(), "piix4-ide,id=p4".into()]);
        }
        let whats = ["scratch", "other", "large", "cd"];
        for ((what, kind), (channel, unit)) in whats.into_iter().zip(kinds).zip(places) {
            let media = if kind == "cd" { ",media=cdrom" } else { "" };
            let file = self.name(what);
            options.push("-drive".into());
            options.push(format!("if=none,id={what},format=raw,file={file}{media}"));
            options.push("-device".into());
            options.push(format!("ide-{kind},drive={what},bus={bus}.{channel},unit={unit}"));
        }
        options
    }

    /// What is wrong with the files after all of it.
    fn look(&self) -> Result<Option<String>> {
        let wrong = |what: &str, region: &Region| -> Result<Option<String>> {
            let mut bytes = vec![0; region.sectors as usize * 512];
            read(&self.path(what), region.lba * 512, &mut bytes)?;
            let good = is_filled(region.seed, region.lba, &bytes);
            Ok((!good).then(|| format!("{what}: sectors from {} on", region.lba)))
        };
        let regions = by_mode(MAX_SECTORS);
        let scratch = regions.iter().map(|region| wrong("scratch", region));
        let large = [ACROSS_28_BITS, LAST];
        let large = large.iter().map(|region| wrong("large", region));
        for outcome in scratch.chain(large) {
            if let Some(wrong) = outcome? {
                return Ok(Some(wrong));
            }
        }
        let mut other = vec![0; OTHER_BYTES as usize];
        read(&self.path("other"), 0, &mut other)?;
        let untouched = other.starts_with(b"somebody's") && other[512..].iter().all(|&it| it == 0);
        Ok((!untouched).then(|| "a disk that was nobody's to write to".into()))
    }
}

/// The medium of a CD-ROM.
fn cd_rom() -> Vec<u8> {
    let mut cd = vec![0; CD_BYTES];
    cd[..MARK.len()].copy_from_slice(MARK);
    fill_all(CD_SEED, 4, &mut cd[2048..]);
    cd
}

fn read(path: &Path, offset: u64, bytes: &mut [u8]) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.read_exact_at(bytes, offset).with_context(|| format!("cannot read {}", path.display()))
}

/// All checks; adds the files that they need to `batch`. `kernel` is the kernel's name among them.
pub fn on_tcg(
    artifacts: &Artifacts,
    batch: &mut Batch,
    paths: &Paths,
    kernel: &str,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (machine, controller, add_controller) in MACHINES {
        let folder = artifacts.root.join("target/lab/guests");
        let images = Images { folder, prefix: format!("ide-{machine}") };
        images.make(batch)?;
        let trial = trial(machine, controller, kernel);
        let mut job = trial.job(paths);
        job.argv.extend(images.options(add_controller));
        let judge = move |result: &JobResult| judge(&trial, &images, result);
        checks.push(Check { job, judge: Box::new(judge) });
    }
    Ok(checks)
}

/// On our host, where each unit of the data register that is written by PIO costs a visit: so many sectors in each mode of PIO.
const FEW_SECTORS: u64 = 48;
/// The disks that our host's guest finds, made by the job, and the CD-ROM, which comes along.
const WRITTEN: &str = "ide-written.img";
const LEFT_ALONE: &str = "ide-left-alone.img";
const CD: &str = "ide-host-cd.img";
const OUR_HOST: &str = "our IDE controller";

/// On our host, without a disk that needs 48 bits of address. Adds the file that it needs to `batch`; `host` and `kernel` are names there.
pub fn on_our_host(
    artifacts: &Artifacts,
    batch: &mut Batch,
    host: &str,
    kernel: &str,
) -> Result<Check> {
    let cd = artifacts.root.join("target/lab/guests").join(CD);
    write_file(&cd, &cd_rom())?;
    batch.file(cd, CD);
    let mark = String::from_utf8_lossy(MARK);
    let script = format!(
        "printf '%s' '{mark}' >{WRITTEN} && busybox truncate -s 3M {WRITTEN} && \
         printf somebody >{LEFT_ALONE} && busybox truncate -s 64K {LEFT_ALONE} && \
         exec ./{host} run --kernel {kernel} --vps 2 --memory 64M --cmdline 'events log=warn ide={FEW_SECTORS}' \
         --disk {WRITTEN},ide=0 --disk {LEFT_ALONE},ide=1 --disk {CD},cdrom,ide=3"
    );
    let job = Job::new("our driver on our IDE controller", ["busybox", "sh", "-c", &script]);
    let job = job.timeout(300).collect(WRITTEN).collect(LEFT_ALONE);
    Ok(Check { job, judge: Box::new(judge_our_host) })
}

fn judge_our_host(result: &JobResult) -> Vec<Case> {
    let guest = super::kvm::guest(String::new(), 2, 64);
    let asked = TRIED.into_iter().filter(|name| *name != "ide::beyond_28_bits");
    let asked = asked.map(String::from).collect();
    let vmm = Vmm::OurHost { options: vec![] };
    let trial = Trial { suite: OUR_HOST.into(), vmm, guest, asked, timeout_seconds: 0 };
    let mut cases = trial.cases(result);
    let file = |name: &str| result.files.get(name).map_or(&[][..], |bytes| bytes);
    let disk = file(WRITTEN);
    let wrong = by_mode(FEW_SECTORS).into_iter().find(|region| {
        let range = region.lba as usize * 512..(region.lba + region.sectors) as usize * 512;
        disk.get(range).is_none_or(|bytes| !is_filled(region.seed, region.lba, bytes))
    });
    let wrong = wrong.map(|region| format!("sectors from {} on", region.lba));
    cases.push(Case::check("the file holds what was written", wrong));
    let other = file(LEFT_ALONE).strip_prefix(b"somebody");
    let untouched = other.is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
    let wrong = (!untouched).then(|| "it was written to, or is not there".into());
    cases.push(Case::check("a disk that is nobody's to write to is left alone", wrong));
    cases
}

fn trial(machine: &'static str, controller: &str, kernel: &str) -> Trial {
    Trial {
        suite: controller.into(),
        vmm: Vmm::Qemu { machine, cpu: "max", accel: "tcg" },
        guest: Guest {
            kernel: kernel.into(),
            initrd: None,
            cmdline: "events log=warn ide".into(),
            vps: 1,
            memory_mib: 64,
        },
        asked: TRIED.map(String::from).into(),
        timeout_seconds: 120,
    }
}

fn judge(trial: &Trial, images: &Images, result: &JobResult) -> Vec<Case> {
    let mut cases = trial.cases(result);
    let wrong = images.look().unwrap_or_else(|error| Some(format!("{error:#}")));
    cases.push(Case::check("the files hold what was written", wrong));
    for case in &mut cases {
        case.name = format!("{}, {}", trial.suite, case.name);
    }
    cases
}
