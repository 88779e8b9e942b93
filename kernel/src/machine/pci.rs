//! The machine's ports, as drivers of devices on PCI see them.

#![expect(unsafe_code, reason = "port I/O")]

use core::arch::asm;

use kernel::pci::PortIo;

/// The port instructions.
///
/// Unlike `x86_64`'s, they are barriers for the compiler: what is in memory when a device is told to fetch it, is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports;

impl PortIo for Ports {
    fn read8(&self, port: u16) -> u8 {
        let value;
        // SAFETY: what the port does is the driver's business.
        unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
        value
    }

    fn read16(&self, port: u16) -> u16 {
        let value;
        // SAFETY: as above.
        unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
        value
    }

    fn read32(&self, port: u16) -> u32 {
        let value;
        // SAFETY: as above.
        unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
        value
    }

    fn write8(&self, port: u16, value: u8) {
        // SAFETY: as above; a device that reaches memory does so where its driver tells it to.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
    }

    fn write16(&self, port: u16, value: u16) {
        // SAFETY: as above.
        unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack)) };
    }

    fn write32(&self, port: u16, value: u32) {
        // SAFETY: as above.
        unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
    }

    fn read_words(&self, port: u16, bytes: &mut [u8]) {
        // SAFETY: writes two bytes for each word, all of them in the slice; any bytes will do there.
        unsafe {
            asm!("rep insw", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _,
                inout("rcx") bytes.len() / 2 => _, options(nostack));
        }
    }

    fn write_words(&self, port: u16, bytes: &[u8]) {
        // KVM leaves the guest for each element of `outs`, so elements are as large as can be; the bridge makes two of each.
        if bytes.len().is_multiple_of(4) {
            // SAFETY: reads four bytes for each element, all of them in the slice.
            unsafe {
                asm!("rep outsd", in("dx") port, inout("rsi") bytes.as_ptr() => _,
                    inout("rcx") bytes.len() / 4 => _, options(nostack));
            }
            return;
        }
        // SAFETY: reads two bytes for each word, all of them in the slice.
        unsafe {
            asm!("rep outsw", in("dx") port, inout("rsi") bytes.as_ptr() => _,
                inout("rcx") bytes.len() / 2 => _, options(nostack));
        }
    }
}
