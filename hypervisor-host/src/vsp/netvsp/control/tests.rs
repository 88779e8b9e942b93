use super::*;
use hv_abi::nvsp::NvspVersion;
use proptest::prelude::*;

fn card() -> Card {
    Card {
        address: MacAddress::of_card(3),
        mtu: 1500,
        queues: 4,
        link_up: true,
        counts: Counts { rx_frames: 7, ..Counts::default() },
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new(MacAddress::of_card(3), 1500);
    settings.version = Some(NvspVersion::V6_1);
    settings.initialized = true;
    settings.channels = 4;
    settings
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// As Linux's `rndis_filter_query_device` asks.
fn query_message(oid: u32, input: &[u8]) -> Vec<u8> {
    let length = 28 + input.len() as u32;
    [words(&[4, length, 77, oid, input.len() as u32, 20, 0]), input.to_vec()].concat()
}

fn set_message(oid: u32, value: &[u8]) -> Vec<u8> {
    let length = 28 + value.len() as u32;
    [words(&[5, length, 78, oid, value.len() as u32, 20, 0]), value.to_vec()].concat()
}

fn call(settings: &mut Settings, message: &[u8]) -> Vec<u8> {
    let kind = RndisMessageType(u32::from_le_bytes(message[..4].try_into().unwrap()));
    handle(&card(), settings, kind, message).unwrap().expect("an answer")
}

/// Status and value of an object.
fn query(oid: u32, input: &[u8]) -> (u32, Vec<u8>) {
    let answer = call(&mut settings(), &query_message(oid, input));
    let word = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(4), word(8)), (0x8000_0004, answer.len() as u32, 77));
    let (length, offset) = (word(16) as usize, word(20) as usize);
    match length {
        0 => (word(12), Vec::new()),
        _ => (word(12), answer[8 + offset..8 + offset + length].to_vec()),
    }
}

fn set(settings: &mut Settings, oid: u32, value: &[u8]) -> u32 {
    let answer = call(settings, &set_message(oid, value));
    assert_eq!(answer[..12], words(&[0x8000_0005, 16, 78]));
    u32::from_le_bytes(answer[12..].try_into().unwrap())
}

#[test]
fn initialisation_is_answered_as_linux_expects() {
    let mut settings = settings();
    settings.initialized = false;
    let answer = call(&mut settings, &words(&[2, 24, 1, 1, 0, 0x4000]));
    assert_eq!(answer, words(&[0x8000_0002, 52, 1, 0, 1, 0, 1, 0, 8, 0x2_0000, 3, 0, 0]));
    assert!(settings.initialized);
    let halted = handle(&card(), &mut settings, RndisMessageType::HALT, &words(&[3, 12, 2]));
    assert_eq!((halted, settings.initialized), (Ok(None), false));
}

#[test]
fn nothing_is_answered_before_initialisation() {
    let mut settings = settings();
    settings.initialized = false;
    let answer = call(&mut settings, &query_message(0x0001_0106, &[]));
    assert_eq!(answer[12..16], 0xC001_0011_u32.to_le_bytes());
    assert_eq!(set(&mut settings, 0x0001_010E, &[1, 0, 0, 0]), 0xC001_0011);
}

#[test]
fn what_linux_asks_for_is_answered_in_the_length_it_wants() {
    assert_eq!(query(0x0001_0106, &[]), (0, words(&[1500])));
    assert_eq!(query(0x0101_0101, &[]), (0, vec![2, 0x15, 0x5D, 0, 0, 3]));
    assert_eq!(query(0x0001_0114, &[]), (0, words(&[0])));
    assert_eq!(query(0x0001_0107, &[]), (0, words(&[100_000_000])));
    let name = query(0x0002_0216, &[]).1;
    assert_eq!((name.len(), &name[..4]), (32, &b"N\0e\0"[..]));
    let offload = query(0xFC01_020D, &[0xA7, 3, 156, 0]).1;
    assert_eq!(offload[..4], [0xA7, 3, 156, 0]);
    let rss = query(0x0001_0203, &[0x88, 2, 18, 0]).1;
    assert_eq!((rss[..4].to_vec(), rss.len()), (vec![0x88, 2, 18, 0], 18));
    assert_eq!(rss[12..], [4, 0, 0, 0, 128, 0]);
    assert_eq!(query(0x0002_0102, &[]), (0, words(&[7])));
}

#[test]
fn all_that_is_listed_can_be_asked_for_or_set() {
    let (_, list) = query(0x0001_0101, &[]);
    let only_set = [0x0001_0118, 0x0001_0119, 0x0001_0204, 0x0001_021B, 0x0101_010A, 0xFC01_020C];
    for oid in list.as_chunks::<4>().0.iter().map(|oid| u32::from_le_bytes(*oid)) {
        let (status, _) = query(oid, &[]);
        let expected = if only_set.contains(&oid) { 0xC000_00BB } else { 0 };
        assert_eq!(status, expected, "{oid:#x}");
    }
    assert_eq!(query(0x1234_5678, &[]), (0xC000_00BB, vec![]));
}

