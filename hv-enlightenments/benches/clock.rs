//! What reading the time costs, by the reference TSC page and by the processor's counter alone.
//!
//! The page has to read the counter in order with its own fields, so that it is compared with the counter read
//! in that order (`lfence; rdtsc; lfence`), with half of it, and with the instruction alone.

#![expect(unsafe_code, reason = "lays out a page as a hypervisor would, reads the counter")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::hint::black_box;
use std::ptr::from_ref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use hv_abi::cpuid::{Features, Privileges};
use hv_enlightenments::cpu::fake::FakeCpu;
use hv_enlightenments::{Clock, Cpu, Gpa, HyperV, ReferenceTscPage};

use self::support::user_cpu::UserCpu;

static FAKE: FakeCpu = FakeCpu::new();
static PAGE: ReferenceTscPage = ReferenceTscPage::new();

/// Fills the page for a counter of 2.5 GHz: 10 MHz, shifted by 64 bits.
fn publish() {
    let page = from_ref(&PAGE);
    // SAFETY: the page begins with its sequence number, an atomic in our `static`.
    let sequence = unsafe { &*page.cast::<AtomicU32>() };
    // SAFETY: the page is longer.
    let scale = unsafe { page.cast::<AtomicU64>().add(1) };
    // SAFETY: the scale is the second field of eight bytes, an atomic too.
    let scale = unsafe { &*scale };
    scale.store(u64::MAX / 250, Ordering::Relaxed);
    sequence.store(1, Ordering::Release);
}

fn clock() -> Clock<UserCpu> {
    let cpu = UserCpu::new(&FAKE);
    FAKE.with_hyperv(Privileges::all(), Features::empty(), 0);
    let hv = HyperV::detect(&cpu).expect("the fake has the interface");
    let mut clock = Clock::new(cpu, &hv).expect("the fake has the counter");
    // SAFETY: nobody looks at the address.
    unsafe { clock.enable_tsc_page(&hv, &PAGE, Gpa(0x1000)) }.expect("the fake takes the page");
    publish();
    clock
}

fn readings(criterion: &mut Criterion) {
    let clock = clock();
    let cpu = UserCpu::new(&FAKE);
    assert!(PAGE.read(&cpu).is_some_and(|time| time > 0), "the page is not filled");
    let mut group = criterion.benchmark_group("clock");
    group.bench_function("tsc-page", |bencher| bencher.iter(|| black_box(&PAGE).read(&cpu)));
    group.bench_function("clock", |bencher| bencher.iter(|| black_box(&clock).now_100ns()));
    // SAFETY: every x86-64 processor has the instruction.
    group.bench_function("rdtsc", |bencher| bencher.iter(|| unsafe { _rdtsc() }));
    group.bench_function("lfence-rdtsc", |bencher| {
        bencher.iter(|| {
            // SAFETY: as above.
            unsafe { _mm_lfence() };
            // SAFETY: as above.
            unsafe { _rdtsc() }
        });
    });
    group.bench_function("lfence-rdtsc-lfence", |bencher| bencher.iter(|| cpu.rdtsc()));
    group.finish();
}

criterion_group!(benches, readings);
criterion_main!(benches);
