//! The local APIC's timer, one interrupt at a time, for machines without synthetic timers.
//!
//! Its frequency is told by the hypervisor, or measured against the clock once. It need not be exact: who waits looks at
//! the clock.

use hv_enlightenments::clock::Frequencies;
use spin::Once;

use super::cpu::{self, CPU};
use super::{apic, clock, hyperv};

/// Timer ticks in 2^16 units of 100 ns; 0 if they are not known.
static RATE: Once<u64> = Once::new();
/// How long to measure, in 100 ns.
const MEASURE_100NS: u64 = 20_000;
/// Looks at the clock before it is taken to stand still.
const PATIENCE: u32 = 10_000_000;

/// Measures this processor's timer.
fn measure() -> u64 {
    apic::start_timer_masked(u32::MAX);
    let begin = clock::now_100ns();
    let elapsed = || clock::now_100ns().saturating_sub(begin);
    let over = (0..PATIENCE).any(|_| {
        cpu::pause();
        elapsed() >= MEASURE_100NS
    });
    let (ticks, units) = (u32::MAX - apic::timer_count(), elapsed());
    apic::stop_timer();
    if over && ticks > 0 { ((u64::from(ticks) << 16) / units).max(1) } else { 0 }
}

/// By the hypervisor's word.
fn told() -> Option<u64> {
    let hz = Frequencies::read(&CPU, hyperv::interface()?)?.apic_hz.get();
    let ticks_per_second = hz / u64::from(apic::TIMER_DIVISOR);
    (ticks_per_second > 0).then_some(((u128::from(ticks_per_second) << 16) / 10_000_000) as u64)
}

fn rate() -> u64 {
    *RATE.call_once(|| told().unwrap_or_else(measure))
}

/// Whether the timer can be used: it counts, and the clock does.
pub(crate) fn is_usable() -> bool {
    rate() != 0
}

/// Interrupts this processor with `vector` after about `delay_100ns`.
pub(crate) fn start(vector: u8, delay_100ns: u64) {
    let ticks = (u128::from(delay_100ns) * u128::from(rate())) >> 16;
    // A count of 0 would stop the timer. What is too long for it is set again when it ends.
    let count = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
    apic::start_timer_once(vector, count);
}
