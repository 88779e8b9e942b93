//! The controller against a hypervisor that queues messages, lies about sizes and refuses registers.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use std::sync::Mutex;

use hv_abi::cpuid::Features;
use hv_abi::synic::HvMessageType;
use proptest::prelude::*;

use super::message::Slot;
use super::*;
use crate::cpu::fake::FakeCpu;

const PAGES_GPA: Gpa = Gpa(0x8000);
const GUEST_MESSAGE: u32 = 7;

fn cpu_with(privileges: Privileges) -> (&'static FakeCpu, HyperV) {
    let cpu: &'static FakeCpu = Box::leak(Box::default());
    cpu.with_hyperv(privileges, Features::empty(), 0);
    (cpu, HyperV::detect(cpu).unwrap())
}

fn pages() -> &'static SynicPages {
    Box::leak(Box::default())
}

fn enabled() -> (&'static FakeCpu, Synic<&'static FakeCpu>) {
    let (cpu, hv) = cpu_with(Privileges::SYNIC);
    // SAFETY: no hypervisor is there to write to the address.
    let synic = unsafe { Synic::enable(cpu, &hv, pages(), PAGES_GPA) }.unwrap();
    (cpu, synic)
}

fn sint(number: u8) -> Sint {
    Sint::new(number).unwrap()
}

fn slot(synic: &Synic<&'static FakeCpu>, sint: Sint) -> &'static Slot {
    &synic.pages().messages.0[sint.index()]
}

/// Delivers as the hypervisor does: into an empty slot, else says that one is pending. Whether it fitted.
fn deliver(slot: &Slot, message_type: u32, payload: &[u8]) -> bool {
    if slot.message_type.load(Ordering::SeqCst) != 0 {
        let flags = slot.size_and_flags.load(Ordering::SeqCst) | 1 << 8;
        slot.size_and_flags.store(flags, Ordering::SeqCst);
        return false;
    }
    fill(slot, message_type, payload.len() as u8, payload);
    true
}

fn fill(slot: &Slot, message_type: u32, payload_size: u8, payload: &[u8]) {
    for (word, bytes) in slot.payload.iter().zip(payload.chunks(8)) {
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(value), Ordering::SeqCst);
    }
    slot.sender.store(99, Ordering::SeqCst);
    slot.size_and_flags.store(payload_size.into(), Ordering::SeqCst);
    slot.message_type.store(message_type, Ordering::SeqCst);
}

/// Queues messages for one slot and delivers one at a time, at each EOM.
fn queue(cpu: &FakeCpu, slot: &'static Slot, messages: impl IntoIterator<Item = Vec<u8>>) {
    let waiting: VecDeque<_> = messages.into_iter().collect();
    let waiting = Arc::new(Mutex::new(waiting));
    let serve = move || {
        let mut waiting = waiting.lock().unwrap();
        while let Some(next) = waiting.front() {
            if !deliver(slot, GUEST_MESSAGE, next) {
                break;
            }
            waiting.pop_front();
        }
    };
    serve();
    cpu.on_wrmsr(move |msr, value| {
        if msr == HV_X64_MSR_EOM {
            serve();
        }
        value
    });
}

#[test]
fn enabling_masks_all_sources_and_names_the_pages() {
    let (cpu, hv) = cpu_with(Privileges::SYNIC);
    cpu.set_msr(HV_X64_MSR_SINT0 + 3, 0x55);
    cpu.set_msr(HV_X64_MSR_SINT0 + 15, 0x66);
    // SAFETY: no hypervisor is there to write to the address.
    unsafe { Synic::enable(cpu, &hv, pages(), PAGES_GPA) }.unwrap();
    let expected = [
        (HV_X64_MSR_SINT0 + 3, 0x1_0055),
        (HV_X64_MSR_SINT0 + 15, 0x1_0066),
        (HV_X64_MSR_SIMP, 0x8001),
        (HV_X64_MSR_SIEFP, 0x9001),
        (HV_X64_MSR_SCONTROL, 1),
    ];
    assert_eq!(cpu.msr_writes(), expected, "the controller itself comes last");
}

#[test]
fn reserved_bits_are_kept() {
    let (cpu, hv) = cpu_with(Privileges::SYNIC);
    cpu.set_msr(HV_X64_MSR_SIMP, 0xAAAA_AAFE);
    cpu.set_msr(HV_X64_MSR_SIEFP, 0x10);
    cpu.set_msr(HV_X64_MSR_SCONTROL, 0xF0);
    cpu.set_msr(HV_X64_MSR_SINT0 + 2, 0xFF00_0000_0001_1200);
    // SAFETY: no hypervisor is there to write to the address.
    let synic = unsafe { Synic::enable(cpu, &hv, pages(), PAGES_GPA) }.unwrap();
    synic.connect(sint(2), 0x50).unwrap();
    // SAFETY: a register of the fake.
    let read = |msr| unsafe { cpu.rdmsr(msr) };
    assert_eq!(read(HV_X64_MSR_SIMP), 0x8AFF);
    assert_eq!(read(HV_X64_MSR_SIEFP), 0x9011);
    assert_eq!(read(HV_X64_MSR_SCONTROL), 0xF1);
    assert_eq!(synic.sint(sint(2)).0, 0xFF00_0000_0000_1250);
}

