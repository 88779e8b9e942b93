//! Timers against their registers, and messages that lie.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use hv_abi::msr::{HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT};
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::FakeCpu;
use crate::memory::Gpa;
use crate::synic::{Synic, SynicPages};

const BOTH: Privileges = Privileges::SYNTHETIC_TIMERS.union(Privileges::SYNIC);
const CONFIG_2: u32 = HV_X64_MSR_STIMER0_CONFIG + 4;
const COUNT_2: u32 = HV_X64_MSR_STIMER0_COUNT + 4;

fn cpu_with(privileges: Privileges, features: Features) -> (&'static FakeCpu, HyperV) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(privileges, features, 0);
    (cpu, HyperV::detect(cpu).unwrap())
}

fn sint(number: u8) -> Sint {
    Sint::new(number).unwrap()
}

fn timer(delivery: Delivery) -> (&'static FakeCpu, Stimer<&'static FakeCpu>) {
    let (cpu, hv) = cpu_with(BOTH, Features::STIMER_DIRECT);
    (cpu, Stimer::new(cpu, &hv, 2, delivery).unwrap())
}

#[test]
fn a_one_shot_timer_is_off_while_its_count_changes() {
    let (cpu, timer) = timer(Delivery::Message(sint(3)));
    timer.start_at(1000);
    assert_eq!(cpu.msr_writes(), [(CONFIG_2, 0x3_0000), (COUNT_2, 1000), (CONFIG_2, 0x3_0001)]);
    assert!(timer.is_running());
    assert_eq!(timer.count(), 1000);
}

#[test]
fn a_periodic_timer_says_so_and_may_be_lazy() {
    let (cpu, timer) = timer(Delivery::Direct(0x51));
    timer.start_every(NonZeroU64::new(500).unwrap(), Lateness::CatchUp);
    timer.start_every(NonZeroU64::new(600).unwrap(), Lateness::Lazy);
    let expected = [
        (CONFIG_2, 0x1510),
        (COUNT_2, 500),
        (CONFIG_2, 0x1513),
        (CONFIG_2, 0x1510),
        (COUNT_2, 600),
        (CONFIG_2, 0x1517),
    ];
    assert_eq!(cpu.msr_writes(), expected);
}

#[test]
fn stopping_disables_and_clears_the_count() {
    let (cpu, timer) = timer(Delivery::Message(sint(1)));
    timer.start_at(5);
    timer.stop();
    assert_eq!(cpu.msr_writes()[3..], [(CONFIG_2, 0x1_0000), (COUNT_2, 0)]);
    assert!(!timer.is_running());
}

#[test]
fn a_deadline_costs_one_write() {
    let (cpu, timer) = timer(Delivery::Direct(0x52));
    let timer = timer.into_deadlines();
    let before = cpu.msr_writes().len();
    assert_eq!(cpu.msr_writes()[before - 1], (CONFIG_2, 0x1528), "auto-enable, not yet enabled");
    timer.set(77);
    timer.set(88);
    timer.cancel();
    assert_eq!(cpu.msr_writes()[before..], [(COUNT_2, 77), (COUNT_2, 88), (COUNT_2, 0)]);
}

#[test]
fn a_moment_at_zero_is_in_the_past_and_not_off() {
    let (cpu, timer) = timer(Delivery::Direct(0x52));
    timer.start_at(0);
    assert_eq!(cpu.msr_writes()[1], (COUNT_2, 1));
    timer.into_deadlines().set(0);
    assert_eq!(cpu.msr_writes().last(), Some(&(COUNT_2, 1)));
}

#[test]
fn what_is_not_offered_or_not_allowed_is_refused_without_touching_a_register() {
    let message = Delivery::Message(sint(2));
    let direct = Delivery::Direct(0x50);
    let all = Features::STIMER_DIRECT;
    let none = Features::empty();
    for (privileges, features, index, delivery, error) in [
        (Privileges::SYNIC, all, 0, message, StimerError::NoPrivilege),
        (Privileges::SYNTHETIC_TIMERS, all, 0, message, StimerError::NoPrivilege),
        (BOTH, none, 0, direct, StimerError::NoDirectMode),
        (BOTH, all, 4, message, StimerError::NoSuchTimer),
        (BOTH, all, 0, Delivery::Message(sint(0)), StimerError::BadSource),
        (BOTH, all, 0, Delivery::Direct(15), StimerError::BadVector),
        (BOTH, all, 0, Delivery::Direct(31), StimerError::BadVector),
    ] {
        let (cpu, hv) = cpu_with(privileges, features);
        assert_eq!(Stimer::new(cpu, &hv, index, delivery).unwrap_err(), error);
        assert!(cpu.msr_reads().is_empty() && cpu.msr_writes().is_empty());
    }
}

#[test]
fn direct_mode_does_not_need_the_synic() {
    let (cpu, hv) = cpu_with(Privileges::SYNTHETIC_TIMERS, Features::STIMER_DIRECT);
    assert!(Stimer::new(cpu, &hv, 3, Delivery::Direct(32)).is_ok());
}

/// A message with this type and payload, through a slot.
fn message(message_type: u32, payload: &[u8]) -> Message {
    let (cpu, hv) = cpu_with(BOTH, Features::empty());
    let pages: &'static SynicPages = Box::leak(Box::default());
    // SAFETY: no hypervisor is there to write to the address.
    let synic = unsafe { Synic::enable(cpu, &hv, pages, Gpa(0x1000)) }.unwrap();
    let slot = &pages.messages.0[1];
    for (word, bytes) in slot.payload.iter().zip(payload.chunks(8)) {
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::SeqCst);
    }
    slot.size_and_flags.store(payload.len() as u32, Ordering::SeqCst);
    slot.message_type.store(message_type, Ordering::SeqCst);
    synic.take_message(sint(1)).unwrap().unwrap()
}

const EXPIRED: u32 = 0x8000_0010;
/// As Linux' `struct hv_timer_message_payload` has it: timer 3, expired at 0x102, sent at 0x203.
const PAYLOAD: [u8; 24] = [3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0];

#[test]
fn an_expiration_message_is_read() {
    let expiration = TimerExpiration::from_message(&message(EXPIRED, &PAYLOAD));
    let expected = TimerExpiration { timer: 3, expired_at_100ns: 0x102, delivered_at_100ns: 0x203 };
    assert_eq!(expiration, Some(expected));
}

#[test]
fn messages_of_others_are_not_expirations() {
    assert_eq!(TimerExpiration::from_message(&message(1, &PAYLOAD)), None);
    assert_eq!(TimerExpiration::from_message(&message(0x8000_0000, &PAYLOAD)), None);
}

#[test]
fn a_short_expiration_or_one_of_no_timer_is_dropped() {
    for length in [0, 4, 23] {
        assert_eq!(TimerExpiration::from_message(&message(EXPIRED, &PAYLOAD[..length])), None);
    }
    for timer in [4_u32, 256, u32::MAX] {
        let mut payload = PAYLOAD;
        payload[..4].copy_from_slice(&timer.to_le_bytes());
        assert_eq!(TimerExpiration::from_message(&message(EXPIRED, &payload)), None, "{timer}");
    }
}

proptest! {
    #[test]
    fn any_payload_gives_an_existing_timer_or_none(
        payload in prop::collection::vec(any::<u8>(), 0..=240),
    ) {
        if let Some(expiration) = TimerExpiration::from_message(&message(EXPIRED, &payload)) {
            prop_assert!(expiration.timer < 4 && payload.len() >= 24);
        }
    }
}
