//! Privileges, features and recommendations that need one another.

use hv_abi::cpuid::{Features, Privileges, Recommendations};
use hv_enlightenments::HyperV;

use crate::conformance::support::interface;
use crate::conformance::{TestResult, cases, check, skip};

cases!(Discovery: [
    synthetic_timers_come_with_reference_time_and_interrupts => "TLFS Synthetic Timers",
    direct_timers_come_with_timers => "TLFS Synthetic Timers",
    the_tsc_page_comes_with_the_counter => "TLFS Partition Reference Time Enlightenment",
    frequency_registers_come_with_their_privilege => "TLFS §2.4.4",
    the_idle_state_comes_with_its_privilege => "TLFS §2.4.4",
    remote_flushes_come_with_hypercalls => "TLFS Virtual TLB",
    cluster_interrupts_come_with_hypercalls_and_indices => "TLFS HvCallSendSyntheticClusterIpi",
    extended_masks_come_with_calls_that_take_them => "TLFS §2.4.5",
    the_apic_by_registers_comes_with_its_privilege => "TLFS §2.4.5",
    reset_by_register_comes_with_its_privilege => "TLFS §2.4.5",
    output_in_xmm_registers_comes_with_input => "TLFS XMM Fast Hypercall Output",
    messages_and_events_come_with_hypercalls => "TLFS Inter-Partition Communication",
    extended_calls_come_with_hypercalls => "TLFS Extended Hypercall Interface",
    long_waits_are_told_only_where_calls_are_possible => "TLFS §2.4.5",
    the_enlightened_vmcs_comes_with_its_leaf => "TLFS §2.4.5",
]);

/// Skips unless `offered`, then fails unless `fulfilled`.
fn implies(what: &str, offered: bool, needs: &str, fulfilled: bool) -> TestResult {
    if !offered {
        skip!("not offered: {what}");
    }
    check!(fulfilled, "{what} without {needs}");
    Ok(())
}

fn may(hv: &HyperV, privileges: Privileges) -> bool {
    hv.privileges().contains(privileges)
}

fn synthetic_timers_come_with_reference_time_and_interrupts() -> TestResult {
    let hv = interface()?;
    let interrupts = may(hv, Privileges::SYNIC) || hv.features().contains(Features::STIMER_DIRECT);
    implies(
        "synthetic timers",
        may(hv, Privileges::SYNTHETIC_TIMERS),
        "reference counter, or SynIC or direct mode",
        may(hv, Privileges::TIME_REF_COUNT) && interrupts,
    )
}

fn direct_timers_come_with_timers() -> TestResult {
    let hv = interface()?;
    let direct = hv.features().contains(Features::STIMER_DIRECT);
    implies("direct timers", direct, "timers", may(hv, Privileges::SYNTHETIC_TIMERS))
}

fn the_tsc_page_comes_with_the_counter() -> TestResult {
    let hv = interface()?;
    let page = may(hv, Privileges::REFERENCE_TSC);
    implies("the TSC page", page, "the counter", may(hv, Privileges::TIME_REF_COUNT))
}

fn frequency_registers_come_with_their_privilege() -> TestResult {
    let hv = interface()?;
    let registers = hv.features().contains(Features::FREQUENCY_MSRS);
    let privilege = may(hv, Privileges::FREQUENCIES);
    let offered = registers || privilege;
    implies("frequencies", offered, "both feature and privilege", registers && privilege)
}

fn the_idle_state_comes_with_its_privilege() -> TestResult {
    let hv = interface()?;
    let state = hv.features().contains(Features::GUEST_IDLE_STATE);
    implies("the idle state", state, "its privilege", may(hv, Privileges::GUEST_IDLE))
}

fn remote_flushes_come_with_hypercalls() -> TestResult {
    let hv = interface()?;
    let flushes = hv.recommendations().contains(Recommendations::REMOTE_TLB_FLUSH);
    implies("remote flushes", flushes, "hypercalls", may(hv, Privileges::HYPERCALL))
}

fn cluster_interrupts_come_with_hypercalls_and_indices() -> TestResult {
    let hv = interface()?;
    implies(
        "cluster interrupts",
        hv.recommendations().contains(Recommendations::CLUSTER_IPI),
        "hypercalls or indices of processors",
        may(hv, Privileges::HYPERCALL | Privileges::VP_INDEX),
    )
}

fn extended_masks_come_with_calls_that_take_them() -> TestResult {
    let hv = interface()?;
    let calls = Recommendations::REMOTE_TLB_FLUSH | Recommendations::CLUSTER_IPI;
    let masks = hv.recommendations().contains(Recommendations::EX_PROCESSOR_MASKS);
    implies("extended masks", masks, "a call", hv.recommendations().intersects(calls))
}

fn the_apic_by_registers_comes_with_its_privilege() -> TestResult {
    let hv = interface()?;
    let advised = hv.recommendations().contains(Recommendations::APIC_ACCESS);
    implies("the APIC by registers", advised, "its privilege", may(hv, Privileges::APIC_ACCESS))
}

fn reset_by_register_comes_with_its_privilege() -> TestResult {
    let hv = interface()?;
    let advised = hv.recommendations().contains(Recommendations::SYSTEM_RESET);
    implies("reset by register", advised, "its privilege", may(hv, Privileges::RESET))
}

fn output_in_xmm_registers_comes_with_input() -> TestResult {
    let hv = interface()?;
    let output = hv.features().contains(Features::HYPERCALL_XMM_OUTPUT);
    let input = hv.features().contains(Features::HYPERCALL_XMM_INPUT);
    implies("output in XMM registers", output, "input in them", input)
}

fn messages_and_events_come_with_hypercalls() -> TestResult {
    let hv = interface()?;
    let sends = Privileges::POST_MESSAGES | Privileges::SIGNAL_EVENTS;
    implies(
        "messages or events",
        hv.privileges().intersects(sends),
        "hypercalls",
        may(hv, Privileges::HYPERCALL),
    )
}

fn extended_calls_come_with_hypercalls() -> TestResult {
    let hv = interface()?;
    let extended = may(hv, Privileges::EXTENDED_HYPERCALLS);
    implies("extended calls", extended, "hypercalls", may(hv, Privileges::HYPERCALL))
}

fn long_waits_are_told_only_where_calls_are_possible() -> TestResult {
    let hv = interface()?;
    let told = hv.spin_threshold().rounds().is_some();
    implies("telling of long waits", told, "hypercalls", may(hv, Privileges::HYPERCALL))
}

fn the_enlightened_vmcs_comes_with_its_leaf() -> TestResult {
    let hv = interface()?;
    let vmcs = hv.recommendations().contains(Recommendations::ENLIGHTENED_VMCS);
    let leaf = hv.max_leaf() >= hv_abi::cpuid::HV_CPUID_NESTED_FEATURES;
    implies("the enlightened VMCS", vmcs, "leaf 0x4000000A", leaf)
}
