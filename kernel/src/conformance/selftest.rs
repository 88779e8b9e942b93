//! Cases that misbehave on purpose, to test the framework. They run only by their names.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts::without_interrupts;

use super::support::{holds_soon, on_each_vp};
use super::{TestResult, cases, check, skip};
use crate::machine::interrupts::TEST_VECTOR;
use crate::machine::{apic, cpu, jobs, timer, vp};

cases!(Selftest: [
    a_pass => "docs/conformance.md",
    a_failure => "docs/conformance.md",
    a_skip => "docs/conformance.md",
    a_deviation => "docs/conformance.md",
    a_hang_with_interrupts_on => "docs/conformance.md",
    a_hang_with_interrupts_off => "docs/conformance.md",
    a_hang_in_a_halt => "docs/conformance.md",
    a_hang_on_another_processor => "docs/conformance.md",
    a_hang_on_every_processor => "docs/conformance.md",
    an_unexpected_exception => "docs/conformance.md",
    an_exception_on_another_processor => "docs/conformance.md",
    a_panic => "docs/conformance.md",
    a_panic_in_a_timers_call => "docs/conformance.md",
    a_job_for_every_processor => "docs/conformance.md",
    a_timers_call => "docs/conformance.md",
]);

fn a_pass() -> TestResult {
    Ok(())
}

fn a_failure() -> TestResult {
    check!(1 + 1 == 3, "it is \"2\" <b>&");
    Ok(())
}

fn a_skip() -> TestResult {
    skip!("to be seen skipped")
}

fn a_deviation() -> TestResult {
    super::deviates!("it does something else", "TLFS §0.0")
}

fn a_hang_with_interrupts_on() -> TestResult {
    hang()
}

/// With one processor, only the runner can end it.
fn a_hang_with_interrupts_off() -> TestResult {
    without_interrupts(|| hang())
}

fn a_hang_in_a_halt() -> TestResult {
    jobs::halt_until(|| false);
    Ok(())
}

fn a_hang_on_another_processor() -> TestResult {
    several_processors()?;
    on_each_vp(|index| if index == 1 { without_interrupts(|| hang()) } else { 0 });
    Ok(())
}

fn a_hang_on_every_processor() -> TestResult {
    on_each_vp(|_| hang());
    Ok(())
}

fn an_unexpected_exception() -> TestResult {
    undefined_instruction();
    Ok(())
}

fn an_exception_on_another_processor() -> TestResult {
    several_processors()?;
    on_each_vp(|index| {
        if index == 1 {
            undefined_instruction();
        }
        0
    });
    Ok(())
}

fn a_panic() -> TestResult {
    let number: Option<u32> = core::hint::black_box(None);
    check!(number.expect("there is a number") == 0, "it is not 0");
    Ok(())
}

/// In the interrupt of this processor's timers. Where those run on the local APIC's, the framework has them.
fn a_panic_in_a_timers_call() -> TestResult {
    if timer::after(0, |_| panic!("there is no number"), 0).is_err() {
        skip!("no timer can be started");
    }
    holds_soon(|| false);
    Ok(())
}

/// Passes only if this processor's timers are called: to be run after the case above.
fn a_timers_call() -> TestResult {
    static CALLED: AtomicBool = AtomicBool::new(false);
    CALLED.store(false, Ordering::Release);
    if timer::after(0, |_| CALLED.store(true, Ordering::Release), 0).is_err() {
        skip!("no timer can be started");
    }
    check!(holds_soon(|| CALLED.load(Ordering::Acquire)), "it is not called");
    Ok(())
}

/// Passes only if all processors take jobs: to be run after one that misbehaves.
fn a_job_for_every_processor() -> TestResult {
    let sum: u64 = on_each_vp(|index| index as u64 + 1).iter().sum();
    let count = vp::online().count() as u64;
    check!(sum == count * (count + 1) / 2, "the sum is {sum}");
    let before = vp::current().test_interrupts.load(Ordering::Acquire);
    apic::send(vp::current().apic_id, TEST_VECTOR);
    let came = holds_soon(|| vp::current().test_interrupts.load(Ordering::Acquire) != before);
    check!(came, "interrupts do not come through");
    Ok(())
}

fn several_processors() -> TestResult {
    if vp::online().count() < 2 {
        skip!("there is only one processor");
    }
    Ok(())
}

fn hang() -> ! {
    loop {
        cpu::pause();
    }
}

fn undefined_instruction() {
    // SAFETY: raises an exception, which ends the case.
    unsafe { core::arch::asm!("ud2") };
}
