//! The DSDT (§5.2.11.1): soft-off, the processors, COM1 and, where there are any, VMBus and PCI.
//!
//! What Linux needs of VMBus (`drivers/hv/vmbus_drv.c`): a device whose hardware id is `VMBUS`, with
//! resources of its own, below a device whose address window the VMBus drivers may use for MMIO. Its
//! interrupt must be in the short form: an extended interrupt would make Linux use that instead of
//! its vector. QEMU's device (`hw/i386/acpi-build.c`) has the same interrupt but no window.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Name, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::{Described, OEM_ID, OEM_REVISION, OEM_TABLE_ID, pci, to_bytes};
use crate::layout;

/// 2: integers have 64 bits (§5.2.11.1).
const REVISION: u8 = 2;
const HEADER_BYTES: u32 = 36;
/// `_STA`: present, enabled, shown, working (§6.3.7).
const WORKING: u8 = 0x0F;
/// I/O ports of a 16550.
const UART_PORTS: u8 = 8;

/// The table of a machine.
pub(super) fn bytes(machine: Described) -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", HEADER_BYTES, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(&to_bytes(&soft_off()));
    table.append_slice(&system_bus(machine));
    table.as_slice().to_vec()
}

/// `\_S5`: what goes into the sleep control register for soft-off (§7.4.2).
fn soft_off() -> Name {
    let package = Package::new(vec![&layout::ACPI_S5_SLEEP_TYPE, &ZERO, &ZERO, &ZERO]);
    Name::new(Path::new("_S5_"), &package)
}

const ZERO: u8 = 0;

/// `\_SB`: everything else.
fn system_bus(machine: Described) -> Vec<u8> {
    let mut devices: Vec<Raw> = (0..machine.vps).map(processor).collect();
    devices.push(com1());
    devices.extend(machine.vmbus.then(vmbus));
    if machine.pci {
        devices.extend([pci::host_bridge(), pci::reservation()]);
    }
    let devices: Vec<&dyn Aml> = devices.iter().map(|device| device as &dyn Aml).collect();
    to_bytes(&Scope::new(Path::new("_SB_"), devices))
}

/// `ACPI0007` (§8.4); its `_UID` is the one in the MADT.
fn processor(id: u32) -> Raw {
    let hid = Name::new(Path::new("_HID"), &"ACPI0007");
    let uid = Name::new(Path::new("_UID"), &id);
    Raw(to_bytes(&Device::new(Path::new(&format!("C{id:03X}")), vec![&hid, &uid])))
}

fn com1() -> Raw {
    let hid = Name::new(Path::new("_HID"), &EISAName::new("PNP0501"));
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let sta = Name::new(Path::new("_STA"), &WORKING);
    let ports = IO::new(layout::COM1_PORT, layout::COM1_PORT, 1, UART_PORTS);
    let irq = IsaIrq(layout::COM1_IRQ);
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&ports, &irq]));
    Raw(to_bytes(&Device::new(Path::new("COM1"), vec![&hid, &uid, &sta, &crs])))
}

/// A module (`ACPI0004`, §9.9) with the MMIO window, and the VMBus device in it.
fn vmbus() -> Raw {
    let hid = Name::new(Path::new("_HID"), &"ACPI0004");
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let window = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        layout::VMBUS_MMIO_START as u32,
        (layout::VMBUS_MMIO_START + layout::VMBUS_MMIO_BYTES - 1) as u32,
        None,
    );
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&window]));
    let bus = vmbus_device();
    Raw(to_bytes(&Device::new(Path::new("VMOD"), vec![&hid, &uid, &crs, &bus])))
}

fn vmbus_device() -> Raw {
    let hid = Name::new(Path::new("_HID"), &"VMBUS");
    let uid = Name::new(Path::new("_UID"), &ZERO);
    let ddn = Name::new(Path::new("_DDN"), &"VMBUS");
    let sta = Name::new(Path::new("_STA"), &WORKING);
    let irq = IsaIrq(layout::VMBUS_IRQ);
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&irq]));
    Raw(to_bytes(&Device::new(Path::new("VMBS"), vec![&hid, &uid, &ddn, &sta, &crs])))
}

const _: () = assert!(layout::VMBUS_MMIO_START >= layout::HOLE_START);
const _: () =
    assert!(layout::VMBUS_MMIO_START + layout::VMBUS_MMIO_BYTES <= layout::IOAPIC_ADDRESS);
const _: () = assert!(layout::COM1_IRQ < 16 && layout::VMBUS_IRQ < 16);

/// AML that is encoded already.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// The two-byte interrupt descriptor (§6.4.2.1): ISA interrupt 0 to 15, edge-triggered, active high.
struct IsaIrq(u32);

impl Aml for IsaIrq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const SHORT_IRQ_OF_TWO_BYTES: u8 = 0x22;
        sink.byte(SHORT_IRQ_OF_TWO_BYTES);
        sink.word(1u16.checked_shl(self.0).unwrap_or(0));
    }
}
