//! Multiboot 1 kernels: headers right and wrong, and what the kernel is handed. Offsets are those of the
//! Multiboot Specification 0.6.96, §3.1 and §3.3, and of the System V ABI, i386 supplement.

use super::*;
use crate::loader::{MAX_MODULES, Module};

use BootProtocolChoice::{Auto, Linux64, Multiboot, Pvh};

/// An ELF32 executable with one segment at 4 MiB, which begins with a Multiboot header: the shape that
/// small test kernels have.
#[rustfmt::skip]
pub(super) const ELF32: [u8; 0x80] = [
    // e_ident: magic, ELFCLASS32, ELFDATA2LSB, EV_CURRENT, ABI 0, padding
    0x7F, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 0,                       // 0x10 e_type ET_EXEC
    3, 0,                       // 0x12 e_machine EM_386
    1, 0, 0, 0,                 // 0x14 e_version
    0x0C, 0, 0x40, 0,           // 0x18 e_entry 0x40000C
    52, 0, 0, 0,                // 0x1C e_phoff
    0, 0, 0, 0,                 // 0x20 e_shoff
    0, 0, 0, 0,                 // 0x24 e_flags
    52, 0,                      // 0x28 e_ehsize
    32, 0,                      // 0x2A e_phentsize
    1, 0,                       // 0x2C e_phnum
    0, 0, 0, 0, 0, 0,           // 0x2E e_shentsize, e_shnum, e_shstrndx
    // Program header at 0x34
    1, 0, 0, 0,                 // 0x34 p_type PT_LOAD
    0x60, 0, 0, 0,              // 0x38 p_offset
    0, 0, 0x40, 0,              // 0x3C p_vaddr
    0, 0, 0x40, 0,              // 0x40 p_paddr
    0x20, 0, 0, 0,              // 0x44 p_filesz
    0, 0x10, 0, 0,              // 0x48 p_memsz
    5, 0, 0, 0,                 // 0x4C p_flags PF_R | PF_X
    0, 0x10, 0, 0,              // 0x50 p_align
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    // 0x60: Multiboot header: magic, flags 0, checksum
    0x02, 0xB0, 0xAD, 0x1B, 0, 0, 0, 0, 0xFE, 0x4F, 0x52, 0xE4,
    // 0x6C: code
    0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF,
    0, 0, 0, 0,
];

/// A flat image of 48 bytes with its header at 8, for 0x100000, and a page of zeros after it.
#[rustfmt::skip]
pub(super) const FLAT: [u8; 48] = [
    0xEB, 0x26, 0, 0, 0, 0, 0, 0,
    0x02, 0xB0, 0xAD, 0x1B,     // magic
    0, 0, 1, 0,                 // flags: address fields
    0xFE, 0x4F, 0x51, 0xE4,     // checksum
    8, 0, 0x10, 0,              // header_addr
    0, 0, 0x10, 0,              // load_addr
    0x30, 0, 0x10, 0,           // load_end_addr
    0, 0x10, 0x10, 0,           // bss_end_addr
    0x28, 0, 0x10, 0,           // entry_addr
    0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7,
];

const HEADER: usize = 0x60;
const P_PADDR: usize = 0x40;
const INFO: u64 = 0x9_0040;

fn patched(original: &[u8], patches: &[(usize, u32)]) -> Vec<u8> {
    let mut image = original.to_vec();
    for (offset, value) in patches {
        patch(&mut image, *offset, &value.to_le_bytes());
    }
    image
}

/// [`ELF32`] with other flags in its Multiboot header.
fn with_flags(flags: u32) -> Vec<u8> {
    let checksum = 0x1BAD_B002u32.wrapping_add(flags).wrapping_neg();
    patched(&ELF32, &[(HEADER + 4, flags), (HEADER + 8, checksum)])
}

fn load_problem(image: &[u8], choice: BootProtocolChoice) -> Problem {
    load_image_into(8, image, choice).expect_err("the image is wrong").problem
}

fn load_image_into(mib: u64, image: &[u8], choice: BootProtocolChoice) -> Result<Boot, LoadError> {
    load(&ram(mib * MIB), &inspect(kernel(image))?, None, "", RSDP, choice)
}

