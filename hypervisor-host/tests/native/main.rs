//! Small guests on real KVM. They need a computer that runs guests natively, so they are ignored unless
//! asked for, there or in the lab:
//! `cargo test -p hypervisor-host --test native -- --ignored --test-threads 1`.

mod guests;
mod harness;

use std::time::Duration;

use harness::{Machine, run, run_multiboot};
use hypervisor_host::config::{Policy, SpinThreshold};
use hypervisor_host::hyperv::features::Offered;
use hypervisor_host::outcome::Reason;
use hypervisor_host::report::{AnswerReport, Report};

fn ended(report: &Report) -> (Reason, u8) {
    (report.exit.reason, report.exit.code)
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn the_exit_port_ends_with_its_code() {
    let report = run(guests::exit_42(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 42));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn power_off_and_reset_end_with_success() {
    let off = run(guests::acpi_off(), Machine::default()).report;
    assert_eq!(ended(&off), (Reason::PowerOff, 0));
    let reset = run(guests::keyboard_reset(), Machine::default()).report;
    assert_eq!(ended(&reset), (Reason::Reset, 0));
    let reset = run(guests::hyperv_reset(), Machine::default()).report;
    assert_eq!(ended(&reset), (Reason::Reset, 0));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn text_arrives_in_order_from_the_uart_and_the_console_buffer() {
    let result = run(guests::print_both_ways(), Machine::default());
    assert_eq!(ended(&result.report), (Reason::GuestExit, 0));
    assert_eq!(result.text, "uart\nconsole buffer\n");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn console_buffers_outside_ram_print_nothing_and_do_no_harm() {
    let result = run(guests::bad_console_buffers(), Machine::default());
    assert_eq!(ended(&result.report), (Reason::GuestExit, 0));
    assert_eq!(result.text, "");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn every_long_spin_reaches_the_host_with_its_count_and_place() {
    for policy in [Policy::None, Policy::Yield, Policy::Directed, Policy::Park] {
        let machine = Machine { policy, ..Machine::default() };
        let report = run(guests::spin_100_times(), machine).report;
        assert_eq!(ended(&report), (Reason::GuestExit, 0), "{policy:?}");
        let spins = &report.long_spins;
        assert_eq!((spins.total, spins.spins), (100, 100 * 4095), "{policy:?}");
        let expected = match policy {
            // There is nobody else who could run.
            Policy::None | Policy::Park => AnswerReport { resumed: 100, ..Default::default() },
            Policy::Yield => AnswerReport { yielded: 100, ..Default::default() },
            Policy::Directed => AnswerReport { directed: 100, ..Default::default() },
        };
        assert_eq!(spins.answers, expected, "{policy:?}");
        assert_eq!(spins.sites.len(), 1, "{policy:?}");
        let inside = harness::LOAD_ADDRESS..harness::LOAD_ADDRESS + 4096;
        assert!(inside.contains(&spins.sites[0].instruction_pointer), "{policy:?}");
        assert_eq!(report.vps[0].hypercalls["0x0008"], 100, "{policy:?}");
    }
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_guest_that_was_never_to_notify_is_refused_by_kvm() {
    let machine = Machine { spin_threshold: SpinThreshold(u32::MAX), ..Machine::default() };
    let report = run(guests::spin_100_times(), machine).report;
    // HV_STATUS_ACCESS_DENIED, which the guest gives as its exit code.
    assert_eq!(ended(&report), (Reason::GuestExit, 6));
    assert_eq!((report.long_spins.total, report.long_spins.answers.refused), (1, 1));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn malformed_calls_get_the_status_of_the_specification() {
    let result = run(guests::malformed_calls(), Machine::default());
    assert_eq!(ended(&result.report), (Reason::GuestExit, 0));
    // Reserved bits, a rep count, an unknown code, a connection that is not there.
    assert_eq!(result.text, "\x03\x03\x02\x12");
    assert_eq!(result.report.long_spins.total, 0);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn the_hypercall_page_hides_the_guests_page_and_gives_it_back() {
    let report = run(guests::overlay(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_hypercall_page_outside_ram_is_a_protection_fault() {
    let report = run(guests::page_outside_ram(), Machine::default()).report;
    // The guest's handler of vector 13 gives its number as exit code.
    assert_eq!(ended(&report), (Reason::GuestExit, 13));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_triple_fault_is_told_with_registers() {
    let report = run(guests::triple_fault(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::TripleFault, 125));
    let detail = report.exit.detail.unwrap();
    assert!(detail.contains("triple fault on VP 0"), "{detail}");
    // Of this instruction or, on AMD, of the port access right before.
    assert!(detail.contains("rbx 0000000012345678"), "{detail}");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn guests_that_spin_or_halt_forever_are_ended_by_the_clock() {
    for guest in [guests::spin_forever(), guests::halt_forever()] {
        let machine = Machine { timeout: Duration::from_millis(300), ..Machine::default() };
        let report = run(guest, machine).report;
        assert_eq!(ended(&report), (Reason::Timeout, 124));
    }
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_guest_sees_hyperv_or_nothing_but_never_kvm() {
    let on = run(guests::print_signatures(), Machine::default());
    assert_eq!(on.text, "Microsoft HvEnlightenHst");
    let off = run(guests::print_signatures(), Machine { hyperv: false, ..Machine::default() });
    assert_eq!(off.text, "\0\0\0\0\0\0\0\0\0\0\0\0EnlightenHst");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn marks_are_snapshots_of_growing_counts() {
    let report = run(guests::two_marks(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    let [begin, end] = &report.marks[..] else { panic!("{:?}", report.marks) };
    assert_eq!((begin.mark, end.mark), (2, 3));
    // Ten accesses to the CMOS lie between, and the second mark itself.
    assert_eq!(end.user_exits - begin.user_exits, 11);
    assert!(end.elapsed_ns >= begin.elapsed_ns);
    if let (Some(begin), Some(end)) = (begin.kvm_exits, end.kvm_exits) {
        assert!(end - begin >= 11);
    }
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn ports_and_addresses_without_a_device_read_as_ones() {
    let report = run(guests::read_nothing(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    assert_eq!(report.vps[0].unclaimed, 2);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn the_host_takes_little_memory_of_its_own() {
    let report = run(guests::exit_42(), Machine::default()).report;
    assert!(report.memory.overhead_bytes < 12 << 20, "{:?}", report.memory);
    assert!(report.memory.ram_resident_bytes > 0, "{:?}", report.memory);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn registers_of_parts_that_are_switched_off_are_protection_faults() {
    let code = |guest, off: &str| {
        let offered = Offered::default().difference(Offered::parse_list(off).unwrap());
        ended(&run(guest, Machine { offered, ..Machine::default() }).report).1
    };
    for (guest, name) in [
        (guests::read_guest_os_id(), "hypercall"),
        (guests::read_scontrol(), "synic"),
        (guests::read_crash_control(), "guest-crash-msrs"),
        (guests::read_guest_idle(), "guest-idle"),
        (guests::read_vp_index(), "vp-index"),
    ] {
        assert_eq!(code(guest, name), 13, "without {name}");
        assert_eq!(code(guest, "relaxed-timing"), 0, "with {name}");
    }
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn an_interrupt_that_waits_ends_a_masked_idle_at_once() {
    let report = run(guests::idle_with_own_ipi(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    let idle = report.idle;
    assert_eq!((idle.request, idle.halted + idle.ipi + idle.limit), (1, 0), "{idle:?}");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_timer_ends_a_masked_idle_although_nobody_can_take_its_interrupt() {
    let report = run(guests::idle_until_timer(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    assert!(report.idle.request >= 1, "{:?}", report.idle);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_synthetic_timer_ends_a_masked_idle() {
    let report = run(guests::idle_until_synthetic_timer(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    assert!(report.idle.kvm + report.idle.request >= 1, "{:?}", report.idle);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_halt_after_a_masked_idle_is_no_idle() {
    let machine = Machine { timeout: Duration::from_secs(1), ..Machine::default() };
    let report = run(guests::idle_then_halt(), machine).report;
    assert_eq!(ended(&report), (Reason::Timeout, 124), "{:?}", report.idle);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_masked_idle_that_nothing_ends_is_bounded() {
    let report = run(guests::read_guest_idle(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    assert_eq!(report.idle.limit, 1, "{:?}", report.idle);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn an_idle_that_can_take_interrupts_is_left_to_kvm() {
    let report = run(guests::idle_with_interrupts(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 0));
    let idle = report.idle;
    assert_eq!((idle.halted, idle.request + idle.kvm + idle.limit), (1, 0), "{idle:?}");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_crash_is_told_and_the_guests_code_counts() {
    let report = run(guests::crash_and_exit(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestExit, 3));
    let [crash] = &report.crashes[..] else { panic!("{:?}", report.crashes) };
    assert_eq!(crash.parameters, [0x11, 0x22, 0x33, 0x40_0000, 6]);
    assert_eq!(crash.message.as_deref(), Some("broken"));
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_guest_that_hangs_after_its_crash_is_ended() {
    let report = run(guests::crash_and_halt(), Machine::default()).report;
    assert_eq!(ended(&report), (Reason::GuestCrash, 125));
    assert_eq!(report.crashes.len(), 1);
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn extended_calls_tell_what_there_is_and_what_is_zero() {
    let result = run(guests::extended_calls(), Machine::default());
    // Query, boot-zeroed memory, an unknown code, a fast query; then the capabilities.
    assert_eq!(ended(&result.report), (Reason::GuestExit, 0));
    assert_eq!(result.text, "\x00\x00\x02\x03\x01");
    let off = Offered::parse_list("extended-hypercalls").unwrap();
    let offered = Offered::default().difference(off);
    let refused = run(guests::extended_calls(), Machine { offered, ..Machine::default() });
    assert_eq!(refused.text, "\x06\x06\x02\x06\x00");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn a_multiboot_guest_finds_its_magic_number_and_ends_as_on_qemu() {
    let report = run_multiboot(guests::multiboot_magic(), Machine::default()).report;
    // (0 << 1) | 1.
    assert_eq!(ended(&report), (Reason::DebugExit, 1));
    assert_eq!(report.machine.boot, "multiboot");
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn nonsense_to_the_test_devices_does_no_harm() {
    for hyperv in [true, false] {
        let machine = Machine { test_devices: true, hyperv, ..Machine::default() };
        let report = run(guests::nonsense_to_test_devices(), machine).report;
        assert_eq!(ended(&report), (Reason::GuestExit, 0));
    }
}

#[test]
#[ignore = "needs KVM: run there by a suite of its own"]
fn test_devices_are_there_only_if_asked_for() {
    let without = run(guests::read_test_devices(), Machine::default()).report;
    assert_eq!(ended(&without), (Reason::GuestExit, 0));
    assert_eq!(without.vps[0].unclaimed, 5);
    let machine = Machine { test_devices: true, ..Machine::default() };
    let with = run(guests::read_test_devices(), machine).report;
    assert_eq!(ended(&with), (Reason::GuestExit, 0xFF));
    assert_eq!(with.vps[0].unclaimed, 0);
}
