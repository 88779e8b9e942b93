//! Flushing the TLB: each form of the calls makes every target forget, whatever it does meanwhile.
//!
//! In each case all processors have translations of pages, another frame is put behind the pages, the call under test is
//! made, and then every processor must read the new frame's number: a stale translation fails the case.

#![expect(unsafe_code, reason = "makes hypercalls")]

use alloc::vec::Vec;

use hv_abi::cpuid::{Features, Recommendations};
use hv_abi::hypercall::{
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
    HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE, HypercallInput,
};
use hv_abi::tlb::{HvFlushFlags, HvGvaPageSize, HvGvaRange};
use hv_enlightenments::tlb::PageRange;
use kernel::PAGE_SIZE;
use x86_64::registers::control::Cr3;

use super::support::calls::raw;
use super::support::parameters::{
    ALL, SPARSE_4K, everybody, everybody_else, in_memory, in_registers, offered, succeeded,
    succeeded_in_registers,
};
use super::support::{interface, need_features, on_each_vp};
use super::{TestResult, cases, check};
use crate::guest_tests::translations::{Flush, Readers, check_flush};
use crate::machine::{hyperv, shootdown};

const SPACE: &str = "TLFS HvCallFlushVirtualAddressSpace";
const LIST: &str = "TLFS HvCallFlushVirtualAddressList";
const SPACE_EX: &str = "TLFS HvCallFlushVirtualAddressSpaceEx";
const LIST_EX: &str = "TLFS HvCallFlushVirtualAddressListEx";
const XMM_INPUT: &str = "TLFS §3.7.2";

cases!(Memory: [
    flushing_the_space_reaches_every_processor_in_the_mask => SPACE,
    flushing_the_space_reaches_all_processors_by_their_flag => SPACE,
    flushing_all_spaces_ignores_the_address_space => SPACE,
    flushing_non_global_mappings_flushes_those => SPACE,
    flushing_a_list_of_one_page_reaches_every_processor => LIST,
    flushing_a_list_reaches_all_processors_by_their_flag => LIST,
    each_range_of_a_list_is_flushed => LIST,
    a_range_covers_its_additional_pages => LIST,
    a_list_may_fill_a_page => LIST,
    flushing_the_space_takes_a_sparse_set => SPACE_EX,
    flushing_the_space_takes_the_set_of_all => SPACE_EX,
    flushing_a_list_takes_a_sparse_set => LIST_EX,
    flushing_a_list_takes_the_set_of_all => LIST_EX,
    a_sparse_set_may_have_empty_banks => SPACE_EX,
    flushing_the_space_in_xmm_registers_works => XMM_INPUT,
    flushing_a_list_in_xmm_registers_works => XMM_INPUT,
    flushing_the_space_of_a_set_in_xmm_registers_works => XMM_INPUT,
    flushing_a_list_of_a_set_in_xmm_registers_works => XMM_INPUT,
    processors_that_mask_interrupts_are_flushed => SPACE,
    idle_processors_are_flushed => SPACE,
    every_processor_can_flush_at_the_same_time => SPACE,
    extended_ranges_are_flushed => "TLFS §2.4.4, HV_GVA_RANGE",
    the_kernel_flushes_by_hypercall_where_recommended => "TLFS §2.4.5",
    the_librarys_flush_makes_everybody_forget => LIST,
    the_address_space_can_be_switched_by_a_call => "TLFS HvCallSwitchVirtualAddressSpace",
]);

/// The present address space's identity.
pub(super) fn own_space() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// A call in memory; its input is `words`.
pub(super) fn call(input: HypercallInput, words: &[u64], reps: u16) -> TestResult {
    // SAFETY: flushing changes nothing but speed.
    succeeded(unsafe { in_memory(input, words) }?, reps)
}

fn fast_call(input: HypercallInput, words: &[u64], reps: u16) -> TestResult {
    // SAFETY: flushing changes nothing but speed.
    succeeded_in_registers(unsafe { in_registers(input, words) }?, reps)
}

/// Flushes by the plain call for an address space.
fn flush_space(space: u64, flags: HvFlushFlags, mask: u64) -> TestResult {
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE);
    call(input, &[space, flags.bits(), mask], 0)
}

/// Flushes by the plain call for a list of ranges.
pub(super) fn flush_list(flags: HvFlushFlags, mask: u64, ranges: &[u64]) -> TestResult {
    let count = ranges.len() as u16;
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST).with_reps(count, 0);
    call(input, &[&[own_space(), flags.bits(), mask], ranges].concat(), count)
}