fn u32_at(memory: &GuestMemoryMmap, address: u64) -> u32 {
    u32::from_le_bytes(read(memory, address))
}

/// The zero-terminated text at an address.
fn text_at(memory: &GuestMemoryMmap, address: u32) -> String {
    let bytes = (u64::from(address)..).map(|at| read::<1>(memory, at)[0]);
    String::from_utf8(bytes.take_while(|&byte| byte != 0).collect()).unwrap()
}

#[test]
fn a_32_bit_elf_file_lies_at_its_physical_addresses_and_is_entered_by_multiboot() {
    let memory = ram(8 * MIB);
    let image = inspect(kernel(&ELF32)).unwrap();
    for choice in [Auto, Multiboot] {
        let boot = load(&memory, &image, None, "", RSDP, choice).unwrap();
        assert_eq!(boot, Boot::Multiboot { entry: 0x40_000C, info: GuestAddress(INFO) });
    }
    assert_eq!(read::<0x20>(&memory, 0x40_0000), ELF32[0x60..]);
    assert_eq!(read::<0x20>(&memory, 0x40_0020), [0; 0x20]);
}

#[test]
fn a_flat_image_lies_where_its_address_fields_say() {
    let memory = ram(2 * MIB);
    let image = inspect(kernel(&FLAT)).unwrap();
    let boot = load(&memory, &image, None, "", RSDP, Auto).unwrap();
    assert_eq!(boot, Boot::Multiboot { entry: 0x10_0028, info: GuestAddress(INFO) });
    assert_eq!(read::<48>(&memory, MIB), FLAT);

    // load_end_addr 0: all of the file; bss_end_addr 0: nothing more.
    let whole = patched(&FLAT, &[(8 + 20, 0), (8 + 24, 0)]);
    load(&memory, &inspect(kernel(&whole)).unwrap(), None, "", RSDP, Auto).unwrap();
    assert_eq!(read::<48>(&memory, MIB), whole[..]);
}

#[test]
fn address_fields_that_contradict_one_another_or_the_file_are_refused() {
    let (header, load, load_end, bss_end) = (8 + 12, 8 + 16, 8 + 20, 8 + 24);
    for patches in [
        &[(header, 0x0F_FFFF)][..],          // before the load address
        &[(header, 0x10_0009)],              // before the start of the file
        &[(load_end, 0x10_0031)],            // past the end of the file
        &[(load_end, 0x0F_FFFF)],            // before the load address
        &[(load_end, 0x10_0000)],            // nothing is loaded
        &[(bss_end, 0x10_0020)],             // before the end of what is loaded
        &[(header, u32::MAX), (load, 0)],    // wraps
        &[(load, 0xFFFF_FFF8), (header, 0)], // wraps
    ] {
        assert_eq!(inspect_problem(&patched(&FLAT, patches)), Problem::MultibootAddresses);
    }
    let entry = patched(&FLAT, &[(8 + 28, 0x10_0030)]);
    assert_eq!(inspect_problem(&entry), Problem::EntryNotExecutable { entry: 0x10_0030 });
}

#[test]
fn address_fields_win_over_elf_headers() {
    let mut image = ELF32.to_vec();
    let flags = 0x1_0000u32;
    let checksum = 0x1BAD_B002u32.wrapping_add(flags).wrapping_neg();
    for (index, field) in
        [0x1BAD_B002, flags, checksum, 0x50_0060, 0x50_0000, 0, 0, 0x50_006C].iter().enumerate()
    {
        patch(&mut image, HEADER + index * 4, &u32::to_le_bytes(*field));
    }
    let memory = ram(8 * MIB);
    let boot = load(&memory, &inspect(kernel(&image)).unwrap(), None, "", RSDP, Auto).unwrap();
    assert!(matches!(boot, Boot::Multiboot { entry: 0x50_006C, .. }));
    assert_eq!(read::<4>(&memory, 0x50_0000), *b"\x7FELF");
}

