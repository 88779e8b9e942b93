//! Commands that tell something.

use hv_abi::scsi::sense::AdditionalSense;

use super::super::{capacity, inquiry};
use super::*;

const INQUIRY: [u8; 6] = [0x12, 0, 0, 0x10, 0, 0];

fn vpd(page: u8) -> Vec<u8> {
    answer(&[0x12, 1, page, 0x10, 0, 0])
}

#[test]
fn standard_inquiry_data_says_what_it_is() {
    let mut expected = vec![
        0x00, // a disk, connected
        0x00, // not removable
        0x05, // SPC-3
        0x02, // response data format
        31,   // bytes behind
        0, 0, 0x02, // CMDQUE
    ];
    expected.extend(b"Msft    Virtual Disk    1.0 ");
    assert_eq!(answer(&INQUIRY), expected);
    assert_eq!(expected.len(), 36);
}

#[test]
fn answers_are_cut_to_allocation_length_and_memory() {
    assert_eq!(answer(&[0x12, 0, 0, 0, 5, 0]), [0, 0, 5, 2, 31]);
    assert_eq!(run(&INQUIRY, data_in(4)), Action::Answer(vec![0, 0, 5, 2]));
    assert_eq!(run(&[0x12, 0, 0, 0, 0, 0], DataPhase::NONE), Action::Good);
    assert_eq!(run(&INQUIRY, data_out(36)), wrong_byte(3));
    assert_eq!(run(&INQUIRY, DataPhase::NONE), wrong_byte(3));
}

#[test]
fn inquiry_of_unknown_pages_is_refused() {
    assert_eq!(run(&[0x12, 0, 0x80, 0, 255, 0], data_in(255)), wrong_byte(2));
    assert_eq!(run(&[0x12, 1, 0xB3, 0, 255, 0], data_in(255)), wrong_byte(2));
}

#[test]
fn pages_name_and_identify_the_unit() {
    assert_eq!(vpd(0x00), [0, 0x00, 0, 6, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]);
    assert_eq!(vpd(0x80), [&[0, 0x80, 0, 16][..], b"0123456789abcdef"].concat());
    let mut expected = vec![0, 0x83, 0, 40];
    // ASCII, logical unit, T10 vendor: 24 bytes.
    expected.extend([0x02, 0x01, 0, 24]);
    expected.extend(b"Msft    0123456789abcdef");
    // Binary, logical unit, NAA: 8 bytes, the first 4 bits 3 (locally assigned).
    expected.extend([0x01, 0x03, 0, 8, 0x30, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE]);
    assert_eq!(vpd(0x83), expected);
}

#[test]
fn pages_tell_the_limits() {
    let mut expected = vec![0, 0xB0, 0, 60];
    expected.extend([1, 0, 0, 8]); // WSNZ, no COMPARE AND WRITE, granularity of 8 blocks
    expected.extend([0, 0, 0x08, 0x00]); // 2048 blocks at once
    expected.extend([0, 0, 0x08, 0x00]); // which is the best, too
    expected.extend([0; 4]);
    expected.extend([0, 0x40, 0, 0]); // UNMAP of 2^22 blocks
    expected.extend([0, 0, 1, 0]); // in 256 ranges
    expected.extend([0, 0, 0, 8, 0x80, 0, 0, 0]); // granularity, alignment valid and 0
    expected.extend([0, 0, 0, 0, 0, 2, 0, 0]); // WRITE SAME of 2^17 blocks
    expected.extend([0; 20]);
    assert_eq!(vpd(0xB0), expected);
    let mut expected = vec![0, 0xB1, 0, 60, 0, 1];
    expected.extend([0; 58]);
    assert_eq!(vpd(0xB1), expected);
    // LBPU, LBPWS, LBPWS10, LBPRZ; thin.
    assert_eq!(vpd(0xB2), [0, 0xB2, 0, 4, 0, 0xE4, 2, 0]);
}

