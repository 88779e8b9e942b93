//! Translations that change are forgotten by every processor, whatever it does meanwhile.

use core::sync::atomic::{AtomicU64, Ordering};

use hv_enlightenments::tlb::PageRange;
use kernel::PAGE_SIZE;

use super::each_vp::on_each_vp;
use super::translations::{Frame, Readers, all_at_once_masked, check_flush, read, write};
use super::{Problem, TestResult, check, guest_test, skip};
use crate::machine::fault::{Fault, PAGE_FAULT};
use crate::machine::remap::{Access, Window};
use crate::machine::{memory, shootdown, vp};

guest_test!(
    a_changed_page_is_seen_by_busy_processors,
    a_changed_page_is_seen_by_processors_that_mask_interrupts,
    a_changed_page_is_seen_by_idle_processors,
    interrupts_make_busy_processors_forget,
    interrupts_make_idle_processors_forget,
    processors_that_mask_interrupts_forget_by_nmi,
    many_pages_are_forgotten_at_once,
    all_processors_can_flush_at_the_same_time_with_interrupts_off,
    a_page_that_was_unmapped_faults_on_every_processor,
    a_page_that_became_read_only_faults_on_every_processor,
    windows_show_any_frame_and_have_guards,
    windows_come_back,
    the_start_up_code_is_gone,
);

/// What stops the kernel's own flush.
fn by_the_kernel(pages: PageRange) -> TestResult {
    shootdown::flush(pages);
    Ok(())
}

/// The fallback, whatever else there is. Processor 0 flushes its own, as the kernel's flush does.
fn by_interrupt(pages: PageRange) -> TestResult {
    let before = shootdown::counts();
    shootdown::flush_own(pages);
    shootdown::by_interrupt(pages);
    let after = shootdown::counts();
    check!(after.by_interrupt == before.by_interrupt + 1, "{before:?} became {after:?}");
    Ok(())
}

/// As [`by_interrupt`], and the others must have needed NMIs.
fn by_nmi(pages: PageRange) -> TestResult {
    let (before, others) = (shootdown::counts().nmis, vp::online().count() as u64 - 1);
    by_interrupt(pages)?;
    let nmis = shootdown::counts().nmis - before;
    check!(nmis == others, "{nmis} NMIs for {others} processors");
    Ok(())
}

fn a_changed_page_is_seen_by_busy_processors() -> TestResult {
    check_flush(Readers::Busy, 1, by_the_kernel)
}

fn a_changed_page_is_seen_by_processors_that_mask_interrupts() -> TestResult {
    check_flush(Readers::Masked, 1, by_the_kernel)
}

fn a_changed_page_is_seen_by_idle_processors() -> TestResult {
    check_flush(Readers::Idle, 1, by_the_kernel)
}

fn interrupts_make_busy_processors_forget() -> TestResult {
    check_flush(Readers::Busy, 3, by_interrupt)
}

fn interrupts_make_idle_processors_forget() -> TestResult {
    check_flush(Readers::Idle, 3, by_interrupt)
}

fn processors_that_mask_interrupts_forget_by_nmi() -> TestResult {
    check_flush(Readers::Masked, 3, by_nmi)
}

fn many_pages_are_forgotten_at_once() -> TestResult {
    // More than are invalidated one by one.
    check_flush(Readers::Busy, 40, by_the_kernel)?;
    check_flush(Readers::Busy, 40, by_interrupt)
}

fn all_processors_can_flush_at_the_same_time_with_interrupts_off() -> TestResult {
    // A round ends when every processor has had a turn. Many processors on few wait for that as long as their time slices
    // take, so their rounds are few.
    fn rounds_of_each() -> u64 {
        (32 / vp::online().count() as u64).clamp(1, 4)
    }
    let before = shootdown::counts().by_interrupt;
    let done = all_at_once_masked(|index| {
        let pages = PageRange { start: (1 << 44) + index as u64 * PAGE_SIZE, pages: 1 };
        (0..rounds_of_each()).map(|_| shootdown::by_interrupt(pages)).count() as u64
    });
    let rounds = rounds_of_each();
    check!(done.iter().all(|&made| made == rounds), "rounds by processor: {done:?}");
    let (made, expected) = (shootdown::counts().by_interrupt - before, rounds * done.len() as u64);
    check!(made == expected, "{made} rounds were made, not {expected}");
    Ok(())
}

