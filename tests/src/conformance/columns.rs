//! What the cases run on: the columns of the matrix.

use hypervisor_host::hyperv::features::Offered;
use serde::Serialize;

use super::SELFTEST;
use crate::image::CaseInfo;
use crate::lab::Job;
use crate::lab::guests::{LINUX_CMDLINE, LINUX_KERNEL, SYNTHETIC_INITRD};
use crate::probe::cases;
use crate::probe::cases::run::{AFTER_VARIABLE, CASES_VARIABLE};
use crate::suites::kvm::guest;
use crate::suites::trial::Trial;
use crate::vmm::{Guest, Paths, QEMU_HYPERV_CPU, Vmm, counted_vps};

/// Time a column has for all of its cases, in seconds of the machine that its monitor runs on.
const TIMEOUT_SECONDS: u32 = 600;
/// ... if its guest is Linux, which watches each case, but not itself.
const LINUX_TIMEOUT_SECONDS: u32 = 150;
/// Memory of each guest in MiB. Two network cards have 17 MiB of buffers each.
const MEMORY_MIB: u32 = 256;
/// The devices of our host: those of test kernels, a disk to write to (what is written is thrown away), one that can't be
/// written, and two cards in one network. The files are [`super::disks`]'.
const DEVICES: &[&str] = &[
    "--test-devices",
    "--disk",
    "scratch.img,cow",
    "--disk",
    "readonly.img,ro",
    "--net",
    "switch=cases",
    "--net",
    "switch=cases",
];
/// Versions of VMBus that have columns of their own; all are tried without a machine (`tests/machine`).
const VMBUS_VERSIONS: [(&str, &str); 4] = [
    ("our host, VMBus 0.13", " vmbus-version=0.13"),
    ("our host, VMBus 1.1", " vmbus-version=1.1"),
    ("our host, VMBus 2.4", " vmbus-version=2.4"),
    ("our host, VMBus 5.3", " vmbus-version=5.3"),
];
/// What a version of VMBus makes a difference to.
const VMBUS_FACILITIES: &[&str] =
    &["VMBus", "Channels", "GPADLs", "Rings", "Storage", "Network", "Integration"];

/// Where a column's monitor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this machine without KVM.
    Tcg,
    /// Where KVM is, natively or in the lab.
    Kvm,
}

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Our host. A failure here fails the whole.
    Ours,
    /// Our host with a part of the interface switched off; likewise.
    Fallback,
    /// A hypervisor that is not ours.
    Foreign,
}

/// Who tries the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Our kernel with our drivers.
    Enlighten,
    /// Stock Linux with its own: the cases of [`crate::probe::cases`].
    Linux,
}

/// A way to run the cases.
#[derive(Debug, Clone)]
pub struct Column {
    /// What it is called, without its processors.
    pub name: String,
    /// What it shows.
    pub kind: Kind,
    /// Where it runs.
    pub place: Place,
    /// What boots.
    pub system: System,
    /// Virtual processors.
    pub vps: u32,
    vmm: Vmm,
    /// More arguments for the monitor.
    more: &'static [&'static str],
    /// Facilities that it is about; all if none.
    facilities: &'static [&'static str],
    /// More words for the kernel.
    words: &'static str,
    /// What the kernel is told to run.
    wanted: String,
    timeout_seconds: u32,
}

/// A part of the interface that is switched off, with the facilities that have to do without it then.
struct Off {
    parts: &'static str,
    facilities: &'static [&'static str],
}

