//! Flushes as the hypervisor sees them asked for, byte by byte as in the TLFS, and what it may answer.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU16, Ordering};

use hv_abi::tlb::HvGvaPageSize;
use proptest::prelude::*;

use super::*;
use crate::cpu::fake::FakeCpu;
use crate::test_calls::{BUFFER_GPA, buffer, enabled, registers, words};
use crate::vp_set::VpSet;

const BOTH: Recommendations =
    Recommendations::REMOTE_TLB_FLUSH.union(Recommendations::EX_PROCESSOR_MASKS);
const XMM: Features = Features::HYPERCALL_XMM_INPUT;
const SPACE: AddressSpace = AddressSpace::Cr3(0x1234_5000);

type Flush = TlbFlush<&'static FakeCpu>;

fn flush(features: Features, recommendations: Recommendations) -> (&'static FakeCpu, Flush) {
    let (cpu, hv, calls) = enabled(features, recommendations);
    (cpu, TlbFlush::new(&hv, &calls).unwrap())
}

fn set(indices: &[u32]) -> VpSet {
    VpSet::from_indices(indices.iter().copied()).unwrap()
}

fn pages(start: u64, pages: u64) -> PageRange {
    PageRange { start, pages }
}

fn list(count: u64) -> Vec<HvGvaRange> {
    (0..count).map(|n| HvGvaRange::new(n << 20, 1)).collect()
}

#[test]
fn nothing_is_flushed_this_way_unless_recommended() {
    for bits in [Recommendations::empty(), Recommendations::LOCAL_TLB_FLUSH] {
        let (_, hv, calls) = enabled(XMM, bits);
        assert!(TlbFlush::new(&hv, &calls).is_none());
    }
    let (_, remote) = flush(XMM, Recommendations::REMOTE_TLB_FLUSH);
    assert!(!remote.is_for_local());
    let both = Recommendations::REMOTE_TLB_FLUSH | Recommendations::LOCAL_TLB_FLUSH;
    assert!(flush(XMM, both).1.is_for_local());
}

#[test]
fn a_few_pages_are_one_range_in_registers() {
    let (cpu, flush) = flush(XMM, BOTH);
    let targets = set(&[1, 2]);
    flush.flush_pages(SPACE, Targets::Set(&targets), pages(0x7000_0123, 3), None).unwrap();
    let call = cpu.calls()[0];
    // Call code 0x0003, fast, one repetition.
    assert_eq!((call.rcx, call.xmm), (0x1_0001_0003, true));
    assert_eq!(registers(&call)[..5], [0x1234_5000, 0, 0b110, 0x7000_0002, 0]);
}

#[test]
fn without_xmm_the_same_goes_in_memory() {
    let (cpu, flush) = flush(Features::empty(), BOTH);
    let (mut buffer, targets) = (buffer(), set(&[1, 2]));
    let buffers = Some(&mut buffer);
    flush.flush_pages(SPACE, Targets::Set(&targets), pages(0x7000_0000, 3), buffers).unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.general), (0x1_0000_0003, [BUFFER_GPA, 0]));
    assert_eq!(words(&buffer, 4), [0x1234_5000, 0, 0b110, 0x7000_0002]);
    let error = flush.flush_pages(SPACE, Targets::Set(&targets), pages(0, 1), None);
    assert_eq!(error, Err(FlushError::Call(CallError::NoBuffer)));
}

#[test]
fn a_kernel_can_keep_its_xmm_registers_to_itself() {
    let (cpu, hv, calls) = enabled(XMM | Features::HYPERCALL_XMM_OUTPUT, BOTH);
    let flush = TlbFlush::new(&hv, &calls.without_xmm()).unwrap();
    let (mut buffer, targets) = (buffer(), set(&[1]));
    let refused = flush.flush_pages(SPACE, Targets::Set(&targets), pages(0, 1), None);
    assert_eq!(refused, Err(FlushError::Call(CallError::NoBuffer)));
    let buffers = Some(&mut buffer);
    flush.flush_pages(SPACE, Targets::Set(&targets), pages(0, 1), buffers).unwrap();
    assert_eq!(cpu.calls().len(), 1);
    assert!(!cpu.calls()[0].xmm);
}

