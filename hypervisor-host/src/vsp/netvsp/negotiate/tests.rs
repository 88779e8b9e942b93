use super::super::test_memory::{memory, ranges};
use super::*;
use crate::net::mac::MacAddress;
use proptest::prelude::*;

/// Has memory under the numbers 1 (1 MiB) and 2 (4 KiB), and so many channels left.
struct FakeBus {
    left: u16,
}

impl Bus for FakeBus {
    fn lent(&self, gpadl: u32) -> Option<Lent> {
        let bytes = [0x10_0000, 0x1000].get(gpadl.checked_sub(1)? as usize).copied()?;
        Some((ranges(&memory(), 0x10_0000, bytes), None))
    }

    fn offer_sub_channels(&mut self, count: u16) -> u16 {
        let offered = count.min(self.left);
        self.left -= offered;
        offered
    }
}

struct Card {
    limits: Limits,
    settings: Settings,
    bus: FakeBus,
}

impl Card {
    fn new() -> Self {
        let limits = Limits { newest: NvspVersion::V6_1, mtu: 9000, queues: 8 };
        let settings = Settings::new(MacAddress::of_card(0), limits.mtu);
        Self { limits, settings, bus: FakeBus { left: 100 } }
    }

    fn with_version(version: NvspVersion) -> Self {
        let mut card = Self::new();
        card.settings.version = Some(version);
        card
    }

    /// Sends a message of 32-bit words, padded as Linux does, and gives the completion's.
    fn call(&mut self, words: &[u32]) -> Result<Vec<u32>, NetVspError> {
        let mut payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        payload.resize(40, 0);
        let message = GuestMessage::parse(&payload)?;
        let answer = handle(&self.limits, &mut self.settings, &mut self.bus, &message)?;
        let words = answer.as_bytes().as_chunks::<4>().0;
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }
}

#[test]
fn every_version_is_agreed_on_when_it_is_asked_for() {
    for (version, words) in
        [(2, 7), (0x3_0002, 7), (0x4_0000, 7), (0x5_0000, 7), (0x6_0000, 7), (0x6_0001, 10)]
    {
        let mut card = Card::new();
        let answer = card.call(&[1, version, version]).unwrap();
        assert_eq!((&answer[..4], answer.len()), (&[2, version, 34, 1][..], words));
        assert_eq!(card.settings.version, Some(NvspVersion(version)));
        assert!(card.call(&[1, version, version]).is_err(), "once is enough");
    }
}

#[test]
fn a_version_that_there_is_not_is_refused_and_another_one_tried() {
    let mut card = Card::new();
    card.limits.newest = NvspVersion::V5;
    for (min, max) in [(0x6_0001, 0x6_0001), (0x6_0000, 0x6_0000), (3, 0x3_0001), (5, 2), (0, 1)] {
        assert_eq!(card.call(&[1, min, max]).unwrap()[..4], [2, u32::MAX, 34, 2]);
    }
    assert_eq!(card.call(&[1, 2, 0x6_0001]).unwrap()[..4], [2, 0x5_0000, 34, 1]);
}

#[test]
fn nothing_is_done_before_a_version_is_agreed_on_or_for_too_old_a_one() {
    for number in [100, 125, 101, 103, 104, 106, 107, 129, 131, 133, 135] {
        let error = NetVspError::OutOfOrder(NvspMessageType(number));
        assert_eq!(Card::new().call(&[number, 1]), Err(error), "{number}");
    }
    for (number, before) in [
        (125, NvspVersion::V1),
        (129, NvspVersion::V2),
        (131, NvspVersion::V4),
        (133, NvspVersion::V4),
        (135, NvspVersion::V6),
    ] {
        assert!(Card::with_version(before).call(&[number, 1]).is_err(), "{number}");
    }
    // RNDIS packets are not for here.
    assert!(Card::with_version(NvspVersion::V6_1).call(&[107]).is_err());
}