#[test]
fn filter_and_multicast_list_are_set() {
    let mut settings = settings();
    assert_eq!(set(&mut settings, 0x0001_010E, &words(&[0xD])), 0);
    let filter = PacketFilter::DIRECTED | PacketFilter::ALL_MULTICAST | PacketFilter::BROADCAST;
    assert_eq!(settings.filter, filter);
    assert_eq!(set(&mut settings, 0x0001_010E, &[1, 2, 3]), 0xC001_0014);
    assert_eq!(set(&mut settings, 0x0101_0103, &[1, 0, 0x5E, 0, 0, 1]), 0);
    assert_eq!(settings.multicast, [MacAddress([1, 0, 0x5E, 0, 0, 1])]);
    assert_eq!(set(&mut settings, 0x0101_0103, &[1; 7]), 0xC001_0014);
    assert_eq!(set(&mut settings, 0x0101_0103, &[1; 65 * 6]), 0xC001_0014);
    assert_eq!(set(&mut settings, 0x0001_010F, &words(&[128])), 0);
    assert_eq!(set(&mut settings, 0x0001_0101, &words(&[128])), 0xC000_00BB);
}

/// As Linux's `rndis_filter_set_device_mac` sends it.
fn address_parameter(name: &str, kind: u32, digits: &str) -> Vec<u8> {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let (name, value) = (utf16(name), utf16(digits));
    let behind = 20 + name.len() as u32;
    let head = words(&[20, name.len() as u32, kind, behind, value.len() as u32]);
    [head, name, value].concat()
}

#[test]
fn the_guest_changes_the_cards_address() {
    let mut settings = settings();
    let good = address_parameter("NetworkAddress", 2, "0215aBcDeF09");
    assert_eq!(set(&mut settings, 0x0001_021B, &good), 0);
    assert_eq!(settings.address, MacAddress([2, 0x15, 0xAB, 0xCD, 0xEF, 9]));
    let other = address_parameter("Something", 0, "x");
    assert_eq!(set(&mut settings, 0x0001_021B, &other), 0);
    for (kind, digits) in
        [(2, "0215aBcDeF"), (2, "0215aBcDeF0g"), (2, "010000000000"), (0, "0215aBcDeF09")]
    {
        let bad = address_parameter("NetworkAddress", kind, digits);
        assert_eq!(set(&mut settings, 0x0001_021B, &bad), 0xC001_0015, "{digits}");
    }
    let mut outside = good.clone();
    outside[12] = 0xFF;
    assert_eq!(set(&mut settings, 0x0001_021B, &outside), 0xC001_0014);
    assert_eq!(set(&mut settings, 0x0001_021B, &good[..19]), 0xC001_0014);
    assert_eq!(settings.address, MacAddress([2, 0x15, 0xAB, 0xCD, 0xEF, 9]));
    let empty = address_parameter("NetworkAddress", 2, "");
    assert_eq!(set(&mut settings, 0x0001_021B, &empty), 0);
    assert_eq!(settings.address, MacAddress::of_card(3));
}

#[test]
fn reset_and_keepalive_are_answered() {
    let mut settings = settings();
    assert_eq!(call(&mut settings, &words(&[6, 12, 0])), words(&[0x8000_0006, 16, 0, 0]));
    assert_eq!(call(&mut settings, &words(&[8, 12, 9])), words(&[0x8000_0008, 16, 9, 0]));
    assert_eq!(link_indication(true), words(&[7, 20, 0x4001_000B, 0, 0]));
    assert_eq!(link_indication(false), words(&[7, 20, 0x4001_000C, 0, 0]));
}

#[test]
fn malformed_messages_have_no_answer() {
    let mut settings = settings();
    let mut handle = |message: &[u8]| {
        let kind = RndisMessageType(u32::from_le_bytes(message[..4].try_into().unwrap()));
        handle(&card(), &mut settings, kind, message)
    };
    for kind in [2, 3, 4, 5, 6, 8] {
        assert_eq!(handle(&words(&[kind, 8])), Err(RndisError::Length), "{kind}");
    }
    for (length, offset) in [(1, 20), (u32::MAX, 20), (0, 21), (4, u32::MAX)] {
        let message = words(&[4, 28, 1, 0x0001_0106, length, offset, 0]);
        assert_eq!(handle(&message), Err(RndisError::Offset), "{length} {offset}");
    }
    for kind in [0, 1, 7, 9, 0x8000_0002] {
        assert_eq!(handle(&words(&[kind, 28, 0, 0, 0, 0, 0])), Err(RndisError::Length));
    }
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        kind in prop::sample::select(vec![2_u32, 3, 4, 5, 6, 8]),
        oid in prop::sample::select(vec![
            0x0001_010E_u32, 0x0101_0103, 0xFC01_020C, 0x0001_0204, 0x0001_021B, 0xFC01_020D, 0x0001_0203,
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..120),
        offset in 0_u32..140,
        length in 0_u32..140,
    ) {
        let head = words(&[kind, 0, 1, oid, length, offset, 0]);
        let message = [head, rest].concat();
        let _ = handle(&card(), &mut settings(), RndisMessageType(kind), &message);
        let _ = handle(&card(), &mut settings(), RndisMessageType(kind), &message[..message.len() / 2]);
    }
}
