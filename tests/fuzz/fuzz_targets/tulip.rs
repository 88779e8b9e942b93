//! DEC's 21140A: any accesses of its registers, any descriptors and buffers, and any frames of a network.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    hypervisor_host::emulated::tulip::fuzzing::run(bytes);
});
