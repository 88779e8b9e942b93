//! The PVH note among others, right and wrong.

use super::field::{NOTE, P_ALIGN, P_FILESZ, P_OFFSET, PH};
use super::*;

/// [`ELF`] whose note segment is `notes` with `p_align` `alignment`, put at the end of the file.
fn with_notes(notes: &[u8], alignment: u64) -> Vec<u8> {
    let mut image = elf(&[
        (PH[2] + P_OFFSET, &(ELF.len() as u64).to_le_bytes()),
        (PH[2] + P_FILESZ, &(notes.len() as u64).to_le_bytes()),
        (PH[2] + P_ALIGN, &alignment.to_le_bytes()),
    ]);
    image.extend_from_slice(notes);
    image
}

fn pvh_entry(notes: &[u8], alignment: u64) -> Result<u32, Problem> {
    let image = with_notes(notes, alignment);
    match load_image(&image, BootProtocolChoice::Pvh) {
        Ok(Boot::Pvh { entry, .. }) => Ok(entry),
        Ok(other) => panic!("not PVH: {other:?}"),
        Err(error) => Err(error.problem),
    }
}

const PVH_4_BYTES: &[u8] = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x0C\x00\x10\x00";
const PVH_8_BYTES: &[u8] = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0\x08\x00\x10\x00\0\0\0\0";
/// A build id: name `GNU`, type 3, three bytes of value and one of padding.
const BUILD_ID: &[u8] = b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\xAA\xBB\xCC\0";
/// Xen's note 5 (loader), name and value of odd lengths: 12 + 4 + 8.
const XEN_LOADER: &[u8] = b"\x04\0\0\0\x08\0\0\0\x08\0\0\0Xen\0generic\0";

#[test]
fn the_entry_may_have_4_or_8_bytes() {
    assert_eq!(pvh_entry(PVH_4_BYTES, 4), Ok(0x10_000C));
    assert_eq!(pvh_entry(PVH_8_BYTES, 4), Ok(0x10_0008));
}

#[test]
fn it_is_found_among_other_notes() {
    let notes = [BUILD_ID, XEN_LOADER, PVH_4_BYTES, BUILD_ID].concat();
    assert_eq!(pvh_entry(&notes, 4), Ok(0x10_000C));
    assert_eq!(pvh_entry(&notes, 0), Ok(0x10_000C));
}

#[test]
fn names_and_values_are_padded_to_8_where_the_segment_says_so() {
    // Name of 5 bytes ends at 17, so the value starts at 24 and ends at 28; the next note at 32.
    let odd = b"\x05\0\0\0\x04\0\0\0\x01\0\0\0ABCD\0\0\0\0\0\0\0\0\x01\x02\x03\x04\0\0\0\0";
    let notes = [odd.as_slice(), PVH_8_BYTES].concat();
    assert_eq!(pvh_entry(&notes, 8), Ok(0x10_0008));
}

#[test]
fn the_padding_of_the_last_note_may_be_missing_or_too_long() {
    let short = [PVH_8_BYTES, &BUILD_ID[..BUILD_ID.len() - 1]].concat();
    assert_eq!(pvh_entry(&short, 4), Ok(0x10_0008));
    let long = [PVH_8_BYTES, &[0; 8]].concat();
    assert_eq!(pvh_entry(&long, 4), Ok(0x10_0008));
}

#[test]
fn other_names_and_types_are_not_the_entry() {
    let other_name = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xem\0\x0C\x00\x10\x00";
    let other_type = b"\x04\0\0\0\x04\0\0\0\x11\0\0\0Xen\0\x0C\x00\x10\x00";
    let no_zero = b"\x03\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x0C\x00\x10\x00";
    for notes in [other_name, other_type, no_zero] {
        assert_eq!(pvh_entry(notes, 4), Err(Problem::NoPvhEntry));
    }
    assert_eq!(pvh_entry(&[], 4), Err(Problem::NoPvhEntry));
}

#[test]
fn notes_that_leave_their_segment_are_malformed() {
    let cases: [&[u8]; 6] = [
        b"\x04\0\0\0\x04\0\0\0\x12\0\0",                        // header cut
        b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xe",                    // name cut
        b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x0C\x00\x10",     // value cut
        b"\xFF\xFF\xFF\xFF\x04\0\0\0\x12\0\0\0Xen\0\x0C\0\0\0", // name of 4 GiB
        b"\x04\0\0\0\xFF\xFF\xFF\xFF\x12\0\0\0Xen\0\x0C\0\0\0", // value of 4 GiB
        b"\x01\0\0\0",                                          // not even padding
    ];
    for notes in cases {
        assert_eq!(pvh_entry(notes, 4), Err(Problem::NotesMalformed(2)), "{notes:x?}");
        assert_eq!(pvh_entry(notes, 8), Err(Problem::NotesMalformed(2)), "{notes:x?}");
    }
}

#[test]
fn an_entry_of_another_size_or_above_4_gib_is_malformed() {
    let two_bytes = b"\x04\0\0\0\x02\0\0\0\x12\0\0\0Xen\0\x0C\x00\0\0";
    let empty = b"\x04\0\0\0\0\0\0\0\x12\0\0\0Xen\0";
    let high = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0\x08\x00\x10\x00\x01\0\0\0";
    for notes in [two_bytes.as_slice(), empty, high] {
        assert_eq!(pvh_entry(notes, 4), Err(Problem::NotesMalformed(2)));
    }
}

#[test]
fn two_entries_must_agree() {
    let same = [PVH_4_BYTES, PVH_4_BYTES].concat();
    assert_eq!(pvh_entry(&same, 4), Ok(0x10_000C));
    let different = [PVH_4_BYTES, PVH_8_BYTES].concat();
    assert_eq!(pvh_entry(&different, 4), Err(Problem::PvhEntriesDisagree));
}

#[test]
fn two_note_segments_must_agree_too() {
    // The data segment becomes a second note segment.
    let mut image = elf(&[
        (PH[1], &[4]),
        (PH[1] + P_OFFSET, &(ELF.len() as u64).to_le_bytes()),
        (PH[1] + P_FILESZ, &(PVH_4_BYTES.len() as u64).to_le_bytes()),
    ]);
    image.extend_from_slice(PVH_4_BYTES);
    assert_eq!(inspect_problem(&image), Problem::PvhEntriesDisagree);
    patch(&mut image, NOTE + 16, &[0x0C]);
    assert!(inspect(kernel(&image)).is_ok());
}

#[test]
fn a_huge_note_segment_is_refused_before_it_is_read() {
    let notes = vec![0; (64 << 10) + 1];
    assert_eq!(inspect_problem(&with_notes(&notes, 4)), Problem::NotesTooLarge(2));
    assert!(inspect(kernel(&with_notes(&notes[1..], 4))).is_ok());
}
