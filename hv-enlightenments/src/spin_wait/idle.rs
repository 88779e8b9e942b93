//! Waiting in a queue: giving the processor back until it is one's turn.
//!
//! **Theory.** Who stands in a queue knows that others come first, and under over-commitment one of them may not
//! run at all. A waiter that idles gives its processor to whoever can make progress; in turn somebody must wake it
//! (*kick*), and between the last look and the idling no kick may be lost. Linux does the same with the guest idle
//! register and an interrupt (`arch/x86/hyperv/hv_spinlock.c`).
//!
//! **Practice.** [`QueueWait`] is what a queueing lock asks of its strategy. [`Idling`] idles after a bounded number
//! of rounds, by way of the kernel's [`ParkPlatform`]; the other strategies go on spinning.

use core::marker::PhantomData;

use super::{Bare, Enlightened, Plain, SpinPlatform, SpinWait};

/// Rounds before idling where the hypervisor names no threshold.
pub const DEFAULT_IDLE_AFTER: u32 = 4096;

/// Numbers of virtual processors are below this, so that a lock's word has room for one.
pub const VP_LIMIT: u32 = 1 << 29;

/// What a kernel supplies so that waiting processors can idle and be woken.
///
/// The one rule: **no kick is lost.** If `kick(vp)` is called after what `ready` looks at was changed, then on `vp`
/// either `ready` says so or the idling ends. So `idle_unless` first makes known that it idles, then (a sequentially
/// consistent fence between) asks `ready`, then idles; and whatever ends the idling, a kick that came since
/// the first step ends it too.
///
/// Ending too early is allowed at any time: waiters look again. So any interrupt may end it.
pub trait ParkPlatform: SpinPlatform {
    /// The number of the virtual processor that runs this, below [`VP_LIMIT`].
    ///
    /// A waiter stays on its processor: a kernel that moves threads must not do so while they wait.
    fn this_vp() -> u32;

    /// Idles this processor until it is kicked, unless `ready`. Whether it could idle here.
    ///
    /// Called with interrupts on or off, in handlers too, also in one that came in the middle of another call.
    /// Leaves the interrupt flag as it was. With interrupts off, a kernel may have no way to idle that
    /// a kick ends; then it returns `false` at once.
    fn idle_unless(ready: impl Fn() -> bool) -> bool;

    /// Ends the idling of processor `vp`. Without effect on one that does not idle.
    fn kick(vp: u32);
}

/// A strategy for locks whose waiters stand in a queue.
pub trait QueueWait: SpinWait {
    /// Whether waiters idle, so that someone must kick them. Where they don't, [`QueueWait::idle_unless`] and
    /// [`QueueWait::kick`] are never called.
    const IDLES: bool = false;

    /// See [`ParkPlatform::this_vp`].
    fn this_vp() -> u32 {
        0
    }

    /// See [`ParkPlatform::idle_unless`].
    fn idle_unless(_ready: impl Fn() -> bool) -> bool {
        false
    }

    /// See [`ParkPlatform::kick`].
    fn kick(_vp: u32) {}
}

impl QueueWait for Bare {}
impl<P: SpinPlatform> QueueWait for Plain<P> {}
impl<P: SpinPlatform> QueueWait for Enlightened<P> {}

/// Counts rounds and, after as many as the hypervisor's threshold, idles until kicked.
///
/// Where idling is impossible (interrupts off, no guest idle register) it does what [`Enlightened`] does, and so it
/// does in locks without a queue.
#[derive(Debug)]
pub struct Idling<P>(PhantomData<fn() -> P>);

impl<P: ParkPlatform> SpinWait for Idling<P> {
    fn limit() -> u32 {
        P::notifier().threshold().rounds().unwrap_or(DEFAULT_IDLE_AFTER)
    }

    fn count(rounds: u32) {
        P::stats().add_rounds(rounds);
    }

    fn limit_reached(rounds: u32) {
        Enlightened::<P>::limit_reached(rounds);
    }

    fn count_unbounded() -> u64 {
        P::stats().add_unbounded_round()
    }
}

impl<P: ParkPlatform> QueueWait for Idling<P> {
    const IDLES: bool = true;

    fn this_vp() -> u32 {
        P::this_vp()
    }

    fn idle_unless(ready: impl Fn() -> bool) -> bool {
        let idled = P::idle_unless(ready);
        if idled {
            P::stats().add_idle();
        }
        idled
    }

    fn kick(vp: u32) {
        P::stats().add_kick();
        P::kick(vp);
    }
}