#[test]
fn everything_everywhere_is_two_flags() {
    let (cpu, flush) = flush(XMM, Recommendations::REMOTE_TLB_FLUSH);
    flush.flush_space(AddressSpace::All, Targets::All, Globals::Flush, None).unwrap();
    flush.flush_space(SPACE, Targets::All, Globals::MayStay, None).unwrap();
    let calls = cpu.calls();
    assert_eq!((calls[0].rcx, calls[1].rcx), (0x1_0002, 0x1_0002));
    assert_eq!(registers(&calls[0])[..4], [0, 0b011, 0, 0]);
    assert_eq!(registers(&calls[1])[..4], [0x1234_5000, 0b101, 0, 0]);
}

#[test]
fn an_address_space_is_cr3_without_its_other_bits() {
    let (cpu, flush) = flush(XMM, BOTH);
    let cr3 = AddressSpace::Cr3(0x8000_0000_1234_5FFF);
    flush.flush_space(cr3, Targets::All, Globals::Flush, None).unwrap();
    assert_eq!(cpu.calls()[0].registers.general[0], 0x1234_5000);
}

#[test]
fn high_indices_take_the_ex_calls_and_a_sparse_set() {
    let (cpu, flush) = flush(XMM, BOTH);
    let targets = set(&[5, 64]);
    let targets = Targets::Set(&targets);
    flush.flush_pages(SPACE, targets, pages(0x9000, 1), None).unwrap();
    flush.flush_space(SPACE, targets, Globals::Flush, None).unwrap();
    let calls = cpu.calls();
    // Call codes 0x0014 with one repetition and 0x0013; two banks of variable header; fast.
    assert_eq!((calls[0].rcx, calls[1].rcx), (0x1_0005_0014, 0x5_0013));
    assert_eq!(registers(&calls[0])[..7], [0x1234_5000, 0, 0, 0b11, 0x20, 0x1, 0x9000]);
    assert_eq!(registers(&calls[1])[..7], [0x1234_5000, 0, 0, 0b11, 0x20, 0x1, 0]);
}

#[test]
fn without_ex_high_indices_are_refused() {
    let (cpu, flush) = flush(XMM, Recommendations::REMOTE_TLB_FLUSH);
    let targets = set(&[64]);
    let result = flush.flush_pages(SPACE, Targets::Set(&targets), pages(0, 1), None);
    assert_eq!(result, Err(FlushError::NeedsEx));
    assert!(cpu.calls().is_empty());
}

#[test]
fn nobody_is_flushed_without_a_call() {
    // To some hypervisors a mask without processors means all of them.
    let (cpu, flush) = flush(XMM, BOTH);
    let nobody = VpSet::new();
    let nobody = Targets::Set(&nobody);
    flush.flush_space(SPACE, nobody, Globals::Flush, None).unwrap();
    flush.flush_pages(SPACE, nobody, pages(0, 1), None).unwrap();
    flush.flush_pages(SPACE, Targets::All, pages(0, 0), None).unwrap();
    assert!(cpu.calls().is_empty());
}

#[test]
fn long_lists_go_in_as_many_calls_as_fit_in_a_page() {
    let (cpu, flush) = flush(XMM, BOTH);
    let mut buffer = buffer();
    let list = list(1100);
    let simple = RangeFormat::Simple;
    flush.flush_list(SPACE, Targets::All, simple, &list, Some(&mut buffer)).unwrap();
    let counts: Vec<_> =
        cpu.calls().iter().map(|call| HypercallInput(call.rcx).rep_count()).collect();
    // A page of 512 words: three of header, 509 ranges. The last call has the rest.
    assert_eq!(counts, [509, 509, 82]);
    assert_eq!(words(&buffer, 85)[3..], (1018..1100).map(|n| n << 20).collect::<Vec<u64>>());
    assert!(cpu.calls().iter().all(|call| call.registers.general == [BUFFER_GPA, 0]));
}

