//! Commands that move or check blocks.

use super::*;

fn read(first: u64, count: u64) -> Action {
    disk(DiskOp::Read(blocks(first, count)), count as u32 * 512)
}

fn write(first: u64, count: u64, through: bool) -> Action {
    disk(DiskOp::Write { range: blocks(first, count), through }, count as u32 * 512)
}

const LAST: [u8; 4] = [0x00, 0xFF, 0xFF, 0xFF];

/// A command of 16 bytes.
fn long(op: u8, flags: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1]) = (op, flags);
    bytes[2..10].copy_from_slice(&lba.to_be_bytes());
    bytes[10..14].copy_from_slice(&count.to_be_bytes());
    bytes
}

#[test]
fn reads_of_all_lengths_find_their_blocks() {
    assert_eq!(run(&[0x08, 0x01, 0x23, 0x45, 2, 0], data_in(1024)), read(0x1_2345, 2));
    assert_eq!(run(&[0x28, 0, 0, 0x12, 0x34, 0x56, 0, 0, 3, 0], data_in(1536)), read(0x12_3456, 3));
    let read_12 = [0xA8, 0, 0, 0x12, 0x34, 0x56, 0, 0, 0, 4, 0, 0];
    assert_eq!(run(&read_12, data_in(2048)), read(0x12_3456, 4));
    assert_eq!(run(&long(0x88, 0x18, 0x12_3456, 5), data_in(1 << 20)), read(0x12_3456, 5));
}

#[test]
fn writes_of_all_lengths_find_their_blocks() {
    assert_eq!(run(&[0x0A, 0xFF, 0xFF, 0xFF, 1, 0], data_out(512)), write(0x1F_FFFF, 1, false));
    assert_eq!(run(&[0x2A, 0, 0, 0, 0, 9, 0, 0, 3, 0], data_out(1536)), write(9, 3, false));
    let write_12 = [0xAA, 0x08, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0];
    assert_eq!(run(&write_12, data_out(1536)), write(9, 3, true));
    assert_eq!(run(&long(0x8A, 0x08, 9, 3), data_out(1536)), write(9, 3, true));
}

#[test]
fn zero_blocks_of_a_short_command_are_256() {
    assert_eq!(run(&[0x08, 0, 0, 0, 0, 0], data_in(256 * 512)), read(0, 256));
    assert_eq!(run(&[0x08, 0, 0, 0, 0, 0], data_in(255 * 512)), wrong_byte(4));
    // Of the others they are none.
    assert_eq!(run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], DataPhase::NONE), Action::Good);
    assert_eq!(run(&long(0x8A, 0, BLOCKS, 0), DataPhase::NONE), Action::Good);
    assert_eq!(run(&long(0x8A, 0, BLOCKS + 1, 0), DataPhase::NONE), out_of_range());
}

#[test]
fn blocks_behind_the_end_are_refused() {
    let [a, b, c, d] = LAST;
    assert_eq!(run(&[0x28, 0, a, b, c, d, 0, 0, 1, 0], data_in(512)), read(BLOCKS - 1, 1));
    assert_eq!(run(&[0x28, 0, a, b, c, d, 0, 0, 2, 0], data_in(1024)), out_of_range());
    assert_eq!(run(&[0x2A, 0, 1, 0, 0, 0, 0, 0, 1, 0], data_out(512)), out_of_range());
    for op in [0x88, 0x8A, 0x8F, 0x91] {
        for (lba, count) in [(u64::MAX, 1), (u64::MAX, u32::MAX), (u64::MAX - 5, 7), (BLOCKS, 1)] {
            assert_eq!(run(&long(op, 0, lba, count), data_in(512)), out_of_range(), "{op:#x}");
        }
    }
}

#[test]
fn no_command_moves_more_than_the_limit() {
    assert_eq!(run(&long(0x88, 0, 0, 2048), data_in(1 << 20)), read(0, 2048));
    for op in [0x88, 0x8A, 0x8F] {
        assert_eq!(run(&long(op, 0, 0, 2049), data_in(u32::MAX)), wrong_byte(10));
        assert_eq!(run(&long(op, 0, 0, 0x0080_0001), data_in(u32::MAX)), wrong_byte(10));
    }
}

#[test]
fn data_must_go_the_right_way_and_have_room() {
    let read_10 = [0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    for data in [data_in(1023), data_out(1024), DataPhase::NONE] {
        assert_eq!(run(&read_10, data), wrong_byte(7));
    }
    let write_10 = [0x2A, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    for data in [data_out(512), data_in(1024), DataPhase::NONE] {
        assert_eq!(run(&write_10, data), wrong_byte(7));
    }
}

#[test]
fn protection_information_is_refused() {
    for (op, data) in [(0x28, data_in(512)), (0x2A, data_out(512)), (0x2F, DataPhase::NONE)] {
        assert_eq!(run(&[op, 0x20, 0, 0, 0, 0, 0, 0, 1, 0], data), wrong_byte(1), "{op:#x}");
    }
    assert_eq!(run(&[0x41, 0x40, 0, 0, 0, 0, 0, 0, 1, 0], data_out(512)), wrong_byte(1));
}

#[test]
fn a_read_only_disk_refuses_every_write() {
    let writes: [(&[u8], u32); 7] = [
        (&[0x0A, 0, 0, 0, 1, 0], 512),
        (&[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (&[0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 512),
        (&long(0x8A, 0, 0, 1), 512),
        (&[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (&long(0x93, 0, 0, 1), 512),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24),
    ];
    for (bytes, length) in writes {
        let action = execute(&cdb(bytes), &read_only(), data_out(length), None);
        assert_eq!(action, Action::Fail(Sense::WRITE_PROTECTED), "{:#x}", bytes[0]);
    }
    let action = execute(&cdb(&[0x08, 0, 0, 0, 1, 0]), &read_only(), data_in(512), None);
    assert_eq!(action, read(0, 1));
}

#[test]
fn caches_are_written_whichever_blocks_are_named() {
    let flush = disk(DiskOp::Flush, 0);
    assert_eq!(run(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], DataPhase::NONE), flush);
    assert_eq!(run(&[0x35, 2, 0, 0, 0, 9, 0, 0, 1, 0], DataPhase::NONE), flush);
    assert_eq!(run(&long(0x91, 0, 7, 0x20_0000), DataPhase::NONE), flush);
    assert_eq!(run(&long(0x91, 0, BLOCKS - 1, 2), DataPhase::NONE), out_of_range());
}

#[test]
fn blocks_are_verified_alone_or_against_data() {
    assert_eq!(
        run(&[0x2F, 0, 0, 0, 0, 5, 0, 0, 4, 0], DataPhase::NONE),
        disk(DiskOp::Verify(blocks(5, 4)), 0)
    );
    let against = [0xAF, 0x02, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0];
    assert_eq!(run(&against, data_out(2048)), disk(DiskOp::Compare(blocks(5, 4)), 2048));
    assert_eq!(run(&against, data_out(512)), wrong_byte(6));
    assert_eq!(run(&long(0x8F, 0, 5, 0), DataPhase::NONE), Action::Good);
    // One block for all, and a reserved value.
    assert_eq!(run(&long(0x8F, 0x06, 5, 4), data_out(512)), wrong_byte(1));
    assert_eq!(run(&long(0x8F, 0x04, 5, 4), data_out(512)), wrong_byte(1));
}
