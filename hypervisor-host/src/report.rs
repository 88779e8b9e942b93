//! What a run looked like, as JSON for programs.
//!
//! All counts are exact and monotonic over the run; times are nanoseconds of the host's monotonic
//! clock from the machine's start on. Fields are only ever added; [`Report::SCHEMA`] tells otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Policy;
use crate::emulated::tulip::TulipReport;
use crate::hyperv::crash::CrashReport;
use crate::outcome::{Outcome, Reason};
use crate::partition::shared::{Shared, nanoseconds_since};
use crate::stats::{IdleEnd, Site, SpinAnswer, SpinSites, VpStats, exits_by_reason, lock};
use crate::storage::unit::DiskReport;
use crate::vmbus::{TrafficReport, VmbusReport};
use crate::vsp::ic::ComponentsReport;
use crate::vsp::netvsp::NetReport;

/// Most places in the guest that a report names for each VP and for the machine.
const TOP_SITES: usize = 16;

/// A run of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`Report::SCHEMA`].
    pub schema: u32,
    /// How the machine ended.
    pub exit: ExitReport,
    /// What the machine was.
    pub machine: MachineReport,
    /// From the machine's start to its end, in nanoseconds.
    pub elapsed_ns: u64,
    /// Memory at the end, before anything was given back.
    pub memory: MemoryReport,
    /// Returns to user space, all VPs.
    pub user_exits: u64,
    /// The same by reason; a reason that never occurred is left out.
    pub user_exits_by_reason: BTreeMap<String, u64>,
    /// Exits from the guest to the kernel, all VPs; `null` if the kernel does not count.
    pub kvm_exits: Option<u64>,
    /// The kernel's counters of the machine that are not zero, by KVM's names.
    pub kvm: BTreeMap<String, u64>,
    /// Instructions that the VPs retired in guest mode, all VPs; `null` if they can't be counted.
    #[serde(default)]
    pub guest_instructions: Option<u64>,
    /// Why they can't be counted, in a sentence; `null` if they were.
    #[serde(default)]
    pub guest_instructions_why: Option<String>,
    /// Long spin waits, all VPs.
    pub long_spins: LongSpinReport,
    /// Idle states, all VPs.
    #[serde(default)]
    pub idle: IdleReport,
    /// Crashes that the guest told by the Hyper-V crash registers, at most 8.
    #[serde(default)]
    pub crashes: Vec<CrashReport>,
    /// VMBus; `null` if the machine has none.
    #[serde(default)]
    pub vmbus: Option<VmbusReport>,
    /// Integration components, just before the machine was taken down.
    #[serde(default)]
    pub ic: ComponentsReport,
    /// Disks, by their numbers; those that were removed too.
    #[serde(default)]
    pub disks: Vec<DiskReport>,
    /// Network cards, in the order of their numbers.
    #[serde(default)]
    pub nets: Vec<NetReport>,
    /// Drives of the emulated IDE controller, by their places.
    #[serde(default)]
    pub ide: Vec<DiskReport>,
    /// Emulated network cards, in the order of their numbers.
    #[serde(default)]
    pub emulated_nets: Vec<TulipReport>,
    /// Each VP.
    pub vps: Vec<VpReport>,
    /// Snapshots, in the order in which the guest asked for them.
    pub marks: Vec<MarkReport>,
    /// Marks that came after the largest number that is kept.
    pub dropped_marks: u64,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// What ended it.
    pub reason: Reason,
    /// Exit code of the process.
    pub code: u8,
    /// More, for a person.
    pub detail: Option<String>,
}

/// What a machine was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// Number of VPs.
    pub vps: u32,
    /// Guest RAM in bytes.
    pub ram_bytes: u64,
    /// Host processors that the VPs were pinned to, one each, in turn; empty if none were named.
    pub cpus: Vec<usize>,
    /// What long spin waits led to.
    pub policy: Policy,
    /// CPUID `0x40000004` EBX; 4294967295 means never.
    pub spin_threshold: u32,
    /// Whether the guest had a Hyper-V interface.
    pub hyperv: bool,
    /// `pvh` or `linux64`.
    pub boot: String,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Guest RAM.
    pub ram_bytes: u64,
    /// Guest RAM that was ever touched and is resident.
    pub ram_resident_bytes: u64,
    /// All that is resident of the host process, guest RAM included.
    pub rss_bytes: u64,
    /// What the host takes beyond guest RAM: `rss_bytes - ram_resident_bytes`.
    pub overhead_bytes: u64,
}

