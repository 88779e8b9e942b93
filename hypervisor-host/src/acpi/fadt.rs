//! The FADT (§5.2.9): a hardware-reduced machine that sleeps and resets through I/O ports.

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, to_bytes};
use crate::layout;

/// `IAPC_BOOT_ARCH` (§5.2.9.3): there is no VGA to probe for. Bits that are clear say that there is a
/// CMOS clock (bit 5), but no 8042 keyboard controller (bit 1): only its reset line.
const VGA_NOT_PRESENT: u16 = 1 << 2;

/// The table; `dsdt` is the address of the DSDT.
pub(super) fn bytes(dsdt: u64) -> Vec<u8> {
    let mut builder = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        .flag(Flags::HwReducedAcpi);
    builder.iapc_boot_arch = VGA_NOT_PRESENT.into();
    builder.reset_reg = byte_port(layout::ACPI_RESET_PORT);
    builder.reset_value = layout::ACPI_RESET_VALUE;
    builder.sleep_control_reg = byte_port(layout::ACPI_SLEEP_CONTROL_PORT);
    builder.sleep_status_reg = byte_port(layout::ACPI_SLEEP_STATUS_PORT);
    to_bytes(&builder.finalize())
}

fn byte_port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port))
}
