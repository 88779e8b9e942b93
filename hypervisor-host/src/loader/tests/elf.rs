//! ELF headers, right and wrong.

use super::field::{
    CLASS, DATA, ENTRY, IDENT_VERSION, MACHINE, P_FILESZ, P_FLAGS, P_MEMSZ, P_OFFSET, P_PADDR,
    P_TYPE, PH, PHENTSIZE, PHNUM, PHOFF, TYPE, VERSION,
};
use super::*;

#[test]
fn a_good_image_is_entered_by_pvh_unless_linux_is_asked_for() {
    let start_info = GuestAddress(0x6000);
    let boot_params = GuestAddress(0x7000);
    let pvh = Ok(Boot::Pvh { entry: 0x10_0008, start_info });
    assert_eq!(load_image(&ELF, BootProtocolChoice::Auto), pvh);
    assert_eq!(load_image(&ELF, BootProtocolChoice::Pvh), pvh);
    assert_eq!(
        load_image(&ELF, BootProtocolChoice::Linux64),
        Ok(Boot::Linux64 { entry: 0x10_0004, boot_params })
    );
}

#[test]
fn without_a_pvh_note_linux_is_the_default_and_pvh_is_refused() {
    let image = elf(&[(PH[2] + P_TYPE, &[0])]);
    assert!(matches!(
        load_image(&image, BootProtocolChoice::Auto),
        Ok(Boot::Linux64 { entry: 0x10_0004, .. })
    ));
    let error = load_image(&image, BootProtocolChoice::Pvh).unwrap_err();
    assert_eq!(error.problem, Problem::NoPvhEntry);
    let inspected = inspect(kernel(&image)).unwrap();
    assert_eq!(inspected.check_protocol(BootProtocolChoice::Pvh), Err(error));
    assert_eq!(inspected.check_protocol(BootProtocolChoice::Auto), Ok(()));
}

#[test]
fn each_wrong_identity_field_has_its_own_problem() {
    let cases: [(usize, &[u8], Problem); 10] = [
        (0, b"\x7FELG", Problem::UnknownFormat),
        (CLASS, &[1], Problem::ElfClass(1)), // with machine 62: x32
        (CLASS, &[3], Problem::ElfClass(3)),
        (DATA, &[2], Problem::ElfEndian(2)),
        (IDENT_VERSION, &[0], Problem::ElfVersion(0)),
        (VERSION, &[2], Problem::ElfVersion(2)),
        (MACHINE, &[183], Problem::ElfMachine(183)),
        (TYPE, &[1], Problem::ElfType(1)),
        (TYPE, &[3], Problem::ElfType(3)),
        (PHENTSIZE, &[32], Problem::ProgramHeaderSize(32)),
    ];
    for (offset, bytes, problem) in cases {
        assert_eq!(inspect_problem(&elf(&[(offset, bytes)])), problem);
    }
}

#[test]
fn the_number_of_program_headers_is_bounded() {
    for (count, bytes) in [(0u16, [0, 0]), (129, [129, 0]), (0xFFFF, [0xFF, 0xFF])] {
        let image = elf(&[(PHNUM, &bytes)]);
        assert_eq!(inspect_problem(&image), Problem::ProgramHeaderCount(count));
    }
}

#[test]
fn program_headers_must_lie_in_the_file() {
    for offset in [ELF.len() as u64 - 167, u64::MAX - 10, 1 << 63] {
        let image = elf(&[(PHOFF, &offset.to_le_bytes())]);
        assert_eq!(inspect_problem(&image), Problem::ProgramHeadersOutsideFile);
    }
}

#[test]
fn every_truncation_of_a_good_image_is_refused() {
    for length in 0..ELF.len() {
        let problem = inspect_problem(&ELF[..length]);
        let expected = match length {
            0 => Problem::Empty,
            1..4 => Problem::UnknownFormat,
            4..0x40 => Problem::ElfHeaderTruncated,
            0x40..0xE8 => Problem::ProgramHeadersOutsideFile,
            0xE8..0x110 => Problem::SegmentOutsideFile(0),
            0x110..0x118 => Problem::SegmentOutsideFile(1),
            _ => Problem::SegmentOutsideFile(2),
        };
        assert_eq!(problem, expected, "{length} bytes");
    }
}

