//! What all VP threads of a machine and its supervisor share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hv_abi::host::Mark;

use crate::emulated::PortBus;
use crate::emulated::pci::PciBus;
use crate::emulated::testdev::memory::TestMemory;
use crate::hyperv::HypervInterface;
use crate::hyperv::crash::Crashes;
use crate::outcome::Ending;
use crate::partition::kick::VpKicks;
use crate::report::{AnswerReport, IdleReport, MarkReport};
use crate::stats::gauges::Gauges;
use crate::stats::instructions::GuestInstructions;
use crate::stats::kvm::KvmStats;
use crate::stats::{VpStats, exits_by_reason, lock};
use crate::vmbus::VmbusServer;

/// Most marks that are kept; a guest that makes more loses the later ones.
pub const MAX_MARKS: usize = 1024;

/// The shared part of a machine.
pub struct Shared {
    /// The one ending.
    pub ending: Ending,
    /// Crashes that the guest told.
    pub crashes: Arc<Crashes>,
    /// Devices.
    pub ports: PortBus,
    /// The bus of emulated devices, if the machine has one.
    pub pci: Option<Arc<PciBus>>,
    /// The test kernels' device memory, if the machine has their devices.
    pub test_memory: Option<TestMemory>,
    /// The VPs' threads.
    pub kicks: Arc<VpKicks>,
    /// The Hyper-V interface, if the guest has one.
    pub hyperv: Option<Arc<dyn HypervInterface>>,
    /// The bus of synthetic devices, if the machine has one.
    pub vmbus: Option<Arc<VmbusServer>>,
    /// Counters by VP.
    pub vps: Arc<[VpStats]>,
    /// The kernel's counters by VP; empty where it has none.
    pub kernel_stats: Vec<KvmStats>,
    /// The kernel's counters of the machine.
    pub kernel_vm_stats: Option<KvmStats>,
    /// What the processor counts of the VPs.
    pub instructions: GuestInstructions,
    /// What devices count.
    pub gauges: Gauges,
    /// When the machine started.
    pub started: Instant,
    /// Snapshots.
    pub marks: Mutex<Marks>,
}

/// Snapshots taken so far.
#[derive(Debug, Default, Clone)]
pub struct Marks {
    /// The first [`MAX_MARKS`].
    pub kept: Vec<MarkReport>,
    /// How many came later.
    pub dropped: u64,
}

impl Shared {
    /// Takes a snapshot for a guest.
    pub fn record_mark(&self, vp: u32, mark: Mark) {
        let mut marks = lock(&self.marks);
        if marks.kept.len() < MAX_MARKS {
            marks.kept.push(self.snapshot(vp, mark));
        } else {
            marks.dropped += 1;
        }
    }

    /// The kernel's count of exits over all VPs.
    pub fn kernel_exits(&self) -> Option<u64> {
        if self.kernel_stats.is_empty() {
            return None;
        }
        self.kernel_stats.iter().map(|stats| stats.get("exits")).sum()
    }

    fn kernel_counters(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (name, value) in self.kernel_stats.iter().flat_map(KvmStats::all) {
            *sums.entry(name).or_default() += value;
        }
        sums
    }

    fn snapshot(&self, vp: u32, mark: Mark) -> MarkReport {
        let user_exits_by_reason = exits_by_reason(self.vps.iter());
        MarkReport {
            mark: mark.0,
            vp,
            elapsed_ns: nanoseconds_since(self.started),
            user_exits: user_exits_by_reason.values().sum(),
            user_exits_by_reason,
            kvm_exits: self.kernel_exits(),
            kvm: self.kernel_counters(),
            guest_instructions: self.instructions.all().ok(),
            long_spins: self.vps.iter().map(VpStats::long_spins).sum(),
            answers: AnswerReport::of(&self.vps),
            idle: IdleReport::of(&self.vps),
            vmbus: self.vmbus.as_ref().map(|bus| bus.traffic()).unwrap_or_default(),
            devices: self.gauges.read(),
        }
    }
}

/// Nanoseconds since a moment; enough for 584 years.
pub fn nanoseconds_since(moment: Instant) -> u64 {
    u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
