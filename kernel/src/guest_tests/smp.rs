//! Many processors: each is there, has what is its own, and does its jobs.

#![expect(unsafe_code, reason = "reads the stack pointer")]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use kernel::MAX_VPS;

use super::boot::the_machine;
use super::each_vp::on_each_vp;
use super::{TestResult, check, guest_test};
use crate::machine::jobs::{self, Barrier};
use crate::machine::stacks::Stack;
use crate::machine::{apic, vp};

guest_test!(
    all_processors_run,
    every_processor_runs_a_job,
    every_processor_has_its_own_block,
    apic_identifiers_are_those_of_the_madt,
    every_processor_runs_on_its_own_stack,
    a_job_reaches_only_the_processors_asked,
    a_barrier_holds_until_all_have_come,
);

fn all_processors_run() -> TestResult {
    let machine = the_machine()?;
    let in_madt = machine.processors.as_ref().map_or(1, |processors| processors.enabled.len());
    let limit = machine.options.vps.map_or(MAX_VPS, |vps| vps as usize);
    let (expected, running) = (in_madt.min(limit), vp::online().count());
    check!(running == expected, "{running} processors of {expected} run");
    Ok(())
}

fn every_processor_runs_a_job() -> TestResult {
    let values = on_each_vp(|index| index as u64 * 3 + 1);
    let expected: Vec<_> = (0..vp::online().count() as u64).map(|index| index * 3 + 1).collect();
    check!(values == expected, "got {values:?}");
    Ok(())
}

fn every_processor_has_its_own_block() -> TestResult {
    let indices = on_each_vp(|_| vp::current().index.into());
    check!(indices.iter().copied().eq(0..indices.len() as u64), "indices in GS: {indices:?}");
    let blocks = on_each_vp(|_| core::ptr::from_ref(vp::current()).addr() as u64);
    let known = vp::online().map(|vp| core::ptr::from_ref(vp).addr() as u64);
    check!(known.eq(blocks.iter().copied()), "blocks in GS: {blocks:x?}");
    Ok(())
}

fn apic_identifiers_are_those_of_the_madt() -> TestResult {
    let found = on_each_vp(|_| apic::id().into());
    let expected: Vec<u64> = vp::online().map(|vp| vp.apic_id.into()).collect();
    check!(found == expected, "identifiers {found:x?}, by the MADT {expected:x?}");
    Ok(())
}

fn every_processor_runs_on_its_own_stack() -> TestResult {
    let pointers = on_each_vp(|_| {
        let rsp: u64;
        // SAFETY: reads a register.
        unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
        rsp
    });
    for (vp, rsp) in vp::online().zip(pointers) {
        let stack = vp.stacks.range(Stack::Main);
        check!(stack.contains(rsp), "vp{} has RSP {rsp:#x}, its stack is {stack:x?}", vp.index);
    }
    Ok(())
}

fn a_job_reaches_only_the_processors_asked() -> TestResult {
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    for count in 1..=vp::online().count() {
        REACHED.store(0, Ordering::Relaxed);
        jobs::run_on(count, |index| {
            REACHED.fetch_add(index + 1, Ordering::Relaxed);
        });
        let (reached, expected) = (REACHED.load(Ordering::Relaxed), count * (count + 1) / 2);
        check!(reached == expected, "a job for {count} reached indices with sum {reached}");
    }
    Ok(())
}

fn a_barrier_holds_until_all_have_come() -> TestResult {
    const ROUNDS: u32 = 8;
    static BARRIER: Barrier = Barrier::new();
    static ARRIVED: AtomicU32 = AtomicU32::new(0);
    ARRIVED.store(0, Ordering::Relaxed);
    let wrong = on_each_vp(|_| {
        let count = vp::online().count();
        let mut wrong = 0;
        for round in 1..=ROUNDS {
            ARRIVED.fetch_add(1, Ordering::AcqRel);
            BARRIER.wait(count);
            wrong += u64::from(ARRIVED.load(Ordering::Acquire) != round * count as u32);
            BARRIER.wait(count);
        }
        wrong
    });
    check!(wrong.iter().all(|&wrong| wrong == 0), "left too early, times by processor: {wrong:?}");
    Ok(())
}
