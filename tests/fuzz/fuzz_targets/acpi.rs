//! The guest kernel's ACPI parsers: any bytes where the tables lie, as they are and with the checksums
//! repaired, which a fuzzer can't guess.

#![no_main]

use enlighten_fuzz::Memory;
use libfuzzer_sys::fuzz_target;

/// Where a PC's firmware has its tables; seeds hold what our host writes there.
const TABLES: u64 = 0xE_0000;
/// Enough tables for any seed.
const MAX_TABLES: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    parse(bytes);
    let mut repaired = bytes.to_vec();
    if repair(&mut repaired).is_some() {
        parse(&repaired);
    }
});

fn parse(bytes: &[u8]) {
    let memory = Memory { start: TABLES, bytes };
    let _ = kernel::acpi::processors(&memory, TABLES);
    if let Some(rsdp) = kernel::acpi::find_rsdp(&memory) {
        let _ = kernel::acpi::processors(&memory, rsdp);
    }
}

/// Corrects the checksums of the RSDP at the start and of the tables it leads to.
fn repair(bytes: &mut [u8]) -> Option<()> {
    repair_sum(bytes.get_mut(..20)?, 8);
    repair_sum(bytes.get_mut(..36)?, 32);
    let xsdt = offset(u64_at(bytes, 24)?)?;
    for entry in 0..MAX_TABLES {
        if let Some(table) = u64_at(bytes, xsdt.checked_add(36 + entry * 8)?).and_then(offset) {
            repair_table(bytes, table);
        }
    }
    repair_table(bytes, xsdt)
}

fn repair_table(bytes: &mut [u8], at: usize) -> Option<()> {
    let length = u32::from_le_bytes(*bytes.get(at.checked_add(4)?..)?.first_chunk()?);
    let table = bytes.get_mut(at..at.checked_add(length as usize)?)?;
    (table.len() > 9).then(|| repair_sum(table, 9))
}

/// Chooses the byte at `checksum` so that all bytes add up to 0.
fn repair_sum(bytes: &mut [u8], checksum: usize) {
    bytes[checksum] = 0;
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[checksum] = sum.wrapping_neg();
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn offset(address: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(TABLES)?).ok()
}
