//! The network card's provider: any messages of a guest, NVSP's and RNDIS's, and any frames of a network.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    hypervisor_host::vsp::netvsp::fuzzing::run(bytes);
});
