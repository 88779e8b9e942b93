//! The tables as a guest finds them: by addresses and offsets from the ACPI specification.

use vm_memory::GuestMemoryMmap;

use super::*;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap()
}

fn bytes(memory: &GuestMemoryMmap, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(table: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(table[offset..offset + 4].try_into().unwrap())
}

fn u64_at(table: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(table[offset..offset + 8].try_into().unwrap())
}

/// The table at `address`, its signature, checksum and place checked.
fn table(memory: &GuestMemoryMmap, address: u64, signature: &[u8; 4]) -> Vec<u8> {
    let length = u32_at(&bytes(memory, address + 4, 4), 0);
    assert!(address >= 0xE_0024 && address + u64::from(length) <= 0x10_0000);
    let table = bytes(memory, address, length as usize);
    assert_eq!(&table[..4], signature);
    assert_eq!(sum(&table), 0, "checksum of {signature:?}");
    table
}

/// A machine without PCI.
fn plain(vps: u32) -> Described {
    Described { vps, vmbus: true, pci: false }
}

struct Tables {
    fadt: Vec<u8>,
    madt: Vec<u8>,
    dsdt: Vec<u8>,
}

/// Writes the tables for `vps` processors and follows the pointers from the RSDP.
fn tables(vps: u32) -> Tables {
    let memory = memory();
    let rsdp = write_tables(&memory, plain(vps)).unwrap();
    assert_eq!(rsdp.0, 0xE_0000);
    let rsdp = bytes(&memory, rsdp.0, 36);
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!(sum(&rsdp[..20]), 0, "checksum of the first 20 bytes");
    assert_eq!(sum(&rsdp), 0, "extended checksum");
    assert_eq!((rsdp[15], u32_at(&rsdp, 20)), (2, 36), "revision and length");
    let xsdt = table(&memory, u64_at(&rsdp, 24), b"XSDT");
    assert_eq!(xsdt.len(), 36 + 2 * 8);
    let fadt = table(&memory, u64_at(&xsdt, 36), b"FACP");
    let madt = table(&memory, u64_at(&xsdt, 44), b"APIC");
    let dsdt = table(&memory, u64_at(&fadt, 140), b"DSDT");
    let rsdt = table(&memory, u32_at(&rsdp, 16).into(), b"RSDT");
    let addresses = [36, 40].map(|offset| u64::from(u32_at(&rsdt, offset)));
    assert_eq!((rsdt.len(), addresses), (36 + 2 * 4, [u64_at(&xsdt, 36), u64_at(&xsdt, 44)]));
    Tables { fadt, madt, dsdt }
}

fn count(table: &[u8], part: &[u8]) -> usize {
    table.windows(part.len()).filter(|window| *window == part).count()
}

#[test]
fn every_table_is_whole_for_any_number_of_processors() {
    for vps in 1..=64 {
        let tables = tables(vps);
        assert_eq!(count(&tables.dsdt, b"ACPI0007\0"), vps as usize);
    }
}

#[test]
fn tables_do_not_overlap() {
    let memory = memory();
    write_tables(&memory, plain(64)).unwrap();
    let xsdt_address = u64_at(&bytes(&memory, 0xE_0000, 36), 24);
    let xsdt = table(&memory, xsdt_address, b"XSDT");
    let fadt_address = u64_at(&xsdt, 36);
    let dsdt_address = u64_at(&bytes(&memory, fadt_address, 276), 140);
    let rsdt_address = u64::from(u32_at(&bytes(&memory, 0xE_0000, 36), 16));
    let madt_address = u64_at(&xsdt, 44);
    let mut starts =
        [0xE_0000, xsdt_address, rsdt_address, fadt_address, madt_address, dsdt_address];
    starts.sort_unstable();
    let lengths = starts.map(|start| match start {
        0xE_0000 => 36,
        _ => u64::from(u32_at(&bytes(&memory, start + 4, 4), 0)),
    });
    for (index, pair) in starts.windows(2).enumerate() {
        assert!(pair[0] + lengths[index] <= pair[1]);
        assert_eq!(pair[1] % 16, 0);
    }
}

#[test]
fn the_fadt_is_hardware_reduced_with_sleep_and_reset_ports() {
    let fadt = tables(1).fadt;
    assert_eq!(fadt.len(), 276);
    let flags = u32_at(&fadt, 112);
    assert_eq!(flags & 1 << 20, 1 << 20, "HW_REDUCED_ACPI");
    assert_eq!(flags & 1 << 10, 1 << 10, "RESET_REG_SUP");
    // Address structures: space 1 (I/O), 8 bits wide, offset 0, byte access, port.
    assert_eq!(fadt[116..128], [1, 8, 0, 1, 0x02, 0x06, 0, 0, 0, 0, 0, 0], "RESET_REG");
    assert_eq!(fadt[128], 1, "RESET_VALUE");
    assert_eq!(fadt[244..256], [1, 8, 0, 1, 0x00, 0x06, 0, 0, 0, 0, 0, 0], "SLEEP_CONTROL_REG");
    assert_eq!(fadt[256..268], [1, 8, 0, 1, 0x01, 0x06, 0, 0, 0, 0, 0, 0], "SLEEP_STATUS_REG");
    assert_eq!(u32_at(&fadt, 40), 0, "only X_DSDT is used");
}

#[test]
fn the_madt_lists_processors_then_the_ioapic() {
    let madt = tables(3).madt;
    assert_eq!(u32_at(&madt, 36), 0xFEE0_0000);
    let expected: [&[u8]; 5] = [
        &[0, 8, 0, 0, 1, 0, 0, 0], // processor local APIC: uid, id, enabled
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[0, 8, 2, 2, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0], // IOAPIC: id, address, GSI base
        &[4, 6, 0xFF, 0, 0, 1],                       // NMI: all processors, LINT1
    ];
    assert_eq!(madt[44..], expected.concat());
}

#[test]
fn the_last_of_64_processors_has_uid_and_id_63() {
    let tables = tables(64);
    assert_eq!(count(&tables.madt, &[0, 8, 63, 63, 1, 0, 0, 0]), 1);
    // DeviceOp, length, "C03F", Name _HID "ACPI0007", Name _UID byte 63.
    let device = b"\x5B\x82\x1BC03F\x08_HID\x0DACPI0007\0\x08_UID\x0A\x3F";
    assert_eq!(count(&tables.dsdt, device), 1);
}

#[test]
fn soft_off_is_sleep_type_5() {
    // NameOp, "_S5_", PackageOp, length 7, 4 elements: byte 5, zero, zero, zero.
    assert_eq!(count(&tables(1).dsdt, b"\x08_S5_\x12\x07\x04\x0A\x05\0\0\0"), 1);
}

#[test]
fn com1_has_its_ports_and_interrupt() {
    let dsdt = tables(1).dsdt;
    // EISA id PNP0501; I/O 0x3F8, 16-bit decode, alignment 1, 8 ports; IRQ 4; end tag.
    assert_eq!(count(&dsdt, b"\x08_HID\x0C\x41\xD0\x05\x01"), 1);
    let resources = b"\x47\x01\xF8\x03\xF8\x03\x01\x08\x22\x10\x00\x79\x00";
    assert_eq!(count(&dsdt, resources), 1);
}

#[test]
fn a_machine_without_vmbus_has_no_such_device() {
    let dsdt = super::dsdt::bytes(Described { vmbus: false, ..plain(2) });
    assert_eq!(count(&dsdt, b"VMBUS"), 0);
    assert_eq!(count(&dsdt, b"VMOD"), 0);
    assert_eq!(count(&dsdt, b"COM1"), 1);
}

#[test]
fn vmbus_lies_in_a_module_with_an_mmio_window() {
    let dsdt = tables(1).dsdt;
    // DWord address space, 23 bytes: memory, produced, fixed both ends; not cached, read-write;
    // granularity, 0xE0000000, 0xE7FFFFFF, no translation, 128 MiB; end tag.
    let window =
        b"\x87\x17\x00\x00\x0C\x01\0\0\0\0\0\0\0\xE0\xFF\xFF\xFF\xE7\0\0\0\0\0\0\0\x08\x79\0";
    let device = b"VMBS\x08_HID\x0DVMBUS\0";
    let window_at = dsdt.windows(window.len()).position(|part| part == window).unwrap();
    let device_at = dsdt.windows(device.len()).position(|part| part == device).unwrap();
    assert!(device_at > window_at);
    assert_eq!(count(&dsdt, b"\x22\x20\x00\x79\x00"), 1, "short interrupt descriptor, IRQ 5");
    assert_eq!(count(&dsdt, b"\x89\x06\x00"), 0, "no extended interrupt");
}

#[test]
fn the_reset_entry_of_a_bios_writes_the_reset_register() {
    let memory = memory();
    write_tables(&memory, plain(1)).unwrap();
    // Intel SDM 2: MOV DX, imm16 is BA; MOV AL, imm8 is B0; OUT DX, AL is EE; HLT is F4; JMP rel8 is EB.
    let code = [0xBA, 0x02, 0x06, 0xB0, 0x01, 0xEE, 0xF4, 0xEB, 0xFD];
    assert_eq!(bytes(&memory, 0xF_FFF0, 9), code);
}

#[test]
fn a_number_of_processors_out_of_range_is_refused() {
    for vps in [0, 65, u32::MAX] {
        assert_eq!(write_tables(&memory(), plain(vps)), Err(AcpiError::VpCount(vps)));
    }
}

#[test]
fn a_guest_without_ram_for_the_tables_is_refused() {
    let little = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0xE_0000)]).unwrap();
    assert!(matches!(write_tables(&little, plain(1)), Err(AcpiError::NoRam(_))));
}

