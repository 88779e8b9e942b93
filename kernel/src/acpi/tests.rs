//! ACPI tables as firmware might write them, right and wrong.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::phys::Slice;

const RSDP: usize = 0x100;
const XSDT: usize = 0x200;
const RSDT: usize = 0x280;
const MADT: usize = 0x300;

/// `qemu-system-x86_64 -smp 2` gives a MADT with these local APIC entries (ACPI 6.5 §5.2.12.2).
const TWO_PROCESSORS: [u8; 16] = [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0];

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend((36 + body.len() as u32).to_le_bytes());
    table.resize(36, 0);
    table.extend(body);
    fix(&mut table, 9);
    table
}

fn fix(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = sum(bytes).wrapping_neg();
}

fn madt(entries: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0xE0, 0xFE, 1, 0, 0, 0];
    body.extend(entries);
    table(b"APIC", &body)
}

fn memory_with(madt: &[u8]) -> Vec<u8> {
    let mut m = vec![0; 0x2000];
    let mut rsdp = b"RSD PTR \0ENLTST\x02".to_vec();
    rsdp.extend((RSDT as u32).to_le_bytes());
    rsdp.extend(36u32.to_le_bytes());
    rsdp.extend((XSDT as u64).to_le_bytes());
    rsdp.extend([0; 4]);
    fix(&mut rsdp[..20], 8);
    fix(&mut rsdp, 32);
    m[RSDP..RSDP + 36].copy_from_slice(&rsdp);
    let xsdt = table(b"XSDT", &[0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x00, 0x03, 0, 0, 0, 0, 0, 0]);
    m[XSDT..XSDT + xsdt.len()].copy_from_slice(&xsdt);
    let rsdt = table(b"RSDT", &[0x00, 0x03, 0, 0]);
    m[RSDT..RSDT + rsdt.len()].copy_from_slice(&rsdt);
    m[MADT..MADT + madt.len()].copy_from_slice(madt);
    m
}

fn parse(m: &[u8]) -> Result<Processors, AcpiError> {
    processors(&Slice(0, m), RSDP as u64)
}

fn ids(m: &[u8]) -> Vec<u32> {
    parse(m).unwrap().enabled.iter().map(|processor| processor.apic_id).collect()
}

#[test]
fn processors_are_found_through_the_xsdt() {
    let m = memory_with(&madt(&TWO_PROCESSORS));
    assert_eq!(ids(&m), [0, 1]);
    let found = parse(&m).unwrap();
    assert_eq!((found.apic_address, found.has_8259), (0xFEE0_0000, true));
}

#[test]
fn an_old_root_pointer_leads_through_the_rsdt() {
    let mut m = memory_with(&madt(&TWO_PROCESSORS));
    m[RSDP + 15] = 0;
    fix(&mut m[RSDP..RSDP + 20], 8);
    m[XSDT] = 0;
    assert_eq!(ids(&m), [0, 1]);
}

