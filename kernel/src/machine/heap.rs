//! The heap: `linked_list_allocator` behind a lock that keeps interrupts out.

#![expect(unsafe_code, reason = "implements the global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts::without_interrupts;

struct KernelHeap(SpinMutex<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(SpinMutex::new(Heap::empty()));

// SAFETY: the heap hands out each byte once, and only one caller at a time uses it.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = without_interrupts(|| self.0.lock().allocate_first_fit(layout));
        memory.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(memory) = NonNull::new(memory) else { return };
        without_interrupts(|| {
            // SAFETY: the caller gives back what `alloc` gave, with the same layout.
            unsafe { self.0.lock().deallocate(memory, layout) };
        });
    }
}

/// Gives the heap its memory. Once.
///
/// # Safety
///
/// The memory is the heap's for ever.
pub(super) unsafe fn init(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.0.lock().init(start.as_ptr(), bytes) };
}

/// Whether some processor allocates at the moment.
pub(crate) fn is_locked() -> bool {
    HEAP.0.is_locked()
}

/// Bytes in use, and in all.
pub(crate) fn usage() -> (usize, usize) {
    without_interrupts(|| {
        let heap = HEAP.0.lock();
        (heap.used(), heap.size())
    })
}
