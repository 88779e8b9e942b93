//! The host's loader: any file, as kernel and as initrd, into a small guest.
//!
//! What the loader accepts, the guest kernel's own parsers must understand: they are a second
//! implementation of the same two boot protocols.

#![no_main]

use hypervisor_host::layout::ACPI_START;
use hypervisor_host::loader::{Boot, BootProtocolChoice, Role, Source, inspect, load};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Room for the reserved low memory and a few segments, with a hole to stumble into.
const RAM: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 3 << 20), (GuestAddress(4 << 20), 1 << 20)];
const COMMAND_LINE: &str = "log=info list";

fuzz_target!(|file: &[u8]| {
    let choice = match file.last().map(|byte| byte % 3) {
        Some(1) => BootProtocolChoice::Pvh,
        Some(2) => BootProtocolChoice::Linux64,
        _ => BootProtocolChoice::Auto,
    };
    let Ok(image) = inspect(Source::from_bytes(Role::Kernel, "fuzz", file)) else { return };
    let memory = GuestMemoryMmap::from_ranges(&RAM).expect("the host has a few MiB");
    let initrd = Source::from_bytes(Role::Initrd, "fuzz", file);
    match load(&memory, &image, Some(&initrd), COMMAND_LINE, ACPI_START, choice) {
        Ok(boot) => check(&Guest(&memory), boot),
        Err(error) => assert!(error.to_string().contains(';'), "{error}"),
    }
});

fn check(guest: &Guest<'_>, boot: Boot) {
    let info = match boot {
        Boot::Pvh { start_info, .. } => kernel::boot::pvh::parse(guest, start_info.0),
        Boot::Linux64 { boot_params, .. } => kernel::boot::linux::parse(guest, boot_params.0),
    };
    let info = info.expect("the guest understands what the loader wrote");
    assert_eq!(info.command_line.as_str(), COMMAND_LINE);
    assert_eq!(info.rsdp, Some(ACPI_START.0));
}

/// Guest RAM as the kernel's parsers read it.
struct Guest<'a>(&'a GuestMemoryMmap);

impl kernel::phys::PhysMemory for Guest<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), kernel::phys::OutOfReach> {
        self.0.read_slice(out, GuestAddress(address)).map_err(|_| kernel::phys::OutOfReach)
    }
}
