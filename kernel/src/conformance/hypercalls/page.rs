//! The hypercall page and its register: enabled, disabled, moved, locked, and who the guest says it is.
//!
//! While a case has the page disabled nobody calls: the other processors idle, and this one has interrupts off.

#![expect(unsafe_code, reason = "takes the hypercall page away and gives it back")]

use alloc::boxed::Box;
use core::ptr;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HvError, HypercallInput};
use hv_abi::msr::{
    HV_MSR_HYPERCALL_LOCKED, HV_MSR_PAGE_ENABLE, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL,
};
use hv_enlightenments::{Cpu, HvPage};
use x86_64::instructions::interrupts::without_interrupts;

use crate::conformance::support::calls::{NO_MEMORY, UNKNOWN_CODE, calls, raw};
use crate::conformance::support::registers::{read, reading_faults, write, writing_faults};
use crate::conformance::support::{need, on_each_vp, without};
use crate::conformance::{Problem, TestResult, cases, check, deviates, skip};
use crate::machine::cpu::CPU;
use crate::machine::fault::Fault;
use crate::machine::hyperv;

cases!(Hypercalls: [
    the_register_is_the_same_on_every_processor => "TLFS §3.13",
    the_identity_is_one_for_all_processors => "TLFS §2.6",
    the_page_can_be_disabled_and_enabled_again => "TLFS §3.13",
    losing_the_identity_disables_the_page => "TLFS §3.13",
    without_an_identity_the_page_stays_disabled => "TLFS §3.13",
    a_page_outside_memory_is_refused => "TLFS §3.13",
    the_page_covers_what_it_lies_on_and_gives_it_back => "TLFS GPA Overlay Pages",
    identity_and_page_are_refused_without_the_privilege => "TLFS §2.4.4",
]);
cases!(Hypercalls, last: [a_locked_page_stays_where_it_is => "TLFS §3.13"]);

/// Both registers as they were found; puts them back when dropped.
struct Found {
    identity: u64,
    hypercall: u64,
}

impl Found {
    fn new() -> Result<Self, Problem> {
        calls()?;
        let value = |msr| read(msr).map_err(|fault| Problem::Fail(alloc::format!("{fault:?}")));
        let found = Self {
            identity: value(HV_X64_MSR_GUEST_OS_ID)?,
            hypercall: value(HV_X64_MSR_HYPERCALL)?,
        };
        if found.hypercall & HV_MSR_HYPERCALL_LOCKED != 0 {
            skip!("the register is locked");
        }
        Ok(found)
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: the guest's own identity, first: without one the page stays disabled.
        unsafe { CPU.wrmsr(HV_X64_MSR_GUEST_OS_ID, self.identity) };
        // SAFETY: the page lies again where it did, on a page that was given away for it.
        unsafe { CPU.wrmsr(HV_X64_MSR_HYPERCALL, self.hypercall) };
    }
}

/// Runs `change` with interrupts off, puts both registers back, and looks whether calls work again.
fn with_registers<T>(change: impl FnOnce(&Found) -> T) -> Result<T, Problem> {
    let result = without_interrupts(|| {
        let found = Found::new()?;
        Ok::<_, Problem>(change(&found))
    })?;
    let status = raw(HypercallInput::new(UNKNOWN_CODE).fast(), 0, 0)?;
    if status != Err(HvError::INVALID_HYPERCALL_CODE) {
        return Err(Problem::Fail(alloc::format!("after it was enabled again: {status:?}")));
    }
    Ok(result)
}

fn is_enabled() -> Result<bool, Fault> {
    Ok(read(HV_X64_MSR_HYPERCALL)? & HV_MSR_PAGE_ENABLE != 0)
}

fn the_register_is_the_same_on_every_processor() -> TestResult {
    calls()?;
    let values = on_each_vp(|_| read(HV_X64_MSR_HYPERCALL).unwrap_or(0));
    let same = values.iter().all(|&value| value != 0 && value == values[0]);
    check!(same, "by processor: {values:x?}");
    Ok(())
}

/// A number that stands for a page's content.
fn digest(page: *const u8) -> u64 {
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    for offset in 0..HV_PAGE_SIZE {
        // SAFETY: a mapped page; the hypervisor may have written it.
        let byte = unsafe { page.wrapping_add(offset).read_volatile() };
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    }
    digest
}

fn the_identity_is_one_for_all_processors() -> TestResult {
    calls()?;
    let before = hyperv::IDENTITY.raw();
    // SAFETY: another build number of the same kernel.
    let written = unsafe { write(HV_X64_MSR_GUEST_OS_ID, before ^ 1) };
    let values = on_each_vp(|_| read(HV_X64_MSR_GUEST_OS_ID).unwrap_or(0));
    // SAFETY: the guest's own identity.
    let restored = unsafe { write(HV_X64_MSR_GUEST_OS_ID, before) };
    check!(written.is_ok() && restored.is_ok(), "writing it raised {written:?}, {restored:?}");
    check!(values.iter().all(|&value| value == before ^ 1), "by processor: {values:x?}");
    Ok(())
}

