extern crate std;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Little-endian words, as Linux's structs lie in memory.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A `struct rndis_message` with a `struct rndis_packet`, `infos` behind it, and a frame of `frame_bytes` at the end.
fn packet(infos: &[u32], frame_bytes: u32) -> Vec<u8> {
    let info_bytes = infos.len() as u32 * 4;
    let offset = if infos.is_empty() { 0 } else { 36 };
    let data = 36 + info_bytes;
    let length = 8 + data + frame_bytes;
    let mut message = words(&[1, length, data, frame_bytes, 0, 0, 0, offset, info_bytes, 0, 0]);
    message.extend(words(infos));
    message.extend((0..frame_bytes).map(|byte| byte as u8));
    message
}

fn data(message: &[u8]) -> Result<Data, Malformed> {
    match parse(message)? {
        Message::Data(data) => Ok(data),
        other => panic!("{other:?}"),
    }
}

/// `message` with the word at `at` replaced.
fn with(mut message: Vec<u8>, at: usize, word: u32) -> Vec<u8> {
    message[at..at + 4].copy_from_slice(&word.to_le_bytes());
    message
}

#[test]
fn a_frame_is_found_with_all_that_comes_beside_it() {
    // TCPIP_CHKSUM_PKTINFO: tcp_checksum_succeeded | ip_checksum_succeeded; IEEE_8021Q_INFO: vlanid 0x123, pri 5;
    // NBL_HASH_VALUE; RNDIS_PKTINFO_ID (internal): version 1, no flags.
    let infos = [
        16,
        0,
        12,
        0x28,
        16,
        6,
        12,
        0x1235,
        16,
        8,
        12,
        0x51cc_c178,
        16,
        0x8000_0001,
        12,
        0x0001_0001,
    ];
    let message = packet(&infos, 60);
    let found = data(&message).unwrap();
    assert_eq!((found.start, found.end), (108, 168));
    assert_eq!(message[found.start..found.end][..4], [0, 1, 2, 3]);
    let expected = ReceiveInfo {
        ip_checksum: Verdict::Right,
        transport_checksum: Verdict::Right,
        vlan: Some(VlanTag { vlan: 0x123, priority: 5, drop_eligible: false }),
        hash: Some(0x51cc_c178),
        channel: 0,
    };
    assert_eq!(found.info, expected);
}

#[test]
fn what_lies_behind_the_message_is_no_part_of_it() {
    let mut message = packet(&[], 60);
    message.extend([0xEE; 100]);
    let found = data(&message).unwrap();
    assert_eq!((found.start, found.end), (44, 104));
    assert_eq!(data(&with(message, 12, 61)), Err(Malformed));
}

#[test]
fn failed_checksums_win() {
    let found = data(&packet(&[16, 0, 12, 0x3F], 60)).unwrap();
    assert_eq!(found.info.ip_checksum, Verdict::Wrong);
    assert_eq!(found.info.transport_checksum, Verdict::Wrong);
    let found = data(&packet(&[16, 0, 12, 0x10], 60)).unwrap();
    assert_eq!(found.info.ip_checksum, Verdict::Unchecked);
    assert_eq!(found.info.transport_checksum, Verdict::Right);
}

#[test]
fn lengths_and_offsets_past_the_end_are_refused() {
    let message = || packet(&[16, 0, 12, 0x28], 60);
    assert!(data(&message()).is_ok());
    for (what, at, word) in [
        ("message longer than its range", 4, 121),
        ("message of all bytes there are", 4, u32::MAX),
        ("message shorter than its header", 4, 7),
        ("message without a packet", 4, 43),
        ("frame past the end", 8, 53),
        ("frame that wraps", 8, u32::MAX - 7),
        ("frame in the header", 8, 35),
        ("frame too long", 12, 61),
        ("frame of all bytes there are", 12, u32::MAX),
        ("frame without an Ethernet header", 12, 13),
        ("infos past the end", 28, 105),
        ("infos that wrap", 28, u32::MAX),
        ("infos in the header", 28, 35),
        ("infos too long", 32, 77),
    ] {
        assert_eq!(data(&with(message(), at, word)), Err(Malformed), "{what}");
    }
}

