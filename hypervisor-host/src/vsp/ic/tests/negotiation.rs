//! Negotiation of versions, of every pair that there is.

use hv_abi::ic::IcVersion;
use hv_abi::ic::heartbeat::HEARTBEAT_VERSIONS;
use hv_abi::ic::negotiate::FRAMEWORK_VERSIONS;

use super::super::calls::Contact;
use super::super::error::IcError;
use super::super::heartbeat::{Heartbeat, Pulse};
use super::super::kvp::Kvp;
use super::super::session::{OfferedVersions, Versions};
use super::super::shutdown::Shutdown;
use super::super::{Component, Timesync};
use super::guest::{
    BODY, Guest, answer_to, get16, put16, refusal_of, type_of, with_size, with_transaction,
    with_type,
};
use super::timesync::test_clocks;

/// What Linux's `vmbus_prep_negotiate_resp` makes of a request: the newest of its versions that is offered, each.
fn linux_chooses(
    request: &[u8],
    framework: &[IcVersion],
    message: &[IcVersion],
) -> Option<[IcVersion; 2]> {
    let body = &request[BODY..];
    let counts = [get16(body, 0), get16(body, 2)].map(usize::from);
    let offered = |range: std::ops::Range<usize>| {
        let version =
            |index| IcVersion::new(get16(body, 8 + 4 * index), get16(body, 10 + 4 * index));
        range.map(version).collect::<Vec<_>>()
    };
    let choose = |own: &[IcVersion], offered: Vec<IcVersion>| {
        own.iter().rev().copied().find(|version| offered.contains(version))
    };
    let framework = choose(framework, offered(0..counts[0]))?;
    Some([framework, choose(message, offered(counts[0]..counts[0] + counts[1]))?])
}

/// All pairs of a host with the versions up to one, and a guest with those up to another.
fn every_pair<C: Component>(component: &C, contact: impl Fn(&C) -> Contact) {
    let count = C::VERSIONS.len();
    for (host, guest) in (1..=count).flat_map(|host| (1..=count).map(move |it| (host, it))) {
        for (host_fw, guest_fw) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let offered = OfferedVersions {
                framework: FRAMEWORK_VERSIONS[..host_fw].to_vec(),
                message: C::VERSIONS[..host].to_vec(),
            };
            let mut peer = Guest::open_offered(component, offered);
            let request = peer.request();
            let [framework, message] =
                linux_chooses(&request, &FRAMEWORK_VERSIONS[..guest_fw], &C::VERSIONS[..guest])
                    .unwrap();
            let chosen = [framework, message].map(|it| (it.major, it.minor));
            peer.answer_versions(&request, &chosen).unwrap();
            assert_eq!(message, C::VERSIONS[host.min(guest) - 1]);
            assert_eq!(framework, FRAMEWORK_VERSIONS[host_fw.min(guest_fw) - 1]);
            assert_eq!(contact(component), Contact::Agreed(Versions { framework, message }));
        }
    }
    assert_eq!(contact(component), Contact::None, "the last channel is closed");
}

#[test]
fn every_pair_of_versions_is_agreed_on() {
    every_pair(&Heartbeat::default(), |it| it.status().contact);
    every_pair(&Shutdown::default(), |it| it.status().contact);
    every_pair(&Timesync::new(test_clocks()), |it| it.status().contact);
    every_pair(&Kvp::default(), |it| it.status().contact);
}

#[test]
fn the_first_request_lists_all_versions() {
    let mut guest = Guest::open(&Heartbeat::default());
    #[rustfmt::skip]
    let golden = [
        1, 0, 0, 0, 44, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 3, 0, 0,
        2, 0, 2, 0, 0, 0, 0, 0,
        1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0,
    ];
    assert_eq!(guest.request(), golden);
    assert_eq!(guest.next(), None, "nothing is asked before there is an answer");
}