#[test]
fn without_a_buffer_long_lists_go_eleven_ranges_at_a_time() {
    let (cpu, flush) = flush(XMM, BOTH);
    let list = list(25);
    flush.flush_list(SPACE, Targets::All, RangeFormat::Simple, &list, None).unwrap();
    let counts: Vec<_> =
        cpu.calls().iter().map(|call| HypercallInput(call.rcx).rep_count()).collect();
    assert_eq!(counts, [11, 11, 3]);
    assert_eq!(registers(&cpu.calls()[2])[3..7], [22 << 20, 23 << 20, 24 << 20, 0]);
}

#[test]
fn banks_take_room_from_the_list() {
    let (cpu, flush) = flush(XMM, BOTH);
    let targets = VpSet::from_indices((0..64).map(|bank| bank * 64)).unwrap();
    let (mut buffer, list) = (buffer(), list(500));
    let simple = RangeFormat::Simple;
    flush.flush_list(SPACE, Targets::Set(&targets), simple, &list, Some(&mut buffer)).unwrap();
    let counts: Vec<_> =
        cpu.calls().iter().map(|call| HypercallInput(call.rcx).rep_count()).collect();
    // 512 words: four of header, 64 banks, 444 ranges.
    assert_eq!(counts, [444, 56]);
    // So many banks that registers have no room for a range.
    let result = flush.flush_list(SPACE, Targets::Set(&targets), simple, &list, None);
    assert_eq!(result, Err(FlushError::Call(CallError::NoBuffer)));
}

#[test]
fn very_many_pages_flush_the_address_space_instead() {
    let (cpu, flush) = flush(XMM, BOTH);
    let mut buffer = buffer();
    let most = 32 * 4096;
    for (pages, code) in [(most, 3), (most + 1, 2), (u64::MAX, 2)] {
        let range = PageRange { start: 0x1000, pages };
        flush.flush_pages(SPACE, Targets::All, range, Some(&mut buffer)).unwrap();
        assert_eq!(HypercallInput(cpu.calls().last().unwrap().rcx).code(), code, "{pages}");
    }
}

#[test]
fn large_pages_are_used_where_they_are_offered_and_shorter() {
    let (cpu, flush) = flush(XMM | Features::EXTENDED_GVA_RANGES, BOTH);
    // 1 GiB and a page on each side: 65 simple ranges, 3 extended ones.
    let range = pages((1 << 30) - 0x1000, (1 << 18) + 2);
    flush.flush_pages(SPACE, Targets::All, range, None).unwrap();
    let call = cpu.calls()[0];
    assert_eq!(HypercallInput(call.rcx).rep_count(), 3);
    assert_eq!(
        registers(&call)[..6],
        [0x1234_5000, 0b1001, 0, 0x3FFF_F000, 0x4000_09FF, 0x8000_0000]
    );
    // A single page is the same in both formats, and needs no flag.
    flush.flush_pages(SPACE, Targets::All, pages(0x5000, 1), None).unwrap();
    assert_eq!(registers(&cpu.calls()[1])[1..4], [0b0001, 0, 0x5000]);
}

#[test]
fn a_list_that_stops_in_the_middle_is_continued() {
    let (cpu, flush) = flush(XMM, BOTH);
    cpu.on_call(|call| u64::from((HypercallInput(call.rcx).rep_start() + 3).min(8)) << 32);
    flush.flush_list(SPACE, Targets::All, RangeFormat::Simple, &list(8), None).unwrap();
    let starts: Vec<_> =
        cpu.calls().iter().map(|call| HypercallInput(call.rcx).rep_start()).collect();
    assert_eq!(starts, [0, 3, 6]);
    // The registers hold the whole list each time.
    assert!(cpu.calls().iter().all(|call| registers(call)[3..] == registers(&cpu.calls()[0])[3..]));
}

