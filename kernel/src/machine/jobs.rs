//! Work for several processors, and waiting for one another.
//!
//! Nothing here spins without end: under over-commitment the processor waited for may not run for long, so
//! a waiting processor halts after a while and is woken by an interrupt.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use kernel::MAX_VPS;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts;

use super::interrupts::WAKE_VECTOR;
use super::vp::{self, Vp};
use super::{cpu, idle, ipi, watchdog};

/// Looks at a condition before halting: a few microseconds.
const PATIENCE: u32 = 2000;

/// What the chosen processors are to do.
#[derive(Clone, Copy)]
struct Job {
    number: u32,
    action: fn(usize),
    /// Processors with an index below this take part.
    count: usize,
}

/// The latest job. Number, action and participants are read together, so that none is done twice.
static JOB: SpinMutex<Option<Job>> = SpinMutex::new(None);
/// Its number, to look at without the lock. Release pairs with the Acquire in `idle`.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Processors that have not finished it, the boot processor aside. Release pairs with Acquire in `run_on`.
static UNFINISHED: AtomicUsize = AtomicUsize::new(0);
/// Whether processors without work halt.
static BYSTANDERS_HALT: AtomicBool = AtomicBool::new(false);
/// Who waits for a condition while halted.
static HALTED: [AtomicBool; MAX_VPS] = [const { AtomicBool::new(false) }; MAX_VPS];

/// Waits until `condition` holds: looking first, then halted. Whoever makes it true calls [`wake`].
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    wait_patiently(PATIENCE, condition);
}

/// As [`wait_until`], looking `patience` times before halting.
fn wait_patiently(patience: u32, condition: impl Fn() -> bool) {
    for _ in 0..patience {
        if condition() {
            return;
        }
        cpu::pause();
    }
    halt_until(condition);
}

/// Waits, halted, until `condition` holds. Whoever makes it true calls [`wake`] afterwards.
pub(crate) fn halt_until(condition: impl Fn() -> bool) {
    interrupts::without_interrupts(|| {
        while !condition() {
            idle_unless_masked(&condition, bystander_rest());
        }
    });
}

/// Makes processors without work halt from now on, instead of idling in the hypervisor's guest idle state.
///
/// A hypervisor may have to look after a processor that idles with interrupts masked (ours does), which takes time from those
/// that are measured; one that halts costs nothing. Locks that idle still do it as the hypervisor would have it.
pub(crate) fn halt_bystanders() {
    BYSTANDERS_HALT.store(true, Ordering::SeqCst);
    // Those that idle already begin anew.
    run_on_all(|_| {});
}

fn bystander_rest() -> fn() {
    if BYSTANDERS_HALT.load(Ordering::Relaxed) { cpu::wait_for_interrupt } else { idle::wait }
}

/// Idles this processor until [`wake`] or any interrupt, unless `ready`. Whether it could: with interrupts off, as in
/// a handler, only in the guest idle state.
pub(crate) fn idle_unless(ready: impl Fn() -> bool) -> bool {
    let rest =
        if interrupts::are_enabled() { Some(idle::wait as fn()) } else { idle::masked_wait() };
    if let Some(rest) = rest {
        interrupts::without_interrupts(|| idle_unless_masked(&ready, rest));
    }
    rest.is_some()
}

/// Halts this processor until [`wake`] or any interrupt, unless `ready`. Unlike the guest idle state, `hlt` costs one
/// visit to the hypervisor, whoever serves that state.
pub(crate) fn halt_unless(ready: impl Fn() -> bool) {
    interrupts::without_interrupts(|| idle_unless_masked(&ready, cpu::wait_for_interrupt));
}

/// With interrupts off: makes known that this processor idles, looks, idles by `rest`.
fn idle_unless_masked(ready: &impl Fn() -> bool, rest: fn()) {
    let index = vp::current_index() as usize;
    // SeqCst on both sides: either we see the condition, or the waker sees that we halt.
    HALTED[index].store(true, Ordering::SeqCst);
    core::sync::atomic::fence(Ordering::SeqCst);
    if !ready() {
        rest();
    }
    HALTED[index].store(false, Ordering::SeqCst);
}

/// Makes a processor look at its condition again, if it halts for one.
pub(crate) fn wake(vp: &Vp) {
    core::sync::atomic::fence(Ordering::SeqCst);
    if HALTED[vp.index as usize].swap(false, Ordering::SeqCst) {
        ipi::send(vp, WAKE_VECTOR);
    }
}

/// What a processor does that has nothing to do.
pub(crate) fn idle() -> ! {
    let vp = vp::current();
    let mut last = 0;
    loop {
        halt_until(|| NUMBER.load(Ordering::Acquire) != last);
        // A job may be there a moment before its number is.
        let Some(job) = JOB.lock().filter(|job| job.number != last) else { continue };
        last = job.number;
        if (vp.index as usize) < job.count {
            watchdog::run_part(|| (job.action)(vp.index as usize));
            if UNFINISHED.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(boot) = vp::get(0)
            {
                wake(boot);
            }
        }
    }
}

/// Runs `action` with its index on each of the first `count` processors, the caller (processor 0) included,
/// and returns when all have finished. The others stay halted.
pub(crate) fn run_on(count: usize, action: fn(usize)) {
    let helpers = || vp::online().filter(|vp| vp.index != 0 && (vp.index as usize) < count);
    UNFINISHED.store(helpers().count(), Ordering::Relaxed);
    let number = NUMBER.load(Ordering::Relaxed).wrapping_add(1);
    *JOB.lock() = Some(Job { number, action, count });
    NUMBER.store(number, Ordering::SeqCst);
    helpers().for_each(wake);
    action(0);
    wait_until(|| UNFINISHED.load(Ordering::Acquire) == 0);
}

/// Runs `action` on all processors.
pub(crate) fn run_on_all(action: fn(usize)) {
    run_on(MAX_VPS, action);
}

/// Whether the others have finished the latest job, or do so within a number of looks.
pub(super) fn soon_done(looks: u32) -> bool {
    (0..looks).any(|_| {
        cpu::pause();
        UNFINISHED.load(Ordering::Acquire) == 0
    })
}

/// Makes room for the next job after the latest one was abandoned by the caller and has ended for the others.
#[expect(unsafe_code, reason = "unlocks by force")]
pub(super) fn forget() {
    if JOB.is_locked() {
        // SAFETY: only the caller held it for long; the job is replaced as a whole before it is looked at again.
        unsafe { JOB.force_unlock() };
    }
}

/// A place where a number of processors wait for one another, again and again.
pub(crate) struct Barrier {
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    /// Nobody has arrived.
    pub(crate) const fn new() -> Self {
        Self { arrived: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Waits until `count` processors have called this, the first `count` of the machine.
    pub(crate) fn wait(&self, count: usize) {
        self.wait_patiently(count, PATIENCE);
    }

    /// As [`Barrier::wait`], looking `patience` times before halting.
    pub(crate) fn wait_patiently(&self, count: usize, patience: u32) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::SeqCst);
            vp::online().take(count).for_each(wake);
        } else {
            wait_patiently(patience, || self.round.load(Ordering::Acquire) != round);
        }
    }
}
