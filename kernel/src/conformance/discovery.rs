//! The Hyper-V interface is what it says it is, on every processor.

#![expect(unsafe_code, reason = "reads model-specific registers")]

mod consistency;

use core::arch::x86_64::__cpuid_count;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{
    HV_CPUID_ENLIGHTENMENT_INFO, HV_CPUID_FEATURES, HV_CPUID_IMPLEMENTATION_LIMITS,
    HV_CPUID_INTERFACE, HV_CPUID_MIN, HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, HV_CPUID_VERSION,
    HV_INTERFACE_SIGNATURE, HYPERVISOR_PRESENT_ECX_BIT, Privileges, Recommendations,
};
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL,
};
use hv_enlightenments::Cpu;
use hv_enlightenments::vp::vp_index;

use super::support::{
    argument, interface, need, on_each_vp, on_each_vp_with, reference_clock, vp_indices,
};
use super::{TestResult, cases, check, skip};
use crate::machine::cpu::CPU;
use crate::machine::{hyperv, vp};

cases!(Discovery: [
    the_hypervisor_says_that_it_is_there => "TLFS Hypervisor Discovery",
    the_vendor_signature_is_plain_text => "TLFS §2.4.1",
    the_largest_leaf_is_in_its_range => "TLFS §2.4.1",
    interface_is_the_one_of_the_specification => "TLFS §2.4.2",
    reserved_registers_of_the_interface_leaf_are_zero => "TLFS §2.4.2",
    the_version_does_not_change => "TLFS §2.4.3",
    leaves_do_not_depend_on_a_subleaf => "TLFS §2.4",
    leaves_are_the_same_on_every_processor => "TLFS §2.4",
    another_interface_has_a_range_of_its_own => "TLFS Hypervisor Discovery",
    without_an_interface_nothing_is_used => "TLFS Hypervisor Discovery",
    privileges_cover_what_is_used => "TLFS §2.4.4",
    the_partition_has_what_every_partition_has => "Requirements for Implementing the Hypervisor Interface",
    the_partition_is_not_a_root_partition => "TLFS §2.4.4",
    limits_hold_the_processors_there_are => "TLFS §2.4.6",
    the_threshold_is_a_number_of_tries_or_never => "TLFS §2.4.5",
    automatic_end_of_interrupt_is_deprecated => "TLFS §2.4.5",
    guest_os_identity_is_kept => "TLFS §2.6",
    hypercall_page_is_where_it_was_put => "TLFS §3.13",
    vp_indices_are_distinct => "TLFS Virtual Processor Indices",
    vp_indices_do_not_change => "TLFS Virtual Processor Indices",
]);

/// The leaves that every interface has.
const LEAVES: [u32; 6] = [
    HV_CPUID_VENDOR_AND_MAX_FUNCTIONS,
    HV_CPUID_INTERFACE,
    HV_CPUID_VERSION,
    HV_CPUID_FEATURES,
    HV_CPUID_ENLIGHTENMENT_INFO,
    HV_CPUID_IMPLEMENTATION_LIMITS,
];

fn the_hypervisor_says_that_it_is_there() -> TestResult {
    interface()?;
    let present = on_each_vp(|_| u64::from(CPU.cpuid(1).ecx >> HYPERVISOR_PRESENT_ECX_BIT & 1));
    check!(present.iter().all(|&bit| bit == 1), "leaf 1 ECX bit 31 by processor: {present:?}");
    Ok(())
}

fn the_vendor_signature_is_plain_text() -> TestResult {
    let vendor = interface()?.vendor();
    let used = vendor.0.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let plain = vendor.0.iter().take(used).all(|byte| (b' '..=b'~').contains(byte));
    check!(used > 0 && plain, "the signature is {:x?}", vendor.0);
    Ok(())
}

fn the_largest_leaf_is_in_its_range() -> TestResult {
    let most = interface()?.max_leaf();
    check!((HV_CPUID_MIN..0x4000_0100).contains(&most), "the largest leaf is {most:#x}");
    Ok(())
}

