//! One measurement: meet, take the lock again and again, meet.

#![expect(unsafe_code, reason = "a loop of known length in assembly")]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hv_abi::host::Mark;
use hv_enlightenments::spin_wait::SpinCounts;
use kernel::MAX_VPS;

use super::locks::{Contender, Guarded};
use crate::machine::jobs::{self, Barrier};
use crate::machine::{clock, hyperv, vp};

/// How one lock is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters {
    /// Processors that take part, from 0 on.
    pub(crate) vps: usize,
    /// Acquisitions by each.
    pub(crate) acquisitions: u64,
    /// Work while holding the lock.
    pub(crate) hold: u32,
    /// Work between two acquisitions.
    pub(crate) gap: u32,
    /// Whether our host is told when the measurement begins and ends.
    pub(crate) marked: bool,
}

/// What one processor did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VpCounts {
    /// Acquisitions.
    pub(crate) acquisitions: u64,
    /// Rounds waited and notifications made.
    pub(crate) spins: SpinCounts,
}

/// What came of it.
pub(crate) struct Measurement {
    /// By processor.
    pub(crate) per_vp: [VpCounts; MAX_VPS],
    /// Increments that the lock's counter kept.
    pub(crate) total: u64,
    /// Time from the first processor's first attempt to the last one's last release.
    pub(crate) elapsed_100ns: u64,
}

/// The parameters, for processors that get nothing but a function.
struct Shared {
    vps: AtomicUsize,
    acquisitions: AtomicU64,
    hold: AtomicU32,
    gap: AtomicU32,
    marked: AtomicBool,
    first_100ns: AtomicU64,
    last_100ns: AtomicU64,
}

static SHARED: Shared = Shared {
    vps: AtomicUsize::new(0),
    acquisitions: AtomicU64::new(0),
    hold: AtomicU32::new(0),
    gap: AtomicU32::new(0),
    marked: AtomicBool::new(false),
    first_100ns: AtomicU64::new(0),
    last_100ns: AtomicU64::new(0),
};
static ACQUISITIONS: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(0) }; MAX_VPS];
static AWAKE: Barrier = Barrier::new();
static START: Barrier = Barrier::new();
static FINISH: Barrier = Barrier::new();

/// Looks before halting at the start: long enough that all processors begin together.
const START_PATIENCE: u32 = 200_000;

/// Measures one lock on the first processors.
pub(crate) fn measure(contender: &Contender, parameters: Parameters) -> Measurement {
    SHARED.vps.store(parameters.vps, Ordering::Relaxed);
    SHARED.acquisitions.store(parameters.acquisitions, Ordering::Relaxed);
    SHARED.hold.store(parameters.hold, Ordering::Relaxed);
    SHARED.gap.store(parameters.gap, Ordering::Relaxed);
    SHARED.marked.store(parameters.marked, Ordering::Relaxed);
    SHARED.first_100ns.store(u64::MAX, Ordering::Relaxed);
    SHARED.last_100ns.store(0, Ordering::Relaxed);
    ACQUISITIONS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    (contender.take_total)();
    let before = spin_counts();
    jobs::run_on(parameters.vps, contender.work);
    let after = spin_counts();
    let mut per_vp = [VpCounts::default(); MAX_VPS];
    for (index, counts) in per_vp.iter_mut().enumerate().take(parameters.vps) {
        counts.acquisitions = ACQUISITIONS[index].load(Ordering::Relaxed);
        counts.spins = after[index].since(before[index]);
    }
    let first = SHARED.first_100ns.load(Ordering::Relaxed);
    let last = SHARED.last_100ns.load(Ordering::Relaxed);
    let total = (contender.take_total)();
    Measurement { per_vp, total, elapsed_100ns: last.saturating_sub(first) }
}

fn spin_counts() -> [SpinCounts; MAX_VPS] {
    core::array::from_fn(|index| {
        vp::get(index).map_or_else(SpinCounts::default, |vp| vp.spins.counts())
    })
}

/// What each participating processor does.
pub(super) fn work(lock: &impl Guarded, index: usize) {
    let vps = SHARED.vps.load(Ordering::Relaxed);
    let marks = index == 0 && SHARED.marked.load(Ordering::Relaxed);
    AWAKE.wait(vps);
    if marks {
        hyperv::mark(Mark::MEASURE_BEGIN);
    }
    START.wait_patiently(vps, START_PATIENCE);
    SHARED.first_100ns.fetch_min(clock::now_100ns(), Ordering::Relaxed);
    let acquisitions = SHARED.acquisitions.load(Ordering::Relaxed);
    compete(lock, acquisitions);
    SHARED.last_100ns.fetch_max(clock::now_100ns(), Ordering::Relaxed);
    ACQUISITIONS[index].store(acquisitions, Ordering::Relaxed);
    FINISH.wait(vps);
    if marks {
        hyperv::mark(Mark::MEASURE_END);
    }
}

fn compete(lock: &impl Guarded, acquisitions: u64) {
    let hold = SHARED.hold.load(Ordering::Relaxed);
    let gap = SHARED.gap.load(Ordering::Relaxed);
    for _ in 0..acquisitions {
        lock.with(|counter| {
            // Another processor in here would make one of the two increments vanish.
            let old = core::hint::black_box(*counter);
            spend(hold);
            *counter = old + 1;
        });
        spend(gap);
    }
}

/// Goes round a loop of two instructions.
fn spend(iterations: u32) {
    if iterations != 0 {
        // SAFETY: counts down a register.
        unsafe {
            asm!("2:", "dec {0:e}", "jnz 2b", inout(reg) iterations => _, options(nomem, nostack));
        }
    }
}
