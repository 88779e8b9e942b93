//! The guest idle state: any interrupt ends it, masked or not, and none is lost.
//!
//! A wait that never ends is ended by the framework and counted as a failure.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

use core::sync::atomic::{AtomicUsize, Ordering};

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::HV_X64_MSR_GUEST_IDLE;
use hv_enlightenments::{GuestIdle, X86Cpu};
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts;

use super::support::registers::{reading_faults, writing_faults};
use super::support::{holds_soon, interface, need, need_features, on_each_vp, without};
use super::{Problem, TestResult, cases, check, skip};
use crate::guest_tests::translations::all_at_once_masked;
use crate::machine::cpu::CPU;
use crate::machine::interrupts::TEST_VECTOR;
use crate::machine::vp::{self, Vp};
use crate::machine::{apic, idle, ipi, jobs};

const IDLE: &str = "TLFS Virtual Processor Idle Sleep State";

cases!(Idle: [
    reading_the_register_is_refused_without_the_privilege => IDLE,
    writing_the_register_is_refused_without_the_privilege => IDLE,
    the_register_cannot_be_written => IDLE,
    an_interrupt_that_is_pending_and_masked_ends_the_wait => IDLE,
    the_interrupt_that_ended_the_wait_is_still_taken_once => IDLE,
    a_masked_interrupt_from_another_processor_ends_the_wait => IDLE,
    a_masked_interrupt_by_the_apic_ends_the_wait => IDLE,
    an_interrupt_that_is_not_masked_ends_the_wait_and_is_taken => IDLE,
    all_processors_can_idle_at_the_same_time => IDLE,
    no_wake_up_is_lost => IDLE,
    the_kernel_idles_in_the_state_that_is_offered => IDLE,
]);

fn register() -> Result<GuestIdle<X86Cpu>, Problem> {
    let hv = need(Privileges::GUEST_IDLE)?;
    need_features(Features::GUEST_IDLE_STATE)?;
    GuestIdle::new(CPU, hv).ok_or(Problem::Fail("the library does not see it".into()))
}

fn reading_the_register_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::GUEST_IDLE)?;
    reading_faults(HV_X64_MSR_GUEST_IDLE)
}

fn writing_the_register_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::GUEST_IDLE)?;
    // SAFETY: if the register takes the value, it does nothing.
    unsafe { writing_faults(HV_X64_MSR_GUEST_IDLE, 0) }
}

fn the_register_cannot_be_written() -> TestResult {
    register()?;
    // SAFETY: if the register takes the value, it does nothing.
    unsafe { writing_faults(HV_X64_MSR_GUEST_IDLE, 0) }
}

fn own_count() -> u64 {
    vp::current().test_interrupts.load(Ordering::Acquire)
}

/// Idles on this processor with interrupts off, an interrupt to itself pending: how many had been taken when the wait
/// was over, and how many in the end.
fn wait_with_one_pending() -> Result<(u64, u64), Problem> {
    let register = register()?;
    let before = own_count();
    let during = interrupts::without_interrupts(|| {
        apic::send(vp::current().apic_id, TEST_VECTOR);
        register.wait();
        own_count() - before
    });
    holds_soon(|| own_count() != before);
    Ok((during, own_count() - before))
}

fn an_interrupt_that_is_pending_and_masked_ends_the_wait() -> TestResult {
    let (during, _) = wait_with_one_pending()?;
    check!(during == 0, "{during} interrupts were taken though they were masked");
    Ok(())
}

fn the_interrupt_that_ended_the_wait_is_still_taken_once() -> TestResult {
    for _ in 0..8 {
        let (_, taken) = wait_with_one_pending()?;
        check!(taken == 1, "{taken} interrupts were taken");
    }
    Ok(())
}

/// Processors that idle, or are about to.
static IDLING: AtomicUsize = AtomicUsize::new(0);
/// Processors whose wait is over.
static WOKEN: AtomicUsize = AtomicUsize::new(0);
/// How the processors are woken, and whether they mask interrupts.
static MANNER: SpinMutex<Manner> = SpinMutex::new(Manner { wake: by_kernel, masked: true });

#[derive(Clone, Copy)]
struct Manner {
    wake: fn(&Vp),
    masked: bool,
}

fn by_kernel(vp: &Vp) {
    ipi::send(vp, TEST_VECTOR);
}

fn by_apic(vp: &Vp) {
    apic::send(vp.apic_id, TEST_VECTOR);
}

