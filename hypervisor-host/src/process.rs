//! Settings of the process as a whole.
#![expect(unsafe_code, reason = "settings of the C library's allocator")]

use std::fmt::Display;
use std::io::{self, Write};

/// The program's name, with which everything that it says begins.
pub(crate) const NAME: &str = "hypervisor-host";

/// Says `what` on standard error. Nobody may be reading there any more; that must not matter
/// (`eprintln!` would panic).
pub(crate) fn tell(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "{NAME}: {what}");
}

/// Keeps all threads on one heap: each further one would cost resident memory for nothing, as VP
/// threads hardly allocate. Call it before there are threads.
pub fn limit_heap_arenas() {
    // SAFETY: sets a number in the allocator; there is no other thread yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
