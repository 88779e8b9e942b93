//! The host's option values: sizes, processor lists, counts, thresholds.

#![no_main]

use hypervisor_host::config::{CpuList, RamSize, SpinThreshold, VpCount};
use hypervisor_host::layout::{MAX_RAM_BYTES, MAX_VPS, MIN_RAM_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(ram) = text.parse::<RamSize>() {
        assert!((MIN_RAM_BYTES..=MAX_RAM_BYTES).contains(&ram.bytes()));
        assert_eq!(ram.bytes() % 4096, 0);
    }
    if let Ok(vps) = text.parse::<VpCount>() {
        assert!((1..=MAX_VPS).contains(&vps.get()));
    }
    if let Ok(cpus) = text.parse::<CpuList>() {
        let cpu = cpus.for_vp(63).expect("a list that was given names a processor");
        assert!(cpus.as_slice().contains(&cpu));
    }
    if let Ok(SpinThreshold(threshold)) = text.parse() {
        assert_ne!(threshold, 0);
    }
});
