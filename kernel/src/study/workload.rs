//! One measurement: meet, take the lock again and again, meet.

#![expect(unsafe_code, reason = "a loop of known length in assembly")]

use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::host::Mark;
use hv_enlightenments::spin_wait::{IdleCounts, SpinCounts};
use kernel::MAX_VPS;
use kernel::tally::{Acquisition, Tally};
use spin::Once;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::locks::{Contender, Guarded};
use crate::machine::jobs::{self, Barrier};
use crate::machine::{clock, cpu, hyperv, vp};

/// How long each processor goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// Until it has had the lock so often.
    Acquisitions(u64),
    /// Until a moment that is the same for all.
    Time {
        /// The same in milliseconds, as it was asked for.
        milliseconds: u32,
        /// Ticks of the time stamp counter, from the moment at which the first one begins.
        ticks: u64,
    },
}

/// How one lock is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters {
    /// Processors that take part, from 0 on.
    pub(crate) vps: usize,
    /// How long.
    pub(crate) bound: Bound,
    /// Work while holding the lock.
    pub(crate) hold: u32,
    /// Work between two acquisitions.
    pub(crate) gap: u32,
    /// Ticks after which a processor that should have acted was not running.
    pub(crate) late_ticks: u64,
    /// Whether our host is told when the measurement begins and ends.
    pub(crate) marked: bool,
}

impl Parameters {
    const NONE: Self = Self {
        vps: 0,
        bound: Bound::Acquisitions(0),
        hold: 0,
        gap: 0,
        late_ticks: 0,
        marked: false,
    };
}

/// What a contended lock protects.
#[derive(Debug)]
pub(crate) struct Protected {
    /// Acquisitions so far: every owner adds one.
    count: u64,
    /// When the last owner left, in ticks of the time stamp counter.
    left: u64,
    /// Who it was.
    owner: usize,
}

impl Protected {
    /// Never owned.
    pub(super) const fn new() -> Self {
        Self { count: 0, left: 0, owner: usize::MAX }
    }

    /// Takes the count, and leaves it as [`Protected::new`].
    pub(super) fn take_total(&mut self) -> u64 {
        core::mem::replace(self, Self::new()).count
    }
}

/// What one processor did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VpCounts {
    /// Acquisitions.
    pub(crate) acquisitions: u64,
    /// Rounds waited and notifications made.
    pub(crate) spins: SpinCounts,
    /// How often it idled in a wait, and woke others from theirs.
    pub(crate) idles: IdleCounts,
    /// Ticks between asking for the lock and having it, where it had to wait.
    pub(crate) waited_ticks: u64,
    /// Time it ran on a processor, as the hypervisor tells it; 0 if it does not.
    pub(crate) runtime_100ns: u64,
}

/// What came of it.
pub(crate) struct Measurement {
    vps: usize,
    per_vp: [VpCounts; MAX_VPS],
    /// What all processors noted.
    pub(crate) tally: SpinMutexGuard<'static, Tally>,
    /// Increments that the lock's counter kept.
    pub(crate) total: u64,
    /// Time from the first processor's first attempt to the last one's last release.
    pub(crate) elapsed_100ns: u64,
}

impl Measurement {
    /// By processor, those that took part.
    pub(crate) fn per_vp(&self) -> &[VpCounts] {
        &self.per_vp[..self.vps]
    }

    /// Acquisitions by all of them.
    pub(crate) fn acquisitions(&self) -> u64 {
        self.per_vp().iter().map(|vp| vp.acquisitions).sum()
    }
}

/// For processors that get nothing but a function.
static PARAMETERS: SpinMutex<Parameters> = SpinMutex::new(Parameters::NONE);
static FIRST_100NS: AtomicU64 = AtomicU64::new(0);
static LAST_100NS: AtomicU64 = AtomicU64::new(0);
/// When a measurement by time ends, in ticks; 0 until the first processor begins.
static END_TICKS: AtomicU64 = AtomicU64::new(0);
/// Each processor's own while it is measured. On the heap: they would be an eighth of the image.
static TALLIES: Once<Box<[SpinMutex<Tally>]>> = Once::new();
static SUM: SpinMutex<Tally> = SpinMutex::new(Tally::new());
static RUNTIMES: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(0) }; MAX_VPS];
static AWAKE: Barrier = Barrier::new();
static START: Barrier = Barrier::new();
static FINISH: Barrier = Barrier::new();

/// Looks before halting at the start: long enough that all processors begin together.
const START_PATIENCE: u32 = 200_000;

