//! Whatever the bytes are, loading ends with an answer and touches nothing but what it may.

use std::ops::Range;

use proptest::prelude::*;

use super::multiboot::{ELF32, FLAT};
use super::*;
use crate::loader::EntryPoint;

const RAM_BYTES: u64 = 3 * MIB;
/// Fills the initrd; no image contains it.
const INITRD_MARK: [u8; 8] = *b"<initrd>";

/// Inspects and loads `image` with an initrd; if that works, checks what was written.
fn load_and_check(image: &[u8], choice: BootProtocolChoice) {
    let Ok(inspected) = inspect(kernel(image)) else { return };
    let memory = ram(RAM_BYTES);
    let disk_bytes = INITRD_MARK.repeat(500);
    let disk = initrd(&disk_bytes);
    if load(&memory, &inspected, Some(&disk), "quiet", RSDP, choice).is_ok() {
        let entry = inspected.entry_point(choice).unwrap();
        let mut written = entry.memory();
        match entry {
            EntryPoint::Multiboot(_) => written.push(0x9_0000..0x9_F000),
            _ => written.extend([0x6000..0x8000, 0x2_0000..0x2_0006]),
        }
        written.push(initrd_range(&memory));
        check_untouched(&memory, &mut written);
    }
}

/// Where the initrd lies: found by its content, because an image may have been mutated freely.
fn initrd_range(memory: &GuestMemoryMmap) -> Range<u64> {
    let page = |page: &u64| read::<8>(memory, page * 4096) == INITRD_MARK;
    let start = (0..RAM_BYTES / 4096).rev().find(page).expect("the initrd is in RAM") * 4096;
    start..start + 4000
}

/// All of RAM outside of `written` must be zero.
fn check_untouched(memory: &GuestMemoryMmap, written: &mut [Range<u64>]) {
    written.sort_by_key(|range| range.start);
    let mut at = 0;
    for range in written.iter() {
        check_zero(memory, at..range.start);
        at = at.max(range.end);
    }
    check_zero(memory, at..RAM_BYTES);
}

fn check_zero(memory: &GuestMemoryMmap, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    memory.read_slice(&mut bytes, GuestAddress(range.start)).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0), "something was written in {range:x?}");
}

fn choices() -> impl Strategy<Value = BootProtocolChoice> {
    use BootProtocolChoice::{Auto, Linux64, Multiboot, Pvh};
    prop_oneof![Just(Auto), Just(Pvh), Just(Linux64), Just(Multiboot)]
}

/// Values that sit at the edges of checks, as 8 bytes.
fn edges() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x200,
        Just(u64::MAX),
        Just(1 << 63),
        Just(RAM_BYTES),
        (0u64..0x40).prop_map(|below| RAM_BYTES - below),
        (0u64..0x2000).prop_map(|into| MIB + into),
        Just(0xFFFF_FFFF),
    ]
}

/// A change of 1, 2, 4 or 8 bytes somewhere in the first `limit` bytes.
fn mutations(limit: usize) -> impl Strategy<Value = Vec<(usize, u64, usize)>> {
    let width = prop_oneof![Just(1usize), Just(2), Just(4), Just(8)];
    prop::collection::vec((0..limit, edges(), width), 1..6)
}

fn mutate(image: &mut [u8], mutations: &[(usize, u64, usize)]) {
    for &(offset, value, width) in mutations {
        for (byte, new) in image.iter_mut().skip(offset).zip(&value.to_le_bytes()[..width]) {
            *byte = *new;
        }
    }
}

/// Puts the right checksum into every Multiboot header.
fn repair_checksum(image: &mut [u8]) {
    for offset in (0..image.len().saturating_sub(12)).step_by(4) {
        let field = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        if field(offset) == 0x1BAD_B002 {
            let sum = field(offset).wrapping_add(field(offset + 4)).wrapping_neg();
            patch(image, offset + 8, &sum.to_le_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2048), choice in choices()) {
        load_and_check(&bytes, choice);
    }

    #[test]
    fn any_bytes_behind_the_elf_magic_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2048), choice in choices()) {
        let image = [&ELF[..0x18], &bytes].concat();
        load_and_check(&image, choice);
    }

    #[test]
    fn any_mutation_of_an_elf_image_gives_an_answer(
        mutations in mutations(ELF.len()),
        length in 0..=ELF.len(),
        choice in choices(),
    ) {
        let mut image = ELF.to_vec();
        mutate(&mut image, &mutations);
        load_and_check(&image, choice);
        load_and_check(&image[..length], choice);
    }

    #[test]
    fn any_mutation_of_a_bzimage_gives_an_answer(
        mutations in mutations(0xA0),
        length in 0usize..=0x800,
        choice in choices(),
    ) {
        let mut image = bzimage();
        mutate(&mut image[0x1F1..], &mutations);
        load_and_check(&image, choice);
        load_and_check(&image[..length], choice);
    }

    #[test]
    fn any_mutation_of_a_multiboot_image_gives_an_answer(
        mutations in mutations(ELF32.len()),
        length in 0..=ELF32.len(),
        choice in choices(),
    ) {
        for original in [&ELF32[..], &FLAT] {
            let mut image = original.to_vec();
            mutate(&mut image, &mutations);
            load_and_check(&image, choice);
            load_and_check(&image[..length.min(original.len())], choice);
            // A header whose checksum is right again, so that its other fields are looked at.
            repair_checksum(&mut image);
            load_and_check(&image, choice);
        }
    }

    #[test]
    fn any_notes_give_an_answer(notes in prop::collection::vec(any::<u8>(), 0..256), alignment in any::<u64>()) {
        let _ = crate::loader::notes::pvh_entry(&notes, alignment, 0);
    }
}