/// All processors but the first idle; the first wakes one after the other. Fails unless each wait ends, an interrupt
/// that is masked is not taken before it has, and one that is not masked is.
fn check_waking(wake: fn(&Vp), masked: bool) -> TestResult {
    register()?;
    if vp::online().count() == 1 {
        skip!("there is one processor");
    }
    IDLING.store(0, Ordering::SeqCst);
    WOKEN.store(0, Ordering::SeqCst);
    *MANNER.lock() = Manner { wake, masked };
    let taken = on_each_vp(|index| if index == 0 { wake_each().into() } else { idle_once() });
    check!(taken[0] == 1, "not every wait began and ended");
    let right = taken[1..].iter().all(|&count| (count == 0) == masked);
    check!(right, "interrupts taken before the wait was over: {:?}", &taken[1..]);
    Ok(())
}

/// Wakes the processors that idle. Whether that worked.
fn wake_each() -> bool {
    let manner = *MANNER.lock();
    let others = || vp::online().filter(|vp| vp.index != 0);
    if !holds_soon(|| IDLING.load(Ordering::SeqCst) == others().count()) {
        return false;
    }
    others().enumerate().all(|(woken, vp)| {
        (manner.wake)(vp);
        holds_soon(|| {
            // One that is not masked may have come before the wait began, and then does not end it.
            if !manner.masked {
                (manner.wake)(vp);
            }
            WOKEN.load(Ordering::SeqCst) > woken
        })
    })
}

/// Idles once; how many interrupts were taken before the wait was over.
fn idle_once() -> u64 {
    let (Ok(register), masked) = (register(), MANNER.lock().masked) else { return u64::MAX };
    let before = own_count();
    let body = || {
        IDLING.fetch_add(1, Ordering::SeqCst);
        register.wait();
        // A wait may end for no reason. One that the interrupt has ended is not repeated.
        while !masked && own_count() == before {
            register.wait();
        }
        let taken = own_count() - before;
        WOKEN.fetch_add(1, Ordering::SeqCst);
        taken
    };
    if masked { interrupts::without_interrupts(body) } else { body() }
}

fn a_masked_interrupt_from_another_processor_ends_the_wait() -> TestResult {
    check_waking(by_kernel, true)
}

fn a_masked_interrupt_by_the_apic_ends_the_wait() -> TestResult {
    check_waking(by_apic, true)
}

fn an_interrupt_that_is_not_masked_ends_the_wait_and_is_taken() -> TestResult {
    check_waking(by_kernel, false)
}

fn all_processors_can_idle_at_the_same_time() -> TestResult {
    register()?;
    let results = all_at_once_masked(|_| {
        let Ok(register) = register() else { return 1 };
        let before = own_count();
        apic::send(vp::current().apic_id, TEST_VECTOR);
        register.wait();
        own_count() - before
    });
    check!(results.iter().all(|&taken| taken == 0), "taken though masked: {results:?}");
    Ok(())
}

fn no_wake_up_is_lost() -> TestResult {
    /// Whose turn it is: the first processor's if even.
    static TURN: AtomicUsize = AtomicUsize::new(0);
    const TURNS: usize = 200;
    if vp::online().count() == 1 {
        skip!("there is one processor");
    }
    TURN.store(0, Ordering::SeqCst);
    // The kernel's own waiting, whichever state it idles in.
    jobs::run_on(2, |index| {
        while TURN.load(Ordering::SeqCst) < TURNS {
            jobs::halt_until(|| {
                let turn = TURN.load(Ordering::SeqCst);
                turn % 2 == index || turn >= TURNS
            });
            TURN.fetch_add(1, Ordering::SeqCst);
            if let Some(other) = vp::get(1 - index) {
                jobs::wake(other);
            }
        }
    });
    let turns = TURN.load(Ordering::SeqCst);
    check!(turns >= TURNS, "{turns} turns of {TURNS} were taken");
    Ok(())
}

fn the_kernel_idles_in_the_state_that_is_offered() -> TestResult {
    let hv = interface()?;
    let offered = hv.privileges().contains(Privileges::GUEST_IDLE)
        && hv.features().contains(Features::GUEST_IDLE_STATE);
    let (method, expected) = (idle::method(), if offered { "guest-idle" } else { "hlt" });
    check!(method == expected, "the kernel idles by {method}, not by {expected}");
    let before = own_count();
    interrupts::without_interrupts(|| {
        apic::send(vp::current().apic_id, TEST_VECTOR);
        // It may return for no reason, but not for ever.
        for _ in 0..8 {
            if own_count() == before {
                idle::wait();
            }
        }
    });
    check!(own_count() == before + 1, "{} interrupts were taken", own_count() - before);
    Ok(())
}
