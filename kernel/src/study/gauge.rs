//! What this machine's times are to be held against, measured once before the study while nothing else runs.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_enlightenments::spin_wait::{Plain, Waiter};

use crate::machine::hyperv::{self, Kernel};
use crate::machine::{clock, cpu};

/// How often each thing is measured; the least or the middle of it counts.
const TIMES: usize = 31;
/// Rounds of waiting that are timed together.
const ROUNDS: u32 = 1000;
/// How long the time stamp counter is compared with the clock: 20 ms.
const COMPARISON_100NS: u64 = 200_000;
/// Whoever acts later than this many visits to the hypervisor take was not running. A waiter may be on one visit of
/// its own; the rest is room for a slow one.
const LATE_VISITS: u64 = 4;

/// The measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    /// Frequency of the time stamp counter in kHz, to about a hundredth.
    tsc_khz: u64,
    /// Ticks of 1000 rounds of waiting for a lock that another holds, while running: the least of several.
    pub(super) ticks_per_1000_rounds: u64,
    /// Ticks of a visit to the hypervisor, to the host's own program where it is ours: the median of several.
    pub(super) visit_ticks: u64,
    /// Ticks after which a processor that should have acted was not running.
    pub(super) late_ticks: u64,
}

impl Gauge {
    /// Measures.
    pub(super) fn take() -> Self {
        let (begin, begin_ticks) = (clock::now_100ns(), cpu::tsc());
        let ticks_per_1000_rounds = least(|| time(wait_rounds));
        let visit_ticks = median(|| time(visit));
        while clock::now_100ns().saturating_sub(begin) < COMPARISON_100NS {
            cpu::pause();
        }
        let elapsed_100ns = clock::now_100ns().saturating_sub(begin).max(1);
        let elapsed_ticks = cpu::tsc().saturating_sub(begin_ticks);
        let tsc_khz = (u128::from(elapsed_ticks) * 10_000 / u128::from(elapsed_100ns)) as u64;
        let late_ticks = LATE_VISITS * visit_ticks;
        Self { tsc_khz, ticks_per_1000_rounds, visit_ticks, late_ticks }
    }

    /// Ticks of so many milliseconds.
    pub(super) fn ticks(&self, milliseconds: u32) -> u64 {
        u64::from(milliseconds) * self.tsc_khz
    }

    /// Nanoseconds of so many ticks.
    pub(super) fn nanoseconds(&self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000 / u128::from(self.tsc_khz.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

fn time(action: impl Fn()) -> u64 {
    let begin = cpu::tsc();
    action();
    cpu::tsc().saturating_sub(begin)
}

fn least(mut measure: impl FnMut() -> u64) -> u64 {
    (0..TIMES).map(|_| measure()).min().unwrap_or(0)
}

fn median(mut measure: impl FnMut() -> u64) -> u64 {
    let mut found: [u64; TIMES] = core::array::from_fn(|_| measure());
    found.sort_unstable();
    found[TIMES / 2]
}

/// What a test-and-set lock's waiter does while another holds it.
fn wait_rounds() {
    let held = AtomicBool::new(true);
    let held = black_box(&held);
    let mut waiter = Waiter::<Plain<Kernel>>::new();
    for _ in 0..ROUNDS {
        if held.load(Ordering::Relaxed) {
            waiter.relax();
        }
    }
}

/// To our host's program and back if the host is ours, else to wherever CPUID leads.
fn visit() {
    if hyperv::long_spins_seen_by_host().is_none() {
        black_box(core::arch::x86_64::__cpuid_count(0, 0));
    }
}
