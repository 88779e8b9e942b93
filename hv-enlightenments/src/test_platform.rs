//! A kernel for tests: each thread is a virtual processor with counters and an idle state of its own.

extern crate std;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Condvar, Mutex};

use hv_abi::cpuid::{Features, Privileges};

use crate::cpu::fake::FakeCpu;
use crate::detect::HyperV;
use crate::hypercall::HypercallPage;
use crate::identity::GuestOsId;
use crate::memory::{Gpa, HvPage, MappedPage};
use crate::spin_wait::{SpinCounts, SpinStats};

/// A virtual processor: what a kernel keeps for one.
pub(crate) struct Processor {
    pub(crate) number: u32,
    pub(crate) stats: SpinStats,
    /// Whether a kick is to be sent. As a kernel does, so that what the locks rely on is this, and no more.
    idles: AtomicBool,
    interrupted: Mutex<bool>,
    interrupt: Condvar,
}

/// Every virtual processor of one platform.
pub(crate) type Processors = Mutex<Vec<&'static Processor>>;

/// One more virtual processor.
pub(crate) fn new_processor(all: &Processors) -> &'static Processor {
    let mut all = all.lock().unwrap();
    let processor: &'static Processor = Box::leak(Box::new(Processor {
        number: all.len() as u32,
        stats: SpinStats::new(),
        idles: AtomicBool::new(false),
        interrupted: Mutex::new(false),
        interrupt: Condvar::new(),
    }));
    all.push(processor);
    processor
}

impl Processor {
    /// `ParkPlatform::idle_unless` on this processor.
    pub(crate) fn idle_unless(&self, ready: impl Fn() -> bool) -> bool {
        self.idles.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !ready() {
            let mut interrupted = self.interrupted.lock().unwrap();
            while !*interrupted {
                interrupted = self.interrupt.wait(interrupted).unwrap();
            }
        }
        self.idles.store(false, Ordering::SeqCst);
        *self.interrupted.lock().unwrap() = false;
        true
    }

    /// Whether it idles, or is about to.
    pub(crate) fn idles(&self) -> bool {
        self.idles.load(Ordering::SeqCst)
    }

    /// Ends the idling, whatever for.
    pub(crate) fn interrupt(&self) {
        fence(Ordering::SeqCst);
        if self.idles.swap(false, Ordering::SeqCst) {
            *self.interrupted.lock().unwrap() = true;
            self.interrupt.notify_one();
        }
    }
}

/// What all virtual processors counted.
pub(crate) fn total(all: &Processors) -> SpinCounts {
    all.lock().unwrap().iter().map(|vp| vp.stats.counts()).sum()
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
/// `enable(threshold)`, `counts()` and `idle_counts()` of all processors, how many are `idling_now()`,
/// `calls()` the hypervisor saw.
macro_rules! test_platform {
    ($name:ident) => {
        struct $name;

        static CPU: $crate::cpu::fake::FakeCpu = $crate::cpu::fake::FakeCpu::new();
        static NOTIFIER: $crate::spin_wait::LongSpinNotifier<&$crate::cpu::fake::FakeCpu> =
            $crate::spin_wait::LongSpinNotifier::new(&CPU);
        static PROCESSORS: $crate::test_platform::Processors = std::sync::Mutex::new(Vec::new());

        std::thread_local! {
            static PROCESSOR: &'static $crate::test_platform::Processor =
                $crate::test_platform::new_processor(&PROCESSORS);
        }

        impl $crate::spin_wait::SpinPlatform for $name {
            type Cpu = &'static $crate::cpu::fake::FakeCpu;

            fn stats() -> &'static $crate::spin_wait::SpinStats {
                PROCESSOR.with(|vp| &vp.stats)
            }

            fn notifier() -> &'static $crate::spin_wait::LongSpinNotifier<Self::Cpu> {
                &NOTIFIER
            }
        }

        impl $crate::spin_wait::ParkPlatform for $name {
            fn this_vp() -> u32 {
                PROCESSOR.with(|vp| vp.number)
            }

            fn idle_unless(ready: impl Fn() -> bool) -> bool {
                PROCESSOR.with(|vp| vp.idle_unless(ready))
            }

            fn kick(vp: u32) {
                let processor = PROCESSORS.lock().unwrap()[vp as usize];
                processor.interrupt();
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

            fn idle_counts() -> $crate::spin_wait::IdleCounts {
                let all = PROCESSORS.lock().unwrap();
                let each = all.iter().map(|vp| vp.stats.idle_counts());
                each.fold($crate::spin_wait::IdleCounts::default(), |sum, one| {
                    $crate::spin_wait::IdleCounts {
                        idles: sum.idles + one.idles,
                        kicks: sum.kicks + one.kicks,
                    }
                })
            }

            fn idling_now() -> usize {
                PROCESSORS.lock().unwrap().iter().filter(|vp| vp.idles()).count()
            }

            fn calls() -> Vec<$crate::cpu::fake::FakeCall> {
                CPU.calls()
            }
        }
    };
}

pub(crate) use test_platform;
