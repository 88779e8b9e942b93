//! Changing what stands behind a page while every processor looks at it.
//!
//! Two frames hold different numbers. All processors read pages behind which the first frame stands, so that each has
//! translations of them; processor 0 puts the second frame there and flushes, by whatever is tested; each
//! processor that still reads the first number afterwards has a stale translation.

#![expect(unsafe_code, reason = "reads and writes memory at addresses of its own making")]

use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hv_enlightenments::tlb::PageRange;
use kernel::PAGE_SIZE;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts;

use super::each_vp::{holds_soon, on_each_vp};
use super::{Problem, TestResult, check, skip};
use crate::machine::fault::{self, Fault};
use crate::machine::remap::{Access, Window};
use crate::machine::{jobs, memory, vp};

/// What the frames hold.
const OLD: u64 = 0x01D_01D_01D;
const NEW: u64 = 0x4E3_4E3_4E3;

/// What the other processors do while the pages change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Read on and on, interrupts on.
    Busy,
    /// Read on and on, interrupts off.
    Masked,
    /// Sleep.
    Idle,
}

/// Makes processors forget translations of these pages.
pub(crate) type Flush = fn(PageRange) -> TestResult;

/// A frame of one's own, whose first word holds a number.
pub(crate) struct Frame(u64);

impl Frame {
    pub(crate) fn new(number: u64) -> Result<Self, Problem> {
        let frame = memory::allocate_frame().ok_or(Problem::Skip("no memory".into()))?;
        // SAFETY: the frame is ours, and virtual is physical.
        unsafe { (frame as *mut u64).write_volatile(number) };
        Ok(Self(frame))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0
    }

    /// The number it holds now.
    pub(crate) fn number(&self) -> u64 {
        // SAFETY: the frame is ours, and virtual is physical.
        unsafe { (self.0 as *const u64).read_volatile() }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // It was handed out by the allocator, once.
        let _refused = memory::with_frames(|frames| frames.free(self.0));
    }
}

/// Reads a word that may not be mapped.
pub(crate) fn read(address: u64) -> Result<u64, Fault> {
    let value = Cell::new(0);
    let fault = fault::expect(|| {
        // SAFETY: reads a word of a window, or faults, which is expected.
        value.set(unsafe { (address as *const u64).read_volatile() });
    });
    fault.map_or(Ok(value.get()), Err)
}

/// Writes a word that may not be mapped, or not be writable.
pub(crate) fn write(address: u64, value: u64) -> Option<Fault> {
    fault::expect(|| {
        // SAFETY: writes a word of a frame that only a test uses, or faults, which is expected.
        unsafe { (address as *mut u64).write_volatile(value) };
    })
}

/// The window of the test, and what is done with it; tests run one after another.
static WINDOW: SpinMutex<Option<Window>> = SpinMutex::new(None);
static START: AtomicU64 = AtomicU64::new(0);
static PAGES: AtomicU64 = AtomicU64::new(0);
static READING: AtomicUsize = AtomicUsize::new(0);
static CHANGED: AtomicBool = AtomicBool::new(false);
static MASKED: AtomicBool = AtomicBool::new(false);
static CHANGE: SpinMutex<Option<Change>> = SpinMutex::new(None);
static RESULT: SpinMutex<TestResult> = SpinMutex::new(Ok(()));

#[derive(Clone, Copy)]
struct Change {
    frame: u64,
    flush: Flush,
}

/// What a reader returns if it waited in vain.
const NEVER: u64 = u64::MAX;

/// Pages of the window that do not read as `number`.
fn differing(number: u64) -> u64 {
    let start = START.load(Ordering::Relaxed);
    let differs = |page: &u64| read(start + page * PAGE_SIZE) != Ok(number);
    (0..PAGES.load(Ordering::Relaxed)).filter(differs).count() as u64
}

/// Puts the new frame behind all pages and flushes.
fn change(change: Change) -> TestResult {
    let range = {
        let window = WINDOW.lock();
        let Some(window) = window.as_ref() else { skip!("no window") };
        let pages = PAGES.load(Ordering::Relaxed);
        for page in 0..pages {
            let mapped = window.map_unflushed(page, change.frame, Access::Read);
            check!(mapped.is_ok(), "cannot map page {page}: {mapped:?}");
        }
        PageRange { start: window.address(0), pages }
    };
    (change.flush)(range)
}

/// Reads the pages until they have changed, or often. Whether they have. The translations stay in use: whatever
/// else happens on a processor may make it forget them.
fn read_for_a_while() -> bool {
    (0..1000).any(|_| {
        let _not_all_new_yet = differing(OLD);
        CHANGED.load(Ordering::Acquire)
    })
}

