//! Waiting for a lock: counting the spins of each virtual processor, and telling the hypervisor of long waits.
//!
//! **Theory.** A virtual processor that spins for a lock may be waiting for one that does not run. The
//! hypervisor can only help if it knows: it gives a threshold in CPUID `0x4000_0004` EBX, and the guest calls
//! `HvCallNotifyLongSpinWait` each time one wait has gone round that often.
//!
//! **Practice.** Three layers, each usable without the next:
//!
//! - [`SpinPlatform`]: what a kernel supplies, two functions: the counters of this processor, the notifier
//! - [`SpinWait`]: a strategy, chosen by type because a lock in a `static` holds no references:
//!   [`Enlightened`] counts and notifies, [`Plain`] only counts, [`Bare`] does neither, and in locks with a queue
//!   [`Idling`] gives the processor back, for which the kernel supplies a [`ParkPlatform`]
//! - [`Waiter`]: one wait, from the first failed attempt to the acquisition
//!
//! Nothing here blocks, allocates, takes a lock or depends on the interrupt flag: it may run in interrupt
//! handlers, and an interrupt handler may wait in the middle of another wait.

mod idle;
mod notifier;
mod stats;
mod waiter;

#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub use idle::{DEFAULT_IDLE_AFTER, Idling, ParkPlatform, QueueWait, VP_LIMIT};
pub use notifier::{LongSpinNotifier, SpinThreshold};
pub use stats::{IdleCounts, SpinCounts, SpinStats};
pub use waiter::Waiter;

use core::marker::PhantomData;

use crate::cpu::Cpu;

/// What a kernel supplies, once, on a type of its own.
///
/// ```
/// # use hv_enlightenments::cpu::fake::FakeCpu;
/// use hv_enlightenments::spin_wait::{LongSpinNotifier, SpinPlatform, SpinStats};
///
/// # type X86Cpu = &'static FakeCpu;
/// # static CPU: FakeCpu = FakeCpu::new();
/// # static STATS: SpinStats = SpinStats::new();
/// # fn this_vp_stats() -> &'static SpinStats { &STATS }
/// // In a kernel: LongSpinNotifier::new(unsafe { X86Cpu::new() })
/// static NOTIFIER: LongSpinNotifier<X86Cpu> = LongSpinNotifier::new(&CPU);
///
/// struct Kernel;
///
/// impl SpinPlatform for Kernel {
///     type Cpu = X86Cpu;
///     fn stats() -> &'static SpinStats { this_vp_stats() } // in a kernel: through GS
///     fn notifier() -> &'static LongSpinNotifier<X86Cpu> { &NOTIFIER }
/// }
/// ```
pub trait SpinPlatform: 'static {
    /// The processor.
    type Cpu: Cpu + 'static;

    /// The counters of the virtual processor that runs this.
    ///
    /// Called only while waiting, with interrupts on or off. If the caller is moved to another processor in
    /// between, the counts go to the one it started on; none is lost. Before a kernel has per-processor
    /// storage it may return one common `SpinStats`.
    fn stats() -> &'static SpinStats;

    /// Where long waits are told to the hypervisor. One for the partition.
    fn notifier() -> &'static LongSpinNotifier<Self::Cpu>;
}

/// What to do while waiting. Strategies are types without values.
pub trait SpinWait: 'static {
    /// Rounds of one wait after which [`SpinWait::limit_reached`] is due, at least 1.
    fn limit() -> u32;

    /// Adds `rounds` that have been waited to this processor's count.
    fn count(rounds: u32);

    /// A wait has gone another [`SpinWait::limit`] rounds, `rounds` in all.
    fn limit_reached(rounds: u32);

    /// Counts one round of a wait of which neither begin nor end is known ([`crate::lock::Relax`]); gives the
    /// number of such rounds on this processor so far, this one included.
    fn count_unbounded() -> u64;
}

/// Counts rounds and tells the hypervisor of long waits.
///
/// Before the notifier is enabled, and where the hypervisor doesn't want to know, it does what [`Plain`] does.
#[derive(Debug)]
pub struct Enlightened<P>(PhantomData<fn() -> P>);

impl<P: SpinPlatform> SpinWait for Enlightened<P> {
    fn limit() -> u32 {
        P::notifier().threshold().limit()
    }

    fn count(rounds: u32) {
        P::stats().add_rounds(rounds);
    }

    fn limit_reached(rounds: u32) {
        if P::notifier().notify(rounds) {
            P::stats().add_notification();
        }
    }

    fn count_unbounded() -> u64 {
        P::stats().add_unbounded_round()
    }
}

/// Counts rounds with the same counters and tells nobody: what [`Enlightened`] is measured against.
#[derive(Debug)]
pub struct Plain<P>(PhantomData<fn() -> P>);

impl<P: SpinPlatform> SpinWait for Plain<P> {
    fn limit() -> u32 {
        u32::MAX
    }

    fn count(rounds: u32) {
        P::stats().add_rounds(rounds);
    }

    fn limit_reached(_rounds: u32) {}

    fn count_unbounded() -> u64 {
        P::stats().add_unbounded_round()
    }
}

/// Neither counts nor tells: needs no kernel at all.
#[derive(Debug)]
pub struct Bare;

impl SpinWait for Bare {
    fn limit() -> u32 {
        u32::MAX
    }

    fn count(_rounds: u32) {}

    fn limit_reached(_rounds: u32) {}

    fn count_unbounded() -> u64 {
        1
    }
}