const fn off(parts: &'static str, facilities: &'static [&'static str]) -> Off {
    Off { parts, facilities }
}

/// Each part of the interface that our host can leave out.
const OFF: &[Off] = &[
    off("hypercall", &["Hypercalls", "Registers", "Memory", "IPI", "Locks", "Extended"]),
    off("vp-index", &["Registers", "IPI", "Memory"]),
    off("vp-runtime,reset", &["Registers"]),
    off("time-ref-count", &["Clocks", "Timers"]),
    off("reference-tsc", &["Clocks"]),
    off("frequencies,frequency-msrs", &["Clocks"]),
    off("tsc-invariant,reenlightenment", &["Clocks"]),
    off("synic", &["SynIC", "Timers"]),
    off("synthetic-timers", &["Timers"]),
    off("stimer-direct", &["Timers"]),
    off("post-messages,signal-events", &["SynIC", "VMBus"]),
    off("apic-access", &["APIC"]),
    off("guest-idle,guest-idle-state", &["Idle", "Locks"]),
    off("guest-crash-msrs", &["Crash"]),
    off("hypercall-xmm-input", &["Hypercalls", "Memory", "IPI"]),
    off("hypercall-xmm-output", &["Hypercalls", "Extended"]),
    off("remote-tlb-flush", &["Memory"]),
    off("local-tlb-flush,as-switch", &["Memory"]),
    off("ex-processor-masks", &["Memory", "IPI"]),
    off("cluster-ipi", &["IPI", "Idle"]),
    off("spin-wait", &["Locks", "Hypercalls"]),
    off("extended-hypercalls", &["Extended"]),
];

/// The columns whose names contain one of `words`, or all, to run `cases` out of those in the `image`.
pub fn all(image: &[CaseInfo], cases: &[CaseInfo], words: &[String]) -> Vec<Column> {
    let mut columns = ours();
    columns.extend(fallbacks());
    columns.extend(foreign());
    columns.extend(linux());
    for column in &mut columns {
        column.wanted = wanted(image, cases, column);
    }
    columns.retain(|column| {
        let title = column.title();
        (words.is_empty() || words.iter().any(|word| title.contains(word)))
            && !column.wanted.is_empty()
    });
    columns
}

/// The column's cases in as few words as possible: a facility's name, if it is all of them.
fn wanted(image: &[CaseInfo], cases: &[CaseInfo], column: &Column) -> String {
    let asked = |case: &&CaseInfo| column.is_about(case);
    let mut facilities: Vec<&str> = Vec::new();
    for case in cases.iter().filter(asked) {
        if !facilities.contains(&case.facility.as_str()) {
            facilities.push(&case.facility);
        }
    }
    let words = facilities.into_iter().flat_map(|facility| {
        let of = |case: &&CaseInfo| case.facility == facility;
        let chosen: Vec<_> = cases.iter().filter(of).map(|case| case.name.as_str()).collect();
        let is_whole = chosen.len() == image.iter().filter(of).count() && facility != SELFTEST;
        if is_whole { vec![facility] } else { chosen }
    });
    words.collect::<Vec<_>>().join(",")
}

fn our_host(options: &[&str]) -> Vmm {
    Vmm::OurHost { options: options.iter().map(ToString::to_string).collect() }
}

fn column(name: &str, kind: Kind, place: Place, vmm: Vmm, vps: u32) -> Column {
    Column {
        name: name.into(),
        kind,
        place,
        system: System::Enlighten,
        vps,
        vmm,
        more: &[],
        facilities: &[],
        words: "",
        wanted: String::new(),
        timeout_seconds: TIMEOUT_SECONDS,
    }
}

fn ours() -> Vec<Column> {
    let mut columns = Vec::new();
    for vps in [1, 4] {
        columns.push(Column {
            more: DEVICES,
            words: " testdev",
            ..column("our host", Kind::Ours, Place::Kvm, our_host(&[]), vps)
        });
    }
    for vps in [1, 4] {
        let vmm = our_host(&["--hyperv", "off"]);
        columns.push(Column {
            more: &["--test-devices"],
            words: " testdev",
            ..column("our host, no Hyper-V", Kind::Ours, Place::Kvm, vmm, vps)
        });
    }
    columns.extend(VMBUS_VERSIONS.map(|(name, words)| Column {
        more: DEVICES,
        words,
        facilities: VMBUS_FACILITIES,
        ..column(name, Kind::Ours, Place::Kvm, our_host(&[]), 2)
    }));
    columns
}

fn fallbacks() -> Vec<Column> {
    let known = Offered::names();
    let is_known = |part: &&str| known.iter().any(|name| name == part);
    let one = |off: &Off| {
        // A host that does not offer a part at all has no such name.
        let parts: Vec<_> = off.parts.split(',').filter(is_known).collect();
        let parts = parts.join(",");
        let vmm = our_host(&["--hv-disable", &parts]);
        let column = Column {
            more: &["--test-devices"],
            words: " testdev",
            facilities: off.facilities,
            ..column(&format!("without {parts}"), Kind::Fallback, Place::Kvm, vmm, 2)
        };
        (!parts.is_empty()).then_some(column)
    };
    OFF.iter().filter_map(one).collect()
}

fn foreign() -> Vec<Column> {
    let mut columns = Vec::new();
    for vps in [1, 4] {
        let vmm = Vmm::Qemu { machine: "pc", cpu: QEMU_HYPERV_CPU, accel: "kvm" };
        columns.push(Column {
            more: &["-device", "hyperv-testdev", "-device", "vmbus-bridge"],
            words: " testdev",
            ..column("QEMU KVM hv-*", Kind::Foreign, Place::Kvm, vmm, vps)
        });
    }
    for (name, machine, cpu, vps) in [
        ("QEMU TCG pc", "pc", "qemu64", 1),
        ("QEMU TCG q35", "q35", "max", 4),
        ("QEMU TCG microvm", "microvm,isa-serial=on,acpi=on", "max", 4),
    ] {
        let vmm = Vmm::Qemu { machine, cpu, accel: "tcg" };
        columns.push(column(name, Kind::Foreign, Place::Tcg, vmm, vps));
    }
    columns
}

/// Stock Linux, with the same devices as our kernel.
fn linux() -> [Column; 3] {
    let qemu = Vmm::Qemu { machine: "pc", cpu: QEMU_HYPERV_CPU, accel: "kvm" };
    // With them it can't leave the bus.
    let no_timers = our_host(&["--hv-disable", "synthetic-timers"]);
    [
        Column {
            system: System::Linux,
            more: DEVICES,
            timeout_seconds: LINUX_TIMEOUT_SECONDS,
            ..column("Linux on our host", Kind::Ours, Place::Kvm, our_host(&[]), 2)
        },
        Column {
            system: System::Linux,
            more: DEVICES,
            facilities: &["VMBus"],
            timeout_seconds: LINUX_TIMEOUT_SECONDS,
            ..column("Linux without synthetic timers", Kind::Ours, Place::Kvm, no_timers, 2)
        },
        Column {
            system: System::Linux,
            more: &["-device", "vmbus-bridge"],
            timeout_seconds: LINUX_TIMEOUT_SECONDS,
            ..column("Linux on QEMU KVM hv-*", Kind::Foreign, Place::Kvm, qemu, 1)
        },
    ]
}

impl Column {
    /// A machine of QEMU's software processor for `cases` that hang after 2 seconds.
    pub(super) fn selftest(
        machine: &'static str,
        cpu: &'static str,
        vps: u32,
        cases: &[CaseInfo],
        timeout_seconds: u32,
    ) -> Self {
        let vmm = Vmm::Qemu { machine, cpu, accel: "tcg" };
        let name = format!("QEMU TCG {machine}");
        let mut column = Self {
            words: " case-limit=2",
            timeout_seconds,
            ..column(&name, Kind::Foreign, Place::Tcg, vmm, vps)
        };
        column.wanted = wanted(cases, cases, &column);
        column
    }

    /// Its name with its processors.
    pub fn title(&self) -> String {
        format!("{}, {}", self.name, counted_vps(self.vps))
    }

    /// Whether it is our host, in whatever way.
    pub fn is_ours(&self) -> bool {
        self.kind != Kind::Foreign
    }

    fn is_about(&self, case: &CaseInfo) -> bool {
        let can_try = match self.system {
            System::Enlighten => true,
            System::Linux => cases::all().iter().any(|known| known.name == case.name),
        };
        can_try && (self.facilities.is_empty() || self.facilities.contains(&case.facility.as_str()))
    }

    /// The cases of `all` that it runs.
    pub fn asked(&self, all: &[CaseInfo]) -> Vec<String> {
        all.iter().filter(|case| self.is_about(case)).map(|case| case.name.clone()).collect()
    }

    /// What starts its guest; `after` is the case after which to go on.
    pub fn job(&self, paths: &Paths, after: Option<&str>) -> Job {
        let again = after.map_or(String::new(), |name| format!(", again after {name}"));
        let trial = self.trial();
        let mut argv = trial.vmm.argv(paths, &self.guest(after));
        argv.extend(self.more.iter().map(ToString::to_string));
        Job::new(format!("{}{again}", self.title()), argv).timeout(self.timeout_seconds)
    }

    /// How its monitor's end is read.
    pub fn trial(&self) -> Trial {
        Trial {
            suite: self.title(),
            vmm: self.vmm.clone(),
            guest: self.guest(None),
            asked: Vec::new(),
            timeout_seconds: self.timeout_seconds,
        }
    }

    fn guest(&self, after: Option<&str>) -> Guest {
        match self.system {
            System::Enlighten => {
                let after = after.map_or(String::new(), |name| format!(" after={name}"));
                let Self { words, wanted, .. } = self;
                let cmdline = format!("events log=warn{words} conformance={wanted}{after}");
                guest(cmdline, self.vps, MEMORY_MIB)
            }
            System::Linux => self.linux_guest(after.unwrap_or_default()),
        }
    }

    /// Words that its kernel does not know come to the first program as variables. Its own messages would come between the events.
    fn linux_guest(&self, after: &str) -> Guest {
        let wanted = &self.wanted;
        Guest {
            kernel: LINUX_KERNEL.into(),
            initrd: Some(SYNTHETIC_INITRD.into()),
            cmdline: format!(
                "{LINUX_CMDLINE} loglevel=1 {CASES_VARIABLE}={wanted} {AFTER_VARIABLE}={after}"
            ),
            vps: self.vps,
            memory_mib: MEMORY_MIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases() -> Vec<CaseInfo> {
        let case = |facility: &str, name: &str| CaseInfo {
            facility: facility.into(),
            name: name.into(),
            source: "TLFS".into(),
        };
        vec![
            case("SynIC", "synic::a"),
            case("Clocks", "clocks::a"),
            case("Clocks", "clocks::b"),
            case("Selftest", "selftest::a"),
        ]
    }

    fn cmdline(column: &Column) -> String {
        column.guest(Some("clocks::a")).cmdline
    }

    #[test]
    fn whole_facilities_are_named_and_parts_of_one_case_by_case() {
        let (image, title) = (cases(), "our host, 1 VP".to_string());
        let columns = all(&image, &image[..2], &[title]);
        assert_eq!(columns.len(), 1);
        assert_eq!(
            cmdline(&columns[0]),
            "events log=warn testdev conformance=SynIC,clocks::a after=clocks::a"
        );
        assert_eq!(columns[0].asked(&image[..2]), ["synic::a", "clocks::a"]);
    }

    #[test]
    fn linux_is_asked_only_for_what_it_can_try() {
        let case = |name: &str, facility: &str| CaseInfo {
            facility: facility.into(),
            name: name.into(),
            source: "SPC-4".into(),
        };
        let image = [
            case("synthetic::scsi::naca_is_refused", "Storage"),
            case("synthetic::storvsp::version_2_0_works", "Storage"),
            case("synic::a", "SynIC"),
        ];
        let columns = all(&image, &image, &["Linux on our host, 2 VPs".into()]);
        assert_eq!(columns[0].asked(&image), ["synthetic::scsi::naca_is_refused"]);
        let guest = columns[0].guest(Some("synthetic::scsi::naca_is_refused"));
        assert!(
            guest
                .cmdline
                .ends_with(" enl_cases=Storage enl_after=synthetic::scsi::naca_is_refused")
        );
        assert!(all(&image, &image[2..], &["Linux".into()]).is_empty());
    }

    #[test]
    fn cases_that_misbehave_are_named_one_by_one() {
        let columns = all(&cases(), &cases()[3..], &["TCG pc".into()]);
        assert!(cmdline(&columns[0]).contains("conformance=selftest::a "));
    }

    #[test]
    fn a_column_without_a_part_runs_only_what_has_to_do_without_it() {
        let image = cases();
        let columns = all(&image, &image[..3], &["without synic".into()]);
        assert_eq!(columns.len(), 1, "synic and nothing else");
        assert_eq!(columns[0].asked(&image), ["synic::a"]);
        assert!(all(&image, &image[1..3], &["without synic".into()]).is_empty());
    }

    #[test]
    fn every_part_that_our_host_can_leave_out_is_left_out_once() {
        // Advice that no case can see the lack of.
        const ADVICE: [&str; 3] = ["relaxed-timing", "deprecate-auto-eoi", "system-reset"];
        let left_out: Vec<_> = OFF.iter().flat_map(|off| off.parts.split(',')).collect();
        for part in Offered::names().iter().filter(|part| !ADVICE.contains(&part.as_str())) {
            let count = left_out.iter().filter(|other| *other == part).count();
            assert_eq!(count, 1, "{part}");
        }
    }

    #[test]
    fn every_facility_named_here_exists() {
        let known = kernel::matrix::Facility::ALL.map(|facility| facility.name());
        for facility in OFF.iter().flat_map(|off| off.facilities) {
            assert!(known.contains(facility), "{facility}");
        }
    }
}
