//! ACPI tables, as far as a kernel needs them that only wants to know its processors and interrupts.
//!
//! [`find_rsdp`] looks where firmware leaves the root pointer, [`processors`] follows it to the MADT
//! ([`madt`], [`interrupts`]). Every length is checked against its table before it is used.

pub mod interrupts;
pub mod madt;

use core::fmt;

pub use interrupts::{Interrupts, IoApic, Signal};
pub use madt::{Processor, Processors};

use crate::phys::{OutOfReach, PhysMemory, le32, le64};

/// Bytes of a system description table's header (ACPI 6.5 §5.2.6).
const HEADER_BYTES: u64 = 36;
/// Larger tables exist, but not of the kinds that are read here.
const MAX_TABLE_BYTES: u32 = 64 * 1024;
/// Segment of the extended BIOS data area (ACPI 6.5 §5.2.5.1).
const EBDA_SEGMENT: u64 = 0x40E;

/// Why the processors can't be learned from ACPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcpiError {
    /// A table lies where nothing can be read.
    OutOfReach,
    /// The root pointer's signature or checksum is wrong.
    BadRootPointer,
    /// A table's signature is not the one that belongs there.
    BadSignature([u8; 4]),
    /// The table's checksum is wrong.
    BadChecksum([u8; 4]),
    /// The table's length, or that of an entry in it, can't be right.
    BadLength([u8; 4]),
    /// There is no MADT.
    NoMadt,
    /// The MADT names no enabled processor.
    NoProcessors,
}

impl From<OutOfReach> for AcpiError {
    fn from(_: OutOfReach) -> Self {
        Self::OutOfReach
    }
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach => f.write_str("a table lies beyond readable memory"),
            Self::BadRootPointer => f.write_str("the root pointer is damaged"),
            Self::BadSignature(name) => {
                write!(f, "found table {} out of place", name.escape_ascii())
            }
            Self::BadChecksum(name) => {
                write!(f, "the checksum of {} is wrong", name.escape_ascii())
            }
            Self::BadLength(name) => write!(f, "a length in {} is wrong", name.escape_ascii()),
            Self::NoMadt => f.write_str("there is no MADT"),
            Self::NoProcessors => f.write_str("the MADT names no processor"),
        }
    }
}

/// Looks for the root pointer in the first KiB of the EBDA and below 1 MiB (ACPI 6.5 §5.2.5.1).
pub fn find_rsdp(memory: &impl PhysMemory) -> Option<u64> {
    let segment = memory.bytes::<2>(EBDA_SEGMENT).map_or(0, u16::from_le_bytes);
    let ebda = u64::from(segment) << 4;
    let extended = (ebda >= 0x400).then_some(ebda..ebda + 1024);
    let places = extended.into_iter().flatten().step_by(16);
    places.chain((0xE_0000..0x10_0000).step_by(16)).find(|&at| {
        memory.bytes::<8>(at).is_ok_and(|signature| signature == *b"RSD PTR ")
            && read_rsdp(memory, at).is_ok()
    })
}

/// The processors in the MADT that the root pointer at `rsdp` leads to.
///
/// # Errors
/// [`AcpiError`] if the tables are damaged or name no processor.
pub fn processors(memory: &impl PhysMemory, rsdp: u64) -> Result<Processors, AcpiError> {
    let (root, pointer_bytes) = read_rsdp(memory, rsdp)?;
    let signature = if pointer_bytes == 8 { *b"XSDT" } else { *b"RSDT" };
    let table = Table::at(memory, root)?;
    if table.signature != signature {
        return Err(AcpiError::BadSignature(table.signature));
    }
    table.check_sum(memory)?;
    for offset in (HEADER_BYTES..table.length).step_by(pointer_bytes) {
        if table.length - offset < pointer_bytes as u64 {
            return Err(AcpiError::BadLength(signature));
        }
        let mut pointer = [0; 8];
        memory.read(table.address + offset, &mut pointer[..pointer_bytes])?;
        // A table that can't be read is not ours to judge unless it is the one we look for.
        let Ok(found) = Table::at(memory, u64::from_le_bytes(pointer)) else { continue };
        if found.signature == *b"APIC" {
            found.check_sum(memory)?;
            return madt::parse(memory, found.address, found.length);
        }
    }
    Err(AcpiError::NoMadt)
}

/// The root table's address and the size of the pointers in it (ACPI 6.5 §5.2.5.3).
fn read_rsdp(memory: &impl PhysMemory, at: u64) -> Result<(u64, usize), AcpiError> {
    let first = memory.bytes::<20>(at)?;
    let valid = first.starts_with(b"RSD PTR ") && sum(&first) == 0;
    if !valid {
        return Err(AcpiError::BadRootPointer);
    }
    let rsdt = u64::from(le32(&first, 16));
    if first[15] < 2 {
        return Ok((rsdt, 4));
    }
    let all = memory.bytes::<36>(at)?;
    if le32(&all, 20) < 36 || sum(&all) != 0 {
        return Err(AcpiError::BadRootPointer);
    }
    match le64(&all, 24) {
        0 => Ok((rsdt, 4)),
        xsdt => Ok((xsdt, 8)),
    }
}

struct Table {
    address: u64,
    length: u64,
    signature: [u8; 4],
}

impl Table {
    fn at(memory: &impl PhysMemory, address: u64) -> Result<Self, AcpiError> {
        let header = memory.bytes::<{ HEADER_BYTES as usize }>(address)?;
        let signature = [header[0], header[1], header[2], header[3]];
        let length = le32(&header, 4);
        if u64::from(length) < HEADER_BYTES || length > MAX_TABLE_BYTES {
            return Err(AcpiError::BadLength(signature));
        }
        let length = u64::from(length);
        address.checked_add(length).ok_or(AcpiError::OutOfReach)?;
        Ok(Self { address, length, signature })
    }

    fn check_sum(&self, memory: &impl PhysMemory) -> Result<(), AcpiError> {
        let mut total = 0u8;
        for offset in (0..self.length).step_by(64) {
            let mut bytes = [0; 64];
            let bytes = &mut bytes[..(self.length - offset).min(64) as usize];
            memory.read(self.address + offset, bytes)?;
            total = total.wrapping_add(sum(bytes));
        }
        if total == 0 { Ok(()) } else { Err(AcpiError::BadChecksum(self.signature)) }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests;
