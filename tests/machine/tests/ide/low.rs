//! Memory below 4 GiB, which is all that an IDE controller reaches: this program's heap, larger pieces of it at least.

#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::Mutex;

/// Pieces from here on lie low; smaller ones no driver lends.
const LEAST: usize = 512;
/// All of it, of which only what is used takes memory.
const BYTES: usize = 512 << 20;
/// Sizes are powers of 2 from a page on; of each, what has come back.
const SIZES: usize = 31;

/// This program's allocator.
pub(crate) struct LowMemory(Mutex<State>);

struct State {
    next: usize,
    end: usize,
    /// For each size the first free piece, which holds the address of the next.
    free: [usize; SIZES],
}

impl LowMemory {
    /// Nothing is handed out yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { next: 0, end: 0, free: [0; SIZES] }))
    }
}

fn size(layout: Layout) -> Option<usize> {
    let fits = layout.size() >= LEAST && layout.size() <= BYTES / 2 && layout.align() <= 4096;
    fits.then(|| layout.size().next_power_of_two().max(4096).ilog2() as usize)
}

impl State {
    fn take(&mut self, size: usize) -> Option<usize> {
        let first = self.free[size];
        if first != 0 {
            // SAFETY: a free piece of at least a page, which holds an address.
            self.free[size] = unsafe { *(first as *const usize) };
            return Some(first);
        }
        if self.next == 0 {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_32BIT;
            // SAFETY: new memory.
            let mapped = unsafe { libc::mmap(null_mut(), BYTES, protection, flags, -1, 0) };
            if mapped == libc::MAP_FAILED {
                return None;
            }
            (self.next, self.end) = (mapped as usize, mapped as usize + BYTES);
        }
        let piece = self.next;
        self.next = piece.checked_add(1 << size).filter(|&next| next <= self.end)?;
        Some(piece)
    }
}

// SAFETY: pieces do not overlap, are aligned to pages, and are reused only after they came back.
unsafe impl GlobalAlloc for LowMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = size(layout) else {
            // SAFETY: as the caller says.
            return unsafe { System.alloc(layout) };
        };
        let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.take(size).map_or(null_mut(), |piece| piece as *mut u8)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(size) = size(layout) else {
            // SAFETY: as the caller says.
            return unsafe { System.dealloc(pointer, layout) };
        };
        let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: a piece of at least a page that nobody uses any longer.
        unsafe { *pointer.cast::<usize>() = state.free[size] };
        state.free[size] = pointer as usize;
    }
}