#[test]
fn info_chains_that_lie_or_loop_are_refused() {
    for (what, infos) in [
        ("size 0 would loop for ever", vec![0, 0, 12, 0]),
        ("size below its head", vec![11, 0, 12, 0]),
        ("size past the list", vec![17, 0, 12, 0]),
        ("size of all bytes there are", vec![u32::MAX, 0, 12, 0]),
        ("value in the head", vec![16, 0, 0, 0]),
        ("value past the element", vec![16, 0, 17, 0]),
        ("value cut off", vec![16, 0, 13, 0]),
        ("value far away", vec![16, 6, u32::MAX, 0]),
        ("second head cut off", vec![16, 0, 12, 0, 16, 0]),
        ("no value", vec![12, 8, 12]),
        ("part of a frame that was never asked for", vec![16, 0x8000_0001, 12, 0x0001_0101]),
    ] {
        assert_eq!(data(&packet(&infos, 60)), Err(Malformed), "{what}");
    }
}

#[test]
fn unknown_infos_are_passed_over() {
    let infos = [20, 77, 12, 1, 2, 12, 0x8000_0077, 12, 16, 8, 12, 9];
    assert_eq!(data(&packet(&infos, 60)).unwrap().info.hash, Some(9));
}

#[test]
fn answers_are_told_by_their_number() {
    // RNDIS_MSG_QUERY_C with request 7, status 0, 6 bytes at 16.
    let mut message = words(&[0x8000_0004, 30, 7, 0, 6, 16]);
    message.extend([0, 0x15, 0x5d, 1, 2, 3]);
    let parsed = parse(&message).unwrap();
    assert_eq!(parsed, Message::Answer { request: 7, message: &message });
    assert_eq!(part(&message, 16, 6), Ok(&[0, 0x15, 0x5d, 1, 2, 3][..]));
    assert_eq!(part(&message, 16, 7), Err(Malformed));
    assert_eq!(part(&message, u32::MAX, u32::MAX), Err(Malformed));
    assert_eq!(parse(&with(message, 4, 11)), Err(Malformed), "no request number");
}

#[test]
fn an_indications_detail_may_lie_behind_the_message() {
    // RNDIS_STATUS_LINK_SPEED_CHANGE; old hosts don't count the four bytes.
    let message = words(&[7, 20, 0x4001_0013, 4, 12, 100_000_000]);
    let status = RndisStatus::LINK_SPEED_CHANGE;
    let detail = 100_000_000_u32.to_le_bytes();
    assert_eq!(parse(&message), Ok(Message::Indication { status, detail: &detail }));
    assert_eq!(parse(&with(message.clone(), 12, 5)), Err(Malformed));
    assert_eq!(parse(&with(message.clone(), 16, u32::MAX)), Err(Malformed));
    assert_eq!(parse(&message[..19]), Err(Malformed));
    let nothing = with(with(message, 12, 0), 16, u32::MAX);
    assert_eq!(parse(&nothing), Ok(Message::Indication { status, detail: &[] }));
}

#[test]
fn unknown_messages_are_told_apart_from_nonsense() {
    assert_eq!(parse(&words(&[0x77, 8])), Ok(Message::Other));
    assert_eq!(parse(&words(&[2, 24, 1, 1, 0, 0x4000])), Ok(Message::Other));
    assert_eq!(parse(&words(&[0x77, 7])), Err(Malformed));
    assert_eq!(parse(&words(&[0x77])), Err(Malformed));
    assert_eq!(parse(&[]), Err(Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_within_bounds(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Message::Data(data)) = parse(&message) {
            prop_assert!(data.start < data.end && data.end <= message.len());
        }
    }

    #[test]
    fn a_broken_packet_is_parsed_within_bounds(
        at in 0usize..11,
        word in prop_oneof![any::<u32>(), 0u32..200],
        info in proptest::collection::vec(prop_oneof![any::<u32>(), 0u32..40], 0..16),
        cut in 0usize..200,
    ) {
        let mut message = with(packet(&info, 60), at * 4, word);
        message.truncate(message.len().saturating_sub(cut));
        if let Ok(Message::Data(data)) = parse(&message) {
            prop_assert!(data.start < data.end && data.end <= message.len());
        }
    }

    #[test]
    fn a_frame_comes_back_as_it_was_put(
        frame in proptest::collection::vec(any::<u8>(), 14..2000),
        hash in any::<Option<u32>>(),
    ) {
        let infos = hash.map_or(vec![], |hash| vec![16, 8, 12, hash]);
        let mut message = packet(&infos, frame.len() as u32);
        let start = message.len() - frame.len();
        message[start..].copy_from_slice(&frame);
        let found = data(&message).unwrap();
        prop_assert_eq!(&message[found.start..found.end], &frame[..]);
        prop_assert_eq!(found.info.hash, hash);
    }
}
