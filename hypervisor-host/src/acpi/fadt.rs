//! The FADT (§5.2.9): a hardware-reduced machine that sleeps and resets through I/O ports, or, where there is PCI, one with
//! ACPI's fixed hardware.
//!
//! PCI takes that because of Linux: on a hardware-reduced machine it has no legacy interrupt controller
//! (`arch/x86/kernel/acpi/boot.c`, `acpi_generic_reduced_hw_init`), so no ISA interrupt keeps its number
//! (`acpi_parse_ioapic`), and the driver of an IDE controller in compatibility mode asks for 14 and 15 by number.

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, to_bytes};
use crate::emulated::acpi_pm::AcpiPm;
use crate::layout;

/// `IAPC_BOOT_ARCH` (§5.2.9.3): there is no VGA to probe for. Bits that are clear say that there is a
/// CMOS clock (bit 5), but no 8042 keyboard controller (bit 1): only its reset line.
const VGA_NOT_PRESENT: u16 = 1 << 2;

/// Bytes of the blocks of ACPI's fixed hardware (§4.8.3.1 to §4.8.3.3).
const PM1_EVENT_BYTES: u8 = 4;
const PM1_CONTROL_BYTES: u8 = 2;
const PM_TIMER_BYTES: u8 = 4;
/// `P_LVL2_LAT` and `P_LVL3_LAT` of a machine without these states (table 5.9).
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// The table of a machine with fixed hardware; the addresses are those of the DSDT and the FACS.
pub(super) fn with_fixed_hardware(dsdt: u64, facs: u64) -> Vec<u8> {
    let mut builder = common(dsdt).firmware_ctrl_64(facs).flag(Flags::ProcC1);
    let (control, timer) = (AcpiPm::CONTROL_PORT, AcpiPm::TIMER_PORT);
    builder.sci_int = u16::from(layout::ACPI_SCI).into();
    builder.pm1a_evt_blk = u32::from(AcpiPm::FIRST).into();
    builder.pm1a_cnt_blk = u32::from(control).into();
    builder.pm_tmr_blk = u32::from(timer).into();
    builder.pm1_evt_len = PM1_EVENT_BYTES;
    builder.pm1_cnt_len = PM1_CONTROL_BYTES;
    builder.pm_tmr_len = PM_TIMER_BYTES;
    builder.p_lvl2_lat = NO_C2.into();
    builder.p_lvl3_lat = NO_C3.into();
    builder.x_pm1a_evt_blk = ports(AcpiPm::FIRST, PM1_EVENT_BYTES, AccessSize::WordAccess);
    builder.x_pm1a_cnt_blk = ports(control, PM1_CONTROL_BYTES, AccessSize::WordAccess);
    builder.x_pm_tmr_blk = ports(timer, PM_TIMER_BYTES, AccessSize::DwordAccess);
    to_bytes(&builder.finalize())
}

/// The table of a hardware-reduced machine; `dsdt` is the address of the DSDT.
pub(super) fn hardware_reduced(dsdt: u64) -> Vec<u8> {
    let mut builder = common(dsdt).flag(Flags::HwReducedAcpi);
    builder.sleep_control_reg = byte_port(layout::ACPI_SLEEP_CONTROL_PORT);
    builder.sleep_status_reg = byte_port(layout::ACPI_SLEEP_STATUS_PORT);
    to_bytes(&builder.finalize())
}

fn common(dsdt: u64) -> FADTBuilder {
    let mut builder = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    builder.iapc_boot_arch = VGA_NOT_PRESENT.into();
    builder.reset_reg = byte_port(layout::ACPI_RESET_PORT);
    builder.reset_value = layout::ACPI_RESET_VALUE;
    builder
}

fn byte_port(port: u16) -> GAS {
    ports(port, 1, AccessSize::ByteAccess)
}

fn ports(first: u16, count: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8 * count, 0, access, u64::from(first))
}