fn reserved_registers_of_the_interface_leaf_are_zero() -> TestResult {
    interface()?;
    let leaf = CPU.cpuid(HV_CPUID_INTERFACE);
    check!((leaf.ebx, leaf.ecx, leaf.edx) == (0, 0, 0), "the leaf is {leaf:x?}");
    Ok(())
}

fn the_version_does_not_change() -> TestResult {
    let hv = interface()?;
    let known = hv.version();
    for _ in 0..4 {
        let leaf = CPU.cpuid(HV_CPUID_VERSION);
        let (major, minor) = ((leaf.ebx >> 16) as u16, leaf.ebx as u16);
        let same = (known.build, known.major, known.minor) == (leaf.eax, major, minor);
        check!(same, "{known:?} became {leaf:x?}");
    }
    Ok(())
}

fn leaves_do_not_depend_on_a_subleaf() -> TestResult {
    interface()?;
    for leaf in LEAVES {
        let first = __cpuid_count(leaf, 0);
        for subleaf in [1, 2, u32::MAX] {
            let other = __cpuid_count(leaf, subleaf);
            check!(first == other, "leaf {leaf:#x}: {first:x?}, with ECX {subleaf:#x} {other:x?}");
        }
    }
    Ok(())
}

fn another_interface_has_a_range_of_its_own() -> TestResult {
    interface()?;
    let base = 0x4000_0100;
    let leaf = CPU.cpuid(base);
    if !(base..base + 0x100).contains(&leaf.eax) {
        skip!("there is no other interface");
    }
    let first = CPU.cpuid(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS);
    let distinct = (leaf.ebx, leaf.ecx, leaf.edx) != (first.ebx, first.ecx, first.edx);
    check!(distinct, "both are {leaf:x?}");
    let signature = CPU.cpuid(base + 1).eax;
    check!(signature != HV_INTERFACE_SIGNATURE, "it claims to be Hv#1 as well");
    Ok(())
}

/// Microsoft's paper of that name: identity and hypercall registers, and the processor's index.
fn the_partition_has_what_every_partition_has() -> TestResult {
    let missing = (Privileges::HYPERCALL | Privileges::VP_INDEX) - interface()?.privileges();
    check!(missing.is_empty(), "it lacks {missing:?}");
    Ok(())
}

fn the_partition_is_not_a_root_partition() -> TestResult {
    let privileges = interface()?.privileges();
    check!(!privileges.contains(Privileges::CREATE_PARTITIONS), "it may create partitions");
    Ok(())
}

fn limits_hold_the_processors_there_are() -> TestResult {
    let limits = interface()?.limits();
    let count = vp::online().count();
    let enough = limits.virtual_processors == 0 || limits.virtual_processors as usize >= count;
    check!(enough, "{count} processors run, {limits:?}");
    Ok(())
}

fn the_threshold_is_a_number_of_tries_or_never() -> TestResult {
    interface()?;
    let threshold = CPU.cpuid(HV_CPUID_ENLIGHTENMENT_INFO).ebx;
    check!(threshold != 0, "it is 0");
    Ok(())
}

fn automatic_end_of_interrupt_is_deprecated() -> TestResult {
    let hv = need(Privileges::SYNIC)?;
    let deprecated = hv.recommendations().contains(Recommendations::DEPRECATE_AUTO_EOI);
    if !deprecated && hyperv::detect().host.is_none() {
        skip!("not offered: this hypervisor still advises it");
    }
    check!(deprecated, "our host advises it");
    Ok(())
}

fn interface_is_the_one_of_the_specification() -> TestResult {
    let hv = interface()?;
    let signature = CPU.cpuid(HV_CPUID_INTERFACE).eax;
    check!(signature == HV_INTERFACE_SIGNATURE, "the signature is {signature:#x}");
    let most = CPU.cpuid(HV_CPUID_VENDOR_AND_MAX_FUNCTIONS).eax;
    check!(most >= HV_CPUID_MIN && most == hv.max_leaf(), "the largest leaf is {most:#x}");
    Ok(())
}