/// One range for each page.
fn single_pages(pages: PageRange) -> Vec<u64> {
    (0..pages.pages).map(|page| pages.start + page * PAGE_SIZE).collect()
}

/// Skips unless flushes are recommended, then lets `flush` make busy processors forget.
fn check(pages: u64, flush: Flush) -> TestResult {
    offered(Recommendations::REMOTE_TLB_FLUSH)?;
    check_flush(Readers::Busy, pages, flush)
}

fn check_ex(pages: u64, flush: Flush) -> TestResult {
    offered(Recommendations::EX_PROCESSOR_MASKS)?;
    check(pages, flush)
}

fn check_xmm(pages: u64, flush: Flush) -> TestResult {
    need_features(Features::HYPERCALL_XMM_INPUT)?;
    check(pages, flush)
}

const NO_FLAGS: HvFlushFlags = HvFlushFlags::empty();

fn flushing_the_space_reaches_every_processor_in_the_mask() -> TestResult {
    check(3, |_| flush_space(own_space(), NO_FLAGS, everybody()?))
}

fn flushing_the_space_reaches_all_processors_by_their_flag() -> TestResult {
    check(3, |_| flush_space(own_space(), HvFlushFlags::ALL_PROCESSORS, 0))
}

fn flushing_all_spaces_ignores_the_address_space() -> TestResult {
    check(3, |_| {
        let flags = HvFlushFlags::ALL_PROCESSORS | HvFlushFlags::ALL_VIRTUAL_ADDRESS_SPACES;
        flush_space(0x000F_FFFF_FFFF_F000, flags, 0)
    })
}

fn flushing_non_global_mappings_flushes_those() -> TestResult {
    check(3, |_| {
        let flags = HvFlushFlags::ALL_PROCESSORS | HvFlushFlags::NON_GLOBAL_MAPPINGS_ONLY;
        flush_space(own_space(), flags, 0)
    })
}

fn flushing_a_list_of_one_page_reaches_every_processor() -> TestResult {
    check(1, |pages| flush_list(NO_FLAGS, everybody()?, &single_pages(pages)))
}

fn flushing_a_list_reaches_all_processors_by_their_flag() -> TestResult {
    check(1, |pages| flush_list(HvFlushFlags::ALL_PROCESSORS, 0, &single_pages(pages)))
}

fn each_range_of_a_list_is_flushed() -> TestResult {
    check(7, |pages| {
        let mut ranges = single_pages(pages);
        ranges.reverse();
        flush_list(NO_FLAGS, everybody()?, &ranges)
    })
}

fn a_range_covers_its_additional_pages() -> TestResult {
    check(40, |pages| {
        let range = HvGvaRange::new(pages.start, pages.pages).0;
        flush_list(NO_FLAGS, everybody()?, &[range])
    })
}

fn a_list_may_fill_a_page() -> TestResult {
    check(1, |pages| {
        // A page of 512 words, three of them header; the range that counts is the last one.
        let mut ranges = alloc::vec![1 << 44; 509];
        if let Some(last) = ranges.last_mut() {
            *last = pages.start;
        }
        flush_list(NO_FLAGS, everybody()?, &ranges)
    })
}

/// The parameters of an `Ex` call before its list.
fn header_ex(format: u64, banks: &[u64]) -> Vec<u64> {
    let valid = (1 << banks.len()) - 1;
    [&[own_space(), 0, format, valid], banks].concat()
}

fn space_ex(banks: u16) -> HypercallInput {
    HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX).with_variable_header(banks)
}

fn list_ex(banks: u16, count: u16) -> HypercallInput {
    let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX);
    input.with_variable_header(banks).with_reps(count, 0)
}

fn flushing_the_space_takes_a_sparse_set() -> TestResult {
    check_ex(3, |_| call(space_ex(1), &header_ex(SPARSE_4K, &[everybody()?]), 0))
}

fn flushing_the_space_takes_the_set_of_all() -> TestResult {
    check_ex(3, |_| call(space_ex(0), &header_ex(ALL, &[]), 0))
}

fn flushing_a_list_takes_a_sparse_set() -> TestResult {
    check_ex(3, |pages| {
        let header = header_ex(SPARSE_4K, &[everybody()?]);
        call(list_ex(1, 3), &[header, single_pages(pages)].concat(), 3)
    })
}

fn flushing_a_list_takes_the_set_of_all() -> TestResult {
    check_ex(3, |pages| {
        call(list_ex(0, 3), &[header_ex(ALL, &[]), single_pages(pages)].concat(), 3)
    })
}

fn a_sparse_set_may_have_empty_banks() -> TestResult {
    check_ex(3, |_| call(space_ex(2), &header_ex(SPARSE_4K, &[everybody()?, 0]), 0))
}

