//! What the kernel is told: PVH's start information and Linux's zero page, read back by offsets from
//! their specifications.

use super::*;

/// Machine of 3 GiB below the hole and 1 GiB above it, as far as its memory map goes.
fn big_machine() -> GuestMemoryMmap {
    ram_pieces(&[(0, 0xC000_0000), (0x1_0000_0000, 0x4000_0000)])
}

/// Start, length and type of each range of the big machine.
const BIG_MAP: [(u64, u64, u32); 5] = [
    (0, 0x9_FC00, 1),
    (0x9_FC00, 0x400, 2),
    (0xE_0000, 0x2_0000, 2),
    (0x10_0000, 0xBFF0_0000, 1),
    (0x1_0000_0000, 0x4000_0000, 1),
];

fn u64_at(memory: &GuestMemoryMmap, address: u64) -> u64 {
    u64::from_le_bytes(read(memory, address))
}

fn u32_at(memory: &GuestMemoryMmap, address: u64) -> u32 {
    u32::from_le_bytes(read(memory, address))
}

#[test]
fn pvh_start_info_has_command_line_module_and_map() {
    let memory = big_machine();
    let image = inspect(kernel(&ELF)).unwrap();
    let disk = initrd(b"0123456789");
    load(&memory, &image, Some(&disk), "log=info list", RSDP, BootProtocolChoice::Pvh).unwrap();

    // start_info.h: magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap, entries.
    assert_eq!(u32_at(&memory, 0x6000), 0x336E_C578);
    assert_eq!(u32_at(&memory, 0x6004), 1);
    assert_eq!(u32_at(&memory, 0x6008), 0);
    assert_eq!(u32_at(&memory, 0x600C), 1);
    let modules = u64_at(&memory, 0x6010);
    let command_line = u64_at(&memory, 0x6018);
    assert_eq!(u64_at(&memory, 0x6020), 0xE_0000);
    let map = u64_at(&memory, 0x6028);
    assert_eq!(u32_at(&memory, 0x6030), BIG_MAP.len() as u32);

    assert_eq!(&read::<14>(&memory, command_line), b"log=info list\0");
    let start = u64_at(&memory, modules);
    assert_eq!(u64_at(&memory, modules + 8), 10);
    assert_eq!(&read::<10>(&memory, start), b"0123456789");
    for (entry, at) in BIG_MAP.iter().zip((map..).step_by(24)) {
        let read = (u64_at(&memory, at), u64_at(&memory, at + 8), u32_at(&memory, at + 16));
        assert_eq!(read, *entry);
    }
}

#[test]
fn without_an_initrd_pvh_has_no_modules() {
    let memory = ram(4 * MIB);
    let image = inspect(kernel(&ELF)).unwrap();
    load(&memory, &image, None, "", RSDP, BootProtocolChoice::Pvh).unwrap();
    assert_eq!(u32_at(&memory, 0x600C), 0);
    assert_eq!(u64_at(&memory, 0x6010), 0);
    assert_eq!(read::<1>(&memory, u64_at(&memory, 0x6018)), [0]);
}

/// Checks what both kinds of kernel find in the zero page; offsets from zero-page.rst and boot.rst.
fn check_zero_page(memory: &GuestMemoryMmap) {
    assert_eq!(u64_at(memory, 0x7070), 0xE_0000, "acpi_rsdp_addr");
    assert_eq!(read::<1>(memory, 0x71E8), [BIG_MAP.len() as u8], "e820_entries");
    assert_eq!(read::<1>(memory, 0x71EF), [0], "sentinel");
    assert_eq!(read::<2>(memory, 0x71FE), [0x55, 0xAA], "boot_flag");
    assert_eq!(&read::<4>(memory, 0x7202), b"HdrS");
    assert_eq!(read::<2>(memory, 0x7206), [0x0F, 0x02], "version");
    assert_eq!(read::<1>(memory, 0x7210), [0xFF], "type_of_loader");
    assert_eq!(read::<1>(memory, 0x7211), [1], "loadflags");
    assert_eq!(u64_at(memory, 0x7250), 0, "setup_data");
    let command_line = u64::from(u32_at(memory, 0x7228));
    assert_eq!(&read::<6>(memory, command_line), b"quiet\0");
    assert_eq!(u32_at(memory, 0x7238), 5, "cmdline_size");
    let initrd = u64::from(u32_at(memory, 0x7218));
    assert_eq!(u32_at(memory, 0x721C), 3, "ramdisk_size");
    assert_eq!(&read::<3>(memory, initrd), b"abc");
    assert_eq!((u32_at(memory, 0x70C0), u32_at(memory, 0x70C4)), (0, 0), "ext_ramdisk");
    for (entry, at) in BIG_MAP.iter().zip((0x72D0..).step_by(20)) {
        let read = (u64_at(memory, at), u64_at(memory, at + 8), u32_at(memory, at + 16));
        assert_eq!(read, *entry);
    }
}

