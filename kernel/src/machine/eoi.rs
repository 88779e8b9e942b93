//! Ending interrupts the way the hypervisor would have it.
//!
//! Where it recommends its own registers for the local APIC, each processor shares a page with it in which it may say
//! that no end of interrupt is required. Where it does not, the processor's own registers do as well or better.

#![expect(unsafe_code, reason = "lends pages to the hypervisor")]

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_enlightenments::apic::{ApicMsrs, EoiAssist, VpAssistPage, prefers_msrs};
use hv_enlightenments::{Gpa, X86Cpu};
use kernel::MAX_VPS;
use spin::Once;

use super::cpu::CPU;
use super::{hyperv, vp};

static ASSISTS: [Once<EoiAssist<X86Cpu>>; MAX_VPS] = [const { Once::new() }; MAX_VPS];
static MSRS: Once<Option<ApicMsrs<X86Cpu>>> = Once::new();

/// Lends the hypervisor a page of the processor that runs this, if it recommends it.
pub(crate) fn init_processor() {
    let Some(hv) = hyperv::interface().filter(|hv| prefers_msrs(hv)) else { return };
    MSRS.call_once(|| ApicMsrs::new(CPU, hv));
    let Some(place) = ASSISTS.get(vp::current_index() as usize) else { return };
    let page: &'static VpAssistPage = Box::leak(Box::default());
    let gpa = Gpa((&raw const *page).addr() as u64);
    // SAFETY: a page of our own, given away for good; virtual is physical.
    match unsafe { EoiAssist::enable(CPU, hv, page, gpa) } {
        Ok(assist) => drop(place.call_once(|| assist)),
        Err(error) => log::warn!("each end of interrupt is an exit: {error}"),
    }
}

/// Interrupts of all processors that ended by the page alone.
static BY_PAGE: AtomicU64 = AtomicU64::new(0);
/// Those that had a page, and needed a register nevertheless.
static BY_REGISTER: AtomicU64 = AtomicU64::new(0);

/// Ends the interrupt in service: by the page, or by writing a register.
pub(crate) fn end_of_interrupt(by_register: impl FnOnce()) {
    let Some(assist) = assist() else { return by_register() };
    let counter = if assist.end_of_interrupt(by_register) { &BY_PAGE } else { &BY_REGISTER };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How often the page alone was enough, and how often it was not.
pub(crate) fn counts() -> (u64, u64) {
    (BY_PAGE.load(Ordering::Relaxed), BY_REGISTER.load(Ordering::Relaxed))
}

/// The page of the processor that runs this, if it has one.
pub(crate) fn assist() -> Option<&'static EoiAssist<X86Cpu>> {
    ASSISTS.get(vp::current_index() as usize)?.get()
}

/// The hypervisor's registers, if it recommends them.
pub(crate) fn msrs() -> Option<&'static ApicMsrs<X86Cpu>> {
    MSRS.get()?.as_ref()
}
