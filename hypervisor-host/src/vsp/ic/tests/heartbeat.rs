//! Heartbeat: numbers, and answers that come late or never.

use std::time::Duration;

use hv_abi::ic::heartbeat::{HEARTBEAT_V1, HEARTBEAT_V3};

use super::super::error::IcError;
use super::super::heartbeat::{Application, Heartbeat, Pulse};
use super::guest::{BODY, Guest, answer_to, get64, type_of, with_size, with_transaction};

const PERIOD: Duration = Duration::from_secs(2);

/// `heartbeat_msg->seq_num += 1`.
fn increase(body: &mut [u8]) {
    let next = get64(body, 0).wrapping_add(1);
    body[..8].copy_from_slice(&next.to_le_bytes());
}

#[test]
fn a_guest_that_answers_is_well() {
    let heartbeat = Heartbeat::default();
    assert_eq!(heartbeat.status().pulse, Pulse::NoContact);
    let mut guest = Guest::agree(&heartbeat, HEARTBEAT_V3);
    for count in 0..300 {
        let request = guest.request();
        assert_eq!((type_of(&request), request.len()), (1, BODY + 40));
        assert_eq!(get64(&request, BODY), count);
        guest.pass(Duration::from_millis(3));
        guest.answer(&request, increase).unwrap();
        assert_eq!(guest.next(), None);
        guest.pass(PERIOD);
    }
    let status = heartbeat.status();
    assert_eq!((status.pulse, status.application), (Pulse::Ok, Application::Unknown));
    assert_eq!((status.sent, status.answered, status.missed), (300, 300, 0));
    assert_eq!(status.round_trip_us, Some(3000));
}

#[test]
fn requests_come_every_two_seconds() {
    let heartbeat = Heartbeat::default();
    let mut guest = Guest::agree(&heartbeat, HEARTBEAT_V1);
    let begin = guest.now;
    guest.request();
    let (none, at) = guest.engine.poll(guest.now);
    assert_eq!((none, at), (None, Some(begin + PERIOD)));
    guest.pass(PERIOD - Duration::from_millis(1));
    assert_eq!(guest.next(), None);
    // A little late is caught up, much is not.
    guest.pass(Duration::from_millis(500));
    guest.request();
    assert_eq!(guest.engine.poll(guest.now).1, Some(begin + 2 * PERIOD));
    guest.pass(Duration::from_secs(3600));
    guest.request();
    assert_eq!(guest.engine.poll(guest.now).1, Some(guest.now + PERIOD));
}

#[test]
fn the_state_of_the_application_is_told_from_version_3_on() {
    for (version, told) in
        [(HEARTBEAT_V1, Application::Unknown), (HEARTBEAT_V3, Application::Critical)]
    {
        let heartbeat = Heartbeat::default();
        let mut guest = Guest::agree(&heartbeat, version);
        let request = guest.request();
        guest
            .answer(&request, |body| {
                increase(body);
                body[8] = 2;
            })
            .unwrap();
        assert_eq!(heartbeat.status().application, told);
    }
}

#[test]
fn answers_that_do_not_come_are_missed_and_late_when_they_do() {
    let heartbeat = Heartbeat::default();
    let mut guest = Guest::agree(&heartbeat, HEARTBEAT_V3);
    let mut requests = Vec::new();
    for pulse in [Pulse::Ok, Pulse::Late, Pulse::Late, Pulse::Lost, Pulse::Lost] {
        requests.push(guest.request());
        assert_eq!(heartbeat.status().pulse, pulse);
        guest.pass(PERIOD);
    }
    assert_eq!(heartbeat.status().missed, 4);
    // Linux takes all that waits, in turn.
    for request in &requests {
        guest.answer(request, increase).unwrap();
    }
    let status = heartbeat.status();
    assert_eq!((status.pulse, status.late, status.answered), (Pulse::Ok, 4, 1));
}

#[test]
fn a_guest_that_never_answers_gets_a_bounded_number_of_requests() {
    let heartbeat = Heartbeat::default();
    let mut guest = Guest::agree(&heartbeat, HEARTBEAT_V3);
    let mut requests = Vec::new();
    for _ in 0..100 {
        requests.extend(guest.next());
        guest.pass(PERIOD);
    }
    let status = heartbeat.status();
    assert_eq!((requests.len(), status.sent, status.missed), (8, 8, 99));
    assert_eq!(status.pulse, Pulse::Lost);
    guest.answer(&requests[3], increase).unwrap();
    guest.request();
    assert_eq!(heartbeat.status().pulse, Pulse::Ok, "it has just answered");
}

#[test]
fn wrong_answers_end_the_channel() {
    let open = || {
        let mut guest = Guest::agree(&Heartbeat::default(), HEARTBEAT_V3);
        let request = guest.request();
        (guest, request)
    };
    let (mut guest, request) = open();
    let error = guest.answer(&request, |_| {}).unwrap_err();
    assert_eq!(error, IcError::Sequence { found: 0, expected: 1 });

    let (mut guest, request) = open();
    let answer = with_size(answer_to(&request, increase), 7);
    assert_eq!(guest.send(&answer), Err(IcError::MessageShort { present: 7, needed: 8 }));
    // Linux checks eight bytes, too.
    guest.send(&with_size(answer_to(&request, increase), 8)).unwrap();

    let (mut guest, request) = open();
    let answer = answer_to(&request, increase);
    assert!(guest.send(&with_transaction(answer.clone(), 77)).is_err());
    guest.send(&answer).unwrap();
    assert!(matches!(guest.send(&answer), Err(IcError::Unexpected { .. })), "twice");
}

#[test]
fn a_closed_channel_is_no_contact() {
    let heartbeat = Heartbeat::default();
    let guest = Guest::agree(&heartbeat, HEARTBEAT_V3);
    assert_eq!(heartbeat.status().pulse, Pulse::Ok);
    drop(guest);
    assert_eq!(heartbeat.status().pulse, Pulse::NoContact);
}
