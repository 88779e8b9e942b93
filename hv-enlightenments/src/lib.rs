//! Hyper-V enlightenments for any Rust kernel or unikernel.
//!
//! What a guest gains by knowing that it runs on a hypervisor with the Hyper-V interface (Hyper-V itself, KVM
//! with its `hv-*` options, Xen's Viridian, …): hypercalls, a clock, timers and interrupts that cost fewer exits, flushes
//! and interrupts of many processors in one call, and locks that tell the hypervisor when they wait for long, or sleep.
//!
//! The crate is `no_std`, allocates nothing and knows no kernel. A kernel supplies pages and a place for each
//! virtual processor's counters; the processor itself is behind the trait [`Cpu`], so everything is tested on
//! a host against a fake.
//!
//! | module | what for |
//! | --- | --- |
//! | [`detect`] | is the interface there, and what does it offer |
//! | [`identity`], [`hypercall`] | who we are; calls in registers and in memory |
//! | [`synic`], [`stimer`] | messages, event flags and timers of a virtual processor |
//! | [`clock`], [`vp`] | reference time, frequencies, migrations; the processor's number |
//! | [`apic`] | the local APIC's registers, and interrupts that end without an exit |
//! | [`crash`], [`extended`] | telling of a crash; memory that is zero, or free |
//! | [`tlb`], [`ipi`], [`vp_set`] | flushing and interrupting other processors, sets of them |
//! | [`idle`] | sleeping with interrupts masked |
//! | [`spin_wait`], [`lock`] | counting and reporting waits; the locks that do so |
//! | [`cpu`], [`memory`] | the processor and the shared pages underneath |
//!
//! # In your kernel
//!
//! Once, what the locks need: counters for each virtual processor and one notifier. Locks may be used from
//! the first instruction on that finds the counters; until the notifier is enabled they only count.
//!
//! ```
//! # use hv_enlightenments::cpu::fake::FakeCpu;
//! # use hv_abi::cpuid::{Features, Privileges};
//! use core::ptr::NonNull;
//! use hv_enlightenments::lock::TicketLock;
//! use hv_enlightenments::spin_wait::{Enlightened, LongSpinNotifier, SpinPlatform, SpinStats};
//! use hv_enlightenments::{
//!     Clock, Gpa, GuestOsId, HyperV, HypercallPage, MappedPage, ReferenceTscPage,
//! };
//! # /*
//! use hv_enlightenments::X86Cpu;
//!
//! // SAFETY: a kernel runs in ring 0.
//! const CPU: X86Cpu = unsafe { X86Cpu::new() };
//! # */
//! # type X86Cpu = &'static FakeCpu;
//! # static FAKE: FakeCpu = FakeCpu::new();
//! # const CPU: X86Cpu = &FAKE;
//! # fn gs_block() -> &'static Block { static BLOCK: Block = Block { spins: SpinStats::new() }; &BLOCK }
//! # struct Block { spins: SpinStats }
//! static NOTIFIER: LongSpinNotifier<X86Cpu> = LongSpinNotifier::new(CPU);
//!
//! struct Kernel;
//!
//! impl SpinPlatform for Kernel {
//!     type Cpu = X86Cpu;
//!
//!     fn stats() -> &'static SpinStats {
//!         &gs_block().spins // the block of the processor that runs this
//!     }
//!
//!     fn notifier() -> &'static LongSpinNotifier<X86Cpu> {
//!         &NOTIFIER
//!     }
//! }
//!
//! /// The kernel's mutex.
//! type Mutex<T> = TicketLock<T, Enlightened<Kernel>>;
//!
//! static TASKS: Mutex<u32> = Mutex::new(0);
//! static TSC_PAGE: ReferenceTscPage = ReferenceTscPage::new();
//!
//! /// On the boot processor. `page` is a page that the kernel gives away, mapped executable.
//! fn init(page: NonNull<u8>, page_gpa: Gpa, tsc_page_gpa: Gpa) -> Option<Clock<X86Cpu>> {
//!     let hv = HyperV::detect(&CPU).ok()?;
//!
//!     // SAFETY: `page` is at `page_gpa`, and nothing else uses it.
//!     let page = unsafe { MappedPage::new(page, page_gpa) }?;
//!     // SAFETY: the page is executable and never used for anything else.
//!     match unsafe { HypercallPage::enable(CPU, &hv, GuestOsId::open_source(1, 0), &page) } {
//!         Ok(calls) => NOTIFIER.enable(&calls, hv.spin_threshold()),
//!         Err(error) => println!("no hypercalls: {error}"),
//!     }
//!
//!     let mut clock = Clock::new(CPU, &hv).ok()?;
//!     // SAFETY: `TSC_PAGE` is at `tsc_page_gpa`.
//!     if let Err(error) = unsafe { clock.enable_tsc_page(&hv, &TSC_PAGE, tsc_page_gpa) } {
//!         println!("each reading of the clock costs an exit: {error}");
//!     }
//!     Some(clock)
//! }
//! # FAKE.with_hyperv(Privileges::all(), Features::empty(), 4095);
//! # FAKE.set_msr(0x4000_0020, 5);
//! # let page = Box::leak(Box::new(hv_enlightenments::HvPage::new()));
//! # let clock = init(NonNull::from(page).cast(), Gpa(0x1000), Gpa(0x2000)).unwrap();
//! # assert_eq!(clock.now_100ns(), 5);
//! # assert_eq!(NOTIFIER.threshold().rounds(), Some(4095));
//!
//! *TASKS.lock() += 1;
//! let counts = Kernel::stats().counts();
//! println!("waited {} rounds, told the hypervisor {} times", counts.iterations, counts.notifications);
//! # assert_eq!((counts.iterations, counts.notifications), (0, 0));
//! ```
//!
//! A kernel that uses the locks of the crate `spin` already keeps them and changes their strategy:
//! `spin::mutex::SpinMutex<T, Relax<Enlightened<Kernel>>>`; [`lock::Relax`] says what that does less well.
//!
//! # What is promised
//!
//! - Nothing that the hypervisor says is trusted: it can be wrong, but it can't make this crate panic, loop
//!   without end or touch memory it was not given.
//! - A free lock costs the same with every strategy, to the instruction (`tests/uncontended.rs`).
//! - `notifications` is the number of `HvCallNotifyLongSpinWait` calls made, exactly.
//! - A fast hypercall through [`HypercallPage`] takes not one instruction more than by hand
//!   (`tests/hypercall_cost.rs`).
//! - With [`spin_wait::Idling`], no kick is lost, and a waiter that idles is woken by whoever frees the lock.
//! - Waiting is sound with interrupts on or off, and in interrupt handlers, also in the middle of another wait.
//!
//! # Programs' XMM registers
//!
//! Calls with many parameters go in XMM registers where the hypervisor takes them. A kernel built without SSE, which leaves
//! programs' values in these registers, says so once: [`HypercallPage::without_xmm`].
//!
//! # Features
//!
//! `lock_api` (default): the raw locks implement `lock_api`'s `RawMutex` and `RawRwLock`. `spin` (default): [`lock::Relax`].
//! `fake`: `cpu::fake`, a processor for tests, for which `alloc` is needed.
//!
//! # Tests
//!
//! ```text
//! cargo test -p hv-enlightenments
//! RUSTFLAGS="--cfg loom" cargo test -p hv-enlightenments --test loom --release
//! cargo bench -p hv-enlightenments
//! ```

#![no_std]
#![deny(missing_docs)]

#[cfg(any(test, feature = "fake"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod apic;
pub mod clock;
pub mod cpu;
pub mod crash;
pub mod detect;
pub mod extended;
pub mod hypercall;
pub mod identity;
pub mod idle;
pub mod ipi;
pub mod lock;
pub mod memory;
pub mod spin_wait;
pub mod stimer;
mod sync;
pub mod synic;
#[cfg(all(test, not(loom)))]
#[expect(unsafe_code, reason = "enables a hypercall page")]
mod test_calls;
#[cfg(all(test, not(loom)))]
#[expect(unsafe_code, reason = "enables a hypercall page")]
mod test_platform;
pub mod tlb;
pub mod vp;
pub mod vp_set;

pub use clock::{Clock, ReferenceTscPage};
pub use cpu::Cpu;
#[cfg(target_arch = "x86_64")]
pub use cpu::X86Cpu;
pub use detect::{Absence, HyperV};
pub use hypercall::{CallError, HypercallPage};
pub use identity::GuestOsId;
pub use idle::GuestIdle;
pub use ipi::ClusterIpi;
pub use memory::{Gpa, HvPage, MappedPage};
pub use tlb::TlbFlush;
pub use vp_set::{Targets, VpSet};
