//! Time synchronisation: what is told, when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hv_abi::ic::timesync::{TIMESYNC_V1, TIMESYNC_V3, TIMESYNC_V4};

use super::super::Timesync;
use super::super::clock::{ClockSample, Clocks};
use super::super::error::IcError;
use super::guest::{BODY, Guest, answer_to, get64, refusal_of, type_of};

const HOST_TIME: u64 = 0x01DB_0102_0304_0506;
const PERIOD: Duration = Duration::from_secs(5);

/// Clocks that stand still, on a computer that is suspended when a test says so.
#[derive(Default)]
pub(super) struct TestClocks {
    suspended_ms: AtomicU64,
}

impl Clocks for TestClocks {
    fn sample(&self) -> ClockSample {
        ClockSample { host_time_100ns: HOST_TIME, reference_100ns: 0x1122_3344 }
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed))
    }
}

pub(super) fn test_clocks() -> Arc<TestClocks> {
    Arc::default()
}

#[test]
fn the_first_message_sets_the_clock_and_the_next_are_samples() {
    let timesync = Timesync::new(test_clocks());
    let mut guest = Guest::agree(&timesync, TIMESYNC_V4);
    for flags in [1, 2, 2] {
        let message = guest.request();
        assert_eq!((type_of(&message), message.len()), (4, BODY + 24));
        assert_eq!(get64(&message, BODY), HOST_TIME);
        assert_eq!(get64(&message, BODY + 8), 0x1122_3344);
        assert_eq!(message[BODY + 16], flags);
        guest.answer(&message, |_| {}).unwrap();
        let (none, at) = guest.engine.poll(guest.now);
        assert_eq!((none, at), (None, Some(guest.now + PERIOD)));
        guest.pass(PERIOD);
    }
    let status = timesync.status();
    assert_eq!((status.syncs, status.samples, status.answered), (1, 2, 3));
}

#[test]
fn older_guests_get_the_older_message_with_the_round_trip() {
    for version in [TIMESYNC_V1, TIMESYNC_V3] {
        let mut guest = Guest::agree(&Timesync::new(test_clocks()), version);
        for round_trip in [0, 20_000] {
            let message = guest.request();
            // At least `sizeof(struct ictimesync_data)`.
            assert_eq!(message.len(), BODY + 28);
            assert_eq!(get64(&message, BODY), HOST_TIME);
            assert_eq!(get64(&message, BODY + 16), round_trip);
            guest.pass(Duration::from_millis(2));
            guest.answer(&message, |_| {}).unwrap();
            guest.pass(PERIOD);
        }
    }
}

#[test]
fn a_computer_that_was_suspended_sets_the_clock_again() {
    let clocks = test_clocks();
    let timesync = Timesync::new(clocks.clone());
    let mut guest = Guest::agree(&timesync, TIMESYNC_V4);
    let first = guest.request();
    guest.answer(&first, |_| {}).unwrap();
    clocks.suspended_ms.store(400, Ordering::Relaxed);
    assert_eq!(guest.next(), None, "too short to matter");
    clocks.suspended_ms.store(8_000_400, Ordering::Relaxed);
    let message = guest.request();
    assert_eq!(message[BODY + 16], 1, "without waiting for the next sample");
    guest.answer(&message, |_| {}).unwrap();
    guest.pass(PERIOD);
    assert_eq!(guest.request()[BODY + 16], 2);
    assert_eq!(timesync.status().syncs, 2);
}

#[test]
fn a_guest_that_never_answers_gets_a_bounded_number_of_messages() {
    let clocks = test_clocks();
    let timesync = Timesync::new(clocks.clone());
    let mut guest = Guest::agree(&timesync, TIMESYNC_V4);
    let mut messages = Vec::new();
    for _ in 0..20 {
        messages.extend(guest.next());
        guest.pass(PERIOD);
    }
    assert_eq!(messages.len(), 4);
    clocks.suspended_ms.store(1000, Ordering::Relaxed);
    assert_eq!(guest.next(), None);
    guest.answer(&messages[0], |_| {}).unwrap();
    assert_eq!(guest.request()[BODY + 16], 1, "what it missed is still true");
}

#[test]
fn a_guest_that_refuses_is_counted_and_one_that_invents_is_ended() {
    let timesync = Timesync::new(test_clocks());
    let mut guest = Guest::agree(&timesync, TIMESYNC_V4);
    let message = guest.request();
    guest.send(&refusal_of(&message, 0x8000_4005)).unwrap();
    assert_eq!((timesync.status().answered, timesync.status().refused), (0, 1));
    let again = guest.send(&answer_to(&message, |_| {}));
    assert!(matches!(again, Err(IcError::Unexpected { .. })));
}