#[test]
fn a_segment_with_more_bytes_in_the_file_than_in_memory_is_refused() {
    let image = elf(&[(PH[1] + P_MEMSZ, &7u64.to_le_bytes())]);
    assert_eq!(inspect_problem(&image), Problem::SegmentFileSize(1));
}

#[test]
fn segments_that_wrap_around_are_refused() {
    let top = u64::MAX.to_le_bytes();
    let memory = elf(&[(PH[0] + P_MEMSZ, &top)]);
    assert_eq!(inspect_problem(&memory), Problem::SegmentWraps(0));
    let address = elf(&[(PH[1] + P_PADDR, &top)]);
    assert_eq!(inspect_problem(&address), Problem::SegmentWraps(1));
    let offset = elf(&[(PH[1] + P_OFFSET, &top)]);
    assert_eq!(inspect_problem(&offset), Problem::SegmentWraps(1));
    let notes = elf(&[(PH[2] + P_OFFSET, &top)]);
    assert_eq!(inspect_problem(&notes), Problem::SegmentOutsideFile(2));
}

#[test]
fn the_first_mebibyte_is_reserved() {
    for address in [0u64, 0x7000, 0xE_0000, 0xF_FFFF] {
        let image = elf(&[(PH[0] + P_PADDR, &address.to_le_bytes())]);
        let problem = Problem::SegmentInReservedMemory { index: 0, address, start: 0, end: MIB };
        assert_eq!(inspect_problem(&image), problem);
    }
}

#[test]
fn overlapping_segments_are_refused_and_touching_ones_are_not() {
    let overlap = |address: u64| elf(&[(PH[1] + P_PADDR, &address.to_le_bytes())]);
    assert_eq!(inspect_problem(&overlap(0x10_001F)), Problem::SegmentsOverlap(0, 1));
    assert_eq!(inspect_problem(&overlap(0x10_0000)), Problem::SegmentsOverlap(0, 1));
    assert!(inspect(kernel(&overlap(0x10_0020))).is_ok());
    // The second one first in memory, reaching into the first.
    let below = elf(&[
        (PH[0] + P_PADDR, &0x10_1000u64.to_le_bytes()),
        (PH[1] + P_PADDR, &0x10_0001u64.to_le_bytes()),
    ]);
    assert_eq!(inspect_problem(&below), Problem::SegmentsOverlap(0, 1));
}

#[test]
fn segments_without_memory_are_skipped_and_one_must_remain() {
    let nothing = 0u64.to_le_bytes();
    let empty: [(usize, &[u8]); 2] = [(PH[1] + P_FILESZ, &nothing), (PH[1] + P_MEMSZ, &nothing)];
    // An empty segment's address doesn't matter.
    let one = elf(&[empty[0], empty[1], (PH[1] + P_PADDR, &nothing)]);
    assert!(inspect(kernel(&one)).is_ok());
    let none =
        elf(&[empty[0], empty[1], (PH[0] + P_FILESZ, &nothing), (PH[0] + P_MEMSZ, &nothing)]);
    assert_eq!(inspect_problem(&none), Problem::NoSegments);
}

#[test]
fn the_entry_must_be_code_from_the_file() {
    let not_code = [
        0u64,      // nothing there
        0x0F_FFFF, // just below
        0x10_0010, // in the segment's zeros
        0x10_1000, // data
        u64::MAX,
    ];
    for entry in not_code {
        let image = elf(&[(ENTRY, &entry.to_le_bytes())]);
        let error = load_image(&image, BootProtocolChoice::Linux64).unwrap_err();
        assert_eq!(error.problem, Problem::EntryNotExecutable { entry });
        // PVH has its own entry.
        assert!(load_image(&image, BootProtocolChoice::Pvh).is_ok());
    }
    let not_executable = elf(&[(PH[0] + P_FLAGS, &[4])]);
    let error = load_image(&not_executable, BootProtocolChoice::Auto).unwrap_err();
    assert_eq!(error.problem, Problem::EntryNotExecutable { entry: 0x10_0008 });
}

#[test]
fn an_entry_above_4_gib_is_out_of_reach() {
    let address = 0x1_0000_0000u64;
    let bytes = address.to_le_bytes();
    let image = elf(&[(PH[0] + P_PADDR, &bytes), (ENTRY, &bytes)]);
    let inspected = inspect(kernel(&image)).unwrap();
    let error = inspected.check_protocol(BootProtocolChoice::Linux64).unwrap_err();
    assert_eq!(error.problem, Problem::EntryTooHigh { entry: address });
}