#[test]
fn auto_eoi_and_polling_are_never_used_even_if_found() {
    let (cpu, synic) = enabled();
    cpu.set_msr(HV_X64_MSR_SINT0 + 5, 0x7_0020);
    synic.connect(sint(5), 0x61).unwrap();
    assert_eq!(synic.sint(sint(5)).0, 0x61);
}

#[test]
fn without_the_privilege_nothing_is_touched() {
    let (cpu, hv) = cpu_with(Privileges::all() - Privileges::SYNIC);
    // SAFETY: no hypervisor is there to write to the address.
    let error = unsafe { Synic::enable(cpu, &hv, pages(), PAGES_GPA) }.unwrap_err();
    assert_eq!(error, SynicError::NoPrivilege);
    assert!(cpu.msr_reads().is_empty() && cpu.msr_writes().is_empty());
}

#[test]
fn misaligned_or_endless_addresses_are_refused() {
    let (cpu, hv) = cpu_with(Privileges::SYNIC);
    for gpa in [Gpa(0x8008), Gpa(u64::MAX - 0xFFF)] {
        // SAFETY: no hypervisor is there to write to the address.
        let error = unsafe { Synic::enable(cpu, &hv, pages(), gpa) }.unwrap_err();
        assert_eq!(error, SynicError::Misaligned, "{gpa:?}");
    }
    assert!(cpu.msr_writes().is_empty());
}

#[test]
fn a_refused_page_turns_everything_off_again() {
    for refused in [HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP, HV_X64_MSR_SCONTROL] {
        let (cpu, hv) = cpu_with(Privileges::SYNIC);
        cpu.on_wrmsr(move |msr, value| if msr == refused { 0 } else { value });
        // SAFETY: no hypervisor is there to write to the address.
        let error = unsafe { Synic::enable(cpu, &hv, pages(), PAGES_GPA) }.unwrap_err();
        assert_eq!(error, SynicError::Refused { msr: refused, register: 0 });
        for msr in [HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP, HV_X64_MSR_SCONTROL] {
            // SAFETY: a register of the fake.
            assert_eq!(unsafe { cpu.rdmsr(msr) } & 1, 0, "{msr:#x}");
        }
    }
}

#[test]
fn vectors_of_exceptions_and_below_are_refused() {
    let (cpu, synic) = enabled();
    let before = cpu.msr_writes().len();
    for vector in [0, 15, 17, 31] {
        assert_eq!(synic.connect(sint(1), vector), Err(SynicError::BadVector));
    }
    assert_eq!(cpu.msr_writes().len(), before);
    assert_eq!(synic.connect(sint(1), 32), Ok(()));
}

#[test]
fn an_empty_slot_gives_nothing_and_writes_nothing() {
    let (cpu, synic) = enabled();
    let before = cpu.msr_writes().len();
    assert!(synic.take_message(sint(2)).is_none());
    assert_eq!(cpu.msr_writes().len(), before);
}

#[test]
fn a_message_is_copied_and_its_slot_freed_without_eom_if_none_waits() {
    let (cpu, synic) = enabled();
    let slot = slot(&synic, sint(2));
    assert!(deliver(slot, GUEST_MESSAGE, b"hello"));
    let message = synic.take_message(sint(2)).unwrap().unwrap();
    assert_eq!(message.message_type(), HvMessageType(GUEST_MESSAGE));
    assert_eq!((message.payload(), message.sender()), (&b"hello"[..], 99));
    assert_eq!(slot.message_type.load(Ordering::SeqCst), 0);
    assert!(!cpu.msr_writes().iter().any(|write| write.0 == HV_X64_MSR_EOM));
}

#[test]
fn queued_messages_come_one_by_one_in_order() {
    let (cpu, synic) = enabled();
    let messages: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 9]).collect();
    queue(cpu, slot(&synic, sint(4)), messages.clone());
    let mut taken = Vec::new();
    while let Some(message) = synic.take_message(sint(4)) {
        taken.push(message.unwrap().payload().to_vec());
    }
    assert_eq!(taken, messages);
    let eoms = cpu.msr_writes().iter().filter(|write| write.0 == HV_X64_MSR_EOM).count();
    assert_eq!(eoms, 4, "one for each message that waited");
}

