//! What our drivers cost, in instructions: one read, one write, one frame.
//!
//! A child process plays guest and host, as in the tests of this crate, and is stopped after each instruction of its first thread while a driver
//! works there ([`steps`]). So the count is the processor's, and needs neither a virtual machine nor performance counters.
//!
//! Counted are polls of the drivers' tasks, from request to answer, the bus's task included. Not counted are the kernel's own part (hypercalls, the
//! clock, time limits: [`hal::entries`]) and the interrupt handler, which wakes the tasks from another thread. An instruction that repeats itself
//! (`rep movsb`) is one. What a thing costs is the difference of many and few of them.
//!
//! `make costs` shows the figures.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod card;
mod disk;
mod steps;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use hv_abi::guid::Guid;
use hypervisor_host::vmbus::ServerOptions;
use in_process::run::block_on_within;
use in_process::{Devices, InProcessHal, Machine, hal};
use vsc_drivers::task::beside;
use vsc_drivers::{BusOptions, ChannelId, Vmbus};

use steps::{Mark, Steps};

/// What may take so long has hung.
const LIMIT: Duration = Duration::from_secs(120);
/// For answers that come behind the first one: they are counted with it.
const SETTLE: Duration = Duration::from_millis(25);

/// A kind of work: its name, and what does it so often.
struct Work {
    name: &'static str,
    run: fn(u32),
    few: u32,
    many: u32,
    /// Operations in each.
    each: u32,
}

const WORKS: &[Work] = &[
    Work { name: "storvsc/read-4096/1", run: disk::reads::<1>, few: 8, many: 16, each: 1 },
    Work { name: "storvsc/read-4096/32", run: disk::reads::<32>, few: 2, many: 4, each: 32 },
    Work { name: "storvsc/write-4096/1", run: disk::writes::<1>, few: 8, many: 16, each: 1 },
    Work { name: "storvsc/write-4096/32", run: disk::writes::<32>, few: 2, many: 4, each: 32 },
    Work { name: "netvsc/send-1514/burst", run: card::sends, few: 2, many: 4, each: 32 },
    Work { name: "netvsc/receive-1514/burst", run: card::receives, few: 2, many: 4, each: 32 },
];

fn main() {
    // Only `cargo bench` says so; `cargo test --benches` has no use for figures of unoptimised code.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    for work in WORKS {
        match cost(work) {
            Some(instructions) => println!("COUNT {} {instructions:.1}", work.name),
            None => println!("SKIP {} tracing a child is not allowed here", work.name),
        }
    }
}

/// Instructions of one operation.
fn cost(work: &Work) -> Option<f64> {
    let parts = hal::entries();
    let count = |rounds| Steps::of(|| (work.run)(rounds), &parts).map(|steps| steps.total());
    let (few, many) = (count(work.few)?, count(work.many)?);
    let operations = f64::from((work.many - work.few) * work.each);
    Some((many as f64 - few as f64) / operations)
}

/// A machine with a bus that is connected.
struct Guest {
    _machine: Machine,
    bus: Vmbus<InProcessHal>,
}

impl Guest {
    fn new() -> Self {
        let machine = Machine::new(ServerOptions::new(1), Devices::new(1).all());
        let bus = machine.new_bus(BusOptions::default());
        let guest = Self { _machine: machine, bus };
        guest.prepare(async {
            guest.bus.connect().await.expect("a connection");
            guest.bus.all_offers_delivered().await.expect("all offers");
        });
        guest
    }

    /// The devices of a kind.
    fn channels(&self, interface: Guid) -> Vec<ChannelId> {
        let offers = self.bus.offers().into_iter();
        offers.filter(|offer| offer.interface == interface).map(|offer| offer.channel).collect()
    }

    /// What has to be done before anything is counted.
    fn prepare<F: Future>(&self, work: F) -> F::Output {
        block_on_within(LIMIT, "the preparation", beside(self.bus.run(), work))
    }

    /// Counts each poll of `work`, with the bus's task; the host has time to do all of its part in between.
    fn counted<F: Future>(&self, work: F) -> F::Output {
        let woken =
            Arc::new(Woken { flag: AtomicBool::new(false), thread: std::thread::current() });
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut task = pin!(beside(self.bus.run(), work));
        loop {
            Mark::set();
            let polled = task.as_mut().poll(&mut context);
            Mark::set();
            if let Poll::Ready(output) = polled {
                return output;
            }
            woken.wait();
        }
    }
}

struct Woken {
    flag: AtomicBool,
    thread: Thread,
}

impl Woken {
    fn wait(&self) {
        while !self.flag.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
        std::thread::sleep(SETTLE);
        self.flag.store(false, Ordering::Release);
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
