//! Forgetting translations on every processor.
//!
//! *Theory.* A translation that was taken out of the page tables lives on in the TLB of each processor that has used it.
//! Whoever took it out must not go on (give the frame away, say) until every processor has forgotten it.
//!
//! *Practice.* The hypervisor does it in one call, where it recommends that: it interrupts nobody, and needs nobody
//! who masks interrupts. Otherwise we interrupt the others, and each says when it is done. One that masks
//! interrupts for long is reached by an NMI; one that waits to do the same as we do serves us meanwhile.
//! So every flush ends, and none ends early.

#![expect(unsafe_code, reason = "invalidates translations")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_enlightenments::hypercall::{CallBuffer, CallError};
use hv_enlightenments::tlb::{AddressSpace, FlushError, PageRange};
use hv_enlightenments::{Targets, VpSet};
use kernel::rounds::Rounds;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use x86_64::registers::control::Cr3;

use super::interrupts::FLUSH_VECTOR;
use super::vp::{self, Vp};
use super::{apic, clock, cpu, hyperv, ipi};

/// More pages than this, and all translations go: a new CR3 instead of many INVLPGs.
const MOST_INVLPGS: u64 = 32;
/// Looks at an answer before a processor gets an NMI.
const PATIENCE: u32 = 20_000;
/// Looks before the clock is read again.
const LOOKS: u32 = 1000;
/// A processor that has not answered for so long never will.
const LIMIT_100NS: u64 = 600_000_000;

/// One round of interrupts at a time. Whoever waits for it serves the others: see [`lock`].
static ROUNDS: SpinMutex<Rounds> = SpinMutex::new(Rounds::new());
/// The page for parameters, where the hypervisor does not take them in registers.
static BUFFER: SpinMutex<Option<CallBuffer>> = SpinMutex::new(None);
/// The pages of the present round. Written before any processor is asked.
static START: AtomicU64 = AtomicU64::new(0);
static PAGES: AtomicU64 = AtomicU64::new(0);
/// Flushes so far, by how they were done.
static BY_HYPERCALL: AtomicU64 = AtomicU64::new(0);
static BY_INTERRUPT: AtomicU64 = AtomicU64::new(0);
static NMIS: AtomicU64 = AtomicU64::new(0);

/// Flushes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By the hypervisor.
    pub(crate) by_hypercall: u64,
    /// By interrupts.
    pub(crate) by_interrupt: u64,
    /// NMIs that it took.
    pub(crate) nmis: u64,
}

/// Flushes so far.
pub(crate) fn counts() -> Counts {
    Counts {
        by_hypercall: BY_HYPERCALL.load(Ordering::Relaxed),
        by_interrupt: BY_INTERRUPT.load(Ordering::Relaxed),
        nmis: NMIS.load(Ordering::Relaxed),
    }
}

/// How other processors' translations go, for people and events.
pub(crate) fn method() -> &'static str {
    if hyperv::tlb().is_some() { "hypercall" } else { "interrupt" }
}

/// Gives parameters a page, for hypervisors that don't take them in registers. Once.
pub(crate) fn use_buffer(buffer: CallBuffer) {
    *BUFFER.lock() = Some(buffer);
}

/// Makes every processor forget its translations of `pages`, which no longer stand in the page tables.
///
/// Not for interrupt handlers. Interrupts may be off.
pub(crate) fn flush(pages: PageRange) {
    flush_own(pages);
    if others().next().is_none() {
        return;
    }
    if hyperv::tlb().is_none_or(|_| by_hypercall(pages).is_err()) {
        by_interrupt(pages);
    }
}

/// The processors that run, without this one. Whoever starts later begins without translations: see [`begin`].
fn others() -> impl Iterator<Item = &'static Vp> + Clone {
    // SeqCst: the page tables were written before we look who runs; pairs with `begin`.
    core::sync::atomic::fence(Ordering::SeqCst);
    let own = vp::current_index();
    vp::online().filter(move |vp| vp.index != own)
}

/// What a processor does once it counts as running: translations that it met before are flushed by nobody else.
pub(crate) fn begin() {
    core::sync::atomic::fence(Ordering::SeqCst);
    flush_all_own();
}

