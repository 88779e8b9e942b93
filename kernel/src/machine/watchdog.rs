//! Ends an action that hangs, faults or panics, so that what comes after it still runs.
//!
//! *Theory.* Each processor notes where to go on before it begins ([`fault::guard`]). Local APIC timers tick on all of
//! them. The first processor to see an action last for too many ticks sends an NMI to the others, which ends even
//! a loop with interrupts off, and everybody who takes part in the action goes on at the noted place.
//!
//! *Practice.* Ticks are counted, not time: an action may be one that breaks the clock. What an abandoned action
//! held is not dropped; the console, the heap and the jobs are looked after, all else it may leave as it was. A single
//! processor that hangs with interrupts off can't be helped: that is for whoever started the machine.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel::MAX_VPS;
use kernel::fixed::Text;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts;

use super::fault::{self, End};
use super::interrupts::{Frame, WATCHDOG_VECTOR};
use super::{apic, console, heap, jobs, memory, remap, shootdown, timer, vp};

/// Ticks within the limit; one more, and the action has hung.
const TICKS: u32 = 4;
/// What the timers of KVM, QEMU and Hyper-V count at most. Slower ones only make the limit longer.
const TIMER_HZ: u64 = 1_000_000_000;
/// Looks at helpers that are to end before another NMI is sent, and how often one is.
const LOOKS: u32 = 1_000_000;
const STRIKES: u32 = 20;

/// The timers tick.
static ARMED: AtomicBool = AtomicBool::new(false);
/// The number of the action that runs; [`NONE`] between two of them. SeqCst everywhere: nothing here is hot.
static ACTION: AtomicU32 = AtomicU32::new(NONE);
/// The action that is to end.
static STRUCK: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = 0;
/// For each processor, the action that it saw at its last tick, and for how many ticks already.
static SEEN: [(AtomicU32, AtomicU32); MAX_VPS] =
    [const { (AtomicU32::new(NONE), AtomicU32::new(0)) }; MAX_VPS];
/// The first of the other processors whose part in the action did not end well.
static HELPER_END: SpinMutex<Option<(u32, End)>> = SpinMutex::new(None);
/// What the last panic said.
static PANIC: SpinMutex<Text<256>> = SpinMutex::new(Text::new());

/// How an action ended that did not return, and on which processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abandoned {
    /// The processor's number.
    pub(crate) vp: u32,
    /// How.
    pub(crate) end: End,
    /// Whether the other processors can be used again.
    pub(crate) usable: bool,
}

/// Starts the timers of all processors. An action may take about `seconds`.
pub(crate) fn start(seconds: u32) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = u64::from(seconds) * TIMER_HZ / u64::from(TICKS * apic::TIMER_DIVISOR);
    COUNT.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::SeqCst);
    ARMED.store(true, Ordering::SeqCst);
    jobs::run_on_all(|_| {
        timer::lend_apic_timer();
        apic::start_timer(WATCHDOG_VECTOR, COUNT.load(Ordering::SeqCst));
    });
}

/// Stops the timers.
pub(crate) fn stop() {
    jobs::run_on_all(|_| {
        apic::stop_timer();
        timer::take_apic_timer_back();
    });
    ARMED.store(false, Ordering::SeqCst);
}

/// Runs `action` on this processor, the first; the jobs that it gives to others are part of it.
pub(crate) fn run(action: impl FnMut()) -> Result<(), Abandoned> {
    static LAST: AtomicU32 = AtomicU32::new(NONE);
    *HELPER_END.lock() = None;
    let number = LAST.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
    ACTION.store(number, Ordering::SeqCst);
    let end = fault::guard(action).map(|end| (vp::current_index(), end));
    let usable = if end.is_some() { clean_up() } else { true };
    ACTION.store(NONE, Ordering::SeqCst);
    interrupts::enable();
    // A helper's end says more: this processor may just have waited for it.
    match HELPER_END.lock().take().or(end) {
        None => Ok(()),
        Some((vp, end)) => Err(Abandoned { vp, end, usable }),
    }
}

/// Puts right what the processor that runs this may have left when it abandoned an action.
fn release_processor() {
    apic::end_all_interrupts();
    timer::set_device_anew();
    interrupts::enable();
}

/// Puts everything right after this processor has abandoned the action. Whether the others have ended it too.
fn clean_up() -> bool {
    console::seize();
    release_processor();
    STRUCK.store(ACTION.load(Ordering::SeqCst), Ordering::SeqCst);
    let ended = (0..STRIKES).any(|_| {
        if jobs::soon_done(LOOKS) {
            return true;
        }
        strike_others();
        false
    });
    STRUCK.store(NONE, Ordering::SeqCst);
    if ended {
        jobs::forget();
    }
    ended
}

/// Runs another processor's part of the action, if there is one and it is watched, else just runs `part`.
pub(crate) fn run_part(part: impl FnMut()) {
    let mut part = part;
    if ACTION.load(Ordering::SeqCst) == NONE {
        return part();
    }
    if let Some(end) = fault::guard(part) {
        HELPER_END.lock().get_or_insert((vp::current_index(), end));
        release_processor();
    }
}

/// A timer's tick, at the end of its interrupt.
pub(crate) fn tick(frame: &mut Frame) {
    let action = ACTION.load(Ordering::SeqCst);
    let (seen, ticks) = &SEEN[vp::current_index() as usize];
    if action == NONE || seen.swap(action, Ordering::Relaxed) != action {
        ticks.store(0, Ordering::Relaxed);
        return;
    }
    // Whoever holds one of these needs a moment; there is a next tick.
    let busy = is_busy();
    if ticks.fetch_add(1, Ordering::Relaxed) < TICKS || busy {
        return;
    }
    STRUCK.store(action, Ordering::SeqCst);
    strike_others();
    fault::abandon(frame, End::Hung { at: frame.rip });
}

/// Whether somebody holds what an abandoned action must not take with it.
fn is_busy() -> bool {
    let memory = memory::is_locked() || remap::is_locked() || shootdown::is_locked();
    console::is_locked() || heap::is_locked() || timer::is_locked() || memory
}

fn strike_others() {
    for vp in vp::online().filter(|vp| vp.index != vp::current_index()) {
        apic::send_nmi(vp.apic_id);
    }
}

/// Takes an NMI, if it can be one of ours.
pub(crate) fn take_nmi(frame: &mut Frame) -> bool {
    if !ARMED.load(Ordering::SeqCst) {
        return false;
    }
    let action = ACTION.load(Ordering::SeqCst);
    let struck = action != NONE && STRUCK.load(Ordering::SeqCst) == action;
    // One that comes late belongs to an action that has ended already.
    let busy = is_busy();
    if struck && !busy {
        fault::abandon(frame, End::Hung { at: frame.rip });
    }
    true
}

/// Whether an action is watched now, so that its faults are its own and not the kernel's.
pub(crate) fn is_watching() -> bool {
    ACTION.load(Ordering::SeqCst) != NONE
}

/// A panic: leaves the action that runs on this processor, if one does.
pub(crate) fn take_panic(info: &PanicInfo<'_>) {
    if !is_watching() || fault::is_dying() {
        return;
    }
    if let Some(mut text) = PANIC.try_lock() {
        *text = Text::new();
        // What does not fit is left out.
        let _ = write!(text, "{}", info.message());
        if let Some(at) = info.location() {
            let _ = write!(text, " at {}:{}", at.file(), at.line());
        }
    }
    fault::leave(End::Panic);
}

/// What the last panic said.
pub(crate) fn panic_message() -> Text<256> {
    *PANIC.lock()
}
