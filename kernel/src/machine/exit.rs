//! Ending the virtual machine with an exit code (`docs/interfaces.md`).

#![expect(unsafe_code, reason = "port I/O")]

use core::sync::atomic::{AtomicU32, Ordering};

use hv_abi::host::ISA_DEBUG_EXIT_PORT;
use x86_64::instructions::port::Port;

use super::{console, cpu};

/// All that was asked is done.
pub(crate) const SUCCESS: u8 = 0;
/// A test failed.
pub(crate) const FAILURE: u8 = 1;
/// The command line or other input is bad.
pub(crate) const BAD_INPUT: u8 = 2;
/// A panic.
pub(crate) const PANIC: u8 = 3;
/// An exception that nothing can be done about.
pub(crate) const EXCEPTION: u8 = 4;

/// Our host's exit port; 0 if it has none.
static HOST_PORT: AtomicU32 = AtomicU32::new(0);

/// Ends through `port` of our host from now on.
pub(crate) fn use_host_port(port: u16) {
    HOST_PORT.store(port.into(), Ordering::Relaxed);
}

/// Ends the virtual machine. Says so as an event first, and halts if no device ends it.
pub(crate) fn exit(code: u8) -> ! {
    console::end_event(code);
    let host = HOST_PORT.load(Ordering::Relaxed) as u16;
    if host != 0 {
        write(host, code.into());
    }
    write(ISA_DEBUG_EXIT_PORT, code.into());
    cpu::stop()
}

fn write(port: u16, value: u32) {
    // SAFETY: the port is our host's, or that of a device that does nothing else; where there is none the
    // write goes nowhere.
    unsafe { Port::new(port).write(value) };
}
