//! Heartbeat, shutdown and time synchronisation.

use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

use super::host::{agreed, ask, put32};
use crate::ic::{
    ApplicationState, Clock, Heartbeat, IcError, Shutdown, ShutdownHandler, ShutdownKind,
    ShutdownRequest, TimeSample, Timesync,
};

/// `WLTIMEDELTA`: 1970 in 100 ns since 1601.
const UNIX_EPOCH: u64 = 116_444_736_000_000_000;

#[test]
fn a_heartbeat_comes_back_as_the_next_number() {
    let heartbeat = Heartbeat::new();
    let mut responder = agreed(heartbeat.clone(), (3, 0));
    for (sequence, next) in [(0, 1), (41, 42), (u64::MAX, 0_u64)] {
        let mut body = vec![0x77; 40];
        body[..8].copy_from_slice(&u64::to_le_bytes(sequence));
        let told = ask(&mut responder, 1, &body).unwrap();
        assert_eq!((told.status, &told.body[..8]), (0, &next.to_le_bytes()[..]));
        assert_eq!(told.body[8..12], [0; 4], "nothing is known of the application");
        assert_eq!(told.body[12..], body[12..], "the rest is left alone");
    }
    assert_eq!(heartbeat.beats(), 3);
}

#[test]
fn the_state_of_the_application_is_told_from_version_3_on() {
    for (version, told) in [((1, 0), [0x77; 4]), ((3, 0), [2, 0, 0, 0])] {
        let heartbeat = Heartbeat::new();
        let mut responder = agreed(heartbeat.clone(), version);
        heartbeat.set_application_state(ApplicationState::CRITICAL);
        let answer = ask(&mut responder, 1, &[0x77; 16]).unwrap();
        assert_eq!(answer.body[8..12], told);
    }
}

