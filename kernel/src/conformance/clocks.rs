//! Reference time: the counter and the TSC page agree, and go with the time stamp counter.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_APIC_FREQUENCY,
    HV_X64_MSR_REENLIGHTENMENT_CONTROL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_TIME_REF_COUNT,
    HV_X64_MSR_TSC_EMULATION_CONTROL, HV_X64_MSR_TSC_EMULATION_STATUS, HV_X64_MSR_TSC_FREQUENCY,
    HV_X64_MSR_TSC_INVARIANT_CONTROL,
};
use hv_enlightenments::clock::{Frequencies, Reenlightenment, Source, expose_invariant_tsc};
use hv_enlightenments::{Clock, Cpu, ReferenceTscPage, X86Cpu};

use super::support::registers::{refused, writing_faults};
use super::support::synic::{CASE_VECTOR, Restored};
use super::support::{
    argument, holds_soon, need, need_features, on_each_vp, on_each_vp_with, reference_clock,
    without,
};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::cpu::CPU;
use crate::machine::{apic, clock, hyperv, vp};

cases!(Clocks: [
    counter_never_goes_backwards_across_processors => "TLFS §12.4",
    tsc_page_agrees_with_counter => "TLFS §12.6",
    clock_uses_the_tsc_page_exactly_while_it_is_valid => "TLFS §12.6",
    counter_runs_at_10_mhz_by_the_tsc => "TLFS §12.4",
    the_counter_is_read_only => "TLFS, Partition Reference Counter MSR",
    the_counter_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    the_tsc_page_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    the_tsc_page_register_keeps_what_is_written => "TLFS, Reference Time Stamp Counter (TSC) Page MSR",
    the_tsc_page_can_be_moved => "TLFS, Reference Time Stamp Counter (TSC) Page MSR",
    the_sequence_changes_when_the_page_is_filled_anew => "TLFS, Partition Reference TSC Mechanism",
    sequence_0_sends_the_clock_to_the_counter => "TLFS, Partition Reference TSC Mechanism",
    frequencies_can_be_read_on_every_processor => "TLFS §2.4 leaf 0x40000003",
    frequencies_are_read_only => "TLFS §2.4 leaf 0x40000003",
    frequencies_are_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    the_apic_timer_runs_at_the_frequency_told => "TLFS §2.4 leaf 0x40000003",
    the_invariant_tsc_shows_when_asked_for => "TLFS §2.4 leaf 0x40000003; Linux, HV_X64_MSR_TSC_INVARIANT_CONTROL",
    the_invariant_control_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    reenlightenment_keeps_what_is_written => "TLFS, Reenlightenment; Linux, hv_reenlightenment_control",
    the_tsc_is_not_emulated_without_a_migration => "TLFS, Reenlightenment; Linux, hv_tsc_emulation_status",
    reenlightenment_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
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

fn get(msr: u32) -> u64 {
    // SAFETY: the case has looked for the privilege; reading has no effect.
    unsafe { CPU.rdmsr(msr) }
}

fn the_counter_is_read_only() -> TestResult {
    need(Privileges::TIME_REF_COUNT)?;
    // SAFETY: the register only counts.
    unsafe { writing_faults(HV_X64_MSR_TIME_REF_COUNT, 0) }
}

fn the_counter_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::TIME_REF_COUNT)?;
    refused(HV_X64_MSR_TIME_REF_COUNT)
}

fn the_tsc_page_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::REFERENCE_TSC)?;
    refused(HV_X64_MSR_REFERENCE_TSC)
}

fn the_tsc_page_register_keeps_what_is_written() -> TestResult {
    need(Privileges::TIME_REF_COUNT | Privileges::REFERENCE_TSC)?;
    let register = Restored::new(HV_X64_MSR_REFERENCE_TSC);
    let page = (&raw const *clock::tsc_page()).addr() as u64;
    let before = register.before();
    check!(
        before & HV_MSR_PAGE_ADDRESS_MASK == page && before & HV_MSR_PAGE_ENABLE != 0,
        "the register is {before:#x}, the page is at {page:#x}"
    );
    // SAFETY: the page stays as it is, and is the hypervisor's again at the end.
    unsafe { CPU.wrmsr(HV_X64_MSR_REFERENCE_TSC, before & !HV_MSR_PAGE_ENABLE) };
    let now = get(HV_X64_MSR_REFERENCE_TSC);
    check!(now == before & !HV_MSR_PAGE_ENABLE, "written without the enable bit, read {now:#x}");
    Ok(())
}

