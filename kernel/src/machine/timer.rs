//! Timers: functions that are called at a time, and waits that end.
//!
//! Each processor has a wheel of timers ([`kernel::timer_wheel`]) and one device that interrupts it when the
//! earliest is due: a synthetic timer, or the local APIC's where there is none. The device is only a hint to look
//! at the clock; an interrupt that comes too early or for nothing does no harm.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_abi::cpuid::Features;
use hv_enlightenments::X86Cpu;
use hv_enlightenments::stimer::{DeadlineTimer, Delivery, Stimer};
use hv_enlightenments::synic::Sint;
use kernel::MAX_VPS;
use kernel::timer_wheel::{TimerId, TimerWheel};
use spin::Once;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts::without_interrupts;

use super::clock::{self, TimeSource};
use super::cpu::{self, CPU};
use super::interrupts::TIMER_VECTOR;
use super::{apic_timer, hyperv, interrupts, jobs, synic, vp};

/// Timers of one processor.
const TIMERS: usize = 32;
/// Timers that one interrupt touches at most.
const BUDGET: u32 = 64;
/// The synthetic timer that the wheel runs on; the others are free.
const STIMER: usize = 0;
/// The source that it sends messages to where it can't interrupt directly.
pub(crate) const TIMER_SINT: Sint = Sint::new(4).unwrap();

/// What a timer calls, in an interrupt.
#[derive(Debug, Clone, Copy)]
struct Call {
    function: fn(usize),
    argument: usize,
}

type Wheel = TimerWheel<Call, TIMERS>;

/// What a processor's timers need.
struct Timers {
    device: Device,
    wheel: SpinMutex<Wheel>,
}

static PROCESSORS: [Once<Box<Timers>>; MAX_VPS] = [const { Once::new() }; MAX_VPS];
/// When each device will interrupt; [`NEVER`] if it will not.
static ARMED: [AtomicU64; MAX_VPS] = [const { AtomicU64::new(NEVER) }; MAX_VPS];
const NEVER: u64 = u64::MAX;
/// The local APIC's timers are somebody else's for now.
static APIC_TIMER_IS_LENT: AtomicBool = AtomicBool::new(false);

/// What interrupts a processor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Device {
    /// A synthetic timer that raises a vector.
    Direct(DeadlineTimer<X86Cpu>),
    /// A synthetic timer that sends messages.
    Message(DeadlineTimer<X86Cpu>),
    /// The local APIC's timer.
    Apic,
}

impl Device {
    /// For people.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Direct(_) => "a synthetic timer, directly",
            Self::Message(_) => "a synthetic timer, by message",
            Self::Apic => "the local APIC's timer",
        }
    }

    /// Whether it is not lent to somebody else.
    fn is_ours(&self) -> bool {
        !matches!(self, Self::Apic) || !APIC_TIMER_IS_LENT.load(Ordering::Relaxed)
    }

    fn set(&self, at_100ns: u64) {
        match self {
            Self::Direct(timer) | Self::Message(timer) => timer.set(at_100ns),
            Self::Apic => {
                apic_timer::start(TIMER_VECTOR, at_100ns.saturating_sub(clock::now_100ns()));
            }
        }
    }
}

/// A timer that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timer {
    vp: usize,
    id: TimerId,
}

/// No timer could be started: the processor has no device, or too many timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoTimer;

/// Chooses the device of the processor that runs this.
pub(crate) fn init_processor() {
    interrupts::set_handler(TIMER_VECTOR, Some(|_| expire()));
    let device = synthetic().or_else(|| apic_timer::is_usable().then_some(Device::Apic));
    let Some((place, device)) = PROCESSORS.get(vp::current_index() as usize).zip(device) else {
        return;
    };
    log::debug!("timers of vp{} run on {}", vp::current_index(), device.name());
    place.call_once(|| Box::new(Timers { device, wheel: SpinMutex::new(Wheel::new()) }));
}

/// A synthetic timer, if its time is our clock's.
fn synthetic() -> Option<Device> {
    let hv = hyperv::interface()?;
    if !matches!(clock::source(), Some(TimeSource::HyperV(_))) {
        return None;
    }
    if hv.features().contains(Features::STIMER_DIRECT) {
        let timer = Stimer::new(CPU, hv, STIMER, Delivery::Direct(TIMER_VECTOR)).ok()?;
        return Some(Device::Direct(timer.into_deadlines()));
    }
    let timer = Stimer::new(CPU, hv, STIMER, Delivery::Message(TIMER_SINT)).ok()?;
    synic::connect(TIMER_SINT, on_message).ok()?;
    Some(Device::Message(timer.into_deadlines()))
}

/// Whatever the message says, the clock knows better.
fn on_message(sint: Sint) {
    if let Some(synic) = synic::current() {
        synic.take_message(sint);
    }
    expire();
}