#[test]
fn an_elf_kernel_gets_a_zero_page_of_ours() {
    let memory = big_machine();
    let image = inspect(kernel(&ELF)).unwrap();
    let disk = initrd(b"abc");
    load(&memory, &image, Some(&disk), "quiet", RSDP, BootProtocolChoice::Linux64).unwrap();
    check_zero_page(&memory);
    assert_eq!(u32_at(&memory, 0x7218), 0xC000_0000 - 4096);
}

#[test]
fn a_bzimage_finds_its_own_setup_header_in_the_zero_page() {
    let mut bytes = bzimage();
    patch(&mut bytes, 0x20E, &[0xCD, 0xAB]); // kernel_version: passed on as it is
    patch(&mut bytes, 0x250, &[0xFF; 8]); // setup_data: not the file's to say
    patch(&mut bytes, 0x26C, &[0xEE; 4]); // code after the header
    let memory = big_machine();
    let image = inspect(kernel(&bytes)).unwrap();
    let disk = initrd(b"abc");
    load(&memory, &image, Some(&disk), "quiet", RSDP, BootProtocolChoice::Auto).unwrap();
    check_zero_page(&memory);
    assert_eq!(read::<2>(&memory, 0x720E), [0xCD, 0xAB]);
    assert_eq!(u64_at(&memory, 0x7258), 0x20_0000, "pref_address");
    assert_eq!(read::<4>(&memory, 0x726C), [0; 4], "nothing after the header's end");
    assert_eq!(u32_at(&memory, 0x7218), 0x8000_0000 - 4096, "below initrd_addr_max");
    assert_eq!(read::<4>(&memory, 0x20_0000), [0xB2; 4]);
}

#[test]
fn a_command_line_may_fill_what_the_kernel_takes_and_no_more() {
    let bytes = bzimage();
    let bz = inspect(kernel(&bytes)).unwrap();
    assert!(bz.check_command_line(&"x".repeat(2047)).is_ok());
    let error = bz.check_command_line(&"x".repeat(2048)).unwrap_err();
    assert_eq!(error.role, Role::CommandLine);
    assert_eq!(error.problem, Problem::CommandLineTooLong { bytes: 2048, limit: 2047 });
    assert!(error.name.chars().count() < 50, "the text is shortened");

    let elf = inspect(kernel(&ELF)).unwrap();
    let longest = "y".repeat(0xFFFF);
    let memory = ram(4 * MIB);
    load(&memory, &elf, None, &longest, RSDP, BootProtocolChoice::Auto).unwrap();
    assert_eq!(read::<2>(&memory, 0x2_FFFE), [b'y', 0]);
    let error = load(&memory, &elf, None, &"y".repeat(0x1_0000), RSDP, BootProtocolChoice::Auto);
    let problem = Problem::CommandLineTooLong { bytes: 0x1_0000, limit: 0xFFFF };
    assert_eq!(error.unwrap_err().problem, problem);
}

#[test]
fn a_command_line_with_a_zero_byte_is_refused() {
    let image = inspect(kernel(&ELF)).unwrap();
    let error = image.check_command_line("quiet\0 init=/bin/sh").unwrap_err();
    assert_eq!(error.problem, Problem::CommandLineHasNul);
    assert!(!error.to_string().contains('\0'));
}

#[test]
fn ram_in_too_many_pieces_is_refused() {
    let mut pieces = vec![(0, 2 * MIB)];
    pieces.extend((0..200).map(|piece| (4 * MIB + piece * 0x2000, 0x1000)));
    let memory = ram_pieces(&pieces);
    let image = inspect(kernel(&ELF)).unwrap();
    for choice in [BootProtocolChoice::Pvh, BootProtocolChoice::Linux64] {
        let error = load(&memory, &image, None, "", RSDP, choice).unwrap_err();
        // Two ranges below 1 MiB, the ACPI area, the rest of the first piece, and the 200.
        assert_eq!(error.problem, Problem::RamFragmented(204));
    }
}
