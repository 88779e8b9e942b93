//! Work that a guest and the bare machine do alike, to see what being a guest costs.
//!
//! Each [`Work`] is one function that is neither inlined nor generic, calls no other, allocates nothing and asks
//! nobody for anything, so that a kernel and a Linux program that link this crate run the same machine code
//! (`tests/tests/same_code.rs` compares the two files). Starting threads, time and memory are the caller's.
//!
//! `amount` is in steps of about a millisecond of a 2020s processor for each thread. Every piece of work ends with a
//! number that depends on all of it: both sides must come to the same.

#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

mod works;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Words of memory that a thread needs for its own: 6 MiB, more than a core's own caches have.
pub const AREA_WORDS: usize = 3 * PART_WORDS;
/// Words in each of the three arrays that make up a thread's memory.
const PART_WORDS: usize = 1 << 18;

/// How often each side does each kind of work at each width: short pieces, of which some are not disturbed.
pub const ROUNDS: usize = 10;

/// What the threads share. One for all, and fresh for each piece of work.
#[derive(Debug)]
#[repr(align(64))]
pub struct Common {
    /// Release in `give` pairs with Acquire in `take`.
    held: AtomicBool,
    /// Only whoever holds the lock writes it.
    count: AtomicU64,
}

impl Common {
    /// Nobody has done anything.
    pub const fn new() -> Self {
        Self { held: AtomicBool::new(false), count: AtomicU64::new(0) }
    }

    /// Sections under the lock that left a trace: as many as there were, if the lock excludes.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// As new, once nobody works.
    pub fn reset(&self) {
        self.held.store(false, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
    }
}

impl Default for Common {
    fn default() -> Self {
        Self::new()
    }
}

/// A kind of work.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Its name in reports, which is also its function's.
    pub name: &'static str,
    /// What it does, for a reader of the report.
    pub says: &'static str,
    run: fn(&Common, &mut [u64], u32) -> u64,
}

impl Work {
    /// Does `amount` of it as one of several threads that share `common` and each have an area of [`AREA_WORDS`],
    /// fresh from [`prepare`]. The threads' results, added up with wrap-around, depend on amount and number of threads only.
    pub fn run(&self, common: &Common, area: &mut [u64], amount: u32) -> u64 {
        (self.run)(common, area, amount)
    }
}

/// Gives a thread's area the content that work begins with.
#[inline(never)]
pub fn prepare(area: &mut [u64]) {
    area.iter_mut().zip(1..).for_each(|(word, value)| *word = value);
}

/// All kinds.
pub const WORKS: [Work; 4] = [
    Work { name: "compute", says: "arithmetic in registers", run: works::compute },
    Work {
        name: "stream",
        says: "one array becomes the sum of two, 2 MiB each",
        run: works::stream,
    },
    Work { name: "scatter", says: "reads and writes all over 6 MiB", run: works::scatter },
    Work {
        name: "locked",
        says: "short sections under one lock that all threads share",
        run: works::locked,
    },
];

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn run(work: &Work, threads: u64, amount: u32) -> (u64, u64) {
        let common = Common::new();
        let sum = std::thread::scope(|scope| {
            let thread = || {
                scope.spawn(|| {
                    let mut area = vec![7; AREA_WORDS];
                    prepare(&mut area);
                    work.run(&common, &mut area, amount)
                })
            };
            let threads: Vec<_> = (0..threads).map(|_| thread()).collect();
            let results = threads.into_iter().map(|thread| thread.join().unwrap());
            results.fold(0, u64::wrapping_add)
        });
        (sum, common.count())
    }

    #[test]
    fn a_result_depends_on_nothing_but_amount_and_threads() {
        for work in WORKS {
            for threads in [1, 2] {
                assert_eq!(run(&work, threads, 1), run(&work, threads, 1), "{}", work.name);
            }
        }
    }

    #[test]
    fn other_amounts_have_other_results() {
        for work in WORKS {
            assert_ne!(run(&work, 1, 1), run(&work, 1, 2), "{}", work.name);
        }
    }

    #[test]
    fn the_lock_excludes() {
        let [.., locked] = WORKS;
        let (sum, sections) = run(&locked, 1, 1);
        assert_ne!(sections, 0);
        assert_eq!(run(&locked, 2, 1), (sum.wrapping_mul(2), sections * 2));
    }

    #[test]
    fn an_area_that_is_too_small_is_left_alone() {
        for work in WORKS {
            work.run(&Common::new(), &mut [1, 2, 3], 1);
        }
    }
}
