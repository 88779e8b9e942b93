//! Running a function on every processor and collecting what it returns.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernel::MAX_VPS;
use spin::mutex::SpinMutex;

use crate::machine::{clock, cpu, jobs, vp};

static VALUES: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(0) }; MAX_VPS];
/// The function; tests run one after another.
static FUNCTION: SpinMutex<Function> = SpinMutex::new(|_| 0);
/// What one processor does with its index.
type Function = fn(usize) -> u64;

/// What [`argument`] gives.
static ARGUMENT: AtomicUsize = AtomicUsize::new(0);

/// Runs `function` with its index on every processor; what it returned, by processor.
pub(crate) fn on_each_vp(function: Function) -> Vec<u64> {
    *FUNCTION.lock() = function;
    jobs::run_on_all(|index| {
        let function = *FUNCTION.lock();
        VALUES[index].store(function(index), Ordering::Relaxed);
    });
    vp::online().map(|vp| VALUES[vp.index as usize].load(Ordering::Relaxed)).collect()
}

/// As [`on_each_vp`], with a number that `function` gets by [`argument`].
pub(crate) fn on_each_vp_with(number: usize, function: Function) -> Vec<u64> {
    ARGUMENT.store(number, Ordering::Release);
    on_each_vp(function)
}

/// The number given to [`on_each_vp_with`].
pub(crate) fn argument() -> usize {
    ARGUMENT.load(Ordering::Acquire)
}

/// Looks at `condition` until it holds or a generous time is over, so that a lost interrupt fails a test
/// instead of hanging it. Whether it held.
pub(crate) fn holds_soon(condition: impl Fn() -> bool) -> bool {
    const LIMIT_100NS: u64 = 200_000_000;
    let begin = clock::now_100ns();
    loop {
        if condition() {
            return true;
        }
        if clock::now_100ns().saturating_sub(begin) > LIMIT_100NS {
            return false;
        }
        for _ in 0..1000 {
            cpu::pause();
        }
    }
}
