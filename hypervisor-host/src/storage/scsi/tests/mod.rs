//! Commands against the bytes that the standards have for them, written down by hand.

mod answers;
mod blocks;
mod parameters;
mod properties;

use hv_abi::scsi::sense::{AdditionalSense, SenseKey};

use super::cdb::Cdb;
use super::data::{DataPhase, DataWay};
use super::sense::{Field, Sense};
use super::{Action, UnitInfo, execute};
use crate::storage::disk::{ByteRange, DiskInfo};
use crate::storage::request::DiskOp;

const IDENTITY: u64 = 0x0123_4567_89AB_CDEF;
/// 8 GiB.
const BLOCKS: u64 = 0x0100_0000;

fn unit() -> UnitInfo {
    let disk = DiskInfo { bytes: BLOCKS * 512, read_only: false, discard: true };
    UnitInfo { disk, identity: IDENTITY }
}

fn read_only() -> UnitInfo {
    let mut unit = unit();
    (unit.disk.read_only, unit.disk.discard) = (true, false);
    unit
}

fn cdb(bytes: &[u8]) -> Cdb {
    let mut whole = [0; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Cdb::new(&whole, bytes.len()).unwrap()
}

const fn data_in(bytes: u32) -> DataPhase {
    DataPhase { way: DataWay::In, bytes }
}

const fn data_out(bytes: u32) -> DataPhase {
    DataPhase { way: DataWay::Out, bytes }
}

fn run(bytes: &[u8], data: DataPhase) -> Action {
    execute(&cdb(bytes), &unit(), data, None)
}

#[track_caller]
fn answer(bytes: &[u8]) -> Vec<u8> {
    match run(bytes, data_in(4096)) {
        Action::Answer(answer) => answer,
        other => panic!("no answer: {other:?}"),
    }
}

/// The sense key, code and byte of an error in the command block.
fn illegal(code: AdditionalSense, field: Option<Field>) -> Action {
    let sense = Sense::new(SenseKey::ILLEGAL_REQUEST, code);
    Action::Fail(Sense { field, ..sense })
}

fn wrong_byte(byte: u16) -> Action {
    illegal(AdditionalSense::INVALID_FIELD_IN_CDB, Some(Field::Cdb(byte)))
}

fn out_of_range() -> Action {
    illegal(AdditionalSense::LBA_OUT_OF_RANGE, None)
}

fn disk(op: DiskOp, bytes: u32) -> Action {
    Action::Disk { op, bytes }
}

fn blocks(first: u64, count: u64) -> ByteRange {
    ByteRange::new(first * 512, count * 512)
}

#[test]
fn commands_that_nobody_knows_are_refused() {
    let unknown = illegal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE, Some(Field::Cdb(0)));
    for op in [0x01, 0x04, 0x1F, 0x46, 0x5E, 0x85, 0x9F, 0xA1] {
        let mut bytes = [0; 16];
        bytes[0] = op;
        let cdb = Cdb::new(&bytes, 16).unwrap();
        assert_eq!(execute(&cdb, &unit(), DataPhase::NONE, None), unknown, "{op:#x}");
    }
    for op in [0x60, 0x7F, 0xC0, 0xFF] {
        let mut bytes = [0; 16];
        bytes[0] = op;
        assert_eq!(Cdb::new(&bytes, 16).map(|_| ()), Err(Sense::INVALID_OPCODE), "{op:#x}");
    }
    // GET LBA STATUS, REPORT TARGET PORT GROUPS.
    assert_eq!(
        run(&[0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], data_in(32)),
        wrong_byte(1)
    );
    assert_eq!(run(&[0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], data_in(32)), wrong_byte(1));
}

#[test]
fn a_command_block_must_be_as_long_as_its_code_says() {
    let bytes = [0x28; 16];
    assert_eq!(Cdb::new(&bytes, 9), Err(Sense::invalid_field(9)));
    assert_eq!(Cdb::new(&bytes, 0), Err(Sense::invalid_field(0)));
    // What lies behind is no part of it.
    assert_eq!(Cdb::new(&bytes, 16), Cdb::new(&bytes, 10));
}

#[test]
fn naca_is_refused_wherever_control_is() {
    assert_eq!(run(&[0x00, 0, 0, 0, 0, 4], DataPhase::NONE), wrong_byte(5));
    assert_eq!(run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4], data_in(512)), wrong_byte(9));
    let mut read = [0; 16];
    (read[0], read[15]) = (0x88, 0x04);
    assert_eq!(run(&read, DataPhase::NONE), wrong_byte(15));
}

#[test]
fn a_disk_is_always_ready_and_stays() {
    assert_eq!(run(&[0x00, 0, 0, 0, 0, 0], DataPhase::NONE), Action::Good);
    for prevent in [0, 1] {
        assert_eq!(run(&[0x1E, 0, 0, 0, prevent, 0], DataPhase::NONE), Action::Good);
    }
    let start_stop = |flags| run(&[0x1B, 0, 0, 0, flags, 0], DataPhase::NONE);
    assert_eq!(start_stop(1), Action::Good);
    assert_eq!(start_stop(0), disk(DiskOp::Flush, 0));
    for flags in [2, 3, 0x10, 0x31] {
        assert_eq!(start_stop(flags), wrong_byte(4), "{flags:#x}");
    }
}

#[test]
fn sense_data_is_as_the_standard_has_it() {
    // SPC-4, fixed format: 70h, key, information, additional length 10, ASC, ASCQ, SKSV | C/D, field pointer.
    assert_eq!(
        Sense::invalid_field(0x0102).to_fixed(),
        [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0x00, 0, 0xC0, 1, 2]
    );
    assert_eq!(
        Sense::invalid_parameter(9).to_fixed(),
        [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x26, 0x00, 0, 0x80, 0, 9]
    );
    let sense = Sense { information: Some(0x0A0B_0C0D), ..Sense::WRITE_PROTECTED };
    assert_eq!(
        sense.to_fixed(),
        [0xF0, 0, 7, 0x0A, 0x0B, 0x0C, 0x0D, 10, 0, 0, 0, 0, 0x27, 0x00, 0, 0, 0, 0]
    );
    let news = Sense::attention(AdditionalSense::CAPACITY_DATA_HAS_CHANGED);
    assert_eq!(news.to_descriptor(), [0x72, 6, 0x2A, 0x09, 0, 0, 0, 0]);
}

#[test]
fn errors_of_disks_have_their_codes() {
    use crate::storage::disk::DiskError;
    let read = DiskOp::Read(blocks(0x1234, 1));
    let write = DiskOp::Write { range: blocks(0x1234, 1), through: false };
    let told = |error, op: &DiskOp| {
        let sense = Sense::of_disk(error, op);
        (sense.key.0, sense.code.0, sense.information)
    };
    assert_eq!(told(DiskError::Os(libc::EIO), &read), (3, 0x1100, Some(0x1234)));
    assert_eq!(told(DiskError::Short, &read), (3, 0x1100, Some(0x1234)));
    assert_eq!(told(DiskError::Os(libc::EIO), &write), (3, 0x0C00, Some(0x1234)));
    assert_eq!(told(DiskError::FlushLost, &DiskOp::Flush), (3, 0x0C00, None));
    assert_eq!(told(DiskError::NoSpace, &write), (7, 0x2707, None));
    assert_eq!(told(DiskError::ReadOnly, &write), (7, 0x2700, None));
    assert_eq!(told(DiskError::Outside, &read), (5, 0x2100, None));
    assert_eq!(
        told(DiskError::Miscompare(513), &DiskOp::Compare(blocks(0, 2))),
        (14, 0x1D00, Some(513))
    );
}
