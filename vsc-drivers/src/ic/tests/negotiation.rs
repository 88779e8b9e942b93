//! Negotiation of versions, with every host there is; and packets that are none.

use proptest::prelude::any;
use std::vec::Vec;

use super::host::{answer, ask, negotiation, request};
use crate::ic::{
    Clock, Heartbeat, IcError, IcVersion, Kvp, KvpTables, Responder, Service, Shutdown,
    ShutdownHandler, ShutdownRequest, TimeSample, Timesync, Versions,
};

struct Nothing;

impl ShutdownHandler for Nothing {
    fn accepts(&mut self, _request: &ShutdownRequest) -> bool {
        false
    }

    fn end(&mut self, _request: ShutdownRequest) {}
}

impl Clock for Nothing {
    fn reference_100ns(&self) -> u64 {
        0
    }

    fn sample(&mut self, _sample: TimeSample) {}
}

fn pairs(versions: &[IcVersion]) -> Vec<(u16, u16)> {
    versions.iter().map(|version| (version.major, version.minor)).collect()
}

/// Every host with the versions up to one, against every guest with those up to another.
fn every_pair<S: Service>(service: impl Fn() -> S) {
    let versions = pairs(S::VERSIONS);
    for (host, guest) in
        (1..=versions.len()).flat_map(|host| (1..=versions.len()).map(move |it| (host, it)))
    {
        for framework in [&[(1, 0)][..], &[(1, 0), (3, 0)], &[(3, 0), (1, 0)], &[(3, 0), (9, 9)]] {
            let newest = S::VERSIONS[guest - 1];
            let mut responder = Responder::up_to(service(), newest);
            let mut payload = negotiation(framework, &versions[..host]);
            assert!(responder.respond(&mut payload).unwrap());
            let agreed = Versions {
                framework: IcVersion::new(if framework == [(1, 0)] { 1 } else { 3 }, 0),
                message: S::VERSIONS[host.min(guest) - 1],
            };
            assert_eq!(responder.versions(), Some(agreed));
            let told = answer(&payload, 0);
            let mut golden = std::vec![1, 0, 1, 0, 0, 0, 0, 0];
            for version in [agreed.framework, agreed.message] {
                golden.extend(version.major.to_le_bytes());
                golden.extend(version.minor.to_le_bytes());
            }
            assert_eq!((told.status, told.body), (0, golden));
        }
    }
}

#[test]
fn every_pair_of_versions_is_agreed_on() {
    every_pair(Heartbeat::new);
    every_pair(|| Shutdown::new(Nothing));
    every_pair(|| Timesync::new(Nothing));
    every_pair(|| Kvp::new(KvpTables::new(1)));
}

#[test]
fn a_host_without_a_common_version_is_told_so() {
    for (framework, message) in [
        (&[(2, 0)][..], &[(3, 0)][..]),
        (&[(3, 0)], &[(2, 0), (9, 0)]),
        (&[], &[(3, 0)]),
        (&[(3, 0)], &[]),
    ] {
        let mut responder = Responder::new(Heartbeat::new());
        let mut payload = negotiation(framework, message);
        assert!(responder.respond(&mut payload).unwrap());
        assert_eq!(answer(&payload, 0).body[..4], [0; 4]);
        assert_eq!(responder.versions(), None);
        assert_eq!(ask(&mut responder, 1, &[0; 40]), Err(IcError::NotNegotiated));
    }
}

#[test]
fn versions_may_be_negotiated_again() {
    let mut responder = Responder::new(Heartbeat::new());
    for version in [(3, 0), (1, 0)] {
        responder.respond(&mut negotiation(&[(1, 0), (3, 0)], &[version])).unwrap();
        let message = responder.versions().unwrap().message;
        assert_eq!((message.major, message.minor), version);
    }
}

