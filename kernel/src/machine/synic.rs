//! Each processor's synthetic interrupt controller, where the hypervisor offers it.
//!
//! Source *n* interrupts with vector [`vector`]`(n)`. Who wants a source calls [`connect`] on each processor; the handler
//! runs in the interrupt, takes messages or flags, and the interrupt ends behind it.

#![expect(unsafe_code, reason = "lends pages to the hypervisor, keeps functions as pointers")]

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, Ordering};

use hv_abi::cpuid::Privileges;
use hv_abi::msr::{HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0};
use hv_abi::synic::HV_SYNIC_SINT_COUNT;
use hv_enlightenments::synic::{Sint, Synic, SynicError, SynicPages};
use hv_enlightenments::{Cpu, Gpa, X86Cpu};
use kernel::MAX_VPS;
use spin::Once;

use super::cpu::CPU;
use super::{hyperv, interrupts, vp};

/// What a source's interrupt does.
pub(crate) type Handler = fn(Sint);

/// Source 0 has this vector, the others those behind it.
const FIRST_VECTOR: u8 = 0x50;

static SYNICS: [Once<Synic<X86Cpu>>; MAX_VPS] = [const { Once::new() }; MAX_VPS];
/// For each source a [`Handler`], or null.
static HANDLERS: [AtomicPtr<()>; HV_SYNIC_SINT_COUNT] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; HV_SYNIC_SINT_COUNT];

/// The vector of a source.
pub(crate) const fn vector(sint: Sint) -> u8 {
    FIRST_VECTOR + sint.number()
}

/// What a processor's registers held before the kernel touched them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    pub(crate) control: u64,
    pub(crate) message_page: u64,
    pub(crate) flags_page: u64,
    pub(crate) sints: [u64; HV_SYNIC_SINT_COUNT],
}

static BEFORE: Once<Before> = Once::new();

/// Reads the registers of the processor that runs this.
fn registers() -> Before {
    // SAFETY: the caller has looked whether there is a controller; reading has no effect.
    let read = |msr| unsafe { CPU.rdmsr(msr) };
    Before {
        control: read(HV_X64_MSR_SCONTROL),
        message_page: read(HV_X64_MSR_SIMP),
        flags_page: read(HV_X64_MSR_SIEFP),
        sints: core::array::from_fn(|index| read(HV_X64_MSR_SINT0 + index as u32)),
    }
}

/// What the boot processor's registers held before the kernel touched them.
pub(crate) fn before() -> Option<&'static Before> {
    BEFORE.get()
}

/// Turns on the controller of the processor that runs this, if there is one.
pub(crate) fn init_processor() {
    let Some(hv) = hyperv::interface() else { return };
    if !hv.privileges().contains(Privileges::SYNIC) {
        return;
    }
    BEFORE.call_once(registers);
    let Some(place) = SYNICS.get(vp::current_index() as usize) else { return };
    let pages: &'static SynicPages = Box::leak(Box::default());
    let gpa = Gpa((&raw const *pages).addr() as u64);
    // SAFETY: pages of our own, given away for good; virtual is physical.
    match unsafe { Synic::enable(CPU, hv, pages, gpa) } {
        Ok(synic) => {
            place.call_once(|| synic);
            Sint::all().for_each(|sint| interrupts::set_handler(vector(sint), Some(on_interrupt)));
        }
        Err(error) => log::warn!("no SynIC on vp{}: {error}", vp::current_index()),
    }
}

/// The controller of the processor that runs this, if it is on.
pub(crate) fn current() -> Option<&'static Synic<X86Cpu>> {
    SYNICS.get(vp::current_index() as usize)?.get()
}

/// Lets `handler` serve a source, and the source interrupt the processor that runs this.
pub(crate) fn connect(sint: Sint, handler: Handler) -> Result<(), SynicError> {
    let synic = current().ok_or(SynicError::NoPrivilege)?;
    HANDLERS[usize::from(sint.number())].store(handler as *mut (), Ordering::Release);
    synic.connect(sint, vector(sint))
}

fn on_interrupt(vector: u8) {
    let Some(sint) = vector.checked_sub(FIRST_VECTOR).and_then(Sint::new) else { return };
    let handler = HANDLERS[usize::from(sint.number())].load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `connect` stores there, and it stores such functions.
        let handler: Handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(sint);
    }
}