#[test]
fn a_guest_without_a_common_version_is_left_alone() {
    let heartbeat = Heartbeat::default();
    let mut guest = Guest::open(&heartbeat);
    let request = guest.request();
    guest.answer_versions(&request, &[]).unwrap();
    assert_eq!(guest.next(), None);
    assert_eq!(heartbeat.status().contact, Contact::NoCommonVersion);
    assert_eq!(heartbeat.status().pulse, Pulse::NoContact);

    let mut guest = Guest::open(&heartbeat);
    let request = guest.request();
    guest.send(&refusal_of(&request, 0x8000_4005)).unwrap();
    assert_eq!(heartbeat.status().contact, Contact::NoCommonVersion);
}

#[test]
fn a_version_that_was_not_offered_ends_the_channel() {
    for (versions, wrong) in
        [([(3, 0), (9, 0)], (9, 0)), ([(2, 0), (3, 0)], (2, 0)), ([(3, 0), (3, 1)], (3, 1))]
    {
        let mut guest = Guest::open(&Heartbeat::default());
        let request = guest.request();
        let error = guest.answer_versions(&request, &versions).unwrap_err();
        assert_eq!(error, IcError::VersionNotOffered(IcVersion::new(wrong.0, wrong.1)));
    }
}

#[test]
fn malformed_answers_end_the_channel() {
    let open = || {
        let mut guest = Guest::open(&Heartbeat::default());
        let request = guest.request();
        (guest, request)
    };
    let (mut guest, request) = open();
    let answer = answer_to(&request, |body| put16(body, 0, 2));
    let counts = IcError::VersionCount { framework: 2, message: 2 };
    assert_eq!(guest.send(&answer), Err(counts));

    let (mut guest, request) = open();
    let good = answer_to(&request, |body| {
        put16(body, 0, 1);
        put16(body, 2, 1);
    });
    let short = IcError::MessageShort { present: 15, needed: 16 };
    assert_eq!(guest.send(&with_size(good.clone(), 15)), Err(short));
    let short = IcError::MessageShort { present: 7, needed: 8 };
    assert_eq!(guest.send(&with_size(good.clone(), 7)), Err(short));

    let (mut guest, _) = open();
    let error = guest.send(&with_transaction(good.clone(), 1)).unwrap_err();
    assert!(matches!(error, IcError::Unexpected { transaction: 1, .. }));

    let (mut guest, _) = open();
    assert!(matches!(guest.send(&with_type(good, 1)), Err(IcError::Unexpected { .. })));
}

#[test]
fn nothing_is_answered_twice_or_before_it_is_asked() {
    let heartbeat = Heartbeat::default();
    let mut guest = Guest::open(&heartbeat);
    let mut other = Guest::open(&Heartbeat::default());
    let request = other.request();
    let answer = answer_to(&request, |body| {
        put16(body, 0, 1);
        put16(body, 2, 1);
        put16(body, 12, 3);
    });
    assert!(matches!(guest.send(&answer), Err(IcError::Unexpected { .. })), "not yet asked");

    let mut guest = Guest::agree(&heartbeat, HEARTBEAT_VERSIONS[1]);
    assert!(matches!(guest.send(&answer), Err(IcError::Unexpected { .. })), "agreed already");
    assert_eq!(type_of(&guest.request()), 1);
}

proptest::proptest! {
    /// Whatever a guest sends at whatever moment: an error, or nothing.
    #[test]
    fn no_guest_makes_a_component_panic(
        agreed: bool,
        start in 0_usize..60,
        flips in proptest::collection::vec((0_usize..80, proptest::prelude::any::<u8>()), 0..4),
        tail: Vec<u8>,
    ) {
        let heartbeat = Heartbeat::default();
        let mut guest = Guest::open(&heartbeat);
        let mut request = guest.request();
        if agreed {
            guest.answer_versions(&request, &[(3, 0), (3, 0)]).unwrap();
            request = guest.request();
        }
        let mut payload = answer_to(&request, |_| {});
        payload.truncate(start);
        payload.extend_from_slice(&tail);
        for (at, value) in flips {
            if let Some(byte) = payload.get_mut(at) {
                *byte = value;
            }
        }
        let _ = guest.send(&payload);
    }
}
