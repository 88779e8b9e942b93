//! Reference time: the counter and the TSC page agree, and go with the time stamp counter.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::Privileges;
use hv_abi::msr::HV_X64_MSR_TSC_FREQUENCY;
use hv_enlightenments::clock::Source;
use hv_enlightenments::{Clock, Cpu, X86Cpu};

use super::support::{argument, need, on_each_vp, on_each_vp_with, reference_clock};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::clock;
use crate::machine::cpu::CPU;
use crate::machine::vp;

cases!(Clocks: [
    counter_never_goes_backwards_across_processors => "TLFS §12.4",
    tsc_page_agrees_with_counter => "TLFS §12.6",
    clock_uses_the_tsc_page_exactly_while_it_is_valid => "TLFS §12.6",
    counter_runs_at_10_mhz_by_the_tsc => "TLFS §12.4",
]);

fn counter_never_goes_backwards_across_processors() -> TestResult {
    reference_clock()?;
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.store(0, Ordering::Relaxed);
    // Each round is a job for all processors, so with very many not each has its turn.
    const MAX_ROUNDS: usize = 24;
    for round in 0..(2 * vp::online().count()).min(MAX_ROUNDS) {
        // One processor at a time: a job for all, of which one does something.
        let backwards = on_each_vp_with(round, |index| {
            if argument() % vp::online().count() != index {
                return 0;
            }
            let now = reference_clock().map_or(0, Clock::counter_100ns);
            LAST.swap(now, Ordering::AcqRel).saturating_sub(now)
        });
        let by = backwards.iter().sum::<u64>();
        check!(by == 0, "round {round}: the counter is {by} units behind another processor's");
    }
    Ok(())
}

fn tsc_page_agrees_with_counter() -> TestResult {
    need(Privileges::TIME_REF_COUNT | Privileges::REFERENCE_TSC)?;
    let page = clock::tsc_page();
    if page.read(&CPU).is_none() {
        skip!("the page is not valid: the hypervisor has no stable TSC");
    }
    // Both are cut to whole units, at slightly different moments.
    const ROUNDING: u64 = 2;
    let disagreements = on_each_vp(|_| {
        let Ok(clock) = reference_clock() else { return u64::MAX };
        let disagree = |_: &u32| {
            let before = clock.counter_100ns();
            let between = clock::tsc_page().read(&CPU);
            let after = clock.counter_100ns();
            between.is_some_and(|time| time + ROUNDING < before || time > after + ROUNDING)
        };
        (0..50).filter(disagree).count() as u64
    });
    check!(disagreements.iter().all(|&n| n == 0), "of 50, by processor: {disagreements:?}");
    Ok(())
}

fn clock_uses_the_tsc_page_exactly_while_it_is_valid() -> TestResult {
    let clock = reference_clock()?;
    // The page may become valid or invalid between two looks at it, but not all the time.
    let consistent = (0..10).any(|_| {
        let valid = clock.has_tsc_page() && clock::tsc_page().read(&CPU).is_some();
        let expected = if valid { Source::TscPage } else { Source::Counter };
        clock.now_with_source().1 == expected
    });
    check!(
        consistent,
        "page enabled: {}, source: {:?}",
        clock.has_tsc_page(),
        clock.now_with_source().1
    );
    Ok(())
}

/// By the hypervisor's own word on the TSC's frequency, not by any other clock.
///
/// A processor may stand still for any time between two instructions. So the counter is read between two
/// readings of the TSC, at both ends of the interval: the ticks from outside to outside are too many rather than
/// too few, those from inside to inside the other way round, however long it stands still.
fn counter_runs_at_10_mhz_by_the_tsc() -> TestResult {
    need(Privileges::TIME_REF_COUNT | Privileges::FREQUENCIES)?;
    let clock = reference_clock()?;
    // SAFETY: the privilege is there, and with it the register.
    let hz = unsafe { CPU.rdmsr(HV_X64_MSR_TSC_FREQUENCY) };
    check!((100_000_000..=100_000_000_000).contains(&hz), "the TSC is said to run at {hz} Hz");
    let begin = Bracketed::read(clock);
    let long_enough = |end: &Bracketed| end.time_100ns.wrapping_sub(begin.time_100ns) >= INTERVAL;
    let mut readings = (0..MOST_READINGS).map(|_| Bracketed::read(clock));
    let end = readings.find(long_enough).ok_or(Problem::Fail("the counter stands still".into()))?;
    let elapsed = end.time_100ns.wrapping_sub(begin.time_100ns);
    let expected = (u128::from(elapsed) * u128::from(hz) / 10_000_000) as u64;
    let most = end.tsc_after.wrapping_sub(begin.tsc_before);
    let least = end.tsc_before.saturating_sub(begin.tsc_after);
    let tolerance = expected / 16;
    check!(
        most >= expected - tolerance && least <= expected + tolerance,
        "{least} to {most} ticks passed where {expected} were to be expected"
    );
    Ok(())
}

/// What [`counter_runs_at_10_mhz_by_the_tsc`] waits for at least, in 100 ns.
const INTERVAL: u64 = 100_000;
/// Takes far longer than that, even if a reading is as fast as one of the TSC.
const MOST_READINGS: u32 = 1_000_000;

/// A reading of the counter and the TSC on either side of it.
struct Bracketed {
    tsc_before: u64,
    time_100ns: u64,
    tsc_after: u64,
}

impl Bracketed {
    /// The tightest of a few readings: one that nothing came between, most likely.
    fn read(clock: &Clock<X86Cpu>) -> Self {
        const READINGS: u32 = 8;
        let mut best = Self::once(clock);
        for _ in 1..READINGS {
            let next = Self::once(clock);
            if next.width() < best.width() {
                best = next;
            }
        }
        best
    }

    fn once(clock: &Clock<X86Cpu>) -> Self {
        let tsc_before = CPU.rdtsc();
        let time_100ns = clock.counter_100ns();
        Self { tsc_before, time_100ns, tsc_after: CPU.rdtsc() }
    }

    fn width(&self) -> u64 {
        self.tsc_after.wrapping_sub(self.tsc_before)
    }
}