/// The kernel's page, filled, or the reason to skip.
fn filled_page() -> Result<&'static ReferenceTscPage, Problem> {
    need(Privileges::TIME_REF_COUNT | Privileges::REFERENCE_TSC)?;
    let page = clock::tsc_page();
    if page.sequence() == 0 {
        skip!("the page is not valid: the hypervisor has no stable TSC");
    }
    Ok(page)
}

fn the_tsc_page_can_be_moved() -> TestResult {
    filled_page()?;
    let fresh: &'static ReferenceTscPage = alloc::boxed::Box::leak(alloc::boxed::Box::default());
    let register = Restored::new(HV_X64_MSR_REFERENCE_TSC);
    let before = reference_clock()?.counter_100ns();
    let address = (&raw const *fresh).addr() as u64;
    // SAFETY: a page of atomics, given away for good.
    unsafe { CPU.wrmsr(HV_X64_MSR_REFERENCE_TSC, address | HV_MSR_PAGE_ENABLE) };
    let filled = holds_soon(|| fresh.sequence() != 0);
    let (time, after) = (fresh.read(&CPU), reference_clock()?.counter_100ns());
    drop(register);
    check!(filled, "the new page was not filled");
    let right = time.is_some_and(|time| (before..=after + 2).contains(&time));
    check!(right, "the new page says {time:?}, the counter {before} to {after}");
    check!(holds_soon(|| clock::tsc_page().sequence() != 0), "the old page was not filled again");
    Ok(())
}

fn the_sequence_changes_when_the_page_is_filled_anew() -> TestResult {
    let page = filled_page()?;
    let before = page.sequence();
    let changed = fill_anew(page)?;
    check!(changed, "it was {before}, and is {}", page.sequence());
    Ok(())
}

/// Names the page again. Whether its sequence changes, or the reason to skip: only then is it sure that what a case writes
/// to it does not stay there.
fn fill_anew(page: &ReferenceTscPage) -> Result<bool, Problem> {
    let before = page.sequence();
    // The same value again.
    drop(Restored::new(HV_X64_MSR_REFERENCE_TSC));
    let changed = holds_soon(|| ![0, before].contains(&page.sequence()));
    if !changed && hyperv::detect().host.is_none() {
        skip!("this hypervisor does not fill the page anew when it is named again");
    }
    Ok(changed)
}

fn sequence_0_sends_the_clock_to_the_counter() -> TestResult {
    let page = filled_page()?;
    fill_anew(page)?;
    let clock = reference_clock()?;
    let before = clock.now_100ns();
    page.invalidate();
    let (time, source) = clock.now_with_source();
    drop(Restored::new(HV_X64_MSR_REFERENCE_TSC));
    check!(source == Source::Counter, "it is read from {source:?}");
    check!(time + 2 >= before, "time went from {before} back to {time}");
    check!(holds_soon(|| page.sequence() != 0), "the page was not filled again");
    Ok(())
}

/// The frequencies, or the reason to skip.
fn frequencies() -> Result<Frequencies, Problem> {
    let hv = need(Privileges::FREQUENCIES)?;
    need_features(Features::FREQUENCY_MSRS)?;
    Frequencies::read(&CPU, hv).ok_or(Problem::Fail("a frequency is zero".into()))
}

fn frequencies_can_be_read_on_every_processor() -> TestResult {
    let first = frequencies()?;
    let tsc = on_each_vp(|_| get(HV_X64_MSR_TSC_FREQUENCY));
    let apic = on_each_vp(|_| get(HV_X64_MSR_APIC_FREQUENCY));
    check!(tsc.iter().all(|&hz| hz == first.tsc_hz.get()), "TSC, by processor: {tsc:?}");
    check!(apic.iter().all(|&hz| hz == first.apic_hz.get()), "APIC, by processor: {apic:?}");
    Ok(())
}