/// Long spin waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongSpinReport {
    /// All of them.
    pub total: u64,
    /// The spin counts that came with them, added up.
    pub spins: u64,
    /// What the policy did with each.
    #[serde(flatten)]
    pub answers: AnswerReport,
    /// The busiest places in the guest, at most 16.
    pub sites: Vec<Site>,
    /// Waits whose place was not kept.
    pub other_waits: u64,
}

/// What the policy did with long spin waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerReport {
    /// The VP went straight back to spinning (policy `none`; `park` with one VP).
    pub resumed: u64,
    /// The VP gave up its time slice (policy `yield`).
    pub yielded: u64,
    /// KVM chose another VP (policy `directed`).
    pub directed: u64,
    /// The VP slept until another VP had run (policy `park`).
    pub parked_woken: u64,
    /// The VP slept for the longest time without another VP running (policy `park`).
    pub parked_timed_out: u64,
    /// Nanoseconds for which VPs slept so.
    pub parked_ns: u64,
    /// KVM refused the call, because the guest was never to notify.
    pub refused: u64,
}

impl AnswerReport {
    /// Of some VPs.
    pub fn of(vps: &[VpStats]) -> Self {
        let answers = |answer| vps.iter().map(|vp| vp.answers(answer)).sum();
        Self {
            resumed: answers(SpinAnswer::Resumed),
            yielded: answers(SpinAnswer::Yielded),
            directed: answers(SpinAnswer::Directed),
            parked_woken: answers(SpinAnswer::ParkedWoken),
            parked_timed_out: answers(SpinAnswer::ParkedTimedOut),
            parked_ns: vps.iter().map(VpStats::parked_ns).sum(),
            refused: answers(SpinAnswer::Refused),
        }
    }
}

/// Reads of the guest idle register, by what ended the wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdleReport {
    /// Interrupts were not masked: KVM halted the VP and woke it.
    pub halted: u64,
    /// Masked: a cluster IPI.
    pub ipi: u64,
    /// Masked: an interrupt that the host found waiting in the APIC.
    pub request: u64,
    /// Masked: a synthetic timer, an NMI.
    pub kvm: u64,
    /// Masked: the host's longest wait.
    pub limit: u64,
    /// Nanoseconds for which VPs waited with interrupts masked.
    pub masked_ns: u64,
}

impl IdleReport {
    /// Of some VPs.
    pub fn of(vps: &[VpStats]) -> Self {
        let ends = |end| vps.iter().map(|vp| vp.idles(end)).sum();
        Self {
            halted: ends(IdleEnd::Halted),
            ipi: ends(IdleEnd::Ipi),
            request: ends(IdleEnd::Request),
            kvm: ends(IdleEnd::Kvm),
            limit: ends(IdleEnd::Limit),
            masked_ns: vps.iter().map(VpStats::masked_idle_ns).sum(),
        }
    }
}