#[test]
fn a_header_counts_only_with_its_checksum_within_8_kib_and_aligned() {
    let checksum = patched(&ELF32, &[(HEADER + 8, 0xE452_4FFF)]);
    assert_eq!(inspect_problem(&checksum), Problem::Elf32WithoutEntry);
    let at = |offset: usize| {
        let mut image = vec![0; 8192 + 64];
        image[..HEADER].copy_from_slice(&ELF32[..HEADER]);
        patch(&mut image, 0x44, &0x200u32.to_le_bytes());
        patch(&mut image, offset, &ELF32[HEADER..HEADER + 12]);
        inspect(kernel(&image)).map(|_| ()).map_err(|error| error.problem)
    };
    assert_eq!(at(HEADER), Ok(()));
    assert_eq!(at(8192 - 12), Ok(()));
    assert_eq!(at(8192 - 8), Err(Problem::Elf32WithoutEntry));
    assert_eq!(at(HEADER + 2), Err(Problem::Elf32WithoutEntry));
}

#[test]
fn flags_that_must_be_obeyed_are_obeyed_or_refused() {
    for flags in [0, 1, 2, 3, 1 << 31, 0xFFFE_0003] {
        let image = with_flags(flags);
        assert!(load_image_into(8, &image, Auto).is_ok(), "{flags:#x}");
    }
    assert_eq!(load_problem(&with_flags(4), Auto), Problem::MultibootVideo);
    assert_eq!(load_problem(&with_flags(7), Multiboot), Problem::MultibootVideo);
    assert_eq!(load_problem(&with_flags(0x8009), Auto), Problem::MultibootFlags(0x8008));
}

#[test]
fn each_protocol_refuses_what_it_cannot_start() {
    assert_eq!(load_problem(&ELF32, Linux64), Problem::Elf32NotLinux);
    assert_eq!(load_problem(&ELF32, Pvh), Problem::NoPvhEntry);
    assert_eq!(load_problem(&FLAT, Linux64), Problem::Elf32NotLinux);
    assert_eq!(load_problem(&FLAT, Pvh), Problem::NoPvhEntry);
    assert_eq!(load_problem(&ELF, Multiboot), Problem::NoMultibootHeader);
    assert_eq!(load_problem(&bzimage(), Multiboot), Problem::NoMultibootHeader);
}

#[test]
fn a_64_bit_kernel_with_a_header_is_entered_by_multiboot_unless_it_has_a_pvh_note() {
    // The header lies behind the image's own bytes.
    let image = [&ELF[..], &ELF32[HEADER..]].concat();
    assert!(matches!(load_image(&image, Auto), Ok(Boot::Pvh { .. })));
    let boot = load_image(&image, Multiboot);
    assert!(matches!(boot, Ok(Boot::Multiboot { entry: 0x10_0004, .. })), "{boot:?}");
    let without_note = [&elf(&[(0xB0, &[0])]), &ELF32[HEADER..]].concat();
    assert!(matches!(load_image(&without_note, Auto), Ok(Boot::Multiboot { .. })));
    assert!(matches!(load_image(&without_note, Linux64), Ok(Boot::Linux64 { .. })));
}

#[test]
fn notes_that_make_no_sense_stop_only_who_reads_them() {
    // Converting an ELF64 file with 8-byte aligned notes to ELF32, as test kernels do, can leave such ones.
    let image = [&elf(&[(field::NOTE, &[0xFF; 4])]), &ELF32[HEADER..]].concat();
    assert!(matches!(load_image(&image, Auto), Ok(Boot::Multiboot { .. })));
    assert_eq!(load_image(&image, Pvh).unwrap_err().problem, Problem::NotesMalformed(2));
    assert_eq!(inspect_problem(&image[..ELF.len()]), Problem::NotesMalformed(2));
}

#[test]
fn a_virtual_entry_is_found_at_its_physical_address() {
    let high = patched(&ELF32, &[(0x18, 0xC000_000C), (0x3C, 0xC000_0000)]);
    let boot = load_image_into(8, &high, Auto).unwrap();
    assert!(matches!(boot, Boot::Multiboot { entry: 0x40_000C, .. }), "{boot:?}");
    let nowhere = patched(&ELF32, &[(0x18, 0x50_0000)]);
    assert_eq!(load_problem(&nowhere, Auto), Problem::EntryNotExecutable { entry: 0x50_0000 });
}

