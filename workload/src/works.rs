//! The loops. None of them panics, calls anything or depends on the caller's flags.

use core::sync::atomic::Ordering;

use super::{Common, PART_WORDS};

/// Rounds of [`compute`] in a step: six short instructions each.
const COMPUTE_ROUNDS: u32 = 500_000;
/// Reads and writes of [`scatter`] in a step.
const SCATTER_ROUNDS: u32 = 80_000;
/// Sections of [`locked`] in a step.
const LOCKED_ROUNDS: u32 = 6000;
/// Rounds of arithmetic under the lock and between two sections: about one processor in four holds it.
const HOLD_ROUNDS: u32 = 20;
const GAP_ROUNDS: u32 = 60;

/// One round of Marsaglia's xorshift64 (G. Marsaglia, *Xorshift RNGs*, 2003, triple 13, 7, 17).
macro_rules! xorshift {
    ($x:ident) => {
        $x ^= $x << 13;
        $x ^= $x >> 7;
        $x ^= $x << 17;
    };
}

#[inline(never)]
pub(super) fn compute(_common: &Common, _area: &mut [u64], amount: u32) -> u64 {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..amount {
        for _ in 0..COMPUTE_ROUNDS {
            xorshift!(x);
        }
    }
    x
}

#[inline(never)]
pub(super) fn stream(_common: &Common, area: &mut [u64], amount: u32) -> u64 {
    let Some((a, rest)) = area.split_at_mut_checked(PART_WORDS) else { return 0 };
    let Some((b, c)) = rest.split_at_mut_checked(PART_WORDS) else { return 0 };
    let mut sum = 0_u64;
    // A sweep is a step.
    for sweep in 0..amount {
        let factor = u64::from(sweep) | 1;
        for ((a, b), c) in a.iter_mut().zip(&*b).zip(&*c) {
            *a = b.wrapping_add(c.wrapping_mul(factor));
        }
        sum = sum.wrapping_add(a.last().copied().unwrap_or(0));
    }
    sum
}

#[inline(never)]
pub(super) fn scatter(_common: &Common, area: &mut [u64], amount: u32) -> u64 {
    let len = area.len() as u64;
    let (mut x, mut sum) = (0x2545_F491_4F6C_DD1D_u64, 0_u64);
    for _ in 0..amount {
        for _ in 0..SCATTER_ROUNDS {
            xorshift!(x);
            // The upper half of a product: an index below `len` without a division.
            let at = ((u128::from(x) * u128::from(len)) >> 64) as usize;
            if let Some(word) = area.get_mut(at) {
                sum = sum.wrapping_add(*word);
                *word ^= x;
            }
        }
    }
    sum
}

#[inline(never)]
pub(super) fn locked(common: &Common, _area: &mut [u64], amount: u32) -> u64 {
    let mut x = 0x9E37_79B9_7F4A_7C15_u64;
    let mut sections = 0_u64;
    for _ in 0..amount {
        for _ in 0..LOCKED_ROUNDS {
            while common
                .held
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                while common.held.load(Ordering::Relaxed) {
                    core::hint::spin_loop();
                }
            }
            let count = common.count.load(Ordering::Relaxed);
            for _ in 0..HOLD_ROUNDS {
                xorshift!(x);
            }
            common.count.store(count.wrapping_add(1), Ordering::Relaxed);
            common.held.store(false, Ordering::Release);
            for _ in 0..GAP_ROUNDS {
                xorshift!(x);
            }
            sections = sections.wrapping_add(1);
        }
    }
    x.wrapping_add(sections)
}