/// One VP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpReport {
    /// Its number, which is its VP index and APIC id too.
    pub index: u32,
    /// The host processor it was pinned to.
    pub cpu: Option<usize>,
    /// Returns to user space.
    pub user_exits: u64,
    /// The same by reason.
    pub user_exits_by_reason: BTreeMap<String, u64>,
    /// Accesses to ports and addresses without a device.
    pub unclaimed: u64,
    /// Hypercalls that came to user space, by call code in hexadecimal (`0x0008`).
    pub hypercalls: BTreeMap<String, u64>,
    /// The kernel's counters of this VP that are not zero, by KVM's names.
    pub kvm: BTreeMap<String, u64>,
    /// Instructions that it retired in guest mode; `null` if they can't be counted.
    #[serde(default)]
    pub guest_instructions: Option<u64>,
    /// Its long spin waits.
    pub long_spins: LongSpinReport,
    /// Its idle states.
    #[serde(default)]
    pub idle: IdleReport,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkReport {
    /// The guest's number for it (`hv_abi::host::Mark`).
    pub mark: u32,
    /// The VP that asked.
    pub vp: u32,
    /// Since the machine's start, in nanoseconds.
    pub elapsed_ns: u64,
    /// Returns to user space so far, all VPs, the one for this mark included.
    pub user_exits: u64,
    /// The same by reason.
    pub user_exits_by_reason: BTreeMap<String, u64>,
    /// Exits from the guest to the kernel so far, all VPs; `null` if the kernel does not count.
    pub kvm_exits: Option<u64>,
    /// The kernel's counters by name, all VPs; those that are 0 are left out.
    #[serde(default)]
    pub kvm: BTreeMap<String, u64>,
    /// Instructions that the VPs have retired in guest mode so far, all VPs; `null` if they can't be counted.
    #[serde(default)]
    pub guest_instructions: Option<u64>,
    /// Long spin waits so far, all VPs.
    pub long_spins: u64,
    /// What the policy did with each.
    #[serde(default)]
    pub answers: AnswerReport,
    /// Idle states that have ended so far, all VPs.
    #[serde(default)]
    pub idle: IdleReport,
    /// What went over VMBus so far.
    #[serde(default)]
    pub vmbus: TrafficReport,
    /// What devices counted so far, by their names; those that are 0 are left out.
    #[serde(default)]
    pub devices: BTreeMap<String, u64>,
}

impl Report {
    /// Changes when a field changes its meaning or goes.
    pub const SCHEMA: u32 = 1;

    /// Puts everything together. Exact once all VPs have stopped.
    pub fn new(
        shared: &Shared,
        outcome: &Outcome,
        machine: MachineReport,
        memory: MemoryReport,
        ic: ComponentsReport,
    ) -> Self {
        let mut sites = SpinSites::default();
        for vp in shared.vps.iter() {
            sites.merge(&vp.sites());
        }
        let user_exits_by_reason = exits_by_reason(shared.vps.iter());
        let marks = lock(&shared.marks).clone();
        let instructions = shared.instructions.all();
        Self {
            schema: Self::SCHEMA,
            exit: ExitReport {
                reason: outcome.reason,
                code: outcome.code,
                detail: outcome.detail.clone(),
            },
            elapsed_ns: nanoseconds_since(shared.started),
            memory,
            user_exits: user_exits_by_reason.values().sum(),
            user_exits_by_reason,
            kvm_exits: shared.kernel_exits(),
            kvm: shared.kernel_vm_stats.as_ref().map(|stats| stats.all()).unwrap_or_default(),
            guest_instructions: instructions.as_ref().ok().copied(),
            guest_instructions_why: instructions.err(),
            long_spins: long_spins(&shared.vps, &sites),
            idle: IdleReport::of(&shared.vps),
            crashes: shared.crashes.told(),
            vmbus: shared.vmbus.as_ref().map(|vmbus| vmbus.report()),
            ic,
            disks: Vec::new(),
            nets: Vec::new(),
            ide: Vec::new(),
            emulated_nets: Vec::new(),
            vps: (0..).zip(shared.vps.iter()).map(|it| vp_report(shared, &machine, it)).collect(),
            machine,
            marks: marks.kept,
            dropped_marks: marks.dropped,
        }
    }
}

fn vp_report(shared: &Shared, machine: &MachineReport, (index, vp): (u32, &VpStats)) -> VpReport {
    let user_exits_by_reason = exits_by_reason(std::iter::once(vp));
    let kernel = shared.kernel_stats.get(index as usize);
    let cpus = machine.cpus.len().max(1);
    VpReport {
        index,
        cpu: machine.cpus.get(index as usize % cpus).copied(),
        user_exits: user_exits_by_reason.values().sum(),
        user_exits_by_reason,
        unclaimed: vp.unclaimed(),
        hypercalls: vp.calls(),
        kvm: kernel.map(|stats| stats.all()).unwrap_or_default(),
        guest_instructions: shared.instructions.of(index).ok(),
        long_spins: long_spins(std::slice::from_ref(vp), &vp.sites()),
        idle: IdleReport::of(std::slice::from_ref(vp)),
    }
}

