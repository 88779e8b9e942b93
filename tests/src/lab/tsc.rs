//! How fast this machine's time stamp counter runs, for the lab's kernel.
//!
//! QEMU's software processor shows the counter of the machine below. The lab's kernel finds its frequency by timers
//! that QEMU emulates; on a busy machine these come late, and the lab's clock, jobs' time limits included, would
//! run fast or slow from then on. So the kernel is told (`tsc_early_khz`).

#![expect(unsafe_code, reason = "reads the time stamp counter")]

use std::arch::x86_64::_rdtsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough that 10 µs of error are a few parts in ten thousand.
const SPAN: Duration = Duration::from_millis(30);
/// A clock reading and a counter reading further apart than this do not belong together.
const CLOSE: Duration = Duration::from_micros(10);

/// The counter's frequency in kHz; `None` if this machine is too busy to tell.
pub(super) fn khz() -> Option<u32> {
    let mut spans: Vec<u32> = (0..3).filter_map(|_| one_span()).collect();
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied()
}

fn one_span() -> Option<u32> {
    let (then, from) = moment()?;
    sleep(SPAN);
    let (now, to) = moment()?;
    let micros = u64::try_from(now.duration_since(then).as_micros()).ok()?;
    let ticks = to.checked_sub(from)?;
    u32::try_from(ticks.checked_mul(1000)?.checked_div(micros)?).ok()
}

/// Clock and counter at the same moment.
fn moment() -> Option<(Instant, u64)> {
    (0..100).find_map(|_| {
        let before = Instant::now();
        // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
        let ticks = unsafe { _rdtsc() };
        (before.elapsed() < CLOSE).then_some((before, ticks))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_at_the_counter_agree() {
        // A machine that is too busy to tell says so, which is an answer too.
        if let Some((first, second)) = khz().zip(khz()) {
            assert!(first.abs_diff(second) < first / 100, "{first} and {second} kHz");
        }
    }
}