fn without_an_interface_nothing_is_used() -> TestResult {
    if hyperv::interface().is_some() {
        skip!("there is a Hyper-V interface");
    }
    check!(hyperv::calls().is_none(), "there is a hypercall page");
    check!(hyperv::notifier().threshold().rounds().is_none(), "long waits would be notified");
    check!(!hyperv::notifier().notify(1), "a long wait was notified");
    Ok(())
}

fn privileges_cover_what_is_used() -> TestResult {
    let hv = interface()?;
    let privileges = hv.privileges();
    let uses = [
        (hyperv::calls().is_some(), Privileges::HYPERCALL),
        (vp_index(&CPU, hv).is_some(), Privileges::VP_INDEX),
        (reference_clock().is_ok(), Privileges::TIME_REF_COUNT),
        (reference_clock().is_ok_and(|clock| clock.has_tsc_page()), Privileges::REFERENCE_TSC),
    ];
    for (used, privilege) in uses {
        let allowed = privileges.contains(privilege);
        check!(used == allowed, "{privilege:?}: allowed {allowed}, used {used}");
    }
    Ok(())
}

fn leaves_are_the_same_on_every_processor() -> TestResult {
    interface()?;
    for leaf in LEAVES {
        let read = |_| {
            let leaf = CPU.cpuid(argument() as u32);
            let (low, high) =
                (leaf.eax ^ leaf.ecx.rotate_left(7), leaf.ebx ^ leaf.edx.rotate_left(9));
            u64::from(high) << 32 | u64::from(low)
        };
        let values = on_each_vp_with(leaf as usize, read);
        let again = on_each_vp_with(leaf as usize, read);
        check!(values == again, "leaf {leaf:#x} changes: {values:x?}, {again:x?}");
        let same = values.iter().all(|value| *value == values[0]);
        check!(same, "leaf {leaf:#x} differs, digests by processor: {values:x?}");
    }
    Ok(())
}

fn guest_os_identity_is_kept() -> TestResult {
    need(Privileges::HYPERCALL)?;
    let expected = hyperv::IDENTITY.raw();
    // SAFETY: the privilege is there, and with it the register.
    let values = on_each_vp(|_| unsafe { CPU.rdmsr(HV_X64_MSR_GUEST_OS_ID) });
    check!(values.iter().all(|&value| value == expected), "not {expected:#x} but {values:x?}");
    Ok(())
}

fn hypercall_page_is_where_it_was_put() -> TestResult {
    need(Privileges::HYPERCALL)?;
    let Some(calls) = hyperv::calls() else {
        check!(false, "hypercalls are not enabled");
        return Ok(());
    };
    let address = calls.entry().addr().get() as u64;
    check!(address.is_multiple_of(HV_PAGE_SIZE as u64), "the page is at {address:#x}");
    // SAFETY: the privilege is there, and with it the register.
    let register = unsafe { CPU.rdmsr(HV_X64_MSR_HYPERCALL) };
    let enabled = register & HV_MSR_PAGE_ENABLE != 0;
    check!(
        enabled && register & HV_MSR_PAGE_ADDRESS_MASK == address,
        "the register is {register:#x}"
    );
    Ok(())
}

fn vp_indices_are_distinct() -> TestResult {
    let most = u64::from(interface()?.limits().virtual_processors);
    let indices = vp_indices()?;
    let mut sorted = indices.clone();
    sorted.sort_unstable();
    sorted.dedup();
    check!(sorted.len() == indices.len(), "two processors share an index: {indices:?}");
    let limited = most == 0 || indices.iter().all(|&index| index < most);
    check!(limited, "an index is not below {most}: {indices:?}");
    Ok(())
}

fn vp_indices_do_not_change() -> TestResult {
    let (first, second) = (vp_indices()?, vp_indices()?);
    check!(first == second, "{first:?} became {second:?}");
    Ok(())
}