#[test]
fn a_short_heartbeat_is_answered_as_far_as_it_goes() {
    let mut responder = agreed(Heartbeat::new(), (3, 0));
    let told = ask(&mut responder, 1, &[5, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(told.body, [6, 0, 0, 0, 0, 0, 0, 0]);
    let error = ask(&mut responder, 1, &[5; 7]);
    assert_eq!(error, Err(IcError::MessageShort { present: 7, needed: 8 }));
}

/// Notes what it is asked and told.
#[derive(Clone, Default)]
struct Notes {
    will: bool,
    asked: Arc<Mutex<Vec<ShutdownRequest>>>,
    ended: Arc<Mutex<Vec<ShutdownRequest>>>,
}

impl ShutdownHandler for Notes {
    fn accepts(&mut self, request: &ShutdownRequest) -> bool {
        self.asked.lock().unwrap().push(*request);
        self.will
    }

    fn end(&mut self, request: ShutdownRequest) {
        self.ended.lock().unwrap().push(request);
    }
}

/// `struct shutdown_msg_data`.
fn shutdown_message(flags: u32) -> Vec<u8> {
    let mut body = vec![0; 12 + 2048];
    put32(&mut body, 0, 0x8000_0000);
    put32(&mut body, 4, 90);
    put32(&mut body, 8, flags);
    body
}

#[test]
fn the_kernel_ends_once_the_host_knows() {
    use crate::ic::Service;
    for (flags, kind, force) in [
        (0, ShutdownKind::PowerOff, false),
        (1, ShutdownKind::PowerOff, true),
        (2, ShutdownKind::Restart, false),
        (3, ShutdownKind::Restart, true),
        (4, ShutdownKind::Hibernate, false),
        (5, ShutdownKind::Hibernate, true),
    ] {
        let notes = Notes { will: true, ..Notes::default() };
        let mut responder = agreed(Shutdown::new(notes.clone()), (3, 2));
        assert_eq!(ask(&mut responder, 3, &shutdown_message(flags)).unwrap().status, 0);
        assert!(notes.ended.lock().unwrap().is_empty(), "not before the answer is on its way");
        responder.service().answered();
        responder.service().answered();
        let request = ShutdownRequest { kind, force, reason: 0x8000_0000, timeout_seconds: 90 };
        assert_eq!(*notes.ended.lock().unwrap(), [request], "and once");
    }
}

#[test]
fn what_the_kernel_or_nobody_understands_is_refused() {
    use crate::ic::Service;
    let notes = Notes::default();
    let mut responder = agreed(Shutdown::new(notes.clone()), (3, 2));
    assert_eq!(ask(&mut responder, 3, &shutdown_message(0)).unwrap().status, 0x8000_4005);
    for flags in [6, 7, 8, 0x8000_0000, u32::MAX] {
        assert_eq!(ask(&mut responder, 3, &shutdown_message(flags)).unwrap().status, 0x8000_4005);
    }
    responder.service().answered();
    assert_eq!(notes.asked.lock().unwrap().len(), 1);
    assert!(notes.ended.lock().unwrap().is_empty());
}

#[test]
fn a_shutdown_without_its_text_is_enough_and_less_is_not() {
    let notes = Notes { will: true, ..Notes::default() };
    let mut responder = agreed(Shutdown::new(notes), (1, 0));
    assert_eq!(ask(&mut responder, 3, &[0; 12]).unwrap().status, 0);
    let error = ask(&mut responder, 3, &[0; 11]);
    assert_eq!(error, Err(IcError::MessageShort { present: 11, needed: 12 }));
}

#[derive(Clone, Default)]
struct TestClock(Arc<Mutex<Vec<TimeSample>>>);

impl Clock for TestClock {
    fn reference_100ns(&self) -> u64 {
        5_000
    }

    fn sample(&mut self, sample: TimeSample) {
        self.0.lock().unwrap().push(sample);
    }
}

/// Numbers one after the other, and bytes behind them.
fn time_message(numbers: &[u64], tail: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
    body.extend(tail);
    body
}

fn sampled(version: (u16, u16), message: &[u8]) -> Result<TimeSample, IcError> {
    let clock = TestClock::default();
    let mut responder = agreed(Timesync::new(clock.clone()), version);
    assert_eq!(ask(&mut responder, 4, message)?.status, 0);
    let samples = clock.0.lock().unwrap();
    assert_eq!(samples.len(), 1);
    Ok(samples[0])
}

#[test]
fn new_samples_say_of_which_moment_they_are() {
    // struct ictimesync_ref_data: 22 bytes in Linux, 24 in OpenVMM.
    for length in [22, 24] {
        let mut message = time_message(&[UNIX_EPOCH + 70_000, 60_000], &[1, 0, 0, 0, 0, 0, 0, 0]);
        message.truncate(length);
        let sample = sampled((4, 0), &message).unwrap();
        let golden =
            TimeSample { unix_offset_100ns: 10_000, reference_100ns: 60_000, set_clock: true };
        assert_eq!(sample, golden);
        assert_eq!(sample.unix_time_100ns(60_005), 70_005);
    }
}

#[test]
fn old_samples_are_of_now_and_of_half_a_round_trip_ago() {
    // struct ictimesync_data: 25 bytes in Linux, 28 in OpenVMM.
    for (version, length) in [((1, 0), 25), ((3, 0), 28)] {
        let mut message = time_message(&[UNIX_EPOCH + 70_000, 0, 200], &[2, 0, 0, 0]);
        message.truncate(length);
        let sample = sampled(version, &message).unwrap();
        let golden =
            TimeSample { unix_offset_100ns: 65_100, reference_100ns: 5_000, set_clock: false };
        assert_eq!(sample, golden);
    }
}

#[test]
fn messages_that_are_too_short_or_of_no_time_are_refused() {
    let short = |present, needed| Err(IcError::MessageShort { present, needed });
    assert_eq!(sampled((4, 0), &[0; 21]), short(21, 22));
    assert_eq!(sampled((3, 0), &[0; 24]), short(24, 25));
    let tail = [0; 8];
    let time = |host, reference| sampled((4, 0), &time_message(&[host, reference], &tail));
    assert_eq!(time(u64::MAX, 0), Err(IcError::Time(u64::MAX)));
    assert_eq!(time(UNIX_EPOCH, 1 << 63), Err(IcError::Time(1 << 63)));
    assert_eq!(time(0, i64::MAX as u64), Err(IcError::Time(0)));
    let old = sampled((1, 0), &time_message(&[u64::MAX - 1, 0, 4], &tail));
    assert_eq!(old, Err(IcError::Time(u64::MAX - 1)));
    // Before 1970 there is nothing, but it is no crime.
    let sample = time(0, 0).unwrap();
    assert_eq!(sample.unix_time_100ns(0), 0);
}
