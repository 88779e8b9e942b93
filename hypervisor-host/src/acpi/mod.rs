//! The ACPI tables: how a guest finds its processors, COM1, VMBus, PCI, and how to power off and reset.
//!
//! RSDP, XSDT, RSDT, FADT, MADT and DSDT, in machines with PCI also FACS and MCFG, one after the other in the area that
//! [`layout::ACPI_START`] reserves. Section numbers are those of ACPI 6.5. The tables' formats come
//! from rust-vmm's `acpi_tables`; what it lacks is added in `madt` and `dsdt`. The end of the area has
//! code that resets the machine (`reset_entry`).

mod dsdt;
mod fadt;
mod madt;
mod pci;
mod reset_entry;
mod rsdt;
#[cfg(test)]
mod tests;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::layout;

const OEM_ID: [u8; 6] = *b"ENLTEN";
const OEM_TABLE_ID: [u8; 8] = *b"HYPRHOST";
const OEM_REVISION: u32 = 1;
/// What the tables tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Virtual processors, whose APIC ids are 0 to `vps - 1`.
    pub vps: u32,
    /// Whether there is VMBus.
    pub vmbus: bool,
    /// Whether there is PCI, and with it ACPI's fixed hardware.
    pub pci: bool,
}

/// The FACS starts at a multiple of this (§5.2.10).
const FACS_ALIGNMENT: u64 = 64;
/// Tables start at multiples of this (§5.2.5.1 asks it of the RSDP).
const TABLE_ALIGNMENT: u64 = 16;

/// Why the tables could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AcpiError {
    /// No processors, or more than [`layout::MAX_VPS`].
    #[error("cannot describe {0} virtual processors in the ACPI tables; use 1 to {max}", max = layout::MAX_VPS)]
    VpCount(u32),
    /// The tables are larger than the area reserved for them.
    #[error(
        "the ACPI tables take more than the {0} bytes reserved for them; use fewer virtual processors"
    )]
    NoRoom(u64),
    /// The area for the tables is not RAM.
    #[error("the guest has no RAM at {0:#x} for its ACPI tables; give more --memory")]
    NoRam(u64),
}

/// Writes the tables of a machine.
///
/// Returns where the RSDP lies.
///
/// # Errors
/// There are too many processors, or there is no room.
pub fn write_tables<M: GuestMemoryBackend>(
    memory: &M,
    machine: Described,
) -> Result<GuestAddress, AcpiError> {
    if machine.vps == 0 || machine.vps > layout::MAX_VPS {
        return Err(AcpiError::VpCount(machine.vps));
    }
    let mut area = Area::after_rsdp();
    let dsdt = area.add(memory, &dsdt::bytes(machine))?;
    let fadt = match machine.pci {
        false => fadt::hardware_reduced(dsdt),
        true => {
            area.next = area.next.next_multiple_of(FACS_ALIGNMENT);
            let facs = area.add(memory, &to_bytes(&FACS::new()))?;
            fadt::with_fixed_hardware(dsdt, facs)
        }
    };
    let mut tables = vec![area.add(memory, &fadt)?, area.add(memory, &madt::bytes(machine))?];
    if machine.pci {
        tables.push(area.add(memory, &pci::mcfg())?);
    }
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    tables.iter().for_each(|&table| xsdt.add_entry(table));
    let xsdt = area.add(memory, &to_bytes(&xsdt))?;
    let rsdt = area.add(memory, &rsdt::bytes(&tables)?)?;
    write(memory, layout::ACPI_START.0, &rsdt::pointer(rsdt, xsdt)?)?;
    write(memory, reset_entry::ADDRESS, &reset_entry::code())?;
    Ok(layout::ACPI_START)
}

/// The part of the reserved area that has no table yet.
struct Area {
    next: u64,
}

impl Area {
    /// All of the area, less the RSDP at its start.
    fn after_rsdp() -> Self {
        Self { next: layout::ACPI_START.0 + (Rsdp::len() as u64).next_multiple_of(TABLE_ALIGNMENT) }
    }

    /// Writes a table and returns its address.
    fn add<M: GuestMemoryBackend>(&mut self, memory: &M, table: &[u8]) -> Result<u64, AcpiError> {
        let address = self.next;
        let bytes = (table.len() as u64).next_multiple_of(TABLE_ALIGNMENT);
        if bytes > reset_entry::ADDRESS - address {
            return Err(AcpiError::NoRoom(reset_entry::ADDRESS - layout::ACPI_START.0));
        }
        write(memory, address, table)?;
        self.next = address + bytes;
        Ok(address)
    }
}

fn write<M: GuestMemoryBackend>(memory: &M, at: u64, bytes: &[u8]) -> Result<(), AcpiError> {
    memory.write_slice(bytes, GuestAddress(at)).map_err(|_| AcpiError::NoRam(at))
}

fn to_bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}
