//! The Hyper-V interface is what it says it is, on every processor.

#![expect(unsafe_code, reason = "reads model-specific registers")]

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{
    HV_CPUID_ENLIGHTENMENT_INFO, HV_CPUID_FEATURES, HV_CPUID_INTERFACE, HV_CPUID_MIN,
    HV_CPUID_VENDOR_AND_MAX_FUNCTIONS, HV_INTERFACE_SIGNATURE, Privileges,
};
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL,
};
use hv_enlightenments::{Cpu, vp};

use super::support::{
    argument, interface, need, on_each_vp, on_each_vp_with, reference_clock, vp_indices,
};
use super::{TestResult, cases, check, skip};
use crate::machine::cpu::CPU;
use crate::machine::hyperv;

cases!(Discovery: [
    interface_is_the_one_of_the_specification => "TLFS §2.4 leaf 0x40000001",
    without_an_interface_nothing_is_used => "TLFS §2.3",
    privileges_cover_what_is_used => "TLFS §2.4 leaf 0x40000003",
    leaves_are_the_same_on_every_processor => "TLFS §2.4",
    guest_os_identity_is_kept => "TLFS §2.6",
    hypercall_page_is_where_it_was_put => "TLFS §3.13",
    vp_indices_are_distinct => "TLFS §7.8.1",
    vp_indices_do_not_change => "TLFS §7.8.1",
]);

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
        (vp::vp_index(&CPU, hv).is_some(), Privileges::VP_INDEX),
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
    for leaf in [
        HV_CPUID_VENDOR_AND_MAX_FUNCTIONS,
        HV_CPUID_INTERFACE,
        HV_CPUID_FEATURES,
        HV_CPUID_ENLIGHTENMENT_INFO,
    ] {
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
