//! Our strategies as a relax strategy of the crate `spin`.

use core::marker::PhantomData;

use crate::spin_wait::SpinWait;
use crate::sync::spin_loop;

/// Waiting strategy `W` for the locks of the crate `spin`: `spin::mutex::SpinMutex<T, Relax<W>>`.
///
/// `spin` calls a strategy once for each look at a held lock and says neither when a wait begins nor when it
/// ends. So rounds are counted for each virtual processor across waits, and the hypervisor is told at every
/// multiple of the threshold. What that means, for a threshold of `t`:
///
/// - a processor that waits `n` rounds in all tells the hypervisor ⌊n / t⌋ or ⌊n / t⌋ + 1 times;
/// - a wait of `n` rounds causes ⌊n / t⌋ or ⌊n / t⌋ + 1 of them, where the raw locks of [`crate::lock`], which
///   know their waits, cause ⌊n / t⌋ exactly: now and then a short wait is reported as long;
/// - the count the hypervisor is told is `t`, what was added since the last time.
#[derive(Debug)]
pub struct Relax<W>(PhantomData<fn() -> W>);

impl<W: SpinWait> spin::RelaxStrategy for Relax<W> {
    // Kept out of line, so that what `spin` compiles for a free lock does not depend on the strategy.
    #[cold]
    #[inline(never)]
    fn relax() {
        spin_loop();
        let rounds = W::count_unbounded();
        let limit = W::limit();
        if rounds.is_multiple_of(u64::from(limit)) {
            W::limit_reached(limit);
        }
    }
}
