//! Time: the hypervisor's reference time, or the time stamp counter where there is none.

#![expect(unsafe_code, reason = "port I/O, and a page shared with the hypervisor")]

use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_enlightenments::clock::{Frequencies, expose_invariant_tsc};
use hv_enlightenments::{Clock, Gpa, HyperV, ReferenceTscPage, X86Cpu};
use spin::Once;
use x86_64::instructions::port::Port;

use super::cpu::{self, CPU};

/// Frequency of the 8254 timer in Hz.
const PIT_HZ: u64 = 1_193_182;
/// What the calibration counts on the 8254: 10 ms.
const PIT_COUNT: u16 = (PIT_HZ / 100) as u16;
/// Looks at the 8254 before it is taken for absent.
const PIT_PATIENCE: u32 = 2_000_000;
/// Believed where nothing tells the frequency.
const FALLBACK_KHZ: u64 = 1_000_000;

/// Where the time comes from.
#[derive(Clone, Copy)]
pub(crate) enum TimeSource {
    /// The hypervisor.
    HyperV(Clock<X86Cpu>),
    /// The time stamp counter at a frequency in kHz.
    Tsc(u64),
}

static SOURCE: Once<TimeSource> = Once::new();
static BOOT_100NS: AtomicU64 = AtomicU64::new(0);
static TSC_PAGE: ReferenceTscPage = ReferenceTscPage::new();

/// Chooses a source: once, on the boot processor.
pub(crate) fn init(hv: Option<&HyperV>) {
    let source = SOURCE.call_once(|| match hv.and_then(hyperv_clock) {
        Some(clock) => TimeSource::HyperV(clock),
        None => TimeSource::Tsc(tsc_khz(hv)),
    });
    BOOT_100NS.store(now(source), Ordering::Relaxed);
    if hv.is_some_and(|hv| expose_invariant_tsc(&CPU, hv)) {
        log::debug!("the time stamp counter is shown as invariant");
    }
    match source {
        TimeSource::HyperV(clock) if clock.has_tsc_page() => log::debug!("reference TSC page"),
        TimeSource::HyperV(_) => log::debug!("reference counter, no TSC page"),
        TimeSource::Tsc(khz) => log::debug!("time stamp counter at {khz} kHz"),
    }
}

fn hyperv_clock(hv: &HyperV) -> Option<Clock<X86Cpu>> {
    let mut clock = Clock::new(CPU, hv).ok()?;
    let gpa = Gpa((&raw const TSC_PAGE).addr() as u64);
    // SAFETY: virtual is physical.
    if let Err(error) = unsafe { clock.enable_tsc_page(hv, &TSC_PAGE, gpa) } {
        log::debug!("time costs an exit: {error}");
    }
    Some(clock)
}

/// The source, once there is one.
pub(crate) fn source() -> Option<&'static TimeSource> {
    SOURCE.get()
}

/// The page that the hypervisor fills, if it was asked to.
pub(crate) fn tsc_page() -> &'static ReferenceTscPage {
    &TSC_PAGE
}

/// Time in 100 ns from some moment on; 0 while there is no source.
pub(crate) fn now_100ns() -> u64 {
    SOURCE.get().map_or(0, now)
}

/// Time in 100 ns since the source was chosen.
pub(crate) fn since_boot_100ns() -> u64 {
    now_100ns().saturating_sub(BOOT_100NS.load(Ordering::Relaxed))
}

fn now(source: &TimeSource) -> u64 {
    match source {
        TimeSource::HyperV(clock) => clock.now_100ns(),
        TimeSource::Tsc(khz) => (u128::from(cpu::tsc()) * 10_000 / u128::from(*khz)) as u64,
    }
}

/// The counter's frequency in kHz.
fn tsc_khz(hv: Option<&HyperV>) -> u64 {
    let told = || tsc_khz_from_cpuid().or_else(|| tsc_khz_from_hypervisor(hv?));
    told().or_else(tsc_khz_from_pit).unwrap_or_else(|| {
        log::warn!("nothing tells the time stamp counter's frequency; {FALLBACK_KHZ} kHz assumed");
        FALLBACK_KHZ
    })
}

/// From leaf 0x15: crystal frequency and the counter's ratio to it.
fn tsc_khz_from_cpuid() -> Option<u64> {
    if __cpuid_count(0, 0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid_count(0x15, 0);
    let hz = (u64::from(leaf.ecx) * u64::from(leaf.ebx)).checked_div(leaf.eax.into())?;
    (hz >= 1_000_000).then_some(hz / 1000)
}

/// From the hypervisor's register, if it can be believed.
fn tsc_khz_from_hypervisor(hv: &HyperV) -> Option<u64> {
    let hz = Frequencies::read(&CPU, hv)?.tsc_hz.get();
    (hz >= 1_000_000).then_some(hz / 1000)
}

/// By counting 10 ms on channel 2 of the 8254, whose gate and output are in port 0x61.
fn tsc_khz_from_pit() -> Option<u64> {
    let (mut gate, mut command, mut data) =
        (Port::<u8>::new(0x61), Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // SAFETY: the PC speaker's port; reading it has no effect.
    let speaker = unsafe { gate.read() };
    // SAFETY: opens the channel's gate and keeps the speaker off.
    unsafe { gate.write(speaker & !0x02 | 0x01) };
    // SAFETY: channel 2, both bytes, mode 0: count down once. Nothing else uses the channel.
    unsafe { command.write(0xB0_u8) };
    let [low, high] = PIT_COUNT.to_le_bytes();
    // SAFETY: the count's low byte.
    unsafe { data.write(low) };
    // SAFETY: the count's high byte, which starts it.
    unsafe { data.write(high) };
    let begin = cpu::tsc();
    // SAFETY: as the first read.
    let is_done = |gate: &mut Port<u8>| unsafe { gate.read() } & 0x20 != 0;
    let counted = !is_done(&mut gate) && (0..PIT_PATIENCE).any(|_| is_done(&mut gate));
    let ticks = cpu::tsc().wrapping_sub(begin);
    (counted && ticks > 100_000).then_some(ticks * 100 / 1000)
}
