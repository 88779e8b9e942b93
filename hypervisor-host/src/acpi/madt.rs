//! The MADT (§5.2.12): one local APIC for each virtual processor, and the IOAPIC.
//!
//! Without PCI there is no interrupt source override: KVM's default routing connects ISA interrupt *n* to pin *n*
//! of its IOAPIC, the timer's included (`arch/x86/kvm/irq_comm.c`, `default_routing`), and that is
//! what the MADT means without one. With PCI, its interrupts and ACPI's own are level-triggered, which ISA's are not.

use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;
use zerocopy::IntoBytes;

use super::{Described, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout;

/// Table revision of ACPI 6.5.
const REVISION: u8 = 6;
const HEADER_BYTES: u32 = 36;
/// `PCAT_COMPAT`: there are two 8259s as well, which a guest should mask.
const PCAT_COMPAT: u32 = 1 << 0;
/// Local APIC NMI structure (§5.2.12.7): all processors, polarity and trigger of the bus, LINT1.
const LOCAL_APIC_NMI: [u8; 6] = [4, 6, 0xFF, 0, 0, 1];

// Ids of 255 and more would need x2APIC structures.
const _: () = assert!(layout::MAX_VPS < 0xFF);

/// Interrupt source override (§5.2.12.5): an ISA interrupt that is active high and level-triggered, on the pin with its number.
const fn level_triggered(irq: u8) -> [u8; 10] {
    const ACTIVE_HIGH_LEVEL: u8 = 1 | 3 << 2;
    [2, 10, 0, irq, irq, 0, 0, 0, ACTIVE_HIGH_LEVEL, 0]
}

/// The table of a machine.
pub(super) fn bytes(machine: Described) -> Vec<u8> {
    let mut table = Sdt::new(*b"APIC", HEADER_BYTES, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&(layout::LAPIC_ADDRESS as u32).to_le_bytes());
    table.append_slice(&PCAT_COMPAT.to_le_bytes());
    for id in (0..machine.vps).filter_map(|id| u8::try_from(id).ok()) {
        table.append_slice(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).as_bytes());
    }
    let ioapic = IoApic::new(layout::IOAPIC_ID, layout::IOAPIC_ADDRESS as u32, 0);
    table.append_slice(ioapic.as_bytes());
    if machine.pci {
        for irq in [&[layout::ACPI_SCI], layout::PCI_GSIS.as_slice()].concat() {
            table.append_slice(&level_triggered(irq));
        }
    }
    table.append_slice(&LOCAL_APIC_NMI);
    table.as_slice().to_vec()
}