fn long_spins(vps: &[VpStats], sites: &SpinSites) -> LongSpinReport {
    LongSpinReport {
        total: vps.iter().map(VpStats::long_spins).sum(),
        spins: sites.spins(),
        answers: AnswerReport::of(vps),
        sites: sites.top(TOP_SITES),
        other_waits: sites.rest_waits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::PortBus;
    use crate::hyperv::crash::Crashes;
    use crate::outcome::Ending;
    use crate::partition::kick::VpKicks;
    use crate::partition::shared::{MAX_MARKS, Marks};
    use crate::stats::instructions::GuestInstructions;
    use hv_abi::host::Mark;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    fn shared() -> Shared {
        Shared {
            ending: Ending::new().unwrap(),
            crashes: Arc::new(Crashes::new().unwrap()),
            ports: PortBus::default(),
            pci: None,
            test_memory: None,
            kicks: Arc::new(VpKicks::new(2)),
            hyperv: None,
            vmbus: None,
            vps: Arc::from(vec![VpStats::default(), VpStats::default()]),
            kernel_stats: Vec::new(),
            kernel_vm_stats: None,
            instructions: GuestInstructions::new(2),
            gauges: Default::default(),
            started: Instant::now(),
            marks: Mutex::new(Marks::default()),
        }
    }

    fn report(shared: &Shared) -> Report {
        let machine = MachineReport {
            vps: 2,
            ram_bytes: 1 << 28,
            cpus: vec![3],
            policy: Policy::Yield,
            spin_threshold: 4095,
            hyperv: true,
            boot: "pvh".into(),
        };
        let outcome = Outcome::guest(Reason::GuestExit, 5);
        let (memory, ic) = (MemoryReport::default(), ComponentsReport::default());
        Report::new(shared, &outcome, machine, memory, ic)
    }

    #[test]
    fn a_report_survives_json() {
        let shared = shared();
        shared.vps[0].count_long_spin(0xFFFF_8000_0000_1234, u32::MAX, SpinAnswer::Yielded);
        shared.vps[1].count_call(8);
        shared.record_mark(1, Mark::BOOTED);
        let report = report(&shared);
        let text = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn the_fields_that_programs_rely_on_have_their_names() {
        let shared = shared();
        shared.record_mark(1, Mark::MEASURE_BEGIN);
        let json = serde_json::to_value(report(&shared)).unwrap();
        assert_eq!(json["exit"]["reason"], "guest-exit");
        assert_eq!(json["exit"]["code"], 5);
        assert_eq!(json["machine"]["policy"], "yield");
        assert_eq!(json["marks"][0]["mark"], 2);
        assert_eq!(json["marks"][0]["vp"], 1);
        assert!(json["marks"][0]["kvm_exits"].is_null());
        assert!(json["marks"][0]["guest_instructions"].is_null());
        assert!(json["guest_instructions"].is_null());
        assert!(json["guest_instructions_why"].is_string(), "no VP ran");
        assert_eq!(json["vps"][1]["cpu"], 3);
        assert!(json["memory"]["overhead_bytes"].is_u64());
        assert_eq!(json["long_spins"]["yielded"], 0);
        assert_eq!(json["marks"][0]["answers"]["parked_timed_out"], 0);
        assert_eq!(json["vps"][0]["idle"]["ipi"], 0);
    }

    #[test]
    fn long_spins_of_all_vps_add_up() {
        let shared = shared();
        shared.vps[0].count_long_spin(0x10, 100, SpinAnswer::Yielded);
        shared.vps[1].count_long_spin(0x10, 20, SpinAnswer::Directed);
        let report = report(&shared);
        assert_eq!((report.long_spins.total, report.long_spins.spins), (2, 120));
        let answers = report.long_spins.answers;
        assert_eq!((answers.yielded, answers.directed), (1, 1));
        assert_eq!(report.long_spins.sites[0].waits, 2);
        assert_eq!(report.vps[1].long_spins.spins, 20);
    }

    #[test]
    fn a_guest_that_marks_without_end_fills_a_bounded_list() {
        let shared = shared();
        for _ in 0..MAX_MARKS + 10 {
            shared.record_mark(0, Mark::BOOTED);
        }
        let report = report(&shared);
        assert_eq!((report.marks.len(), report.dropped_marks), (MAX_MARKS, 10));
    }
}