#[test]
fn low_memory_is_the_kernels_except_for_boot_data_and_tables() {
    let at = |address: u32| {
        let image = patched(&ELF32, &[(P_PADDR, address), (0x3C, address), (0x18, address + 12)]);
        load_image_into(8, &image, Auto).map_err(|error| error.problem)
    };
    for address in [0, 0x4000, 0x8_F000, 0x10_0000] {
        assert!(at(address).is_ok(), "{address:#x}");
    }
    for address in [0x8_F001_u32, 0x9_0000, 0xA_0000, 0xF_FFFF] {
        let (start, end) = (0x9_0000, 0x10_0000);
        let (found, address) = (at(address), u64::from(address));
        let problem = Problem::SegmentInReservedMemory { index: 0, address, start, end };
        assert_eq!(found, Err(problem));
    }
}

#[test]
fn malformed_32_bit_headers_are_refused() {
    let cases: [(usize, &[u8], Problem); 8] = [
        (0x12, &[62], Problem::ElfClass(1)),
        (0x12, &[40], Problem::ElfMachine(40)),
        (0x10, &[3], Problem::ElfType(3)),
        (0x2A, &[56], Problem::ProgramHeaderSize(56)),
        (0x2C, &[0], Problem::ProgramHeaderCount(0)),
        (0x1C, &[0xFF; 4], Problem::ProgramHeadersOutsideFile),
        (0x38, &[0x61], Problem::SegmentOutsideFile(0)),
        (0x34, &[0], Problem::NoSegments),
    ];
    for (offset, bytes, problem) in cases {
        let mut image = ELF32.to_vec();
        patch(&mut image, offset, bytes);
        assert_eq!(inspect_problem(&image), problem, "at {offset:#x}");
    }
    for length in 1..ELF32.len() {
        assert!(inspect(kernel(&ELF32[..length])).is_err(), "{length} bytes");
    }
}

#[test]
fn a_segment_outside_ram_is_refused() {
    let image = patched(&ELF32, &[(0x48, 0xFFFF_FFFF)]);
    let outside = load_problem(&image, Auto);
    let (address, bytes) = (0x40_0000, 0xFFFF_FFFF);
    let expected = Problem::SegmentOutsideRam { index: 0, address, bytes, ram_bytes: 8 * MIB };
    assert_eq!(outside, expected);
}

#[test]
fn the_information_has_memory_command_line_map_and_name() {
    let memory = ram_pieces(&[(0, 64 * MIB), (0x1_0000_0000, 4 * MIB)]);
    let image = inspect(kernel(&ELF32)).unwrap();
    load(&memory, &image, None, "a b=c", RSDP, Auto).unwrap();
    let field = |offset: u64| u32_at(&memory, INFO + offset);

    assert_eq!(field(0), 0b10_0100_1101, "flags 0, 2, 3, 6 and 9");
    assert_eq!((field(4), field(8)), (639, 63 * 1024), "KiB below and above 1 MiB");
    assert_eq!(text_at(&memory, field(16)), "kernel.elf a b=c");
    assert_eq!(field(20), 0, "no modules");
    assert!(!text_at(&memory, field(64)).is_empty());

    let map = [
        (0u64, 0x9_FC00u64, 1),
        (0x9_FC00, 0x400, 2),
        (0xE_0000, 0x2_0000, 2),
        (0x10_0000, 63 * MIB, 1),
        (0x1_0000_0000, 4 * MIB, 1),
    ];
    assert_eq!(field(44), map.len() as u32 * 24, "mmap_length");
    for (&(base, length, kind), at) in map.iter().zip((u64::from(field(48))..).step_by(24)) {
        assert_eq!(u32_at(&memory, at), 20, "the size field counts what follows it");
        let range = [at + 4, at + 12].map(|at| u64::from_le_bytes(read(&memory, at)));
        assert_eq!((range, u32_at(&memory, at + 20)), ([base, length], kind));
    }
}