fn the_page_can_be_disabled_and_enabled_again() -> TestResult {
    let (written, enabled) = with_registers(|found| {
        // SAFETY: nobody calls until it is enabled again.
        let written = unsafe { write(HV_X64_MSR_HYPERCALL, found.hypercall & !HV_MSR_PAGE_ENABLE) };
        (written, is_enabled())
    })?;
    check!(written.is_ok(), "disabling it raised {written:?}");
    check!(enabled == Ok(false), "it is still enabled: {enabled:?}");
    Ok(())
}

fn losing_the_identity_disables_the_page() -> TestResult {
    let (written, enabled) = with_registers(|_| {
        // SAFETY: nobody calls until it is enabled again.
        let written = unsafe { write(HV_X64_MSR_GUEST_OS_ID, 0) };
        (written, is_enabled())
    })?;
    check!(written.is_ok(), "writing an identity of zero raised {written:?}");
    check!(enabled == Ok(false), "it is still enabled: {enabled:?}");
    Ok(())
}

fn without_an_identity_the_page_stays_disabled() -> TestResult {
    let (written, enabled) = with_registers(|found| {
        // SAFETY: nobody calls until it is enabled again.
        let identity = unsafe { write(HV_X64_MSR_GUEST_OS_ID, 0) };
        // SAFETY: the page that was given away for it.
        let page = unsafe { write(HV_X64_MSR_HYPERCALL, found.hypercall | HV_MSR_PAGE_ENABLE) };
        ((identity, page), is_enabled())
    })?;
    check!(enabled == Ok(false), "it is enabled: {enabled:?}, {written:?}");
    Ok(())
}

fn a_page_outside_memory_is_refused() -> TestResult {
    with_registers(|_| {
        // SAFETY: there is no memory there to be covered.
        unsafe { writing_faults(HV_X64_MSR_HYPERCALL, NO_MEMORY | HV_MSR_PAGE_ENABLE) }
    })?
}

/// What lies on the page, as the overlay is specified, is hidden by it and not lost.
fn the_page_covers_what_it_lies_on_and_gives_it_back() -> TestResult {
    const BYTE: u8 = 0x5A;
    let page: *mut u8 = ptr::from_mut(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: a page of our own.
    unsafe { page.write_bytes(BYTE, HV_PAGE_SIZE) };
    let plain = digest(page);
    let (moved, covered) = with_registers(|_| {
        // SAFETY: the page was given away for it.
        let moved = unsafe { write(HV_X64_MSR_HYPERCALL, page.addr() as u64 | HV_MSR_PAGE_ENABLE) };
        (moved, digest(page))
    })?;
    check!(moved.is_ok(), "moving the page raised {moved:?}");
    check!(covered != plain, "there is no code on the page");
    if digest(page) != plain {
        check!(hyperv::detect().host.is_none(), "what was there before is lost");
        deviates!("what was on the page before is overwritten", "TLFS GPA Overlay Pages");
    }
    Ok(())
}

fn identity_and_page_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::HYPERCALL)?;
    reading_faults(HV_X64_MSR_GUEST_OS_ID)?;
    reading_faults(HV_X64_MSR_HYPERCALL)?;
    // SAFETY: nothing is enabled by zeros.
    unsafe { writing_faults(HV_X64_MSR_GUEST_OS_ID, 0) }?;
    // SAFETY: as above.
    unsafe { writing_faults(HV_X64_MSR_HYPERCALL, 0) }
}

/// The last case: only a reset unlocks the register.
fn a_locked_page_stays_where_it_is() -> TestResult {
    need(Privileges::HYPERCALL)?;
    let before = Found::new()?.hypercall;
    let locked = before | HV_MSR_HYPERCALL_LOCKED;
    // SAFETY: the page stays where it is.
    let written = unsafe { write(HV_X64_MSR_HYPERCALL, locked) };
    check!(written.is_ok(), "locking the register raised {written:?}");
    check!(read(HV_X64_MSR_HYPERCALL) == Ok(locked), "the register is not locked");
    let after = without_interrupts(|| {
        // SAFETY: nobody calls until it is enabled again. Whether this faults the specification does not say.
        let _ = unsafe { write(HV_X64_MSR_HYPERCALL, before & !HV_MSR_PAGE_ENABLE) };
        let after = read(HV_X64_MSR_HYPERCALL);
        if after != Ok(locked) {
            // SAFETY: enables the page where it was.
            let _ = unsafe { write(HV_X64_MSR_HYPERCALL, before) };
        }
        after
    });
    if after != Ok(locked) {
        check!(hyperv::detect().host.is_none(), "it became {after:x?}");
        deviates!("a locked register can be written", "TLFS §3.13");
    }
    Ok(())
}
