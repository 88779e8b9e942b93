//! What a free lock costs, in instructions: a child process takes and frees it, one step at a time.
//!
//! The numbers are the processor's, not ours: `ptrace` stops the child after each instruction.

#![cfg(all(target_os = "linux", target_arch = "x86_64", not(loom)))]
#![expect(unsafe_code, reason = "forks, traces and takes locks by hand")]

mod support;

use core::hint::black_box;

use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::lock::{RawMcsLock, RawTasLock, RawTicketLock, Relax};
use hv_enlightenments::spin_wait::{
    Bare, Enlightened, LongSpinNotifier, Plain, SpinPlatform, SpinStats,
};
use lock_api::RawMutex;
use spin::mutex::SpinMutex;

use self::support::steps::instructions;

static CPU: FakeCpu = FakeCpu::new();
static STATS: SpinStats = SpinStats::new();
static NOTIFIER: LongSpinNotifier<&FakeCpu> = LongSpinNotifier::new(&CPU);

struct Kernel;

impl SpinPlatform for Kernel {
    type Cpu = &'static FakeCpu;

    fn stats() -> &'static SpinStats {
        &STATS
    }

    fn notifier() -> &'static LongSpinNotifier<Self::Cpu> {
        &NOTIFIER
    }
}

#[inline(never)]
fn take_and_free<R: RawMutex, const ROUNDS: u32>() {
    let lock = R::INIT;
    for _ in 0..black_box(ROUNDS) {
        let guard = black_box(&lock).lock();
        // SAFETY: taken above.
        unsafe { lock.unlock(guard) };
    }
}

#[inline(never)]
fn take_and_free_spin<R: spin::RelaxStrategy, const ROUNDS: u32>() {
    let lock = SpinMutex::<u32, R>::new(0);
    for _ in 0..black_box(ROUNDS) {
        drop(black_box(&lock).lock());
    }
}

/// One lock to measure, taken and freed [`FEW`] times and [`MANY`] times.
type Kind = (&'static str, fn(), fn());

const FEW: u32 = 8;
const MANY: u32 = 16;

fn raw<R: RawMutex>(name: &'static str) -> Kind {
    (name, take_and_free::<R, FEW>, take_and_free::<R, MANY>)
}

fn of_spin<R: spin::RelaxStrategy>(name: &'static str) -> Kind {
    (name, take_and_free_spin::<R, FEW>, take_and_free_spin::<R, MANY>)
}

/// What `MANY - FEW` more acquisitions and releases cost, and what the function around them costs beside.
fn costs((name, few, many): Kind) -> Option<(u32, u32)> {
    let empty = instructions(|| ())?;
    let few_steps = instructions(few)?;
    assert_eq!(instructions(few)?, few_steps, "{name}: the count does not repeat");
    let more = instructions(many)? - few_steps;
    assert!(more >= 2 * (MANY - FEW), "{name}: {more} instructions can't have done anything");
    let around = (few_steps - empty).saturating_sub(more);
    println!("{name}: {more} instructions for {} acquisitions, {around} around", MANY - FEW);
    Some((more, around))
}

/// `costs` of each kind; nothing where tracing is not allowed.
fn all_costs(kinds: &[Kind]) -> Vec<(u32, u32)> {
    let all = kinds.iter().map(|&kind| costs(kind)).collect::<Option<Vec<_>>>();
    if all.is_none() {
        println!("SKIP: tracing a child is not allowed here");
    }
    all.unwrap_or_default()
}

fn all_cost_the_same(kinds: &[Kind]) {
    let all = all_costs(kinds);
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
}

#[test]
fn every_strategy_of_test_and_set_costs_the_same_when_free() {
    let kinds = [
        raw::<RawTasLock<Bare>>("bare"),
        raw::<RawTasLock<Plain<Kernel>>>("plain"),
        raw::<RawTasLock<Enlightened<Kernel>>>("enlightened"),
    ];
    all_cost_the_same(&kinds);
}

#[test]
fn every_strategy_of_tickets_costs_the_same_when_free() {
    let kinds = [
        raw::<RawTicketLock<Bare>>("bare"),
        raw::<RawTicketLock<Plain<Kernel>>>("plain"),
        raw::<RawTicketLock<Enlightened<Kernel>>>("enlightened"),
    ];
    all_cost_the_same(&kinds);
}

#[test]
fn every_strategy_of_a_queue_that_spins_costs_the_same_when_free() {
    let kinds = [
        raw::<RawMcsLock<Bare>>("bare"),
        raw::<RawMcsLock<Plain<Kernel>>>("plain"),
        raw::<RawMcsLock<Enlightened<Kernel>>>("enlightened"),
    ];
    all_cost_the_same(&kinds);
}

#[test]
fn our_strategies_cost_the_same_when_free() {
    let kinds = [
        of_spin::<Relax<Bare>>("spin bare"),
        of_spin::<Relax<Plain<Kernel>>>("spin plain"),
        of_spin::<Relax<Enlightened<Kernel>>>("spin enlightened"),
    ];
    all_cost_the_same(&kinds);
}

/// The wait loop of `spin` is compiled into the function that locks. With ours it contains a call, so that the
/// function may save up to five registers more where it begins, and align the loop with one no-op.
#[test]
fn spins_lock_costs_at_most_a_no_op_more_with_our_strategies_than_with_its_own() {
    let kinds = [
        of_spin::<spin::Spin>("spin's own"),
        of_spin::<Relax<Enlightened<Kernel>>>("spin enlightened"),
    ];
    if let [(own, own_around), (ours, ours_around)] = all_costs(&kinds)[..] {
        assert!(ours <= own + (MANY - FEW), "{ours} instead of {own}");
        assert!(ours_around <= own_around + 10, "{ours_around} instead of {own_around}");
    }
}