#[test]
fn impossible_progress_ends_a_flush() {
    for answers in [vec![0], vec![9], vec![4, 3], vec![4, 4], vec![0xFFF]] {
        let (cpu, flush) = flush(XMM, BOTH);
        let (next, answers) = (AtomicU16::new(0), answers.clone());
        cpu.on_call(move |_| {
            let index = usize::from(next.fetch_add(1, Ordering::SeqCst));
            answers.get(index).copied().unwrap_or(8) << 32
        });
        let result = flush.flush_list(SPACE, Targets::All, RangeFormat::Simple, &list(8), None);
        assert_eq!(result, Err(FlushError::Call(CallError::BadResult)));
    }
}

#[test]
fn a_refusal_ends_a_flush() {
    let (cpu, flush) = flush(XMM, BOTH);
    cpu.on_call(|_| 6);
    let refused = Err(FlushError::Call(CallError::Status(HvError::ACCESS_DENIED)));
    assert_eq!(flush.flush_pages(SPACE, Targets::All, pages(0, 1), None), refused);
    assert_eq!(flush.flush_space(SPACE, Targets::All, Globals::Flush, None), refused);
    assert_eq!(cpu.calls().len(), 2);
}

#[test]
fn the_address_space_is_switched_only_where_recommended() {
    let (_, hv, calls) = enabled(XMM, !Recommendations::AS_SWITCH);
    assert!(AddressSpaceSwitch::new(&hv, &calls).is_none());
    let (cpu, hv, calls) = enabled(XMM, Recommendations::AS_SWITCH);
    let switch = AddressSpaceSwitch::new(&hv, &calls).unwrap();
    // SAFETY: the fake has no address space.
    unsafe { switch.switch(0x1234_5018) }.unwrap();
    let call = cpu.calls()[0];
    assert_eq!((call.rcx, call.registers.general), (0x1_0001, [0x1234_5018, 0]));
}

/// Pages that an element stands for, by the TLFS and the format's own definition.
fn pages_of(range: HvGvaRange, format: RangeFormat) -> core::ops::Range<u64> {
    let (first, count, size) = match format {
        RangeFormat::Simple => (range.0 >> 12, (range.0 & 0xFFF) + 1, 1),
        RangeFormat::Extended if range.0 & 0x800 == 0 => (range.0 >> 12, (range.0 & 0x7FF) + 1, 1),
        RangeFormat::Extended => {
            assert_eq!(range.0 & 0x1F_F000, 0, "2 MiB, reserved bits zero");
            (range.0 >> 21 << 9, (range.0 & 0x7FF) + 1, 512)
        }
    };
    first..first + count * size
}

proptest! {
    #[test]
    fn ranges_cover_each_page_once(start in any::<u64>(), count in 0_u64..100_000_000, offered: bool) {
        let ranges = Ranges::new(PageRange { start, pages: count }, offered);
        let format = ranges.format();
        prop_assert!(offered || format == RangeFormat::Simple);
        let mut next = start >> 12;
        let end = (next + count).min(1 << 52);
        let mut elements = 0;
        for range in ranges.clone() {
            let covered = pages_of(range, format);
            prop_assert_eq!(covered.start, next);
            next = covered.end;
            elements += 1;
        }
        prop_assert_eq!(next, end);
        prop_assert_eq!(elements, ranges.len());
    }

    #[test]
    fn any_result_values_at_all_are_survived(results in proptest::collection::vec(any::<u64>(), 1..8)) {
        let (cpu, flush) = flush(XMM, BOTH);
        let (next, values) = (AtomicU16::new(0), results);
        cpu.on_call(move |_| values[usize::from(next.fetch_add(1, Ordering::SeqCst)) % values.len()]);
        let _any = flush.flush_list(SPACE, Targets::All, RangeFormat::Simple, &list(40), None);
        let _any = flush.flush_space(SPACE, Targets::All, Globals::Flush, None);
        prop_assert!(cpu.calls().len() <= 42);
    }
}

#[test]
fn a_large_page_is_named_by_its_number() {
    assert_eq!(HvGvaRange::extended(0x60_0000, 1, HvGvaPageSize::Large).0, 0x60_0800);
}