#[test]
fn the_slot_is_empty_before_the_hypervisor_is_asked_for_more() {
    let (cpu, synic) = enabled();
    let slot = slot(&synic, sint(3));
    let messages = &synic.pages().messages;
    assert_eq!(messages.message_type(sint(3)), HvMessageType::NONE);
    fill(slot, GUEST_MESSAGE, 0, &[]);
    assert!(!messages.is_pending(sint(3)));
    deliver(slot, GUEST_MESSAGE, &[]);
    assert!(messages.is_pending(sint(3)));
    assert_eq!(messages.message_type(sint(3)).0, GUEST_MESSAGE);
    cpu.on_wrmsr(move |msr, value| {
        if msr == HV_X64_MSR_EOM {
            assert_eq!(slot.message_type.load(Ordering::SeqCst), 0);
        }
        value
    });
    assert!(synic.take_message(sint(3)).is_some());
    assert_eq!(cpu.msr_writes().last(), Some(&(HV_X64_MSR_EOM, 0)));
}

#[test]
fn a_payload_longer_than_a_slot_is_dropped_and_the_next_comes() {
    let (cpu, synic) = enabled();
    let slot = slot(&synic, sint(1));
    for size in [241, 255] {
        fill(slot, GUEST_MESSAGE, size, &[1; 240]);
        deliver(slot, GUEST_MESSAGE, &[]);
        let message = synic.take_message(sint(1)).unwrap();
        assert_eq!(message, Err(Malformed { payload_size: size }));
        assert_eq!(slot.message_type.load(Ordering::SeqCst), 0);
        assert_eq!(cpu.msr_writes().last(), Some(&(HV_X64_MSR_EOM, 0)));
    }
    fill(slot, GUEST_MESSAGE, 240, &[2; 240]);
    assert_eq!(synic.take_message(sint(1)).unwrap().unwrap().payload(), [2; 240]);
}

#[test]
fn sources_do_not_see_each_others_messages_and_flags() {
    let (_, synic) = enabled();
    deliver(slot(&synic, sint(2)), GUEST_MESSAGE, &[]);
    synic.pages().flags.set(sint(2), 0);
    for other in Sint::all().filter(|&other| other != sint(2)) {
        assert!(synic.take_message(other).is_none());
        synic.pages().flags.take(other, |flag| panic!("flag {flag} of {other:?}"));
    }
}

#[test]
fn flags_lie_in_the_page_as_bits_of_bytes() {
    let page: &EventFlagsPage = &pages().flags;
    assert!(page.set(sint(1), 2047));
    assert!(!page.set(sint(1), 2047), "it was set already");
    // SAFETY: a page of atomics that nobody writes now.
    let bytes = unsafe { core::ptr::from_ref(page).cast::<[u8; 4096]>().read() };
    assert_eq!(bytes[256 + 255], 0x80);
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 1);
}

#[test]
fn flags_beyond_the_last_are_never_set() {
    let page = EventFlagsPage::new();
    assert!(!page.set(sint(0), 2048));
    assert!(!page.is_set(sint(0), 2048) && !page.test_and_clear(sint(0), u16::MAX));
}

#[test]
fn flags_set_while_others_are_taken_are_not_lost_and_do_not_hang() {
    let page = EventFlagsPage::new();
    page.set(sint(0), 5);
    let mut first = Vec::new();
    page.take(sint(0), |flag| {
        first.push(flag);
        page.set(sint(0), 5);
    });
    assert_eq!(first, [5]);
    assert!(page.test_and_clear(sint(0), 5));
    assert!(!page.is_set(sint(0), 5));
}

proptest! {
    #[test]
    fn exactly_the_flags_that_were_set_are_taken_in_order(
        flags in prop::collection::btree_set(0_u16..2048, 0..100), source in 0_u8..16,
    ) {
        let page = EventFlagsPage::new();
        let source = sint(source);
        for &flag in &flags {
            page.set(source, flag);
        }
        let mut taken = Vec::new();
        page.take(source, |flag| taken.push(flag));
        prop_assert_eq!(taken, flags.into_iter().collect::<Vec<_>>());
        page.take(source, |flag| panic!("{flag} is still set"));
    }

    #[test]
    fn any_slot_content_is_taken_once_without_a_panic(
        message_type in 1..=u32::MAX, size: u8, payload in prop::collection::vec(any::<u8>(), 240),
    ) {
        let (_, synic) = enabled();
        fill(slot(&synic, sint(9)), message_type, size, &payload);
        match synic.take_message(sint(9)).unwrap() {
            Ok(message) => prop_assert_eq!(message.payload(), &payload[..size.into()]),
            Err(error) => prop_assert!(size > 240 && error.payload_size == size),
        }
        prop_assert!(synic.take_message(sint(9)).is_none());
    }
}
