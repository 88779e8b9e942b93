//! Scaling: work of the crate `workload` on 1, 2, 4… virtual processors. A Linux program that does the same on the
//! bare machine is what it is held against (`tests/src/bin/bare-metal.rs`).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::MAX_VPS;
use spin::mutex::SpinMutex;
use workload::{AREA_WORDS, Common, ROUNDS, WORKS};

use crate::machine::console::{self, println};
use crate::machine::jobs::{self, Barrier};
use crate::machine::{clock, exit};
use crate::study;

/// What the processors do next, for functions that get nothing but a number.
#[derive(Clone, Copy)]
struct Task {
    work: usize,
    width: usize,
    amount: u32,
}

static TASK: SpinMutex<Task> = SpinMutex::new(Task { work: 0, width: 0, amount: 0 });
static COMMON: Common = Common::new();
/// Each processor's own while it works.
static AREAS: [SpinMutex<Vec<u64>>; MAX_VPS] = [const { SpinMutex::new(Vec::new()) }; MAX_VPS];
static FIRST_100NS: AtomicU64 = AtomicU64::new(0);
static LAST_100NS: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static START: Barrier = Barrier::new();

/// Looks before halting at the start: long enough that all processors begin together.
const START_PATIENCE: u32 = 200_000;

/// Does everything at every width; the exit code.
pub(crate) fn run(amount: u32) -> u8 {
    jobs::halt_bystanders();
    let most = study::most_vps();
    for (index, area) in AREAS.iter().enumerate().take(most) {
        let mut area = area.lock();
        if area.try_reserve_exact(AREA_WORDS).is_err() {
            println!(
                "cannot measure scaling with {} virtual processors: the heap is too small for their memory; \
                 give the machine more RAM",
                index + 1
            );
            return exit::BAD_INPUT;
        }
        // Touches each page, so that the hypervisor has provided it before anything is measured.
        area.resize(AREA_WORDS, 1);
    }
    let widths = core::iter::successors(Some(1), |width| Some(width * 2));
    for width in widths.take_while(|width| *width <= most) {
        for work in (0..ROUNDS).flat_map(|_| 0..WORKS.len()) {
            measure(Task { work, width, amount });
        }
    }
    exit::SUCCESS
}

fn measure(task: Task) {
    *TASK.lock() = task;
    COMMON.reset();
    FIRST_100NS.store(u64::MAX, Ordering::Relaxed);
    LAST_100NS.store(0, Ordering::Relaxed);
    SUM.store(0, Ordering::Relaxed);
    jobs::run_on(task.width, part);
    let (first, last) = (FIRST_100NS.load(Ordering::Relaxed), LAST_100NS.load(Ordering::Relaxed));
    let elapsed_100ns = last.saturating_sub(first);
    let name = WORKS[task.work].name;
    log::info!("{name} on {}: {} us", task.width, elapsed_100ns / 10);
    console::event("scaling", |event| {
        event
            .str("work", name)
            .number("width", task.width as u64)
            .number("amount", task.amount.into())
            .number("elapsed_100ns", elapsed_100ns)
            .number("result", SUM.load(Ordering::Relaxed).wrapping_add(COMMON.count()))
            .end()
    });
}

/// One processor's part.
fn part(index: usize) {
    let task = *TASK.lock();
    let Some(work) = WORKS.get(task.work) else { return };
    let mut area = AREAS[index].lock();
    workload::prepare(&mut area);
    START.wait_patiently(task.width, START_PATIENCE);
    FIRST_100NS.fetch_min(clock::now_100ns(), Ordering::Relaxed);
    let result = work.run(&COMMON, &mut area, task.amount);
    LAST_100NS.fetch_max(clock::now_100ns(), Ordering::Relaxed);
    SUM.fetch_add(result, Ordering::Relaxed);
}