#[test]
fn a_disk_that_gives_nothing_back_says_so() {
    let told =
        |page| match execute(&cdb(&[0x12, 1, page, 1, 0, 0]), &read_only(), data_in(256), None) {
            Action::Answer(answer) => answer,
            other => panic!("{other:?}"),
        };
    assert_eq!(told(0xB2), [0, 0xB2, 0, 4, 0, 0, 0, 0]);
    assert_eq!(told(0xB0)[20..36], [0; 16]);
}

#[test]
fn an_absent_unit_tells_just_that() {
    let told = |bytes: &[u8]| inquiry::absent(&cdb(bytes), data_in(255));
    let Ok(Action::Answer(answer)) = told(&INQUIRY) else { panic!("no answer") };
    // Peripheral qualifier 3, device type 1Fh.
    assert_eq!((answer[0], answer.len()), (0x7F, 36));
    assert_eq!(told(&[0x12, 1, 0x80, 0, 255, 0]), Err(Sense::invalid_field(2)));
}

#[test]
fn capacity_is_told_in_both_lengths() {
    assert_eq!(answer(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0]);
    let read_16 = [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    let mut expected = vec![0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0];
    // No protection, 8 logical blocks in a physical one, LBPME and LBPRZ.
    expected.extend([0, 3, 0xC0, 0]);
    expected.extend([0; 16]);
    assert_eq!(answer(&read_16), expected);
    let mut large = unit();
    large.disk.bytes = (1 << 32) * 512 + 512;
    let told = |bytes: &[u8]| execute(&cdb(bytes), &large, data_in(32), None);
    let Action::Answer(short) = told(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]) else { panic!() };
    assert_eq!(short, [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0]);
    let Action::Answer(long) = told(&read_16) else { panic!() };
    assert_eq!(long[..8], [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(run(&[0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0], data_in(8)), wrong_byte(2));
}

#[test]
fn units_are_listed_by_peripheral_addresses() {
    let told = |select, allocation| {
        let bytes = [0xA0, 0, select, 0, 0, 0, 0, 0, 0, allocation, 0, 0];
        capacity::report_luns(&cdb(&bytes), &[0, 5, 63], data_in(255))
    };
    let expected = [
        [0, 0, 0, 24, 0, 0, 0, 0], // bytes of the list
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 5, 0, 0, 0, 0, 0, 0],
        [0, 63, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(told(0, 255), Ok(Action::Answer(expected.clone())));
    assert_eq!(told(2, 16), Ok(Action::Answer(expected[..16].to_vec())));
    assert_eq!(told(1, 255), Ok(Action::Answer(vec![0; 8])));
    assert_eq!(told(3, 255), Err(Sense::invalid_field(2)));
}

/// SBC-3, caching page: write cache on; SPC-4, control page: any order.
const CACHING: [u8; 20] = [8, 0x12, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x0A, 0x0A, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
const DESCRIPTOR: [u8; 8] = [1, 0, 0, 0, 0, 0, 2, 0];

#[test]
fn mode_pages_have_both_kinds_of_heads() {
    let expected = [&[43, 0, 0x10, 8][..], &DESCRIPTOR, &CACHING, &CONTROL].concat();
    assert_eq!(answer(&[0x1A, 0, 0x3F, 0, 255, 0]), expected);
    let expected = [&[0, 46, 0, 0x10, 0, 0, 0, 8][..], &DESCRIPTOR, &CACHING, &CONTROL].concat();
    assert_eq!(answer(&[0x5A, 0, 0x3F, 0, 0, 0, 0, 1, 0, 0]), expected);
    assert_eq!(answer(&[0x5A, 0, 0x3F, 0xFF, 0, 0, 0, 1, 0, 0]), expected);
    // Without block descriptors; cut off, which changes no length.
    assert_eq!(answer(&[0x1A, 8, 8, 0, 255, 0]), [&[23, 0, 0x10, 0][..], &CACHING].concat());
    assert_eq!(answer(&[0x1A, 8, 0x0A, 0, 6, 0]), [15, 0, 0x10, 0, 0x0A, 0x0A]);
}

#[test]
fn nothing_in_the_mode_pages_can_be_changed_or_saved() {
    let changeable = answer(&[0x1A, 8, 0x48, 0, 255, 0]);
    assert_eq!(changeable, [&[23, 0, 0x10, 0, 8, 0x12][..], &[0; 18]].concat());
    let default = answer(&[0x1A, 8, 0x88, 0, 255, 0]);
    assert_eq!(default[4..], CACHING);
    let saved = illegal(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED, None);
    assert_eq!(run(&[0x1A, 8, 0xC8, 0, 255, 0], data_in(255)), saved);
}

#[test]
fn mode_pages_that_there_are_not_are_refused() {
    // Informational exceptions, which Linux asks for; subpages.
    assert_eq!(run(&[0x1A, 0, 0x1C, 0, 255, 0], data_in(255)), wrong_byte(2));
    assert_eq!(run(&[0x1A, 0, 0x0A, 1, 255, 0], data_in(255)), wrong_byte(3));
    assert_eq!(run(&[0x5A, 0, 0x00, 0, 0, 0, 0, 1, 0, 0], data_in(255)), wrong_byte(2));
}

#[test]
fn write_protection_is_in_the_head() {
    let told = execute(&cdb(&[0x1A, 8, 8, 0, 255, 0]), &read_only(), data_in(255), None);
    let Action::Answer(told) = told else { panic!("{told:?}") };
    assert_eq!((told[2], told[6]), (0x90, 0), "WP and DPOFUA; no write cache");
}

#[test]
fn commands_are_listed_with_their_bits() {
    let all = answer(&[0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    assert_eq!(all[..4], ((all.len() - 4) as u32).to_be_bytes());
    let codes: Vec<u8> = all[4..].chunks(8).map(|descriptor| descriptor[0]).collect();
    assert!(codes.is_sorted() && codes.contains(&0x42) && codes.contains(&0x93));
    // READ CAPACITY (16) is a service action, and has 16 bytes.
    let read_capacity = all[4..].chunks(8).find(|it| it[0] == 0x9E).unwrap();
    assert_eq!(read_capacity, [0x9E, 0, 0, 0x10, 0, 1, 0, 16]);
    let one = |options, op, action| {
        let bytes = [0xA3, 0x0C, options, op, 0, action, 0, 0, 0, 255, 0, 0];
        run(&bytes, data_in(255))
    };
    let inquiry = Action::Answer(vec![0, 3, 0, 6, 0x12, 1, 0xFF, 0xFF, 0xFF, 4]);
    assert_eq!(one(1, 0x12, 0), inquiry);
    assert_eq!(one(3, 0x12, 0), inquiry);
    assert_eq!(one(1, 0x5E, 0), Action::Answer(vec![0, 1, 0, 0]));
    assert_eq!(one(2, 0x9E, 0x12), Action::Answer(vec![0, 1, 0, 0]));
    assert_eq!(
        (one(1, 0x9E, 0), one(2, 0x12, 0), one(4, 0, 0)),
        (wrong_byte(2), wrong_byte(2), wrong_byte(2))
    );
    let mut without = unit();
    without.disk.discard = false;
    let bytes = [0xA3, 0x0C, 1, 0x42, 0, 0, 0, 0, 0, 255, 0, 0];
    let told = execute(&cdb(&bytes), &without, data_in(255), None);
    assert_eq!(told, Action::Answer(vec![0, 1, 0, 0]));
}

#[test]
fn every_listed_command_is_known() {
    let all = answer(&[0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    for descriptor in all[4..].chunks(8) {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1]) = (descriptor[0], descriptor[3]);
        let cdb = Cdb::new(&bytes, 16).unwrap();
        let action = execute(&cdb, &unit(), data_in(4096), None);
        let known = action != Action::Fail(Sense::INVALID_OPCODE);
        // The surroundings answer these two.
        assert!(known || [0x03, 0xA0].contains(&descriptor[0]), "{:#x}", descriptor[0]);
    }
}
