//! A kernel for tests: each thread is a virtual processor with counters of its own.

extern crate std;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use std::sync::Mutex;

use hv_abi::cpuid::{Features, Privileges};

use crate::cpu::fake::FakeCpu;
use crate::detect::HyperV;
use crate::hypercall::HypercallPage;
use crate::identity::GuestOsId;
use crate::memory::{Gpa, HvPage, MappedPage};
use crate::spin_wait::{SpinCounts, SpinStats};

/// The counters of every virtual processor of one platform.
pub(crate) type Processors = Mutex<Vec<&'static SpinStats>>;

/// Counters for one more virtual processor.
pub(crate) fn new_processor(all: &Processors) -> &'static SpinStats {
    let stats: &'static SpinStats = Box::leak(Box::default());
    all.lock().unwrap().push(stats);
    stats
}

/// What all virtual processors counted.
pub(crate) fn total(all: &Processors) -> SpinCounts {
    all.lock().unwrap().iter().map(|stats| stats.counts()).sum()
}

/// An enabled hypercall page of `cpu`, on which a hypervisor with `threshold` lies.
pub(crate) fn hypercall_page(
    cpu: &'static FakeCpu,
    threshold: u32,
) -> (HypercallPage<&'static FakeCpu>, HyperV) {
    cpu.with_hyperv(Privileges::HYPERCALL, Features::empty(), threshold);
    let hv = HyperV::detect(&cpu).unwrap();
    let memory = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: the page is leaked to the value; nothing reaches it by its made-up physical address.
    let page = unsafe { MappedPage::new(memory, Gpa(0x1000)) }.unwrap();
    // SAFETY: the fake never runs the page.
    let page = unsafe { HypercallPage::enable(cpu, &hv, GuestOsId::open_source(0, 0), &page) };
    (page.unwrap(), hv)
}

/// Declares a `SpinPlatform` of its own for one test, with:
/// `enable(threshold)`, `counts()` of all processors, `calls()` the hypervisor saw.
macro_rules! test_platform {
    ($name:ident) => {
        struct $name;

        static CPU: $crate::cpu::fake::FakeCpu = $crate::cpu::fake::FakeCpu::new();
        static NOTIFIER: $crate::spin_wait::LongSpinNotifier<&$crate::cpu::fake::FakeCpu> =
            $crate::spin_wait::LongSpinNotifier::new(&CPU);
        static PROCESSORS: $crate::test_platform::Processors = std::sync::Mutex::new(Vec::new());

        std::thread_local! {
            static STATS: &'static $crate::spin_wait::SpinStats =
                $crate::test_platform::new_processor(&PROCESSORS);
        }

        impl $crate::spin_wait::SpinPlatform for $name {
            type Cpu = &'static $crate::cpu::fake::FakeCpu;

            fn stats() -> &'static $crate::spin_wait::SpinStats {
                STATS.with(|stats| *stats)
            }

            fn notifier() -> &'static $crate::spin_wait::LongSpinNotifier<Self::Cpu> {
                &NOTIFIER
            }
        }

        #[expect(clippy::allow_attributes, reason = "not every test uses every function")]
        #[allow(dead_code, reason = "not every test uses every function")]
        impl $name {
            fn enable(threshold: u32) {
                let (page, hv) = $crate::test_platform::hypercall_page(&CPU, threshold);
                NOTIFIER.enable(&page, hv.spin_threshold());
            }

            fn counts() -> $crate::spin_wait::SpinCounts {
                $crate::test_platform::total(&PROCESSORS)
            }

            fn calls() -> Vec<$crate::cpu::fake::FakeCall> {
                CPU.calls()
            }
        }
    };
}

pub(crate) use test_platform;