fn flushing_the_space_in_xmm_registers_works() -> TestResult {
    check_xmm(3, |_| {
        let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE);
        fast_call(input, &[own_space(), 0, everybody()?], 0)
    })
}

fn flushing_a_list_in_xmm_registers_works() -> TestResult {
    // 112 bytes in all: three words of header, eleven ranges.
    check_xmm(11, |pages| {
        let input = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST).with_reps(11, 0);
        fast_call(
            input,
            &[[own_space(), 0, everybody()?].to_vec(), single_pages(pages)].concat(),
            11,
        )
    })
}

fn flushing_the_space_of_a_set_in_xmm_registers_works() -> TestResult {
    offered(Recommendations::EX_PROCESSOR_MASKS)?;
    check_xmm(3, |_| fast_call(space_ex(1), &header_ex(SPARSE_4K, &[everybody()?]), 0))
}

fn flushing_a_list_of_a_set_in_xmm_registers_works() -> TestResult {
    offered(Recommendations::EX_PROCESSOR_MASKS)?;
    check_xmm(2, |pages| {
        let header = header_ex(SPARSE_4K, &[everybody()?]);
        fast_call(list_ex(1, 2), &[header, single_pages(pages)].concat(), 2)
    })
}

/// Flushes the others by the call, this processor by itself.
fn flush_the_others(pages: PageRange) -> TestResult {
    shootdown::flush_own(pages);
    flush_list(NO_FLAGS, everybody_else()?, &single_pages(pages))
}

fn processors_that_mask_interrupts_are_flushed() -> TestResult {
    offered(Recommendations::REMOTE_TLB_FLUSH)?;
    check_flush(Readers::Masked, 3, flush_the_others)
}

fn idle_processors_are_flushed() -> TestResult {
    offered(Recommendations::REMOTE_TLB_FLUSH)?;
    check_flush(Readers::Idle, 3, flush_the_others)
}

fn every_processor_can_flush_at_the_same_time() -> TestResult {
    offered(Recommendations::REMOTE_TLB_FLUSH)?;
    let failed = on_each_vp(|_| {
        let flush =
            |_: &u32| flush_list(HvFlushFlags::ALL_PROCESSORS, 0, &[1 << 44, 1 << 45]).is_err();
        (0..16).filter(flush).count() as u64
    });
    check!(failed.iter().all(|&count| count == 0), "calls of 16 that failed: {failed:?}");
    Ok(())
}

fn extended_ranges_are_flushed() -> TestResult {
    need_features(Features::EXTENDED_GVA_RANGES)?;
    check(3, |pages| {
        let flags = HvFlushFlags::USE_EXTENDED_RANGE_FORMAT;
        let small = HvGvaRange::extended(pages.start, pages.pages, HvGvaPageSize::Small).0;
        let large = HvGvaRange::extended(1 << 44, 2, HvGvaPageSize::Large).0;
        flush_list(flags, everybody()?, &[large, small])
    })
}

fn the_kernel_flushes_by_hypercall_where_recommended() -> TestResult {
    let hv = interface()?;
    let recommended = hv.recommendations().contains(Recommendations::REMOTE_TLB_FLUSH);
    let expected = if recommended && hyperv::calls().is_some() { "hypercall" } else { "interrupt" };
    let method = shootdown::method();
    check!(method == expected, "the kernel flushes by {method}, not by {expected}");
    check_flush(Readers::Busy, 2, |pages| {
        let before = shootdown::counts();
        shootdown::flush(pages);
        let after = shootdown::counts();
        let used = if shootdown::method() == "hypercall" {
            after.by_hypercall - before.by_hypercall
        } else {
            after.by_interrupt - before.by_interrupt
        };
        check!(used == 1, "{before:?} became {after:?}");
        Ok(())
    })
}

fn the_librarys_flush_makes_everybody_forget() -> TestResult {
    // More pages than are listed one by one, fewer than flush the whole address space.
    check(40, |pages| {
        shootdown::flush_own(pages);
        let result = shootdown::by_hypercall(pages);
        check!(result.is_ok(), "{result:?}");
        Ok(())
    })
}

fn the_address_space_can_be_switched_by_a_call() -> TestResult {
    offered(Recommendations::AS_SWITCH)?;
    let failed = on_each_vp(|_| {
        let input = HypercallInput::new(HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE).fast();
        u64::from(!matches!(raw(input, own_space(), 0), Ok(Ok(()))))
    });
    check!(failed.iter().all(|&failed| failed == 0), "failures by processor: {failed:?}");
    Ok(())
}
