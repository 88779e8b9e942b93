//! The host's loader: any file, as kernel and as initrd, into a small guest.
//!
//! What the loader accepts, the guest kernel's own parsers must understand: they are a second
//! implementation of PVH's and Linux's protocol. Multiboot's information is followed here, as far as a
//! guest reaches with its pointers.

#![no_main]

use hypervisor_host::layout::ACPI_START;
use hypervisor_host::loader::{
    Boot, BootProtocolChoice, Module, Payload, Role, Source, inspect, load,
};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Room for the reserved low memory and a few segments, with a hole to stumble into.
const RAM: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 3 << 20), (GuestAddress(4 << 20), 1 << 20)];
const COMMAND_LINE: &str = "log=info list";
/// A module and words for it.
const MODULE: &[u8] = b"module";
const TEXT: &str = "words";

fuzz_target!(|file: &[u8]| {
    let choice = match file.last().map(|byte| byte % 4) {
        Some(1) => BootProtocolChoice::Pvh,
        Some(2) => BootProtocolChoice::Linux64,
        Some(3) => BootProtocolChoice::Multiboot,
        _ => BootProtocolChoice::Auto,
    };
    let Ok(image) = inspect(Source::from_bytes(Role::Kernel, "fuzz", file)) else { return };
    let memory = GuestMemoryMmap::from_ranges(&RAM).expect("the host has a few MiB");
    let initrd = Source::from_bytes(Role::Initrd, "fuzz", file);
    let source = Source::from_bytes(Role::Module, "fuzz", MODULE);
    let module = [Module { source, text: TEXT.into() }];
    // Only Multiboot kernels take modules.
    let modules = if choice == BootProtocolChoice::Multiboot { &module[..] } else { &[] };
    let payload = Payload { initrd: Some(&initrd), modules, command_line: COMMAND_LINE };
    match load(&memory, &image, payload, ACPI_START, choice) {
        Ok(boot) => check(&Guest(&memory), boot),
        Err(error) => assert!(error.to_string().contains(';'), "{error}"),
    }
});

fn check(guest: &Guest<'_>, boot: Boot) {
    let info = match boot {
        Boot::Pvh { start_info, .. } => kernel::boot::pvh::parse(guest, start_info.0),
        Boot::Linux64 { boot_params, .. } => kernel::boot::linux::parse(guest, boot_params.0),
        Boot::Multiboot { info, .. } => return check_multiboot(guest.0, info.0),
    };
    let info = info.expect("the guest understands what the loader wrote");
    assert_eq!(info.command_line.as_str(), COMMAND_LINE);
    assert_eq!(info.rsdp, Some(ACPI_START.0));
}

/// Offsets are those of the Multiboot Specification 0.6.96, §3.3.
fn check_multiboot(memory: &GuestMemoryMmap, info: u64) {
    let field = |at: u64| -> u64 { memory.read_obj::<u32>(GuestAddress(at)).expect("RAM").into() };
    let text = |at: u64, expected: &str| {
        let mut bytes = vec![0; expected.len() + 1];
        memory.read_slice(&mut bytes, GuestAddress(at)).expect("RAM");
        assert_eq!(bytes, [expected.as_bytes(), &[0]].concat());
    };
    text(field(info + 16), &format!("fuzz {COMMAND_LINE}"));
    let (count, list) = (field(info + 20), field(info + 24));
    text(field(list + 8), "fuzz");
    if count == 2 {
        text(field(list + 24), &format!("fuzz {TEXT}"));
        let (start, end) = (field(list + 16), field(list + 20));
        let mut content = vec![0; (end - start) as usize];
        memory.read_slice(&mut content, GuestAddress(start)).expect("RAM");
        assert_eq!(content, MODULE);
    }
}

/// Guest RAM as the kernel's parsers read it.
struct Guest<'a>(&'a GuestMemoryMmap);

impl kernel::phys::PhysMemory for Guest<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), kernel::phys::OutOfReach> {
        self.0.read_slice(out, GuestAddress(address)).map_err(|_| kernel::phys::OutOfReach)
    }
}
