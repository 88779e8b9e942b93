//! The guest libraries in a kernel that is not ours.
//!
//! This stands for a kernel with one processor, memory mapped one to one, and a handler for the vector of VMBus's source that
//! calls [`tiny_guest_interrupt`]. It shows all that such a kernel has to write: one trait (`Tiny`), an interrupt handler, and
//! what it wants to do (`first_block`). It is built with everything else, so that it keeps up with the libraries.

#![no_std]
#![expect(unsafe_code, reason = "a kernel: memory by address, registers, an allocator")]

extern crate alloc;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::HvInputSignalEvent;
use hv_abi::vmbus::{VMBUS_MESSAGE_SINT, VMBUS_MESSAGE_TYPE};
use hv_enlightenments::hypercall::{CallBuffer, CallError};
use hv_enlightenments::synic::{Sint, Synic, SynicPages};
use hv_enlightenments::{Clock, GuestOsId, HvPage, HyperV, HypercallPage, MappedPage, X86Cpu};
use spin::{Mutex, Once};
use vsc_drivers::storvsc::{INTERFACES, StorOptions, StorVsc};
use vsc_drivers::{BusOptions, DmaPages, Gpa, Hal, Vmbus, block_on};
use x86_64::instructions::interrupts;

/// The vector that the kernel's interrupt table leads to [`tiny_guest_interrupt`].
const VECTOR: u8 = 0x50;
const SINT: Sint = Sint::new(VMBUS_MESSAGE_SINT).unwrap();
// SAFETY: a kernel runs in ring 0.
const CPU: X86Cpu = unsafe { X86Cpu::new() };

struct Enlightened {
    calls: HypercallPage<X86Cpu>,
    clock: Clock<X86Cpu>,
    synic: Synic<X86Cpu>,
    /// For the parameters of messages.
    buffer: Mutex<CallBuffer>,
}

static ENLIGHTENED: Once<Enlightened> = Once::new();
static BUS: Once<Vmbus<Tiny>> = Once::new();

/// A page that is given to the hypervisor for good.
fn page() -> Option<MappedPage> {
    let page = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast::<u8>();
    // SAFETY: ours alone, for good; memory is mapped one to one.
    unsafe { MappedPage::new(page, Gpa(page.addr().get() as u64)) }
}

fn enlighten() -> Option<Enlightened> {
    let hv = HyperV::detect(&CPU).ok()?;
    // SAFETY: the kernel maps its heap executable, and the page is used for nothing else.
    let calls = unsafe { HypercallPage::enable(CPU, &hv, GuestOsId::open_source(1, 0), &page()?) };
    let pages: &'static SynicPages = Box::leak(Box::default());
    let gpa = Gpa((&raw const *pages).addr() as u64);
    // SAFETY: this processor's alone, at that address, for good.
    let synic = unsafe { Synic::enable(CPU, &hv, pages, gpa) }.ok()?;
    synic.connect(SINT, VECTOR).ok()?;
    let buffer = Mutex::new(CallBuffer::new(page()?));
    Some(Enlightened { calls: calls.ok()?, clock: Clock::new(CPU, &hv).ok()?, synic, buffer })
}

