//! Commands whose meaning is in what the guest sends.

use hv_abi::scsi::sense::AdditionalSense;

use super::*;

fn length_error() -> Action {
    illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, None)
}

fn wrong_parameter(byte: u16) -> Action {
    illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, Some(Field::Parameters(byte)))
}

/// Runs a command whose parameter list is at the end of the first call.
#[track_caller]
fn run_with(bytes: &[u8], list: &[u8]) -> Action {
    let data = data_out(list.len() as u32);
    match run(bytes, data) {
        Action::Parameters(length) => assert_eq!(length as usize, list.len()),
        other => panic!("no parameters are wanted: {other:?}"),
    }
    execute(&cdb(bytes), &unit(), data, Some(list))
}

fn unmap_cdb(length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = ranges.len() as u16 * 16;
    let mut list =
        [(descriptors + 6).to_be_bytes(), descriptors.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, count) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(count.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

#[track_caller]
fn unmap(ranges: &[(u64, u32)]) -> Action {
    let list = unmap_list(ranges);
    run_with(&unmap_cdb(list.len() as u16), &list)
}

#[test]
fn ranges_are_given_back_together() {
    let ranges = vec![blocks(8, 16), blocks(BLOCKS - 1, 1)];
    assert_eq!(unmap(&[(8, 16), (4, 0), (BLOCKS - 1, 1)]), disk(DiskOp::Discard(ranges), 0));
    assert_eq!(unmap(&[]), Action::Good);
    assert_eq!(unmap(&[(3, 0)]), Action::Good);
    assert_eq!(run(&unmap_cdb(0), DataPhase::NONE), Action::Good);
}

#[test]
fn one_wrong_range_spoils_all() {
    assert_eq!(unmap(&[(0, 8), (BLOCKS, 1)]), out_of_range());
    assert_eq!(unmap(&[(0, 8), (u64::MAX, 1)]), out_of_range());
    assert_eq!(unmap(&[(0, 1 << 21), (0, 1 << 21), (0, 1)]), wrong_parameter(8 + 32 + 8));
    assert_eq!(unmap(&[(0, u32::MAX)]), wrong_parameter(16));
}

#[test]
fn lengths_of_a_list_must_agree() {
    assert_eq!(run_with(&unmap_cdb(7), &[0; 7]), length_error());
    let mut list = unmap_list(&[(0, 1)]);
    list[3] = 17;
    assert_eq!(run_with(&unmap_cdb(24), &list), length_error());
    // The last descriptor is incomplete, and ignored.
    list.extend([0xFF; 8]);
    list[3] = 24;
    let one = disk(DiskOp::Discard(vec![blocks(0, 1)]), 0);
    assert_eq!(run_with(&unmap_cdb(32), &list), one);
    assert_eq!(unmap(&[(0, 1); 257]), wrong_parameter(2));
    assert_eq!(run(&unmap_cdb(24), data_out(23)), wrong_byte(7));
    assert_eq!(run(&unmap_cdb(24), data_in(24)), wrong_byte(7));
    let anchored = [0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(run(&anchored, data_out(24)), wrong_byte(1));
}

#[test]
fn a_disk_that_gives_nothing_back_does_not_know_unmap() {
    let mut unit = unit();
    unit.disk.discard = false;
    let action = execute(&cdb(&unmap_cdb(24)), &unit, data_out(24), None);
    assert_eq!(action, Action::Fail(Sense::INVALID_OPCODE));
    let same = [0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(execute(&cdb(&same), &unit, data_out(512), None), wrong_byte(1));
}

#[test]
fn one_block_is_written_again_and_again() {
    let same = |flags| [0x41, flags, 0, 0, 0, 5, 0, 0, 9, 0];
    let range = blocks(5, 9);
    assert_eq!(run_with(&same(0), &[0; 512]), disk(DiskOp::Zero(range), 0));
    assert_eq!(run_with(&same(8), &[0; 512]), disk(DiskOp::Discard(vec![range]), 0));
    let mut pattern = vec![0; 512];
    pattern[511] = 1;
    for flags in [0, 8] {
        let fill = DiskOp::Fill { range, pattern: pattern.clone() };
        assert_eq!(run_with(&same(flags), &pattern), disk(fill, 0));
    }
    assert_eq!(run(&same(0), data_out(511)), wrong_byte(7));
    for flags in [0x10, 0x04, 0x02, 0x01] {
        assert_eq!(run(&same(flags), data_out(512)), wrong_byte(1), "{flags:#x}");
    }
}

#[test]
fn zeros_need_not_be_sent() {
    let mut same = [0; 16];
    (same[0], same[1], same[13]) = (0x93, 0x01, 9);
    assert_eq!(run(&same, DataPhase::NONE), disk(DiskOp::Zero(blocks(0, 9)), 0));
    same[1] = 0x09;
    assert_eq!(run(&same, DataPhase::NONE), disk(DiskOp::Discard(vec![blocks(0, 9)]), 0));
    (same[13], same[11]) = (1, 2);
    assert_eq!(run(&same, DataPhase::NONE), wrong_byte(10), "more than the limit");
    same[10..14].fill(0);
    assert_eq!(run(&same, DataPhase::NONE), wrong_byte(10), "none");
    same[13] = 1;
    same[2..10].fill(0xFF);
    assert_eq!(run(&same, DataPhase::NONE), out_of_range());
}

#[test]
fn modes_can_be_set_to_what_they_are() {
    let caching = [8, 0x12, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let short = |length| [0x15, 0x10, 0, 0, length, 0];
    let list = [&[0, 0, 0, 0][..], &caching].concat();
    assert_eq!(run_with(&short(24), &list), Action::Good);
    let described = [&[0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 2, 0][..], &caching].concat();
    assert_eq!(run_with(&short(32), &described), Action::Good);
    let long = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &caching].concat();
    assert_eq!(run_with(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 28, 0], &long), Action::Good);
    assert_eq!(run(&short(0), DataPhase::NONE), Action::Good);
}

#[test]
fn other_modes_are_refused() {
    let short = |length| [0x15, 0x10, 0, 0, length, 0];
    let mut list = [0; 24];
    (list[4], list[5]) = (8, 0x12);
    assert_eq!(run_with(&short(24), &list), wrong_parameter(4), "no write cache");
    (list[4], list[5]) = (0x1C, 0x12);
    assert_eq!(run_with(&short(24), &list), wrong_parameter(4), "an unknown page");
    (list[4], list[5]) = (8, 0x13);
    assert_eq!(run_with(&short(24), &list), length_error());
    assert_eq!(run_with(&short(5), &[0, 0, 0, 0, 8]), length_error());
    assert_eq!(run_with(&short(3), &[0; 3]), length_error());
    assert_eq!(run_with(&short(4), &[0, 0, 0, 8]), length_error());
    assert_eq!(run_with(&short(12), &[0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 4, 0]), wrong_parameter(4));
    assert_eq!(run(&[0x15, 0x11, 0, 0, 4, 0], data_out(4)), wrong_byte(1), "saved");
    assert_eq!(run(&[0x15, 0x00, 0, 0, 4, 0], data_out(4)), wrong_byte(1), "another format");
}