/// Flushes on the other processors by the hypervisor's call.
pub(crate) fn by_hypercall(pages: PageRange) -> Result<(), FlushError> {
    let tlb = hyperv::tlb().ok_or(FlushError::NeedsEx)?;
    let mut set = VpSet::new();
    let known =
        others().all(|vp| vp.hypervisor_index().is_some_and(|index| set.insert(index).is_ok()));
    // All is more than the others, and right as well.
    let targets = if known { Targets::Set(&set) } else { Targets::All };
    let (frame, _) = Cr3::read();
    let space = AddressSpace::Cr3(frame.start_address().as_u64());
    let mut result = tlb.flush_pages(space, targets, pages, None);
    if result == Err(FlushError::Call(CallError::NoBuffer)) {
        result = tlb.flush_pages(space, targets, pages, BUFFER.lock().as_mut());
    }
    BY_HYPERCALL.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    result
}

/// Flushes on the other processors by interrupting them; returns when all have said that they did.
pub(crate) fn by_interrupt(pages: PageRange) {
    let mut rounds = lock();
    let number = rounds.begin();
    START.store(pages.start, Ordering::Relaxed);
    PAGES.store(pages.pages, Ordering::Relaxed);
    others().for_each(|vp| vp.flush.ask(number));
    // One that starts just now was not asked, and begins without translations.
    let asked = |vp: &&Vp| vp.flush.is_asked(number);
    ipi::send_to(others().filter(asked), FLUSH_VECTOR);
    others().filter(asked).for_each(|vp| wait_for(vp, number));
    BY_INTERRUPT.fetch_add(1, Ordering::Relaxed);
}

/// Whether a round is on, or the page for parameters in use.
pub(crate) fn is_locked() -> bool {
    ROUNDS.is_locked() || BUFFER.is_locked()
}

/// The right to a round. Whoever has it may be waiting for us, and we may not take interrupts.
fn lock() -> SpinMutexGuard<'static, Rounds> {
    loop {
        if let Some(guard) = ROUNDS.try_lock() {
            return guard;
        }
        serve();
        cpu::pause();
    }
}

/// Waits until a processor has finished round `number`.
fn wait_for(vp: &Vp, number: u64) {
    let mut begin = None;
    for looks in 1_u32.. {
        if vp.flush.is_done(number) {
            return;
        }
        cpu::pause();
        if looks < PATIENCE || !looks.is_multiple_of(LOOKS) {
            continue;
        }
        if looks == PATIENCE {
            send_nmi(vp);
        }
        let now = clock::now_100ns();
        if now.saturating_sub(*begin.get_or_insert(now)) > LIMIT_100NS {
            break;
        }
    }
    // To go on would be unsound: the processor may use memory that is no longer its own.
    panic!("vp{} does not flush its translations", vp.index);
}

fn send_nmi(vp: &Vp) {
    if vp.flush.may_send_nmi() {
        NMIS.fetch_add(1, Ordering::Relaxed);
        apic::send_nmi(vp.apic_id);
    }
}

/// Whether the NMI that has just come is ours. It is served then.
pub(crate) fn take_nmi() -> bool {
    let ours = vp::try_current().is_some_and(|vp| vp.flush.take_nmi());
    if ours {
        serve();
    }
    ours
}

/// Does what the others want of this processor. In interrupt handlers, NMI's included, and wherever one waits.
pub(crate) fn serve() {
    let Some(vp) = vp::try_current() else { return };
    vp.flush.serve(|| {
        // Pages of a later round, if an NMI has done this one meanwhile: that round has its own interrupt.
        let (start, pages) = (START.load(Ordering::Relaxed), PAGES.load(Ordering::Relaxed));
        flush_own(PageRange { start, pages });
    });
}

/// Forgets translations on this processor.
pub(crate) fn flush_own(pages: PageRange) {
    if pages.pages > MOST_INVLPGS {
        return flush_all_own();
    }
    for page in 0..pages.pages {
        let address = pages.start.wrapping_add(page * kernel::PAGE_SIZE);
        // SAFETY: translations are made anew from the page tables. Not `nomem`: accesses stay on their side of it.
        unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
    }
}

/// Forgets all translations on this processor: none is global.
fn flush_all_own() {
    let (frame, flags) = Cr3::read();
    // SAFETY: the tables that are in force already.
    unsafe { Cr3::write(frame, flags) };
}
