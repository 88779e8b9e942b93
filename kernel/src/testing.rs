//! A kernel for the unit tests of drivers whose devices reach memory by 32-bit addresses.
//!
//! Memory is the process's, under low guest-physical addresses with holes between them; a fake device reaches it by [`TestHal::read`],
//! [`TestHal::write`] and [`TestHal::word`]. Time is virtual: when nothing is left to poll, the clock jumps to the next deadline, and a test
//! in which nothing will ever happen panics.

#![expect(unsafe_code, reason = "plays memory for both sides")]

use core::cell::Cell;
use core::future::pending;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use core::task::Waker;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread_local;
use std::vec::Vec;

use hv_abi::hypercall::HvError;
use vsc_drivers::{DmaPages, Gpa, Hal};

const PAGE: u64 = crate::PAGE_SIZE;
/// The lowest guest page.
const FIRST_PAGE: u64 = 0x100;
/// A test that lasts longer waits for what never comes.
const END_OF_TIME_100NS: u64 = 3600 * vsc_drivers::SECOND_100NS;

thread_local! {
    static MASKED: Cell<u32> = const { Cell::new(0) };
    static IN_INTERRUPT: Cell<bool> = const { Cell::new(false) };
}

/// The kernel.
#[derive(Clone, Default)]
pub(crate) struct TestHal(Arc<Inner>);

struct Inner {
    /// Where the process has each guest page.
    pages: Mutex<BTreeMap<u64, usize>>,
    next_page: AtomicU64,
    /// Allocations that succeed before one fails.
    left: Mutex<Option<usize>>,
    now_100ns: AtomicU64,
    alarms: Mutex<Vec<(u64, Waker)>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            pages: Mutex::default(),
            next_page: AtomicU64::new(FIRST_PAGE),
            left: Mutex::default(),
            now_100ns: AtomicU64::new(1),
            alarms: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics where a kernel might deadlock.
fn in_a_task() {
    assert!(!IN_INTERRUPT.get(), "not for interrupt handlers");
    assert_eq!(MASKED.get(), 0, "not with interrupts masked");
}

impl TestHal {
    /// Copies what the guest has at `gpa`; false if it has nothing there, or not all of it.
    pub(crate) fn read(&self, gpa: u64, bytes: &mut [u8]) -> bool {
        (gpa..).zip(bytes).all(|(gpa, byte)| {
            self.0.byte(gpa).map(|shared| *byte = shared.load(Ordering::SeqCst)).is_some()
        })
    }

    /// Copies `bytes` to `gpa`; false if the guest has no memory there, or not so much.
    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) -> bool {
        (gpa..).zip(bytes).all(|(gpa, byte)| {
            self.0.byte(gpa).map(|shared| shared.store(*byte, Ordering::SeqCst)).is_some()
        })
    }

    /// The word at `gpa`, which must be aligned.
    pub(crate) fn word(&self, gpa: u64) -> Option<&AtomicU32> {
        let address = self.0.reach(gpa).filter(|_| gpa.is_multiple_of(4))?;
        // SAFETY: on a page that the guest has, which is reached by atomics and copies only. Tests free no page that they have a word of.
        Some(unsafe { AtomicU32::from_ptr(address.cast()) })
    }

    /// Pages that are allocated or lent.
    pub(crate) fn pages_in_use(&self) -> usize {
        lock(&self.0.pages).len()
    }

    /// Lets so many more allocations succeed, then one fail after the other.
    pub(crate) fn fail_after(&self, allocations: Option<usize>) {
        *lock(&self.0.left) = allocations;
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, time_100ns: u64) {
        self.0.now_100ns.fetch_add(time_100ns, Ordering::SeqCst);
        self.0.fire();
    }

    /// Runs an interrupt handler.
    pub(crate) fn interrupt<R>(&self, handler: impl FnOnce() -> R) -> R {
        assert_eq!(MASKED.get(), 0, "something that causes interrupts was called with them masked");
        let before = IN_INTERRUPT.replace(true);
        let result = handler();
        IN_INTERRUPT.set(before);
        result
    }

    /// Polls `future` until it is ready.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        vsc_drivers::block_on(self, pending::<()>(), future)
    }
}

impl Inner {
    fn reach(&self, gpa: u64) -> Option<*mut u8> {
        let page = *lock(&self.pages).get(&(gpa / PAGE))?;
        Some(core::ptr::with_exposed_provenance_mut(page + (gpa % PAGE) as usize))
    }

    fn byte(&self, gpa: u64) -> Option<&AtomicU8> {
        // SAFETY: on a page that the guest has, which is reached by atomics and copies only.
        self.reach(gpa).map(|address| unsafe { AtomicU8::from_ptr(address) })
    }

    /// Gives a run of the process's pages guest addresses, the first of which it returns.
    fn map(&self, address: usize, pages: u64) -> u64 {
        // With a hole behind.
        let first = self.next_page.fetch_add(pages + 1, Ordering::SeqCst);
        let places = (first..first + pages).zip((address..).step_by(PAGE as usize));
        lock(&self.pages).extend(places);
        first * PAGE
    }

