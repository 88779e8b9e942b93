//! Backtraces lead from a function to its callers, and symbols name them.

use alloc::vec::Vec;

use super::{TestResult, check, guest_test, skip};
use crate::machine::{fault, symbols};

guest_test!(frames_lead_to_the_callers, symbols_name_functions);

#[inline(never)]
fn outer() -> Vec<u64> {
    let mut callers = core::hint::black_box(middle)();
    callers.push(0);
    callers
}

#[inline(never)]
fn middle() -> Vec<u64> {
    let mut callers = core::hint::black_box(inner)();
    callers.insert(0, 0);
    callers
}

#[inline(never)]
fn inner() -> Vec<u64> {
    let callers = fault::callers(fault::frame_pointer()).collect();
    core::hint::black_box(callers)
}

fn frames_lead_to_the_callers() -> TestResult {
    /// No function above is longer.
    const LONGEST: u64 = 4096;
    let frames = outer();
    let position = |function: fn() -> Vec<u64>| {
        let start = function as usize as u64;
        frames.iter().position(|frame| (start..start + LONGEST).contains(frame))
    };
    let found = (position(middle), position(outer));
    check!(matches!(found, (Some(a), Some(b)) if a <= b), "{found:?} in {frames:x?}");
    Ok(())
}

fn symbols_name_functions() -> TestResult {
    let address = outer as fn() -> Vec<u64> as usize as u64;
    let Some((name, offset)) = symbols::lookup(address) else {
        skip!("the image is not finished: it has no symbol table");
    };
    check!(name.ends_with("backtrace::outer") && offset == 0, "{address:#x} is {name}+{offset:#x}");
    let inside = symbols::lookup(address + 1);
    check!(inside == Some((name, 1)), "{:#x} is {inside:?}", address + 1);
    Ok(())
}
