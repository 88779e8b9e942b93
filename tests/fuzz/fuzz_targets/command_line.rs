//! The guest kernel's command line: any text.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = kernel::cmdline::parse(text);
});