fn frequencies_are_read_only() -> TestResult {
    frequencies()?;
    // SAFETY: the register only tells something.
    unsafe { writing_faults(HV_X64_MSR_TSC_FREQUENCY, 1_000_000_000) }?;
    // SAFETY: as above.
    unsafe { writing_faults(HV_X64_MSR_APIC_FREQUENCY, 1_000_000_000) }
}

fn frequencies_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::FREQUENCIES)?;
    refused(HV_X64_MSR_TSC_FREQUENCY)?;
    refused(HV_X64_MSR_APIC_FREQUENCY)
}

/// The watchdog's timer counts down all the time while cases run. Between two readings of it the reference counter is
/// read outside and inside, so that it does not matter how long the processor stands still.
fn the_apic_timer_runs_at_the_frequency_told() -> TestResult {
    let hz = frequencies()?.apic_hz.get();
    let clock = reference_clock()?;
    let read = || {
        let before = clock.counter_100ns();
        let count = apic::timer_count();
        (before, count, clock.counter_100ns())
    };
    let begin = read();
    let end = (0..MOST_READINGS).map(|_| read()).find(|end| end.0 >= begin.2 + INTERVAL);
    let end = end.ok_or(Problem::Fail("the counter stands still".into()))?;
    let Some(ticks) = begin.1.checked_sub(end.1).filter(|&ticks| ticks > 0) else {
        skip!("no timer counts, or it began anew just now");
    };
    let ticks = u128::from(ticks) * u128::from(apic::TIMER_DIVISOR);
    let expected = |units: u64| u128::from(units) * u128::from(hz) / 10_000_000;
    let (least, most) = (expected(end.0 - begin.2), expected(end.2 - begin.0));
    check!(
        ticks + ticks / 16 >= least && ticks <= most + most / 16,
        "{ticks} ticks where {least} to {most} were to be expected"
    );
    Ok(())
}

/// CPUID 0x80000007 EDX bit 8 (Intel SDM, AMD APM): the counter is invariant.
fn shows_invariant_tsc() -> bool {
    CPU.cpuid(0x8000_0007).edx & 1 << 8 != 0
}

fn the_invariant_tsc_shows_when_asked_for() -> TestResult {
    let hv = need(Privileges::TSC_INVARIANT)?;
    let before = shows_invariant_tsc();
    check!(expose_invariant_tsc(&CPU, hv), "the register did not take the bit");
    check!(shows_invariant_tsc() || !before, "the counter was invariant before and is not now");
    Ok(())
}

fn the_invariant_control_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::TSC_INVARIANT)?;
    refused(HV_X64_MSR_TSC_INVARIANT_CONTROL)
}

fn reenlightenment_keeps_what_is_written() -> TestResult {
    let hv = need(Privileges::REENLIGHTENMENT)?;
    let _registers =
        [HV_X64_MSR_REENLIGHTENMENT_CONTROL, HV_X64_MSR_TSC_EMULATION_CONTROL].map(Restored::new);
    // It reads back what was written, else there is no value.
    let on = Reenlightenment::enable(CPU, hv, CASE_VECTOR, 0);
    check!(on.is_some(), "the notification was not taken");
    Ok(())
}

fn the_tsc_is_not_emulated_without_a_migration() -> TestResult {
    need(Privileges::REENLIGHTENMENT)?;
    let status = get(HV_X64_MSR_TSC_EMULATION_STATUS);
    check!(status & 1 == 0, "the status is {status:#x}");
    Ok(())
}

fn reenlightenment_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::REENLIGHTENMENT)?;
    refused(HV_X64_MSR_REENLIGHTENMENT_CONTROL)?;
    refused(HV_X64_MSR_TSC_EMULATION_CONTROL)?;
    refused(HV_X64_MSR_TSC_EMULATION_STATUS)
}