/// The tables of a machine with PCI, by their signatures; FACS and DSDT as the FADT names them.
fn tables_with_pci(vps: u32) -> (Tables, Vec<u8>, Vec<u8>) {
    let memory = memory();
    let rsdp = write_tables(&memory, Described { pci: true, ..plain(vps) }).unwrap();
    let xsdt = table(&memory, u64_at(&bytes(&memory, rsdp.0, 36), 24), b"XSDT");
    let rsdt = table(&memory, u32_at(&bytes(&memory, rsdp.0, 36), 16).into(), b"RSDT");
    assert_eq!((xsdt.len(), rsdt.len()), (36 + 3 * 8, 36 + 3 * 4));
    let fadt = table(&memory, u64_at(&xsdt, 36), b"FACP");
    let madt = table(&memory, u64_at(&xsdt, 44), b"APIC");
    let mcfg = table(&memory, u64_at(&xsdt, 52), b"MCFG");
    let dsdt = table(&memory, u64_at(&fadt, 140), b"DSDT");
    let facs_address = u64_at(&fadt, 132);
    assert_eq!(facs_address % 64, 0);
    let facs = bytes(&memory, facs_address, 64);
    (Tables { fadt, madt, dsdt }, mcfg, facs)
}

#[test]
fn with_pci_the_fadt_has_fixed_hardware() {
    let (Tables { fadt, .. }, _, facs) = tables_with_pci(1);
    assert_eq!(u32_at(&fadt, 112) & 1 << 20, 0, "not HW_REDUCED_ACPI");
    assert_eq!(fadt[46..48], [9, 0], "SCI_INT");
    let blocks = [56, 64, 76].map(|offset| u32_at(&fadt, offset));
    assert_eq!(blocks, [0x640, 0x644, 0x648], "PM1a_EVT_BLK, PM1a_CNT_BLK, PM_TMR_BLK");
    assert_eq!([fadt[88], fadt[89], fadt[91]], [4, 2, 4], "their lengths");
    assert_eq!(fadt[148..160], [1, 32, 0, 2, 0x40, 0x06, 0, 0, 0, 0, 0, 0], "X_PM1a_EVT_BLK");
    assert_eq!(fadt[172..184], [1, 16, 0, 2, 0x44, 0x06, 0, 0, 0, 0, 0, 0], "X_PM1a_CNT_BLK");
    assert_eq!(fadt[208..220], [1, 32, 0, 3, 0x48, 0x06, 0, 0, 0, 0, 0, 0], "X_PM_TMR_BLK");
    assert_eq!((&facs[..4], u32_at(&facs, 4)), (&b"FACS"[..], 64));
}