#[test]
fn negotiations_that_lie_are_refused() {
    let respond = |body: &[u8]| Responder::new(Heartbeat::new()).respond(&mut request(0, body));
    assert_eq!(respond(&[0; 7]), Err(IcError::MessageShort { present: 7, needed: 8 }));
    let count = |framework, message| Err(IcError::VersionCount { framework, message });
    // Room for one version; one more; more than there ever are.
    assert_eq!(respond(&[1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0]), count(1, 1));
    assert_eq!(respond(&[2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]), count(2, 0));
    assert_eq!(respond(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]), count(0xFFFF, 0xFFFF));
    let mut body = [0; 8 + 101 * 4];
    body[0] = 101;
    assert_eq!(respond(&body), count(101, 0));
}

#[test]
fn packets_that_are_no_requests_are_refused() {
    let good = request(1, &[0; 8]);
    let respond = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good.clone();
        change(&mut payload);
        Responder::new(Heartbeat::new()).respond(&mut payload)
    };
    for length in 0..28 {
        let error = respond(&|it| it.truncate(length)).unwrap_err();
        match length {
            0..8 => assert_eq!(error, IcError::TooShort(length)),
            _ => assert_eq!(error, IcError::PipeLength { told: 28, present: length - 8 }),
        }
    }
    let pipe = |told| Err(IcError::PipeLength { told, present: 32 });
    assert_eq!(respond(&|it| it[4] = 33), pipe(33));
    assert_eq!(respond(&|it| it[4] = 19), pipe(19));
    let message = Err(IcError::MessageLength { told: 9, present: 8 });
    assert_eq!(respond(&|it| it[18] = 9), message);
    assert_eq!(respond(&|it| it[0] = 2), Err(IcError::PipeType(2)));
    for flags in [4, 5, 7] {
        assert_eq!(respond(&|it| it[25] = flags), Err(IcError::NoRequest(flags)));
    }
}

#[test]
fn another_components_message_fails_and_harms_nothing() {
    let mut responder = Responder::new(Heartbeat::new());
    for message_type in [2, 3, 4, 5, 7, 0xFFFF] {
        let told = ask(&mut responder, message_type, &[1; 40]).unwrap();
        assert_eq!((told.status, told.body), (0x8000_4005, std::vec![1; 40]));
    }
}

#[test]
fn nothing_is_answered_that_wants_no_answer() {
    let mut responder = Responder::new(Heartbeat::new());
    let mut payload = negotiation(&[(3, 0)], &[(3, 0)]);
    payload[25] = 0;
    assert_eq!(responder.respond(&mut payload), Ok(false));
    assert!(responder.versions().is_some());
}

proptest::proptest! {
    /// Whatever a host sends at whatever moment: an error, or an answer with consistent lengths.
    #[test]
    fn no_host_makes_a_service_panic(
        which in 0_usize..4,
        agreed: bool,
        message_type in 0_u16..6,
        body in proptest::collection::vec(any::<u8>(), 0..64),
        room in 0_usize..2700,
        flips in proptest::collection::vec((0_usize..80, any::<u8>()), 0..3),
    ) {
        let mut body = body;
        body.resize(body.len().max(room), 0);
        let mut payload = request(message_type, &body);
        for (at, value) in flips {
            if let Some(byte) = payload.get_mut(at) {
                *byte = value;
            }
        }
        match which {
            0 => check(Heartbeat::new(), agreed, payload),
            1 => check(Shutdown::new(Nothing), agreed, payload),
            2 => check(Timesync::new(Nothing), agreed, payload),
            _ => check(Kvp::new(KvpTables::new(4).with_intrinsic("k", "v")), agreed, payload),
        }
    }
}

fn check<S: Service>(service: S, agreed: bool, mut payload: Vec<u8>) {
    let mut responder = Responder::new(service);
    if agreed {
        let versions = pairs(S::VERSIONS);
        responder.respond(&mut negotiation(&[(3, 0)], &versions)).unwrap();
    }
    let length = payload.len();
    if responder.respond(&mut payload).is_ok() {
        assert_eq!(payload.len(), length);
        let told = usize::from(super::host::get16(&payload, 18));
        assert!(28 + told <= length);
    }
}
