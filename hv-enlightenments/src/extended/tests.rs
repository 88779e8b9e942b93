//! Extended calls against a hypervisor that answers in memory, too much, or with nonsense.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use hv_abi::cpuid::Features;
use hv_abi::hypercall::HvError;
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::{FakeCall, FakeCpu};
use crate::memory::{HvPage, MappedPage};
use crate::{GuestOsId, HypercallPage};

type Fake = &'static FakeCpu;

/// A page whose guest-physical address is its address, so that the fake hypervisor can write to it.
fn page() -> MappedPage {
    let memory: NonNull<u8> = NonNull::from(Box::leak(Box::new(HvPage::new()))).cast();
    // SAFETY: the page is leaked to the value.
    unsafe { MappedPage::new(memory, Gpa(memory.addr().get() as u64)) }.unwrap()
}

/// A hypervisor that answers the calls with these words, behind each other in its output.
fn machine(
    privileges: Privileges,
    answer: impl Fn(u16) -> Vec<u64> + Send + Sync + 'static,
) -> (Fake, HypercallPage<Fake>, HyperV, CallBuffer) {
    let cpu: Fake = Box::leak(Box::default());
    cpu.with_hyperv(privileges | Privileges::HYPERCALL, Features::empty(), 0);
    let hv = HyperV::detect(&cpu).unwrap();
    // SAFETY: the fake never runs the page.
    let calls =
        unsafe { HypercallPage::enable(cpu, &hv, GuestOsId::open_source(0, 0), &page()) }.unwrap();
    cpu.on_call(move |call: &FakeCall| {
        let output =
            core::ptr::with_exposed_provenance_mut::<u64>(call.registers.general[1] as usize);
        for (index, word) in answer(call.rcx as u16).into_iter().enumerate() {
            // SAFETY: the output lies in the buffer's page, whose address is its guest-physical one, and the answers
            // of these tests fit in it.
            unsafe { output.wrapping_add(index).write(word) };
        }
        call.rcx & 0x0FFF_0000_0000
    });
    (cpu, calls, hv, CallBuffer::new(page()))
}

const ALL: u64 = 0x103;

fn extended(
    zeroed: impl Fn() -> Vec<u64> + Send + Sync + 'static,
) -> (Fake, ExtendedCalls<Fake>, CallBuffer) {
    let answer = move |code| if code == 0x8001 { alloc::vec![ALL] } else { zeroed() };
    let (cpu, calls, hv, mut buffer) = machine(Privileges::EXTENDED_HYPERCALLS, answer);
    let extended = ExtendedCalls::query(&calls, &hv, &mut buffer).unwrap();
    (cpu, extended, buffer)
}

#[test]
fn capabilities_are_asked_for_in_memory() {
    let (cpu, extended, _) = extended(Vec::new);
    assert_eq!(extended.capabilities().bits(), ALL);
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.general[0]), (0x8001, 0), "simple, without input");
}

#[test]
fn without_the_privilege_nothing_is_called() {
    let (cpu, calls, hv, mut buffer) = machine(Privileges::empty(), |_| Vec::new());
    let error = ExtendedCalls::query(&calls, &hv, &mut buffer).unwrap_err();
    assert_eq!(error, ExtendedError::NotOffered);
    assert!(cpu.calls().is_empty());
}

#[test]
fn without_a_capability_its_call_is_not_made() {
    let (cpu, calls, hv, mut buffer) =
        machine(Privileges::EXTENDED_HYPERCALLS, |_| alloc::vec![!ALL]);
    let extended = ExtendedCalls::query(&calls, &hv, &mut buffer).unwrap();
    assert_eq!(extended.boot_zeroed(&mut buffer).unwrap_err(), ExtendedError::NotOffered);
    // SAFETY: there is no memory behind the fake.
    let discarded = unsafe { extended.discard(&mut buffer, &[0..1, 3..4]) };
    assert_eq!(discarded, Err(ExtendedError::NotOffered));
    assert_eq!(cpu.calls().len(), 1);
}

#[test]
fn a_failed_query_is_told() {
    let (cpu, calls, hv, mut buffer) = machine(Privileges::EXTENDED_HYPERCALLS, |_| Vec::new());
    cpu.on_call(|_| 2);
    let error = ExtendedCalls::query(&calls, &hv, &mut buffer).unwrap_err();
    let expected = CallError::Status(HvError::INVALID_HYPERCALL_CODE);
    assert_eq!(error, ExtendedError::Call(expected));
}