fn work(index: usize) -> u64 {
    let others = vp::online().count() - 1;
    if index == 0 {
        let ready = holds_soon(|| READING.load(Ordering::Acquire) == others);
        let chosen = *CHANGE.lock();
        if let (true, Some(chosen)) = (ready, chosen) {
            *RESULT.lock() = change(chosen);
        }
        CHANGED.store(true, Ordering::Release);
        return if ready { differing(NEW) } else { NEVER };
    }
    let body = || {
        let before = differing(OLD);
        READING.fetch_add(1, Ordering::Release);
        let changed = holds_soon(read_for_a_while);
        if before == 0 && changed { differing(NEW) } else { NEVER }
    };
    if MASKED.load(Ordering::Relaxed) { interrupts::without_interrupts(body) } else { body() }
}

/// A hypervisor that does nothing is found out only if nothing else makes a processor forget just then, which under some
/// hypervisors each exit does.
const fn rounds(readers: Readers) -> u32 {
    match readers {
        Readers::Busy => 4,
        Readers::Masked => 2,
        Readers::Idle => 1,
    }
}

/// Processors that look at the pages together, each for a bounded time.
const MOST_READERS: usize = 16;

/// Lets `flush` make all processors forget `pages` pages; fails if one has not when it returns.
pub(crate) fn check_flush(readers: Readers, pages: u64, flush: Flush) -> TestResult {
    if vp::online().count() < 2 {
        skip!("there is one processor");
    }
    if readers != Readers::Idle && vp::online().count() > MOST_READERS {
        skip!("more processors than can be expected to look at the same time");
    }
    (0..rounds(readers)).try_for_each(|_| check_once(readers, pages, flush))
}

fn check_once(readers: Readers, pages: u64, flush: Flush) -> TestResult {
    let (old, new) = (Frame::new(OLD)?, Frame::new(NEW)?);
    let stale = with_window(pages, &old, || {
        *CHANGE.lock() = Some(Change { frame: new.address(), flush });
        *RESULT.lock() = Ok(());
        if readers == Readers::Idle { stale_after_idle() } else { stale_after_work(readers) }
    })?;
    core::mem::replace(&mut *RESULT.lock(), Ok(()))?;
    let never: Vec<_> = (0..stale.len()).filter(|&index| stale[index] == NEVER).collect();
    check!(never.is_empty(), "processors {never:?} could not look at the pages, or waited in vain");
    let none = stale.iter().all(|&count| count == 0);
    check!(none, "stale translations of {pages} pages by processor: {stale:?}");
    Ok(())
}

/// Maps `pages` pages to a frame, for the time of `action`.
fn with_window<T>(pages: u64, frame: &Frame, action: impl FnOnce() -> T) -> Result<T, Problem> {
    let window = Window::new(pages).ok_or(Problem::Skip("no address space".into()))?;
    for page in 0..pages {
        let mapped = window.map(page, frame.address(), Access::Read);
        mapped.map_err(|error| Problem::Fail(format!("cannot map page {page}: {error:?}")))?;
    }
    START.store(window.address(0), Ordering::Relaxed);
    PAGES.store(pages, Ordering::Relaxed);
    *WINDOW.lock() = Some(window);
    let result = action();
    *WINDOW.lock() = None;
    Ok(result)
}

fn stale_after_work(readers: Readers) -> Vec<u64> {
    READING.store(0, Ordering::Relaxed);
    CHANGED.store(false, Ordering::Relaxed);
    MASKED.store(readers == Readers::Masked, Ordering::Relaxed);
    on_each_vp(work)
}

fn stale_after_idle() -> Vec<u64> {
    let before = on_each_vp(|_| differing(OLD));
    if before.iter().any(|&count| count != 0) {
        return alloc::vec![NEVER; before.len()];
    }
    let chosen = *CHANGE.lock();
    if let Some(chosen) = chosen {
        *RESULT.lock() = change(chosen);
    }
    on_each_vp(|_| differing(NEW))
}

/// Runs `function` on all processors at once, each with interrupts off.
pub(crate) fn all_at_once_masked(function: fn(usize) -> u64) -> Vec<u64> {
    static BARRIER: jobs::Barrier = jobs::Barrier::new();
    static FUNCTION: SpinMutex<fn(usize) -> u64> = SpinMutex::new(|_| 0);
    *FUNCTION.lock() = function;
    on_each_vp(|index| {
        let function = *FUNCTION.lock();
        BARRIER.wait(vp::online().count());
        interrupts::without_interrupts(|| function(index))
    })
}
