//! What taking and freeing a free lock costs, ours beside those of `spin`, `parking_lot` and `std`.
//!
//! `make costs` runs this and prints the ratios.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::lock::{FairRwLock, McsLock, Relax, TasLock, TicketLock};
use hv_enlightenments::spin_wait::{
    Bare, Enlightened, Idling, LongSpinNotifier, ParkPlatform, SpinPlatform, SpinStats,
};

/// A kernel whose locks are always free.
struct Kernel;

static CPU: FakeCpu = FakeCpu::new();
static STATS: SpinStats = SpinStats::new();
static NOTIFIER: LongSpinNotifier<&FakeCpu> = LongSpinNotifier::new(&CPU);

impl SpinPlatform for Kernel {
    type Cpu = &'static FakeCpu;

    fn stats() -> &'static SpinStats {
        &STATS
    }

    fn notifier() -> &'static LongSpinNotifier<Self::Cpu> {
        &NOTIFIER
    }
}

impl ParkPlatform for Kernel {
    fn this_vp() -> u32 {
        0
    }

    fn idle_unless(_ready: impl Fn() -> bool) -> bool {
        false
    }

    fn kick(_vp: u32) {}
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

macro_rules! measure {
    ($group:expr, $name:literal, $lock:expr, $guard:ident => $take:expr) => {{
        let $guard = $lock;
        $group.bench_function($name, |bencher| {
            bencher.iter(|| {
                let $guard = black_box(&$guard);
                black_box(&mut *$take);
            });
        });
    }};
}

fn mutexes(criterion: &mut Criterion) {
    let mut group: Group = criterion.benchmark_group("mutex");
    measure!(group, "tas", TasLock::<u64, Enlightened<Kernel>>::new(0), lock => lock.lock());
    measure!(group, "ticket", TicketLock::<u64, Enlightened<Kernel>>::new(0), lock => lock.lock());
    measure!(group, "mcs", McsLock::<u64, Enlightened<Kernel>>::new(0), lock => lock.lock());
    measure!(group, "mcs-bare", McsLock::<u64, Bare>::new(0), lock => lock.lock());
    measure!(group, "mcs-idling", McsLock::<u64, Idling<Kernel>>::new(0), lock => lock.lock());
    measure!(group, "spin-relax",
        spin::mutex::SpinMutex::<u64, Relax<Enlightened<Kernel>>>::new(0), lock => lock.lock());
    measure!(group, "spin", spin::mutex::SpinMutex::<u64>::new(0), lock => lock.lock());
    measure!(group, "spin-ticket", spin::mutex::TicketMutex::<u64>::new(0), lock => lock.lock());
    measure!(group, "parking_lot", parking_lot::Mutex::new(0_u64), lock => lock.lock());
    measure!(group, "std", std::sync::Mutex::new(0_u64),
        lock => lock.lock().expect("nobody panicked"));
    group.finish();
}

/// Guards of readers give no `&mut`.
macro_rules! measure_read {
    ($group:expr, $name:literal, $lock:expr, $guard:ident => $take:expr) => {{
        let $guard = $lock;
        $group.bench_function($name, |bencher| {
            bencher.iter(|| {
                let $guard = black_box(&$guard);
                black_box(&*$take);
            });
        });
    }};
}

fn readers(criterion: &mut Criterion) {
    let mut group: Group = criterion.benchmark_group("read");
    measure_read!(group, "fair-rw", FairRwLock::<u64, Enlightened<Kernel>>::new(0), lock => lock.read());
    measure_read!(group, "fair-rw-idling", FairRwLock::<u64, Idling<Kernel>>::new(0), lock => lock.read());
    measure_read!(group, "spin", spin::rwlock::RwLock::<u64>::new(0), lock => lock.read());
    measure_read!(group, "parking_lot", parking_lot::RwLock::new(0_u64), lock => lock.read());
    measure_read!(group, "std", std::sync::RwLock::new(0_u64),
        lock => lock.read().expect("nobody panicked"));
    group.finish();
}

fn writers(criterion: &mut Criterion) {
    let mut group: Group = criterion.benchmark_group("write");
    measure!(group, "fair-rw", FairRwLock::<u64, Enlightened<Kernel>>::new(0), lock => lock.write());
    measure!(group, "fair-rw-idling", FairRwLock::<u64, Idling<Kernel>>::new(0), lock => lock.write());
    measure!(group, "spin", spin::rwlock::RwLock::<u64>::new(0), lock => lock.write());
    measure!(group, "parking_lot", parking_lot::RwLock::new(0_u64), lock => lock.write());
    measure!(group, "std", std::sync::RwLock::new(0_u64),
        lock => lock.write().expect("nobody panicked"));
    group.finish();
}

criterion_group!(benches, mutexes, readers, writers);
criterion_main!(benches);
