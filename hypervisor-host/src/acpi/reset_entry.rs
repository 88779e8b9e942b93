//! Code where a PC's BIOS has its reset entry, F000:FFF0.
//!
//! A hardware-reduced machine without EFI services gets no write to its reset register from Linux:
//! `reboot_init` (`arch/x86/kernel/reboot.c`) then prefers EFI, and what it falls back on is this
//! entry, in real mode. There is no BIOS, so the entry writes the reset register itself.

use crate::layout::{ACPI_END, ACPI_RESET_PORT, ACPI_RESET_VALUE};

/// Physical address of F000:FFF0.
pub(super) const ADDRESS: u64 = 0xF_FFF0;

// The entry takes the end of the area for the tables.
const _: () = assert!(ADDRESS + 16 == ACPI_END.0);

/// 16-bit code: `mov dx, port; mov al, value; out dx, al`, then `hlt` for ever.
pub(super) const fn code() -> [u8; 9] {
    let [port_low, port_high] = ACPI_RESET_PORT.to_le_bytes();
    [0xBA, port_low, port_high, 0xB0, ACPI_RESET_VALUE, 0xEE, 0xF4, 0xEB, 0xFD]
}