/// A window of one page that shows `frame`, and its address.
fn window(frame: &Frame, access: Access) -> Result<(Window, u64), Problem> {
    let window = Window::new(1).ok_or(Problem::Skip("no address space".into()))?;
    let mapped = window.map(0, frame.address(), access);
    check!(mapped.is_ok(), "cannot map: {mapped:?}");
    let address = window.address(0);
    Ok((window, address))
}

/// What [`on_each_vp`]'s functions look at.
static ADDRESS: AtomicU64 = AtomicU64::new(0);

/// Processors on which `function` fails at `address`.
fn failing(address: u64, function: fn(u64) -> bool) -> usize {
    static FUNCTION: spin::mutex::SpinMutex<fn(u64) -> bool> =
        spin::mutex::SpinMutex::new(|_| false);
    ADDRESS.store(address, Ordering::Release);
    *FUNCTION.lock() = function;
    let results = on_each_vp(|_| {
        let function = *FUNCTION.lock();
        function(ADDRESS.load(Ordering::Acquire)).into()
    });
    results.iter().filter(|&&held| held == 0).count()
}

fn a_page_that_was_unmapped_faults_on_every_processor() -> TestResult {
    let frame = Frame::new(7)?;
    let (window, address) = window(&frame, Access::Read)?;
    let failed = failing(address, |address| read(address) == Ok(7));
    check!(failed == 0, "{failed} processors could not read the page");
    let unmapped = window.unmap(0);
    check!(unmapped.is_ok(), "{unmapped:?}");
    let failed = failing(address, |address| {
        read(address) == Err(Fault { vector: PAGE_FAULT, error_code: 0, address })
    });
    check!(failed == 0, "{failed} processors can still read the page");
    Ok(())
}

fn a_page_that_became_read_only_faults_on_every_processor() -> TestResult {
    /// A write to a page that is present.
    const PROTECTION: u64 = 0b11;
    let frame = Frame::new(7)?;
    let (window, address) = window(&frame, Access::Write)?;
    let failed = failing(address, |address| write(address, 8).is_none());
    check!(failed == 0, "{failed} processors could not write the page");
    let protected = window.protect(0, Access::Read);
    check!(protected.is_ok(), "{protected:?}");
    let failed = failing(address, |address| {
        write(address, 9) == Some(Fault { vector: PAGE_FAULT, error_code: PROTECTION, address })
    });
    check!(failed == 0, "{failed} processors can still write the page");
    check!(frame.number() == 8, "the page holds {}", frame.number());
    Ok(())
}

fn windows_show_any_frame_and_have_guards() -> TestResult {
    let (frame, pages) = (Frame::new(1)?, 3);
    let window = Window::new(pages).ok_or(Problem::Skip("no address space".into()))?;
    for page in 0..pages {
        let mapped = window.map(page, frame.address(), Access::Write);
        check!(mapped.is_ok(), "cannot map page {page}: {mapped:?}");
    }
    // All pages show the same frame.
    let fault = write(window.address(0), 5);
    let seen = read(window.address(2));
    check!(fault.is_none() && seen == Ok(5) && frame.number() == 5, "{fault:x?}, {seen:x?}");
    for outside in [window.address(0) - 8, window.address(pages)] {
        let seen = read(outside);
        check!(seen.is_err(), "{outside:#x}, outside the window, can be read: {seen:x?}");
    }
    let beyond = window.map(pages, frame.address(), Access::Write);
    check!(beyond.is_err(), "a page outside the window was mapped");
    Ok(())
}

fn windows_come_back() -> TestResult {
    let frame = Frame::new(1)?;
    let (first, address) = window(&frame, Access::Read)?;
    drop(first);
    let seen = read(address);
    check!(seen.is_err(), "the page of a window that is gone can be read: {seen:x?}");
    let (_second, again) = window(&frame, Access::Read)?;
    check!(again == address, "addresses are not used again: {address:#x}, then {again:#x}");
    Ok(())
}

fn the_start_up_code_is_gone() -> TestResult {
    let machine = super::boot::the_machine()?;
    let Some(page) = machine.trampoline else { skip!("no processor needed start-up code") };
    let flags = memory::flags(page);
    check!(flags.is_none(), "the page at {page:#x} has flags {flags:?}");
    let mapped = on_each_vp(|_| {
        let page = crate::machine::boot::machine().and_then(|machine| machine.trampoline);
        page.is_none_or(|page| read(page).is_ok()).into()
    });
    check!(mapped.iter().all(|&mapped| mapped == 0), "readable by processor: {mapped:?}");
    Ok(())
}