/// What interrupts the processor that runs this, if anything does.
pub(crate) fn device() -> Option<&'static Device> {
    Some(&PROCESSORS.get(vp::current_index() as usize)?.get()?.device)
}

/// Calls `function(argument)` on this processor, in an interrupt, when the clock has reached `at_100ns`.
pub(crate) fn at(at_100ns: u64, function: fn(usize), argument: usize) -> Result<Timer, NoTimer> {
    without_interrupts(|| {
        let vp = vp::current_index() as usize;
        let timers = PROCESSORS[vp].get().filter(|timers| timers.device.is_ours());
        let Timers { device, wheel } = &**timers.ok_or(NoTimer)?;
        let mut wheel = wheel.lock();
        let id = wheel.start(at_100ns, Call { function, argument }).map_err(|_| NoTimer)?;
        arm(device, vp, wheel.next_100ns());
        Ok(Timer { vp, id })
    })
}

/// As [`at`], counted from now.
pub(crate) fn after(
    delay_100ns: u64,
    function: fn(usize),
    argument: usize,
) -> Result<Timer, NoTimer> {
    at(clock::now_100ns().saturating_add(delay_100ns), function, argument)
}

/// Takes a timer back, on whatever processor it was started. Whether it was not called yet, and will not be.
pub(crate) fn cancel(timer: Timer) -> bool {
    // The device stays as it is: an interrupt for nothing is cheaper than two register writes.
    let Some(timers) = PROCESSORS[timer.vp].get() else { return false };
    without_interrupts(|| timers.wheel.lock().cancel(timer.id)).is_some()
}

/// Has the device interrupt no later than `next`. Its interrupt is off.
fn arm(device: &Device, vp: usize, next: Option<u64>) {
    let Some(next) = next.filter(|&next| next < ARMED[vp].load(Ordering::Relaxed)) else { return };
    ARMED[vp].store(next, Ordering::Relaxed);
    device.set(next);
}

/// Calls what is due on this processor. In an interrupt.
fn expire() {
    let vp = vp::current_index() as usize;
    let timers = PROCESSORS[vp].get().filter(|timers| timers.device.is_ours());
    let Some(Timers { device, wheel }) = timers.map(|timers| &**timers) else { return };
    let mut budget = BUDGET;
    let now = clock::now_100ns();
    let due = |budget: &mut u32| wheel.lock().pop(now, budget);
    while let Some(call) = due(&mut budget) {
        (call.function)(call.argument);
    }
    ARMED[vp].store(NEVER, Ordering::Relaxed);
    let next = wheel.lock().next_100ns();
    arm(device, vp, next);
}

/// Lets the caller have the local APIC's timer of this processor. If it was our device, timers are late until it is
/// back, and no more can be started; waits go on without.
pub(crate) fn lend_apic_timer() {
    APIC_TIMER_IS_LENT.store(true, Ordering::Relaxed);
}

/// Takes the local APIC's timer of this processor back.
pub(crate) fn take_apic_timer_back() {
    APIC_TIMER_IS_LENT.store(false, Ordering::Relaxed);
    without_interrupts(expire);
}

/// Puts the device of this processor right after whatever ran on it was abandoned: perhaps a timer's call, between the
/// device's interrupt and its next setting. Without that, it would never be set again.
pub(crate) fn set_device_anew() {
    without_interrupts(|| {
        let vp = vp::current_index() as usize;
        let timers = PROCESSORS[vp].get().filter(|timers| timers.device.is_ours());
        let Some(Timers { device, wheel }) = timers.map(|timers| &**timers) else { return };
        ARMED[vp].store(NEVER, Ordering::Relaxed);
        // If another processor is at the wheel, the next timer to be started sets the device.
        let next = wheel.try_lock().and_then(|wheel| wheel.next_100ns());
        arm(device, vp, next);
    });
}

/// Whether timers are being changed just now, on any processor.
pub(crate) fn is_locked() -> bool {
    PROCESSORS.iter().filter_map(Once::get).any(|timers| timers.wheel.is_locked())
}

/// Waits, halted, for a time.
pub(crate) fn sleep(delay_100ns: u64) {
    wait_for(delay_100ns, || false);
}

/// Waits until `condition` holds, but no longer than `limit_100ns`. Whether it held. Whoever makes it true calls
/// [`jobs::wake`], or interrupts this processor.
pub(crate) fn wait_for(limit_100ns: u64, condition: impl Fn() -> bool) -> bool {
    let deadline = clock::now_100ns().saturating_add(limit_100ns);
    let is_over = || clock::now_100ns() >= deadline;
    match at(deadline, |_| {}, 0) {
        Ok(timer) => {
            jobs::halt_until(|| condition() || is_over());
            cancel(timer);
        }
        Err(NoTimer) => {
            while !condition() && !is_over() {
                cpu::pause();
            }
        }
    }
    condition()
}