/// Measures one lock on the first processors. The result of an earlier call must be gone.
pub(crate) fn measure(contender: &Contender, parameters: Parameters) -> Measurement {
    // Before the processors that take part need them.
    tallies();
    let vps = parameters.vps;
    *PARAMETERS.lock() = parameters;
    FIRST_100NS.store(u64::MAX, Ordering::Relaxed);
    LAST_100NS.store(0, Ordering::Relaxed);
    END_TICKS.store(0, Ordering::Relaxed);
    (contender.take_total)();
    let before = counts();
    jobs::run_on(vps, contender.work);
    let after = counts();
    let mut tally = SUM.lock();
    tally.begin(parameters.late_ticks);
    let mut per_vp = [VpCounts::default(); MAX_VPS];
    for (index, counts) in per_vp.iter_mut().enumerate().take(vps) {
        let own = tallies()[index].lock();
        tally.merge(&own);
        *counts = VpCounts {
            acquisitions: own.acquisitions,
            spins: after[index].0.since(before[index].0),
            idles: after[index].1.since(before[index].1),
            waited_ticks: own.waited_ticks,
            runtime_100ns: RUNTIMES[index].load(Ordering::Relaxed),
        };
    }
    let first = FIRST_100NS.load(Ordering::Relaxed);
    let last = LAST_100NS.load(Ordering::Relaxed);
    let total = (contender.take_total)();
    Measurement { vps, per_vp, tally, total, elapsed_100ns: last.saturating_sub(first) }
}

/// One for each processor that runs; made when the first measurement begins.
fn tallies() -> &'static [SpinMutex<Tally>] {
    TALLIES.call_once(|| vp::online().map(|_| SpinMutex::new(Tally::new())).collect())
}

fn counts() -> [(SpinCounts, IdleCounts); MAX_VPS] {
    let of = |vp: &vp::Vp| (vp.spins.counts(), vp.spins.idle_counts());
    core::array::from_fn(|index| vp::get(index).map(of).unwrap_or_default())
}

/// What each participating processor does.
pub(super) fn work(lock: &impl Guarded, index: usize) {
    let parameters = *PARAMETERS.lock();
    let marks = index == 0 && parameters.marked;
    let mut tally = tallies()[index].lock();
    tally.begin(parameters.late_ticks);
    AWAKE.wait(parameters.vps);
    if marks {
        hyperv::mark(Mark::MEASURE_BEGIN);
    }
    let ran_before = hyperv::vp_runtime_100ns().unwrap_or(0);
    START.wait_patiently(parameters.vps, START_PATIENCE);
    FIRST_100NS.fetch_min(clock::now_100ns(), Ordering::Relaxed);
    compete(lock, index, &parameters, &mut tally);
    LAST_100NS.fetch_max(clock::now_100ns(), Ordering::Relaxed);
    let ran_after = hyperv::vp_runtime_100ns().unwrap_or(0);
    RUNTIMES[index].store(ran_after.saturating_sub(ran_before), Ordering::Relaxed);
    drop(tally);
    FINISH.wait(parameters.vps);
    if marks {
        hyperv::mark(Mark::MEASURE_END);
    }
}

fn compete(lock: &impl Guarded, index: usize, parameters: &Parameters, tally: &mut Tally) {
    let (most, end) = match parameters.bound {
        Bound::Acquisitions(most) => (most, u64::MAX),
        Bound::Time { ticks, .. } => (u64::MAX, common_end(ticks)),
    };
    let stats = vp::spin_stats();
    while tally.acquisitions < most {
        let asked = cpu::tsc();
        if asked >= end {
            break;
        }
        let rounds = stats.counts().iterations;
        let mut one = lock.with(|protected| own(protected, index, asked, parameters.hold));
        one.waited = stats.counts().iterations != rounds;
        tally.note(&one);
        spend(parameters.gap);
    }
}

/// The moment at which all stop: the first processor that asks decides.
fn common_end(ticks: u64) -> u64 {
    let mine = cpu::tsc().saturating_add(ticks);
    END_TICKS
        .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed)
        .map_or_else(|first| first, |_| mine)
}

/// The critical section.
fn own(protected: &mut Protected, index: usize, asked: u64, hold: u32) -> Acquisition {
    let got = cpu::tsc();
    // Another processor in here would make one of the two increments vanish.
    let old = core::hint::black_box(protected.count);
    spend(hold);
    protected.count = old + 1;
    let from_another = protected.owner != index;
    protected.owner = index;
    let left = cpu::tsc();
    let handed = core::mem::replace(&mut protected.left, left);
    Acquisition { asked, got, left, handed, from_another, waited: false }
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
