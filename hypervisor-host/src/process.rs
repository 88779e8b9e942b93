//! Settings of the process as a whole.
#![expect(unsafe_code, reason = "settings of the C library's allocator")]

/// Keeps all threads on one heap: each further one would cost resident memory for nothing, as VP
/// threads hardly allocate. Call it before there are threads.
pub fn limit_heap_arenas() {
    // SAFETY: sets a number in the allocator; there is no other thread yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