#[test]
fn modules_are_listed_in_order_on_pages_of_their_own() {
    let memory = ram(8 * MIB);
    let image = inspect(kernel(&ELF32)).unwrap();
    let first = initrd(b"NR_CPUS=4\n");
    let contents = [vec![1; 5000], vec![2; 1]];
    let modules: Vec<_> = contents
        .iter()
        .zip(["", "x y"])
        .map(|(content, text)| Module {
            source: Source::from_bytes(Role::Module, "m", content),
            text: text.to_owned(),
        })
        .collect();
    let payload = Payload { initrd: Some(&first), modules: &modules, command_line: "" };
    crate::loader::load(&memory, &image, payload, RSDP, Auto).unwrap();

    assert_eq!(text_at(&memory, u32_at(&memory, INFO + 16)), "kernel.elf");
    assert_eq!(u32_at(&memory, INFO + 20), 3);
    let list = u64::from(u32_at(&memory, INFO + 24));
    let listed: Vec<_> = (0..3)
        .map(|index| {
            let field = |offset| u32_at(&memory, list + index * 16 + offset);
            let start = u64::from(field(0));
            assert!(start.is_multiple_of(4096) && field(12) == 0);
            let bytes = u64::from(field(4)) - start;
            (read::<1>(&memory, start), bytes, text_at(&memory, field(8)))
        })
        .collect();
    let expected = [
        (*b"N", 10, "initrd.cpio".to_owned()),
        ([1], 5000, "m".to_owned()),
        ([2], 1, "m x y".to_owned()),
    ];
    assert_eq!(listed, expected);
}

/// Loads [`ELF32`] into 8 MiB with `count` modules of one byte and this text.
fn load_modules(count: usize, text: &str) -> Result<Boot, LoadError> {
    let modules: Vec<_> = (0..count)
        .map(|_| Module {
            source: Source::from_bytes(Role::Module, "module", b"x"),
            text: text.to_owned(),
        })
        .collect();
    let payload = Payload { initrd: None, modules: &modules, command_line: "" };
    let image = inspect(kernel(&ELF32))?;
    crate::loader::load(&ram(8 * MIB), &image, payload, RSDP, Auto)
}

#[test]
fn modules_are_bounded_in_number_and_text() {
    assert!(load_modules(MAX_MODULES, "text").is_ok());
    let error = load_modules(MAX_MODULES + 1, "").unwrap_err();
    assert_eq!((error.role, error.problem), (Role::Module, Problem::TooManyModules(65)));
    let error = load_modules(1, "a\0b").unwrap_err();
    assert_eq!((error.role, error.problem), (Role::Module, Problem::ModuleTextHasNul));
    let error = load_modules(2, &"t".repeat(0x8000)).unwrap_err();
    assert_eq!(error.problem, Problem::ModuleTextTooLong);
}

#[test]
fn a_module_for_another_kind_of_kernel_is_refused() {
    let modules =
        [Module { source: Source::from_bytes(Role::Module, "m", b"x"), text: String::new() }];
    let payload = Payload { initrd: None, modules: &modules, command_line: "" };
    let image = inspect(kernel(&ELF)).unwrap();
    let error = crate::loader::load(&ram(4 * MIB), &image, payload, RSDP, Auto).unwrap_err();
    assert_eq!((error.role, error.problem), (Role::Module, Problem::ModuleNeedsMultiboot));
}

#[test]
fn a_command_line_that_does_not_fit_is_refused_as_such() {
    let image = inspect(kernel(&ELF32)).unwrap();
    let with = |bytes: usize| load(&ram(8 * MIB), &image, None, &"y".repeat(bytes), RSDP, Auto);
    assert!(with(0xE000).is_ok());
    let error = with(0xF000).unwrap_err();
    assert_eq!(error.role, Role::CommandLine);
    // The kernel's name and a blank come first.
    assert!(matches!(error.problem, Problem::CommandLineTooLong { bytes: 0xF00B, .. }));
}

#[test]
fn too_little_ram_for_boot_data_is_an_error() {
    let memory = ram_pieces(&[(4 * MIB, MIB)]);
    let image = inspect(kernel(&ELF32)).unwrap();
    let error = load(&memory, &image, None, "", RSDP, Auto).unwrap_err();
    assert_eq!(error.problem, Problem::NoRamForBootData(INFO));
}
