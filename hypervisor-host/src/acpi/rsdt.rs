//! The RSDT (§5.2.7): the tables by 32-bit addresses, for small kernels that know nothing newer than ACPI 1.0. Others
//! prefer the XSDT.

use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;

use super::{AcpiError, OEM_ID, OEM_REVISION, OEM_TABLE_ID, to_bytes};
use crate::layout;

const HEADER_BYTES: u32 = 36;
const REVISION: u8 = 1;
/// Fields of the RSDP (§5.2.5.3): what the first checksum covers, both checksums, and the RSDT's address.
const FIRST_BYTES: usize = 20;
const CHECKSUM: usize = 8;
const RSDT_ADDRESS: usize = 16;
const EXTENDED_CHECKSUM: usize = 32;

const _: () = assert!(layout::ACPI_END.0 <= u32::MAX as u64);

/// The table for tables at these addresses.
pub(super) fn bytes(tables: &[u64]) -> Result<Vec<u8>, AcpiError> {
    let mut table = Sdt::new(*b"RSDT", HEADER_BYTES, REVISION, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for &address in tables {
        table.append_slice(&low(address)?.to_le_bytes());
    }
    Ok(table.as_slice().to_vec())
}

/// The RSDP with the addresses of both root tables; `acpi_tables` knows but the XSDT's.
pub(super) fn pointer(rsdt: u64, xsdt: u64) -> Result<Vec<u8>, AcpiError> {
    let mut bytes = to_bytes(&Rsdp::new(OEM_ID, xsdt));
    put(&mut bytes, RSDT_ADDRESS, &low(rsdt)?.to_le_bytes());
    for (checksum, covered) in [(CHECKSUM, FIRST_BYTES), (EXTENDED_CHECKSUM, Rsdp::len())] {
        put(&mut bytes, checksum, &[0]);
        let sum = bytes.iter().take(covered).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        put(&mut bytes, checksum, &[sum.wrapping_neg()]);
    }
    Ok(bytes)
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(offset).zip(value) {
        *byte = *new;
    }
}

fn low(address: u64) -> Result<u32, AcpiError> {
    u32::try_from(address).map_err(|_| AcpiError::NoRam(address))
}
