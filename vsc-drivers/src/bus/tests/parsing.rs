//! Any bytes, as messages.

use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use proptest::prelude::*;
use std::vec::Vec;

use crate::bus::BusOptions;
use crate::bus::message::{BadMessage, HostMessage};
use crate::testing::{connected, machine, run, settle};

/// Bytes whose type a host might send.
fn message() -> impl Strategy<Value = Vec<u8>> {
    (0_u32..30, prop::collection::vec(any::<u8>(), 0..=236)).prop_map(|(kind, rest)| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(rest);
        bytes
    })
}

/// Messages about the few channels and numbers that mean something.
fn likely_message() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u32..4, Just(0xE_1E10), Just(2048), any::<u32>()];
    (1_u32..25, prop::collection::vec(number, 0..=58)).prop_map(|(kind, words)| {
        let words = [kind, 0].into_iter().chain(words);
        words.flat_map(u32::to_le_bytes).collect()
    })
}

fn versions() -> impl Strategy<Value = VmbusVersion> {
    prop::sample::select(VmbusVersion::ALL.to_vec())
}

#[test]
fn an_offer_before_1_1_may_be_six_bytes_shorter() {
    let mut bytes = [0; 196];
    bytes[0] = 1;
    bytes[190..].fill(0xEE);
    let offer = |bytes: &[u8], version| match HostMessage::parse(bytes, version) {
        Ok(HostMessage::Offer(offer)) => Some((offer.is_dedicated_interrupt, offer.connection_id)),
        _ => None,
    };
    assert_eq!(offer(&bytes[..190], VmbusVersion::V0_13), Some((0, 0)));
    assert_eq!(offer(&bytes[..189], VmbusVersion::V0_13), None);
    assert_eq!(offer(&bytes[..195], VmbusVersion::V1_1), None);
    assert_eq!(offer(&bytes, VmbusVersion::V1_1), Some((0xEEEE, 0xEEEE_EEEE)));
}

#[test]
fn an_unknown_type_is_told_by_its_number() {
    let unknown = HostMessage::parse(&[77, 0, 0, 0, 0, 0, 0, 0], VmbusVersion::V6_0);
    assert_eq!(unknown, Err(BadMessage::UnknownType(MessageType(77))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_none(bytes in message(), version in versions()) {
        let parsed = HostMessage::parse(&bytes, version);
        if bytes.len() >= 8 {
            prop_assert!(parsed != Err(BadMessage::Short) || bytes.len() < 196);
        } else {
            prop_assert_eq!(parsed, Err(BadMessage::Short));
        }
    }

    #[test]
    fn what_parses_parses_the_same_with_more_bytes(bytes in message(), more in 0_usize..40) {
        // The only message that says more when it is longer.
        prop_assume!(bytes[0] != 15);
        let version = VmbusVersion::V5_3;
        if let Ok(parsed) = HostMessage::parse(&bytes, version) {
            let mut longer = bytes;
            longer.extend(core::iter::repeat_n(0x55, more));
            prop_assert_eq!(HostMessage::parse(&longer, version), Ok(parsed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_connected_bus_survives_any_messages(
        messages in prop::collection::vec(prop_oneof![message(), likely_message()], 0..60),
        version in versions(),
    ) {
        let (host, bus, _) = connected(version);
        host.forgive();
        for message in &messages {
            host.deliver(&message[..message.len().min(240)]);
        }
        settle(&bus);
        prop_assert!(bus.offers().len() <= messages.len() + 1);
        prop_assert_eq!(bus.version(), Some(version));
    }

    #[test]
    fn connecting_ends_whatever_is_said_meanwhile(
        messages in prop::collection::vec(likely_message(), 1..20),
    ) {
        let (host, bus, _) = machine(BusOptions::default());
        host.misbehave(MessageType::INITIATE_CONTACT, 1, crate::fake::Mischief::First(messages));
        let _ = run(&bus, bus.connect());
    }
}