#[test]
fn with_pci_its_interrupts_and_acpis_are_level_triggered() {
    let (Tables { madt, .. }, ..) = tables_with_pci(1);
    for irq in [9, 10, 11] {
        assert_eq!(count(&madt, &[2, 10, 0, irq, irq, 0, 0, 0, 0x0D, 0]), 1, "override of {irq}");
    }
    assert_eq!(count(&tables(1).madt, &[2, 10, 0]), 0, "none without PCI");
}

#[test]
fn with_pci_the_mcfg_tells_of_bus_0() {
    let (_, mcfg, _) = tables_with_pci(1);
    // Base address, segment 0, buses 0 to 0, reserved.
    assert_eq!(mcfg[44..], [0, 0, 0, 0xE8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn with_pci_the_host_bridge_has_windows_and_routes() {
    let (Tables { dsdt, .. }, ..) = tables_with_pci(64);
    // EISA ids PNP0A03 and PNP0C02.
    assert_eq!(count(&dsdt, b"PCI0\x08_HID\x0C\x41\xD0\x0A\x03"), 1);
    assert_eq!(count(&dsdt, b"MBRS\x08_HID\x0C\x41\xD0\x0C\x02"), 1);
    // Word I/O, produced, whole range: 0 to 0xCF7.
    assert_eq!(count(&dsdt, b"\x88\x0D\x00\x01\x0C\x03\0\0\0\0\xF7\x0C\0\0\xF8\x0C"), 1);
    // Double word memory: 0xC0000000 to 0xDFFFFFFF.
    let memory = b"\0\0\0\xC0\xFF\xFF\xFF\xDF\0\0\0\0\0\0\0\x20";
    assert_eq!(count(&dsdt, memory), 1);
    // Memory32Fixed, writable: 1 MiB at 0xE8000000.
    assert_eq!(count(&dsdt, b"\x86\x09\x00\x01\0\0\0\xE8\0\0\x10\0"), 1);
    // Package of 4: slot 2, any function; INTA#; no link; GSI 10. Slot 3: GSI 11.
    assert_eq!(count(&dsdt, b"\x04\x0C\xFF\xFF\x02\0\0\0\x0A\x0A"), 1);
    assert_eq!(count(&dsdt, b"\x04\x0C\xFF\xFF\x03\0\0\0\x0A\x0B"), 1);
    assert_eq!(count(&super::dsdt::bytes(plain(1)), b"PCI0"), 0);
}