#[test]
fn x2apic_entries_count_and_duplicates_do_not() {
    let mut entries = TWO_PROCESSORS.to_vec();
    for id in [1u32, 300] {
        entries.extend([9, 16, 0, 0]);
        entries.extend(id.to_le_bytes());
        entries.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(ids(&memory_with(&madt(&entries))), [0, 1, 300]);
}

#[test]
fn disabled_processors_are_only_counted() {
    let entries = [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 2, 0, 0, 0, 0, 8, 2, 0xFF, 1, 0, 0, 0];
    let found = parse(&memory_with(&madt(&entries))).unwrap();
    assert_eq!((found.enabled.len(), found.disabled), (1, 2));
}

#[test]
fn more_processors_than_fit_are_counted() {
    let entries: Vec<u8> = (0..70).flat_map(|id| [0, 8, id, id, 1, 0, 0, 0]).collect();
    let found = parse(&memory_with(&madt(&entries))).unwrap();
    assert_eq!((found.enabled.len(), found.too_many), (64, 6));
}

#[test]
fn the_apic_address_can_be_overridden_and_unknown_entries_are_passed_over() {
    let mut entries = TWO_PROCESSORS.to_vec();
    entries.extend([0x7F, 4, 1, 2]);
    entries.extend([5, 12, 0, 0, 0, 0, 0xE0, 0xFE, 1, 0, 0, 0]);
    let found = parse(&memory_with(&madt(&entries))).unwrap();
    assert_eq!(found.apic_address, 0x1_FEE0_0000);
}

/// `qemu-system-x86_64 -machine pc` gives these entries (`iasl -d` of QEMU 7.2's table): the I/O APIC, the timer's interrupt on pin 2, and
/// those of PCI's interrupts level-triggered and active high.
const PC_INTERRUPTS: [u8; 62] = [
    1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0, //
    2, 10, 0, 0, 2, 0, 0, 0, 0, 0, //
    2, 10, 0, 5, 5, 0, 0, 0, 0x0D, 0, //
    2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0, //
    2, 10, 0, 10, 10, 0, 0, 0, 0x0D, 0, //
    2, 10, 0, 11, 11, 0, 0, 0, 0x0D, 0,
];

fn interrupts(entries: &[u8]) -> Interrupts {
    let entries = [&TWO_PROCESSORS, entries].concat();
    parse(&memory_with(&madt(&entries))).unwrap().interrupts
}

#[test]
fn a_pcs_interrupts_are_where_its_table_says() {
    let found = interrupts(&PC_INTERRUPTS);
    let high = Signal { level: true, active_low: false };
    assert_eq!(found.pin(0, Signal::ISA), (2, Signal::ISA));
    assert_eq!(found.pin(14, Signal::ISA), (14, Signal::ISA));
    assert_eq!(found.pin(11, Signal::PCI), (11, high));
    assert_eq!(found.pin(7, Signal::PCI), (7, Signal::PCI));
    let only = IoApic { address: 0xFEC0_0000, first_gsi: 0 };
    assert_eq!(found.io_apic(14), Some((only, 14)));
}

#[test]
fn polarity_and_trigger_are_each_as_the_entry_says_or_as_the_bus_has_it() {
    let signal =
        |flags: u8| interrupts(&[2, 10, 0, 3, 20, 0, 0, 0, flags, 0]).pin(3, Signal::PCI).1;
    assert_eq!(signal(0b0000), Signal::PCI);
    assert_eq!(signal(0b0101), Signal::ISA);
    assert_eq!(signal(0b1111), Signal::PCI);
    assert_eq!(signal(0b0001), Signal { level: true, active_low: false });
    assert_eq!(signal(0b0100), Signal { level: false, active_low: true });
    assert_eq!(signal(0b1010), Signal::PCI, "reserved values mean nothing");
}

#[test]
fn a_pin_belongs_to_the_io_apic_that_begins_next_below_it() {
    let entries = [1, 12, 1, 0, 0, 0, 0xC1, 0xFE, 24, 0, 0, 0];
    let found = interrupts(&entries);
    assert_eq!(found.io_apic(23), None);
    let second = IoApic { address: 0xFEC1_0000, first_gsi: 24 };
    assert_eq!(found.io_apic(30), Some((second, 6)));
    assert_eq!(interrupts(&[]).io_apic(0), None);
}

#[test]
fn more_interrupt_entries_than_there_is_room_for_and_those_of_other_buses_do_no_harm() {
    let many: Vec<u8> = (0..60).flat_map(|n| [2, 10, 0, n, n, 0, 0, 0, 0, 0]).collect();
    assert_eq!(interrupts(&many).overrides.len(), 16);
    let many: Vec<u8> = (0..20).flat_map(|n| [1, 12, n, 0, 0, 0, n, 0xFE, n, 0, 0, 0]).collect();
    assert_eq!(interrupts(&many).io_apics.len(), 8);
    assert_eq!(interrupts(&[2, 10, 1, 3, 20, 0, 0, 0, 0, 0]).pin(3, Signal::ISA).0, 3);
    let twice = [2, 10, 0, 3, 20, 0, 0, 0, 0, 0, 2, 10, 0, 3, 21, 0, 0, 0, 0, 0];
    assert_eq!(interrupts(&twice).pin(3, Signal::ISA).0, 20);
}

#[test]
fn entries_that_lie_about_their_length_are_refused() {
    for entries in [
        &[0u8, 0, 0, 0][..],
        &[0, 1],
        &[0, 9, 0, 0, 1, 0, 0, 0],
        &[0, 7, 0, 0, 1, 0, 0],
        &[0],
        &[9, 8, 0, 0, 1, 0, 0, 0],
        &[1, 11, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0],
        &[2, 9, 0, 0, 2, 0, 0, 0, 0],
    ] {
        let result = parse(&memory_with(&madt(entries)));
        assert_eq!(result.unwrap_err(), AcpiError::BadLength(*b"APIC"), "{entries:?}");
    }
}

#[test]
fn a_madt_without_processors_is_an_error() {
    assert_eq!(parse(&memory_with(&madt(&[]))).unwrap_err(), AcpiError::NoProcessors);
}

#[test]
fn table_lengths_that_can_not_be_are_refused() {
    for length in [0u32, 35, 43, 65537, u32::MAX] {
        let mut m = memory_with(&madt(&TWO_PROCESSORS));
        m[XSDT + 4..XSDT + 8].copy_from_slice(&length.to_le_bytes());
        let size = (length as usize).min(0x100);
        fix(&mut m[XSDT..XSDT + size.max(10)], 9);
        assert_eq!(parse(&m).unwrap_err(), AcpiError::BadLength(*b"XSDT"), "{length}");
    }
}

#[test]
fn wrong_checksums_and_signatures_are_named() {
    let good = memory_with(&madt(&TWO_PROCESSORS));
    for (at, error) in [
        (RSDP + 9, AcpiError::BadRootPointer),
        (RSDP + 33, AcpiError::BadRootPointer),
        (XSDT, AcpiError::BadSignature(*b"YSDT")),
        (XSDT + 10, AcpiError::BadChecksum(*b"XSDT")),
        (MADT + 50, AcpiError::BadChecksum(*b"APIC")),
        (MADT, AcpiError::NoMadt),
    ] {
        let mut m = good.clone();
        m[at] = m[at].wrapping_add(1);
        assert_eq!(parse(&m).unwrap_err(), error, "{at:#x}");
    }
}

#[test]
fn pointers_beyond_memory_are_errors() {
    let good = memory_with(&madt(&TWO_PROCESSORS));
    assert_eq!(processors(&Slice(0, &good), u64::MAX).unwrap_err(), AcpiError::OutOfReach);
    let mut m = good.clone();
    m[RSDP + 24..RSDP + 32].fill(0xFF);
    fix(&mut m[RSDP..RSDP + 36], 32);
    assert_eq!(parse(&m).unwrap_err(), AcpiError::OutOfReach);
    assert_eq!(parse(&good[..MADT + 50]).unwrap_err(), AcpiError::OutOfReach);
}

#[test]
fn the_root_pointer_is_found_below_1_mib_and_in_the_ebda() {
    let tables = memory_with(&madt(&TWO_PROCESSORS));
    let mut m = vec![0; 0x10_0000];
    assert_eq!(find_rsdp(&Slice(0, &m)), None);
    m[0xF_5980..0xF_5980 + 36].copy_from_slice(&tables[RSDP..RSDP + 36]);
    assert_eq!(find_rsdp(&Slice(0, &m)), Some(0xF_5980));
    m[0x40E..0x410].copy_from_slice(&[0xC0, 0x9F]);
    m[0x9_FC10..0x9_FC10 + 36].copy_from_slice(&tables[RSDP..RSDP + 36]);
    assert_eq!(find_rsdp(&Slice(0, &m)), Some(0x9_FC10));
    m[0x9_FC10 + 20] ^= 1;
    assert_eq!(find_rsdp(&Slice(0, &m)), Some(0xF_5980));
}
