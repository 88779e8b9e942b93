//! The control socket: any line, to a machine whose guest has no drivers.

#![no_main]

use hypervisor_host::control::components::facilities;
use hypervisor_host::control::protocol::{handle, read_line};
use hypervisor_host::vsp::ic::{Components, Heartbeat, Kvp, Shutdown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let components = Components {
        heartbeat: Some(Heartbeat::default()),
        shutdown: Some(Shutdown::default()),
        timesync: None,
        kvp: Some(Kvp::default()),
    };
    let facilities = facilities(&components);
    let mut input = input;
    while let Ok(Some(line)) = read_line(&mut input) {
        assert!(!line.contains(&b'\n'));
        let answer = serde_json::to_string(&handle(&line, &facilities)).expect("an answer");
        assert!(answer.starts_with("{\"ok\":") || answer.starts_with("{\"error\":"), "{answer}");
        assert!(!answer.contains('\n'));
    }
});
