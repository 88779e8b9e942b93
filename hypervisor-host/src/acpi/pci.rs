//! What the tables say of PCI: the host bridge with its windows and interrupts, memory-mapped configuration space, and what
//! is nobody's to give away.
//!
//! Linux takes memory-mapped configuration space only where a motherboard resource (`PNP0C02`) or the memory map reserves it
//! (`arch/x86/pci/mmconfig-shared.c`, `pci_mmcfg_check_reserved`).

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Memory32Fixed, Name, PackageBuilder,
    Path, ResourceTemplate,
};
use acpi_tables::mcfg::MCFG;
use hv_abi::pci::{PCI_CONFIG_ADDRESS_PORT, PCI_SLOTS};

use super::dsdt::Raw;
use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, to_bytes};
use crate::emulated::acpi_pm::AcpiPm;
use crate::emulated::power::AcpiPower;
use crate::layout;

/// Ports of configuration mechanism 1.
const CONFIG_PORTS: u8 = 8;
/// Interrupt pins of a slot.
const PINS: u8 = 4;
const ZERO: u8 = 0;

/// MCFG (PCI Firmware Specification 3.0, §4.1.2): where configuration space of bus 0 lies.
pub(super) fn mcfg() -> Vec<u8> {
    let mut table = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.add_ecam(layout::PCI_ECAM_START, 0, 0, 0);
    to_bytes(&table)
}

/// `PNP0A03`, a conventional host bridge (PCI Firmware Specification 3.0, §4.3 and ACPI 6.5 §6.2).
pub(super) fn host_bridge() -> Raw {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0A03"));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let bus = Name::new(Path::new("_BBN"), &ZERO);
    let crs = windows();
    let prt = routing();
    Raw(to_bytes(&Device::new(Path::new("PCI0"), vec![&hid, &uid, &bus, &crs, &prt])))
}

/// The bus, all ports but those of configuration mechanism 1, which are its own, and the range for memory regions.
fn windows() -> Raw {
    let buses = AddressSpace::<u16>::new_bus_number(0, 0);
    let config = IO::new(PCI_CONFIG_ADDRESS_PORT, PCI_CONFIG_ADDRESS_PORT, 1, CONFIG_PORTS);
    let low = AddressSpace::<u16>::new_io(0, PCI_CONFIG_ADDRESS_PORT - 1, None);
    let high = AddressSpace::<u16>::new_io(
        PCI_CONFIG_ADDRESS_PORT + u16::from(CONFIG_PORTS),
        0xFFFF,
        None,
    );
    let memory = AddressSpace::<u32>::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        layout::PCI_MMIO_START as u32,
        layout::PCI_MMIO_LAST as u32,
        None,
    );
    let all = ResourceTemplate::new(vec![&buses, &config, &low, &high, &memory]);
    Raw(to_bytes(&Name::new(Path::new("_CRS"), &all)))
}

/// `_PRT` (ACPI 6.5 §6.2.13): the GSI of each interrupt pin, without a link device in between.
fn routing() -> Raw {
    let mut table = PackageBuilder::new();
    for slot in 0..PCI_SLOTS {
        for pin in 0..PINS {
            let every_function = u32::from(slot) << 16 | 0xFFFF;
            let gsi = layout::pci_gsi(slot, pin + 1);
            let mut entry = PackageBuilder::new();
            entry.add_element(&every_function);
            entry.add_element(&pin);
            entry.add_element(&ZERO);
            entry.add_element(&gsi);
            table.add_element(&entry);
        }
    }
    Raw(to_bytes(&Name::new(Path::new("_PRT"), &table)))
}

/// `PNP0C02`: addresses and ports that the machine itself has.
pub(super) fn reservation() -> Raw {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0C02"));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let (start, bytes) = (layout::PCI_ECAM_START as u32, layout::PCI_ECAM_BYTES as u32);
    let configuration = Memory32Fixed::new(true, start, bytes);
    let ports = |first, count: u16| IO::new(first, first, 1, count as u8);
    let power = ports(AcpiPower::FIRST, AcpiPower::COUNT);
    let pm = ports(AcpiPm::FIRST, AcpiPm::COUNT);
    let all = ResourceTemplate::new(vec![&configuration, &power, &pm]);
    let crs = Name::new(Path::new("_CRS"), &all);
    Raw(to_bytes(&Device::new(Path::new("MBRS"), vec![&hid, &uid, &crs])))
}

const _: () = assert!(layout::PCI_ECAM_START + layout::PCI_ECAM_BYTES <= layout::IOAPIC_ADDRESS);
const _: () = assert!(layout::PCI_MMIO_LAST < layout::VMBUS_MMIO_START);