#[test]
fn buffers_are_taken_once_and_given_back() {
    let mut card = Card::with_version(NvspVersion::V6);
    assert_eq!(card.call(&[125, 1514, 0, 0x28, 0]).unwrap(), Vec::<u32>::new());
    let answer = card.call(&[101, 1, 0xCAFE]).unwrap();
    assert_eq!(answer, [102, 1, 1, 0, 1728, 606, 606 * 1728]);
    assert_eq!(card.call(&[101, 1, 0xCAFE]).unwrap()[..3], [102, 2, 0]);
    assert_eq!(card.call(&[104, 1, 0]).unwrap(), [105, 1, 6144, 0, 0, 0, 0]);
    assert_eq!(card.call(&[104, 1, 0]).unwrap()[..3], [105, 2, 0]);
    // Another number is another buffer.
    card.call(&[103, 0xCAFF]).unwrap();
    card.call(&[106, 1]).unwrap();
    assert!(card.settings.receive.is_some() && card.settings.send.is_some());
    card.call(&[103, 0xCAFE]).unwrap();
    card.call(&[106, 0]).unwrap();
    assert!(card.settings.receive.is_none() && card.settings.send.is_none());
}

#[test]
fn buffers_that_are_none_or_too_small_are_refused() {
    let mut card = Card::with_version(NvspVersion::V6);
    for gpadl in [0, 2, 3, u32::MAX] {
        assert_eq!(card.call(&[101, gpadl, 0xCAFE]).unwrap()[..3], [102, 2, 0], "{gpadl}");
        assert_eq!(card.call(&[104, gpadl, 0]).unwrap()[..3], [105, 2, 0], "{gpadl}");
    }
    assert!(card.settings.receive.is_none() && card.settings.send.is_none());
}

#[test]
fn the_guests_mtu_counts_up_to_the_cards() {
    for (asked, frame) in
        [(1514, 1514), (9014, 9014), (20_000, 9014), (0, 9014), (13, 9014), (589, 9014), (590, 590)]
    {
        let mut card = Card::with_version(NvspVersion::V6);
        card.call(&[125, asked, 0, 0xFFFF_FFFF, 0]).unwrap();
        assert_eq!(card.settings.frame_bytes, frame, "{asked}");
        assert_eq!(card.settings.capabilities, NvspCapabilities::all());
    }
    let mut card = Card::with_version(NvspVersion::V6);
    card.call(&[101, 1, 0xCAFE]).unwrap();
    assert!(card.call(&[125, 1514, 0, 0, 0]).is_err(), "the buffer is parted already");
}

#[test]
fn sub_channels_are_offered_once_and_no_more_than_there_are() {
    let mut card = Card::with_version(NvspVersion::V5);
    assert_eq!(card.call(&[133, 0, 3]).unwrap()[..3], [133, 2, 0]);
    assert_eq!(card.call(&[133, 1, 3]).unwrap()[..3], [133, 1, 3]);
    assert_eq!(card.settings.channels, 4);
    assert_eq!(card.call(&[133, 1, 3]).unwrap()[..3], [133, 2, 0]);

    let mut card = Card::with_version(NvspVersion::V5);
    assert_eq!(card.call(&[133, 1, u32::MAX]).unwrap()[..3], [133, 1, 7]);
    let mut card = Card::with_version(NvspVersion::V5);
    card.bus.left = 2;
    assert_eq!(card.call(&[133, 1, 5]).unwrap()[..3], [133, 1, 2]);
    let mut card = Card::with_version(NvspVersion::V5);
    card.limits.queues = 1;
    assert_eq!(card.call(&[133, 1, 5]).unwrap()[..3], [133, 1, 0]);
}

#[test]
fn what_the_card_does_not_have_is_said_so() {
    let mut card = Card::with_version(NvspVersion::V6_1);
    assert_eq!(card.call(&[129, 1]).unwrap(), Vec::<u32>::new());
    assert_eq!(card.call(&[100, 6, 30]).unwrap(), Vec::<u32>::new());
    assert_eq!(card.call(&[131, 0, 0x0001_0101]).unwrap()[..3], [132, 0xC000_00BB, 0]);
    assert_eq!(card.call(&[135, 1]).unwrap()[..5], [135, 1, 0xC000_00BB, 0, 0]);
}

proptest! {
    #[test]
    fn no_order_of_messages_makes_it_panic(
        messages in prop::collection::vec(
            (prop::sample::select(vec![1_u32, 100, 125, 101, 103, 104, 106, 129, 131, 133, 135]),
             prop::collection::vec(prop_oneof![0_u32..4, Just(0x6_0001), Just(2), any::<u32>()], 0..4)),
            0..20),
    ) {
        let mut card = Card::new();
        for (number, words) in messages {
            let _ = card.call(&[vec![number], words].concat());
            prop_assert!(card.settings.channels <= 8);
            prop_assert!(card.settings.frame_bytes <= 9014);
        }
    }
}
