//! Command descriptor blocks, laid out by hand from SPC-4 and SBC-3.

use super::*;

fn bytes(command: &Command) -> &[u8] {
    &command.cdb[..usize::from(command.cdb_length)]
}

#[test]
fn commands_have_the_standards_bytes() {
    assert_eq!(bytes(&Command::test_unit_ready()), [0x00, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(&Command::inquiry(None, 36)), [0x12, 0, 0, 0, 36, 0]);
    assert_eq!(bytes(&Command::inquiry(Some(0xB0), 0x0140)), [0x12, 1, 0xB0, 1, 0x40, 0]);
    assert_eq!(bytes(&Command::mode_sense(192)), [0x1A, 8, 0x3F, 0, 192, 0]);
    assert_eq!(bytes(&Command::read_capacity_10(8)), [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(&Command::synchronize_cache()), [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        bytes(&Command::read_capacity_16(32)),
        [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
    );
    assert_eq!(bytes(&Command::report_luns(0x1008)), [0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 8, 0, 0]);
    assert_eq!(bytes(&Command::unmap(24)), [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
    assert_eq!(
        bytes(&Command::write_same(0x0102, 0x0304, 512, true)),
        [0x93, 8, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0]
    );
}

#[test]
fn the_shorter_form_is_taken_up_to_its_limits() {
    let op = |lba, blocks| Command::transfer(DataDirection::READ, lba, blocks, 512, false).cdb[0];
    assert_eq!(op(u64::from(u32::MAX), 0xFFFF), 0x28);
    assert_eq!(op(u64::from(u32::MAX) + 1, 1), 0x88);
    assert_eq!(op(0, 0x1_0000), 0x88);
}

#[test]
fn write_same_sends_one_block() {
    assert_eq!(Command::write_same(0, 1000, 4096, false).data_bytes, 4096);
}
