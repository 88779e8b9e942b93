//! Golden bytes, laid out by hand from Linux's `struct vstor_packet` and `struct vmscsi_request`.

use super::*;

/// READ (10) of 8 blocks at 0x01020304, from LUN 5.
#[rustfmt::skip]
const READ: [u8; 64] = [
    3, 0, 0, 0,                         // operation: VSTOR_OPERATION_EXECUTE_SRB
    1, 0, 0, 0,                         // flags: REQUEST_COMPLETION_FLAG
    0, 0, 0, 0,                         // status
    0x34, 0,                            // length: sizeof(struct vmscsi_request)
    0, 0,                               // srb_status, scsi_status
    0, 0, 0, 5,                         // port_number, path_id, target_id, lun
    10, 0x14, 1, 0,                     // cdb_length, sense_info_length, data_in: READ_TYPE, reserved
    0x00, 0x10, 0, 0,                   // data_transfer_length: 4096
    0x28, 0, 1, 2, 3, 4, 0, 0, 8, 0,    // cdb: READ (10)
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0xFF, 0x20,                   // reserve, queue_tag: SP_UNTAGGED, queue_action
    0x4A, 0x01, 0, 0,                   // srb_flags: QUEUE_ACTION_ENABLE | DISABLE_SYNCH_TRANSFER | DATA_IN | NO_QUEUE_FREEZE
    60, 0, 0, 0,                        // time_out_value
    0, 0, 0, 0,                         // queue_sort_ey
];

fn read_packet(version: StorvspVersion) -> [u8; 64] {
    let command = Command::transfer(DataDirection::READ, 0x0102_0304, 8, 512, false);
    let address = Address { lun: 5, ..Address::default() };
    packet(Operation::EXECUTE_SRB, &srb(&command, address, version, 60))
}

#[test]
fn a_read_has_the_bytes_of_linux() {
    for version in [StorvspVersion::V6_2, StorvspVersion::V6_0, StorvspVersion::V5_1] {
        assert_eq!(read_packet(version), READ, "{version}");
    }
}

#[test]
fn before_version_5_1_the_packet_is_shorter_and_has_less_room_for_sense_data() {
    // Linux 4.19: vmscsi_size_delta 16, PRE_WIN8_STORVSC_SENSE_BUFFER_SIZE 0x12.
    let mut expected = READ;
    expected[12] = 0x24;
    expected[21] = 0x12;
    for version in [StorvspVersion::V4_2, StorvspVersion::V2_0] {
        assert_eq!(version.packet_bytes(), 48);
        assert_eq!(read_packet(version)[..48], expected[..48], "{version}");
    }
}

#[test]
fn a_write_with_unit_access_has_the_bytes_of_linux() {
    let command = Command::transfer(DataDirection::WRITE, 0x1_0000_0000, 1, 4096, true);
    let packet =
        packet(Operation::EXECUTE_SRB, &srb(&command, Address::default(), StorvspVersion::V6_2, 9));
    assert_eq!(packet[20..24], [16, 0x14, 0, 0]);
    // WRITE (16), FUA, 64 bits of address, 32 of length.
    assert_eq!(packet[28..44], [0x8A, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(packet[52..56], [0x8A, 1, 0, 0]);
}

#[test]
fn a_reset_names_its_unit() {
    let address = Address { path: 1, target: 2, lun: 3 };
    let packet = packet(Operation::RESET_LUN, &reset(address, StorvspVersion::V6_2));
    assert_eq!(packet[..20], [4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0, 0, 0, 1, 2, 3]);
}

/// A host's answer of CHECK CONDITION with sense data: MEDIUM ERROR, UNRECOVERED READ ERROR.
#[rustfmt::skip]
const ANSWER: [u8; 64] = [
    1, 0, 0, 0, 0, 0, 0, 0, 0x85, 1, 0, 0xC0,           // VSTOR_OPERATION_COMPLETE_IO, STATUS_IO_DEVICE_ERROR
    0x34, 0, 0x84, 2, 0, 0, 0, 5,                       // SRB_STATUS_ERROR | AUTOSENSE_VALID, CHECK CONDITION
    10, 18, 1, 0, 0x00, 0x02, 0, 0,                     // 18 bytes of sense data, 512 bytes moved
    0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0xEE, 0xEE,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn an_answer_with_sense_data_is_understood() {
    let answer = srb_answer(&answer(&ANSWER).unwrap(), StorvspVersion::V6_2).unwrap();
    assert_eq!(answer.transferred, 512);
    assert_eq!(answer.statuses.scsi, ScsiStatus::CHECK_CONDITION);
    assert_eq!(answer.statuses.srb.code(), SrbStatus::ERROR);
    assert_eq!(answer.statuses.sense.as_bytes(), &ANSWER[28..46]);
}

#[test]
fn a_sense_length_that_lies_is_cut_to_the_versions_room() {
    let mut bytes = ANSWER;
    bytes[21] = 255;
    let parsed = answer(&bytes).unwrap();
    let sense = |version| srb_answer(&parsed, version).unwrap().statuses.sense.as_bytes().len();
    assert_eq!(sense(StorvspVersion::V6_2), 20);
    assert_eq!(sense(StorvspVersion::V2_0), 18);
}

#[test]
fn sense_data_that_is_not_announced_is_ignored() {
    let mut bytes = ANSWER;
    bytes[14] = 0x04;
    let parsed = srb_answer(&answer(&bytes).unwrap(), StorvspVersion::V6_2).unwrap();
    assert_eq!(parsed.statuses.sense, Sense::NONE);
}

#[test]
fn short_answers_are_none() {
    for len in 0..64 {
        let parsed = answer(&ANSWER[..len]);
        assert_eq!(parsed.is_some(), len >= 12, "{len}");
        let Some(parsed) = parsed else { continue };
        assert!(srb_answer(&parsed, StorvspVersion::V5_1).is_none(), "{len}");
        assert_eq!(srb_answer(&parsed, StorvspVersion::V4_2).is_some(), len >= 48, "{len}");
    }
}

#[test]
fn an_answer_with_another_operation_is_none() {
    let mut bytes = ANSWER;
    bytes[0] = 3;
    assert!(srb_answer(&answer(&bytes).unwrap(), StorvspVersion::V6_2).is_none());
}

#[test]
fn what_is_behind_the_packet_is_ignored() {
    let mut long = [0xFF; 100];
    long[..64].copy_from_slice(&ANSWER);
    assert_eq!(answer(&long), answer(&ANSWER));
}
