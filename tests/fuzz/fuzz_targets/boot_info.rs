//! The guest kernel's boot information parsers: any memory, as PVH's and as Linux's.

#![no_main]

use enlighten_fuzz::Memory;
use kernel::boot::{linux, pvh};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let memory = Memory { start: 0, bytes };
    for info in [pvh::parse(&memory, 0), linux::parse(&memory, 0)].into_iter().flatten() {
        // What the kernel does with it next.
        if let Ok(usable) = info.memory.usable() {
            for range in usable.iter() {
                assert!(range.start < range.end);
            }
        }
    }
});