#[test]
fn zeroed_ranges_are_in_bytes_and_only_those_that_count() {
    let (_, extended, mut buffer) = extended(|| alloc::vec![2, 0x100, 2, 0x400, 1, 0x999, 9]);
    let ranges: Vec<_> = extended.boot_zeroed(&mut buffer).unwrap().collect();
    assert_eq!(ranges, [Gpa(0x10_0000)..Gpa(0x10_2000), Gpa(0x40_0000)..Gpa(0x40_1000)]);
}

#[test]
fn too_many_ranges_are_a_bad_answer() {
    for count in [256, u64::MAX] {
        let (_, extended, mut buffer) = extended(move || alloc::vec![count]);
        let error = extended.boot_zeroed(&mut buffer).unwrap_err();
        assert_eq!(error, ExtendedError::BadAnswer);
    }
}

#[test]
fn ranges_without_an_end_are_left_out() {
    let (_, extended, mut buffer) =
        extended(|| alloc::vec![4, u64::MAX, 1, 1 << 52, 1, 5, 0, 7, 1]);
    let ranges: Vec<_> = extended.boot_zeroed(&mut buffer).unwrap().collect();
    assert_eq!(ranges, [Gpa(0x7000)..Gpa(0x8000)]);
}

#[test]
fn free_memory_is_told_in_one_call_with_its_ranges() {
    let (cpu, extended, mut buffer) = extended(Vec::new);
    let seen = alloc::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = seen.clone();
    cpu.on_call(move |call| {
        let input = core::ptr::with_exposed_provenance::<u64>(call.registers.general[0] as usize);
        // SAFETY: header and two elements lie in the buffer's page, whose address is its guest-physical one.
        let words = (0..3).map(|n| unsafe { input.wrapping_add(n).read() }).collect::<Vec<_>>();
        note.lock().unwrap().push((call.rcx, words));
        call.rcx & 0x0FFF_0000_0000
    });
    // SAFETY: there is no memory behind the fake.
    let told = unsafe { extended.discard(&mut buffer, &[1..2, 8..16]) };
    assert_eq!(told, Ok(()));
    let first = 1 << 21 | 1 << 11;
    let second = 8 << 21 | 1 << 11 | 7;
    assert_eq!(*seen.lock().unwrap(), [(2 << 32 | 0x8003, alloc::vec![2, first, second])]);
}

#[test]
fn ranges_that_cannot_be_told_are_refused_before_the_call() {
    let (cpu, extended, mut buffer) = extended(Vec::new);
    let before = cpu.calls().len();
    let too_many: Vec<_> = (0..33).map(|n| n..n + 1).collect();
    let (backwards, too_long) = (Range { start: 2, end: 1 }, 0..4096);
    let with = |range| alloc::vec![0..1, range];
    for ranges in [Vec::new(), too_many, with(backwards), with(too_long)] {
        // SAFETY: there is no memory behind the fake.
        let refused = unsafe { extended.discard(&mut buffer, &ranges) };
        assert_eq!(refused, Err(ExtendedError::BadRanges));
    }
    assert_eq!(cpu.calls().len(), before);
}

proptest! {
    #[test]
    fn any_answer_gives_aligned_ranges_or_an_error(words in prop::collection::vec(any::<u64>(), 1..500)) {
        let (_, extended, mut buffer) = extended(move || words.clone());
        if let Ok(ranges) = extended.boot_zeroed(&mut buffer) {
            for range in ranges {
                prop_assert!(range.start < range.end);
                prop_assert!(range.start.is_page_aligned() && range.end.is_page_aligned());
            }
        }
    }

    #[test]
    fn any_ranges_are_found_as_many_as_were_said(count in 0..=255_u64, pages in 1..100_u64) {
        let (_, extended, mut buffer) = extended(move || {
            let mut words = alloc::vec![count];
            (0..count).for_each(|n| words.extend([n, pages]));
            words
        });
        prop_assert_eq!(extended.boot_zeroed(&mut buffer).unwrap().count() as u64, count);
    }
}