/// The kernel, as the drivers see it.
#[derive(Clone, Copy)]
struct Tiny(&'static Enlightened);

// SAFETY: the heap hands out each byte once, one to one; interrupts are masked around the closure.
unsafe impl Hal for Tiny {
    fn allocate(&self, pages: usize) -> Option<DmaPages> {
        let layout = Layout::from_size_align(pages * HV_PAGE_SIZE, HV_PAGE_SIZE).ok()?;
        // SAFETY: the drivers never ask for no pages.
        let address = NonNull::new(unsafe { alloc::alloc::alloc_zeroed(layout) })?;
        // SAFETY: zeroed, ours, one to one.
        unsafe { DmaPages::new(address, Gpa(address.addr().get() as u64), pages) }
    }

    unsafe fn free(&self, pages: DmaPages) {
        if let Ok(layout) = Layout::from_size_align(pages.pages() * HV_PAGE_SIZE, HV_PAGE_SIZE) {
            // SAFETY: from `allocate`, with this layout.
            unsafe { alloc::alloc::dealloc(pages.address().as_ptr(), layout) };
        }
    }

    fn gpa(&self, address: *const u8) -> Option<Gpa> {
        Some(Gpa(address.addr() as u64))
    }

    fn post_message(&self, connection: u32, kind: u32, payload: &[u8]) -> Result<(), HvError> {
        let mut input = [0; 256];
        let room = input.get_mut(16..16 + payload.len()).ok_or(HvError::INVALID_PARAMETER)?;
        room.copy_from_slice(payload);
        let head = [connection, 0, kind, payload.len() as u32].map(u32::to_le_bytes);
        input[..16].copy_from_slice(head.as_flattened());
        let call = HypercallInput::new(HV_CALL_POST_MESSAGE);
        let mut buffer = self.0.buffer.lock();
        // SAFETY: the call only reads its input.
        match unsafe { self.0.calls.in_memory(call, &mut buffer, &input, &mut []) } {
            Err(CallError::Status(status)) => Err(status),
            Err(_) => Err(HvError::INVALID_PARAMETER),
            Ok(()) => Ok(()),
        }
    }

    fn signal_event(&self, connection_id: u32, flag_number: u16) -> Result<(), HvError> {
        let input = HvInputSignalEvent { connection_id, flag_number, _reserved: 0 };
        // SAFETY: the call sets a flag of the host's.
        unsafe { self.0.calls.fast(HV_CALL_SIGNAL_EVENT, input.fast(), 0) }
    }

    fn vp_index(&self) -> u32 {
        0
    }

    fn now_100ns(&self) -> u64 {
        self.0.clock.now_100ns()
    }

    /// A kernel with a timer sets it. This one looks at the clock whenever it looks around: see `relax`.
    fn wake_at(&self, _: u64, waker: &Waker) {
        waker.wake_by_ref();
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        interrupts::without_interrupts(f)
    }

    fn relax(&self, woken: &AtomicBool) {
        interrupts::disable();
        if woken.load(Ordering::SeqCst) {
            interrupts::enable();
        } else {
            interrupts::enable_and_hlt();
        }
    }
}

/// What the kernel's handler of `VECTOR` calls before it ends the interrupt.
#[unsafe(no_mangle)]
pub extern "C" fn tiny_guest_interrupt() {
    let (Some(enlightened), Some(bus)) = (ENLIGHTENED.get(), BUS.get()) else { return };
    enlightened.synic.pages().flags.take(SINT, |flag| bus.on_event(flag));
    while let Some(message) = enlightened.synic.take_message(SINT) {
        if let Ok(message) = message
            && message.message_type().0 == VMBUS_MESSAGE_TYPE
        {
            bus.on_message(message.payload());
        }
    }
}

/// Reads the first block of the first disk into `block`. Gives its number of bytes, or 0 if there is none.
///
/// # Safety
///
/// `block` points to `bytes` bytes that are the caller's to give. The kernel is as this module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tiny_guest_first_block(block: *mut u8, bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    let block = unsafe { core::slice::from_raw_parts_mut(block, bytes) };
    let Some(enlightened) = enlighten() else { return 0 };
    let tiny = Tiny(ENLIGHTENED.call_once(|| enlightened));
    let bus = BUS.call_once(|| Vmbus::new(tiny, BusOptions::default()));
    block_on(&tiny, bus.run(), first_block(bus, block)).unwrap_or(0)
}

async fn first_block(bus: &Vmbus<Tiny>, block: &mut [u8]) -> Option<usize> {
    bus.connect().await.ok()?;
    bus.all_offers_delivered().await.ok()?;
    let offer = bus.offers().into_iter().find(|offer| INTERFACES.contains(&offer.interface))?;
    let storvsc = StorVsc::start(bus, offer.channel, StorOptions::default()).await.ok()?;
    let disk = storvsc.disks().into_iter().next()?;
    let block = block.get_mut(..disk.block_bytes() as usize)?;
    let mut read = core::pin::pin!(disk.read(0, block));
    let mut run = core::pin::pin!(storvsc.run());
    // The driver's task moves the request along.
    let done = core::future::poll_fn(|context| {
        if run.as_mut().poll(context).is_ready() {
            return core::task::Poll::Ready(None);
        }
        read.as_mut().poll(context).map(|read| read.ok())
    });
    done.await.map(|()| disk.block_bytes() as usize)
}

/// The kernel's heap.
struct TinyHeap(Mutex<linked_list_allocator::Heap>);

// SAFETY: the heap hands out each byte once; nothing allocates in interrupts.
unsafe impl GlobalAlloc for TinyHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = self.0.lock().allocate_first_fit(layout);
        memory.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: from `alloc`, with this layout.
            unsafe { self.0.lock().deallocate(memory, layout) };
        }
    }
}

#[global_allocator]
static HEAP: TinyHeap = TinyHeap(Mutex::new(linked_list_allocator::Heap::empty()));

/// Gives the heap its memory, once, before anything else.
///
/// # Safety
///
/// The memory is the heap's for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tiny_guest_heap(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.0.lock().init(start, bytes) };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        x86_64::instructions::hlt();
    }
}
