//! Shutdown: requests from another thread, and what guests say to them.

use std::thread;
use std::time::Duration;

use hv_abi::ic::shutdown::{SHUTDOWN_V1, SHUTDOWN_V3, SHUTDOWN_V3_1, SHUTDOWN_V3_2};

use super::super::error::{CallError, IcError};
use super::super::shutdown::{Shutdown, ShutdownKind, ShutdownRequest};
use super::guest::{BODY, Guest, answer_to, get32, refusal_of, type_of, with_transaction};

const LONG: Duration = Duration::from_secs(60);

fn request(kind: ShutdownKind, force: bool) -> ShutdownRequest {
    ShutdownRequest { kind, force, timeout_seconds: 0 }
}

/// Asks from another thread, and gives what comes to the guest.
fn ask(
    shutdown: &Shutdown,
    guest: &mut Guest<Shutdown>,
    request: ShutdownRequest,
) -> (thread::JoinHandle<Result<(), CallError>>, Vec<u8>) {
    let shutdown = shutdown.clone();
    let asker = thread::spawn(move || shutdown.request(request, LONG));
    loop {
        match guest.next() {
            Some(request) => return (asker, request),
            None => thread::yield_now(),
        }
    }
}

#[test]
fn the_guest_is_asked_and_says_yes() {
    // The switch in `shutdown_onchannelcallback`: 0, 2, 4, and one more for force.
    for (kind, force, flags) in [
        (ShutdownKind::PowerOff, false, 0),
        (ShutdownKind::PowerOff, true, 1),
        (ShutdownKind::Restart, false, 2),
        (ShutdownKind::Restart, true, 3),
        (ShutdownKind::Hibernate, false, 4),
        (ShutdownKind::Hibernate, true, 5),
    ] {
        let shutdown = Shutdown::default();
        let mut guest = Guest::agree(&shutdown, SHUTDOWN_V3_2);
        let (asker, message) = ask(&shutdown, &mut guest, request(kind, force));
        // Linux wants all of `struct shutdown_msg_data`.
        assert_eq!((type_of(&message), message.len()), (3, BODY + 12 + 2048));
        assert_eq!(get32(&message, BODY), 0x8000_0000);
        assert_eq!(get32(&message, BODY + 8), flags);
        guest.answer(&message, |_| {}).unwrap();
        assert_eq!(asker.join().unwrap(), Ok(()));
    }
}

#[test]
fn a_guest_may_refuse() {
    let shutdown = Shutdown::default();
    let mut guest = Guest::agree(&shutdown, SHUTDOWN_V3_2);
    let (asker, message) = ask(&shutdown, &mut guest, request(ShutdownKind::Hibernate, false));
    guest.send(&refusal_of(&message, 0x8000_4005)).unwrap();
    let error = asker.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the guest refused, with status 0x80004005");
}

#[test]
fn guests_are_asked_only_for_what_their_version_has() {
    for (version, restart, hibernate) in [
        (SHUTDOWN_V1, false, false),
        (SHUTDOWN_V3, false, false),
        (SHUTDOWN_V3_1, true, false),
        (SHUTDOWN_V3_2, true, true),
    ] {
        let shutdown = Shutdown::default();
        let _guest = Guest::agree(&shutdown, version);
        for (kind, known) in
            [(ShutdownKind::Restart, restart), (ShutdownKind::Hibernate, hibernate)]
        {
            let answer = shutdown.request(request(kind, false), Duration::ZERO).unwrap_err();
            assert_eq!(matches!(answer, CallError::TooOld { .. }), !known, "{version} {answer}");
        }
    }
}

#[test]
fn without_a_driver_nobody_waits() {
    let shutdown = Shutdown::default();
    let ask = || shutdown.request(ShutdownRequest::default(), LONG);
    assert_eq!(ask(), Err(CallError::NoDriver));
    let mut guest = Guest::open(&shutdown);
    let request = guest.request();
    assert_eq!(ask(), Err(CallError::NoDriver), "versions are not agreed on");
    guest.answer_versions(&request, &[]).unwrap();
    assert_eq!(ask(), Err(CallError::NoCommonVersion));
    drop(guest);
    assert_eq!(ask(), Err(CallError::NoDriver));
}

#[test]
fn a_guest_that_does_not_answer_is_given_up() {
    let shutdown = Shutdown::default();
    let _guest = Guest::agree(&shutdown, SHUTDOWN_V3_2);
    let limit = Duration::from_millis(20);
    let answer = shutdown.request(ShutdownRequest::default(), limit);
    assert!(matches!(answer, Err(CallError::NoAnswer(_))));
}

#[test]
fn who_waits_is_told_when_the_channel_closes() {
    let shutdown = Shutdown::default();
    let mut guest = Guest::agree(&shutdown, SHUTDOWN_V3_2);
    let (asker, _) = ask(&shutdown, &mut guest, ShutdownRequest::default());
    drop(guest);
    assert_eq!(asker.join().unwrap(), Err(CallError::Gone));
}

#[test]
fn answers_to_nothing_end_the_channel() {
    let shutdown = Shutdown::default();
    let mut guest = Guest::agree(&shutdown, SHUTDOWN_V3_2);
    let (_asker, message) = ask(&shutdown, &mut guest, ShutdownRequest::default());
    let answer = answer_to(&message, |_| {});
    let wrong = guest.send(&with_transaction(answer.clone(), 200));
    assert!(matches!(wrong, Err(IcError::Unexpected { transaction: 200, .. })));
    guest.send(&answer).unwrap();
    assert!(matches!(guest.send(&answer), Err(IcError::Unexpected { .. })), "twice");
}
