//! The host's bus: any guest, in steps, some of them any bytes as messages and memory, others what a good guest does.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hypervisor_host::vmbus::fuzz::guest_messages(bytes));