    fn fire(&self) {
        let now = self.now_100ns.load(Ordering::SeqCst);
        let due: Vec<_> = lock(&self.alarms).extract_if(.., |alarm| alarm.0 <= now).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

fn layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_mul(PAGE as usize).filter(|bytes| *bytes > 0)?;
    Layout::from_size_align(bytes, PAGE as usize).ok()
}

// SAFETY: memory is the process's own, with one address for each; masking is counted, and nests.
unsafe impl Hal for TestHal {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        in_a_task();
        if let Some(left) = lock(&self.0.left).as_mut() {
            *left = left.checked_sub(1)?;
        }
        // SAFETY: the layout has bytes.
        let address = NonNull::new(unsafe { alloc_zeroed(layout(pages)?) })?;
        let gpa = self.0.map(address.as_ptr().expose_provenance(), pages as u64);
        // SAFETY: allocated just now; devices reach the pages by atomics only.
        unsafe { DmaPages::new(address, Gpa(gpa), pages) }
    }

    unsafe fn free(&self, pages: DmaPages) {
        in_a_task();
        let first = pages.gpa().0 / PAGE;
        for page in first..first + pages.pages() as u64 {
            assert!(lock(&self.0.pages).remove(&page).is_some(), "freed twice");
        }
        if let Some(layout) = layout(pages.pages()) {
            // SAFETY: allocated with this layout, and nobody has it any longer, as the caller says.
            unsafe { dealloc(pages.address().as_ptr(), layout) };
        }
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        let address = address.expose_provenance();
        let page = address & !(PAGE as usize - 1);
        let known = lock(&self.0.pages).iter().find(|(_, place)| **place == page).map(|it| *it.0);
        let first = known.map_or_else(|| self.0.map(page, 1), |known| known * PAGE);
        Some(Gpa(first + (address - page) as u64))
    }

    fn post_message(&self, _: u32, _: u32, _: &[u8]) -> Result<(), HvError> {
        Err(HvError::ACCESS_DENIED)
    }

    fn signal_event(&self, _: u32, _: u16) -> Result<(), HvError> {
        Err(HvError::ACCESS_DENIED)
    }

    fn vp_index(&self) -> u32 {
        0
    }

    fn now_100ns(&self) -> u64 {
        self.0.now_100ns.load(Ordering::SeqCst)
    }

    fn wake_at(&self, deadline_100ns: u64, waker: &Waker) {
        in_a_task();
        let mut alarms = lock(&self.0.alarms);
        match alarms.iter_mut().find(|(_, other)| other.will_wake(waker)) {
            Some((earliest, _)) => *earliest = deadline_100ns.min(*earliest),
            None => alarms.push((deadline_100ns, waker.clone())),
        }
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        MASKED.set(MASKED.get() + 1);
        let result = f();
        MASKED.set(MASKED.get() - 1);
        result
    }

    fn relax(&self, woken: &AtomicBool) {
        in_a_task();
        if woken.load(Ordering::SeqCst) {
            return;
        }
        let next = lock(&self.0.alarms).iter().map(|(deadline, _)| *deadline).min();
        let next = next.expect("nothing is left that could ever happen");
        assert!(next < END_OF_TIME_100NS, "waited for an hour");
        self.0.now_100ns.fetch_max(next, Ordering::SeqCst);
        self.0.fire();
    }
}

#[test]
fn a_device_sees_what_the_driver_has_allocated_or_lent() {
    use vsc_drivers::DmaBuffer;
    let hal = TestHal::default();
    let buffer = DmaBuffer::new(&hal, 2).unwrap();
    let gpa = buffer.gpa().0;
    assert!(gpa + 2 * PAGE < 1 << 32);
    buffer.write(PAGE as usize + 4, &[1, 2, 3, 4]).unwrap();
    assert_eq!(hal.word(gpa + PAGE + 4).unwrap().load(Ordering::Relaxed), 0x0403_0201);
    assert!(!hal.write(gpa + 2 * PAGE - 1, &[9, 9]), "there is a hole behind");
    assert_eq!(buffer.word(8188).unwrap().load(Ordering::Relaxed), 9 << 24);
    assert!(buffer.word(2).is_err() && buffer.word(8189).is_err() && buffer.word(8192).is_err());
    let lent = 7_u8;
    let mut read = [0];
    assert!(hal.read(hal.gpa(&raw const lent).unwrap().0, &mut read));
    assert_eq!(read, [7]);
    drop(buffer);
    assert_eq!(hal.pages_in_use(), 1);
    assert!(!hal.read(gpa, &mut read));
}

#[test]
fn time_jumps_to_the_next_deadline() {
    let hal = TestHal::default();
    hal.block_on(vsc_drivers::task::sleep_until(&hal, 500));
    assert_eq!(hal.now_100ns(), 500);
    hal.advance(10);
    assert_eq!(hal.now_100ns(), 510);
    hal.fail_after(Some(1));
    assert!(hal.allocate(1).is_some() && hal.allocate(1).is_none());
}

#[test]
#[should_panic(expected = "not for interrupt handlers")]
fn a_handler_that_allocates_is_found_out() {
    let hal = TestHal::default();
    hal.interrupt(|| hal.allocate(1));
}
