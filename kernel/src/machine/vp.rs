//! The per-processor block, which GS points to.

#![expect(unsafe_code, reason = "per-processor data is reached through GS")]

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use hv_enlightenments::spin_wait::SpinStats;
use kernel::MAX_VPS;
use kernel::memory_map::Range;
use kernel::rounds::Request;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use super::fault::{Guard, Recovery};
use super::segments::Segments;
use super::stacks::Stacks;

/// No index of the hypervisor's is known.
const NO_INDEX: u32 = u32::MAX;

/// What one virtual processor has for itself. Others may read it.
#[repr(C)]
pub(crate) struct Vp {
    /// Its own address, at GS:0.
    this: *const Vp,
    /// Number in the order of the MADT; the boot processor is 0.
    pub(crate) index: u32,
    /// Its local APIC's identifier.
    pub(crate) apic_id: u32,
    /// Its stacks.
    pub(crate) stacks: Stacks,
    /// Its descriptor tables. Only the processor itself touches them.
    pub(crate) segments: UnsafeCell<Segments>,
    /// Where to go on after a fault that was expected. Only the processor itself touches it.
    pub(crate) recovery: Cell<Option<Recovery>>,
    /// Where to go on if what it does is abandoned. Only the processor itself touches it.
    pub(crate) guard: Cell<Option<Guard>>,
    /// How it has waited.
    pub(crate) spins: SpinStats,
    /// Interrupts taken, those that only wake included.
    pub(crate) interrupts: AtomicU64,
    /// Interrupts of [`super::interrupts::TEST_VECTOR`] taken.
    pub(crate) test_interrupts: AtomicU64,
    /// The hypervisor's index, or [`NO_INDEX`]. Relaxed: written before `online`.
    hypervisor_index: AtomicU32,
    /// Translations that others want it to forget.
    pub(crate) flush: Request,
    /// It runs and takes jobs. Release in `smp`, Acquire in [`online`].
    pub(crate) online: AtomicBool,
    /// An exception is being reported.
    pub(crate) in_exception: AtomicBool,
}

// SAFETY: what is not atomic is written before the block is published in `BLOCKS`, or belongs to the
// processor itself.
unsafe impl Sync for Vp {}

static BLOCKS: [AtomicPtr<Vp>; MAX_VPS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VPS];
/// Whether GS is set up on the boot processor; before that there is only one.
static READY: AtomicBool = AtomicBool::new(false);
/// Counters for waits before there are blocks.
static EARLY_SPINS: SpinStats = SpinStats::new();

impl Vp {
    /// The block of processor `index` with these stacks.
    pub(crate) fn new(index: u32, apic_id: u32, stacks: Stacks) -> Self {
        Self {
            this: core::ptr::null(),
            index,
            apic_id,
            stacks,
            segments: UnsafeCell::new(Segments::new()),
            recovery: Cell::new(None),
            guard: Cell::new(None),
            spins: SpinStats::new(),
            interrupts: AtomicU64::new(0),
            test_interrupts: AtomicU64::new(0),
            hypervisor_index: AtomicU32::new(NO_INDEX),
            flush: Request::new(),
            online: AtomicBool::new(false),
            in_exception: AtomicBool::new(false),
        }
    }

    /// By what index the hypervisor knows the processor, if it has told.
    pub(crate) fn hypervisor_index(&self) -> Option<u32> {
        Some(self.hypervisor_index.load(Ordering::Relaxed)).filter(|&index| index != NO_INDEX)
    }

    /// Makes a note of the hypervisor's index.
    pub(crate) fn set_hypervisor_index(&self, index: Option<u32>) {
        self.hypervisor_index.store(index.unwrap_or(NO_INDEX), Ordering::Relaxed);
    }

    /// Makes the block known to others.
    pub(crate) fn publish(&'static mut self) {
        self.this = &raw const *self;
        let index = self.index as usize;
        // Release pairs with the Acquire in `get`.
        BLOCKS[index].store(self, Ordering::Release);
    }

    /// Makes this block that of the processor that runs this, with its descriptor tables.
    ///
    /// # Safety
    ///
    /// The block belongs to no other processor, and this processor runs on the block's main stack or the
    /// boot stack.
    pub(crate) unsafe fn adopt(&'static self) {
        // SAFETY: the caller says that the block is this processor's; nobody else touches the tables.
        let segments = unsafe { &mut *self.segments.get() };
        segments.load(&self.stacks);
        GsBase::write(VirtAddr::from_ptr(self));
        READY.store(true, Ordering::Relaxed);
    }
}

/// The block of the processor that runs this.
///
/// A kernel without preemption stays on its processor, so the answer does not go out of date.
pub(crate) fn current() -> &'static Vp {
    let this: *const Vp;
    // SAFETY: GS:0 holds the block's own address on every processor that has adopted one.
    unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly)) };
    // SAFETY: blocks stay for ever.
    unsafe { &*this }
}

/// The block of the processor that runs this, unless it is too early.
pub(crate) fn try_current() -> Option<&'static Vp> {
    READY.load(Ordering::Relaxed).then(current)
}

/// The number of the processor that runs this; 0 before there are blocks.
pub(crate) fn current_index() -> u32 {
    try_current().map_or(0, |vp| vp.index)
}

/// Counters for the waits of the processor that runs this.
pub(crate) fn spin_stats() -> &'static SpinStats {
    try_current().map_or(&EARLY_SPINS, |vp| &vp.spins)
}

/// The block of processor `index`, whether or not it runs.
pub(crate) fn get(index: usize) -> Option<&'static Vp> {
    let block = BLOCKS.get(index)?.load(Ordering::Acquire);
    // SAFETY: null, or a published block, which stays for ever.
    unsafe { block.as_ref() }
}

/// The processors that run, in order.
pub(crate) fn online() -> impl Iterator<Item = &'static Vp> + Clone {
    (0..MAX_VPS).map_while(get).filter(|vp| vp.online.load(Ordering::Acquire))
}

/// The stack that contains `address`, of whichever processor.
pub(crate) fn stack_containing(address: u64) -> Option<Range> {
    (0..MAX_VPS).map_while(get).find_map(|vp| vp.stacks.containing(address))
}
