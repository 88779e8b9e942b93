//! The synthetic interrupt controller: registers, sources, and messages, with timers as their senders.

#![expect(unsafe_code, reason = "writes model-specific registers")]

use alloc::boxed::Box;
use alloc::vec::Vec;

use hv_abi::cpuid::Privileges;
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL,
    HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HV_X64_MSR_SVERSION,
};
use hv_abi::synic::{HV_SYNIC_VERSION_1, HvMessageType, HvSynicSint};
use hv_enlightenments::Cpu;
use hv_enlightenments::stimer::TimerExpiration;
use hv_enlightenments::synic::SynicPages;

use super::support::registers::{read, refused, refused_writing, write, writing_faults};
use super::support::synic::{Restored, Source, controller, stays_quiet};
use super::support::{holds_soon, on_each_vp, without};
use super::{Problem, TestResult, cases, check, deviates};
use crate::machine::cpu::CPU;
use crate::machine::synic;

cases!(SynIc: [
    the_version_is_1_or_later => "TLFS, SVERSION Register",
    the_version_is_read_only => "TLFS, SVERSION Register",
    the_controller_is_off_after_a_reset => "TLFS, SCONTROL Register",
    the_pages_are_off_after_a_reset => "TLFS, SIMP Register, SIEFP Register",
    the_sources_are_masked_after_a_reset => "TLFS, SINTx Registers",
    control_keeps_what_is_written => "TLFS, SCONTROL Register",
    page_registers_keep_what_is_written => "TLFS, SIMP Register, SIEFP Register",
    each_source_keeps_its_vector_and_mask => "TLFS, SINTx Registers",
    a_vector_below_16_faults => "TLFS, SINTx Registers",
    a_refused_vector_leaves_the_source_as_it_was => "TLFS, SINTx Registers",
    the_reset_value_of_a_source_can_be_written_back => "TLFS, SINTx Registers",
    end_of_message_reads_as_zero => "TLFS, EOM Register",
    end_of_message_with_nothing_waiting_does_nothing => "TLFS, EOM Register",
    every_processor_has_pages_of_its_own => "TLFS, SIM Page, SIEF Page",
    every_processor_has_sources_of_its_own => "TLFS, SynIC MSRs",
    a_message_interrupts_with_the_vector_of_its_source => "TLFS, Messages",
    a_masked_source_gets_its_message_without_an_interrupt => "TLFS, Messages",
    a_polled_source_gets_its_message_without_an_interrupt => "TLFS, SINTx Registers",
    a_message_goes_to_its_source_alone => "TLFS, Messages",
    a_full_slot_is_not_overwritten => "TLFS, Messages",
    a_full_slot_sets_message_pending => "TLFS, HV_MESSAGE_FLAGS",
    end_of_message_brings_the_message_that_waits => "TLFS, EOM Register",
    a_message_that_waited_interrupts_anew => "TLFS, EOM Register",
    messages_come_to_the_page_that_is_named_now => "TLFS, SIMP Register",
    without_a_message_page_no_message_is_written => "TLFS, Messages",
    a_controller_that_is_off_gets_no_messages => "TLFS, SCONTROL Register",
    registers_are_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    writing_registers_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
]);

fn sint_msr(number: u8) -> u32 {
    HV_X64_MSR_SINT0 + u32::from(number)
}

/// Writes a register of the controller, which exists.
fn set(msr: u32, value: u64) {
    // SAFETY: these cases name their own pages, and vectors that have handlers.
    unsafe { CPU.wrmsr(msr, value) };
}

fn get(msr: u32) -> u64 {
    // SAFETY: the case has looked for the privilege; reading has no effect.
    unsafe { CPU.rdmsr(msr) }
}

fn the_version_is_1_or_later() -> TestResult {
    let version = controller()?.version() & 0xFFFF_FFFF;
    check!(version >= HV_SYNIC_VERSION_1, "it is {version}");
    Ok(())
}

fn the_version_is_read_only() -> TestResult {
    controller()?;
    // SAFETY: the register only tells something.
    unsafe { writing_faults(HV_X64_MSR_SVERSION, HV_SYNIC_VERSION_1) }
}

fn before() -> Result<&'static synic::Before, Problem> {
    controller()?;
    synic::before().ok_or(Problem::Fail("the registers were never read".into()))
}

fn the_controller_is_off_after_a_reset() -> TestResult {
    let control = before()?.control;
    if control == 1 {
        deviates!("KVM begins with SCONTROL 1", "TLFS, SCONTROL Register");
    }
    check!(control == 0, "SCONTROL was {control:#x}");
    Ok(())
}

fn the_pages_are_off_after_a_reset() -> TestResult {
    let synic::Before { message_page, flags_page, .. } = before()?;
    check!(*message_page == 0, "SIMP was {message_page:#x}");
    check!(*flags_page == 0, "SIEFP was {flags_page:#x}");
    Ok(())
}

fn the_sources_are_masked_after_a_reset() -> TestResult {
    let sints = before()?.sints;
    check!(sints.iter().all(|&sint| sint == HvSynicSint::RESET.0), "they were {sints:x?}");
    Ok(())
}

fn control_keeps_what_is_written() -> TestResult {
    controller()?;
    let control = Restored::new(HV_X64_MSR_SCONTROL);
    for value in [control.before() & !1, control.before() | 1] {
        set(HV_X64_MSR_SCONTROL, value);
        let now = get(HV_X64_MSR_SCONTROL);
        check!(now == value, "written {value:#x}, read {now:#x}");
    }
    Ok(())
}

fn page_registers_keep_what_is_written() -> TestResult {
    let pages: *const SynicPages = controller()?.pages();
    for (msr, page) in [(HV_X64_MSR_SIMP, 0), (HV_X64_MSR_SIEFP, 0x1000)] {
        let restored = Restored::new(msr);
        let expected = pages.addr() as u64 + page;
        let before = restored.before();
        check!(
            before & HV_MSR_PAGE_ADDRESS_MASK == expected && before & HV_MSR_PAGE_ENABLE != 0,
            "register {msr:#x} is {before:#x}, the page is at {expected:#x}"
        );
        set(msr, before & !HV_MSR_PAGE_ENABLE);
        let now = get(msr);
        check!(now & HV_MSR_PAGE_ENABLE == 0, "register {msr:#x} stays enabled: {now:#x}");
    }
    Ok(())
}

fn each_source_keeps_its_vector_and_mask() -> TestResult {
    for number in 5..16 {
        let source = Source::masked(number)?;
        for value in [0x1_0055, 0x1_00FF, 0x55, 0xFF] {
            set(sint_msr(number), value);
            let now = get(sint_msr(number));
            check!(now == value, "{:?}: written {value:#x}, read {now:#x}", source.sint);
        }
    }
    Ok(())
}

fn a_vector_below_16_faults() -> TestResult {
    let _source = Source::masked(5)?;
    for vector in [0, 1, 15] {
        // SAFETY: it faults, or else nothing sends to this source.
        unsafe { writing_faults(sint_msr(5), vector) }?;
    }
    set(sint_msr(5), 16);
    Ok(())
}

fn a_refused_vector_leaves_the_source_as_it_was() -> TestResult {
    let _source = Source::masked(5)?;
    set(sint_msr(5), 0x1_0060);
    // SAFETY: as above.
    unsafe { writing_faults(sint_msr(5), 3) }?;
    let now = get(sint_msr(5));
    check!(now == 0x1_0060, "it is now {now:#x}");
    Ok(())
}

fn the_reset_value_of_a_source_can_be_written_back() -> TestResult {
    let _source = Source::masked(5)?;
    // SAFETY: the source is masked.
    let result = unsafe { write(sint_msr(5), HvSynicSint::RESET.0) };
    check!(result.is_ok(), "{result:?}");
    Ok(())
}

fn end_of_message_reads_as_zero() -> TestResult {
    controller()?;
    let value = read(HV_X64_MSR_EOM);
    check!(value == Ok(0), "{value:?}");
    Ok(())
}

fn end_of_message_with_nothing_waiting_does_nothing() -> TestResult {
    let source = Source::counting(5)?;
    controller()?.end_of_message();
    check!(stays_quiet(|| source.is_full() || source.interrupts() != 0), "something came");
    Ok(())
}

fn every_processor_has_pages_of_its_own() -> TestResult {
    controller()?;
    for msr in [HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP] {
        let pages = match msr {
            HV_X64_MSR_SIMP => on_each_vp(|_| get(HV_X64_MSR_SIMP)),
            _ => on_each_vp(|_| get(HV_X64_MSR_SIEFP)),
        };
        let mut distinct: Vec<_> = pages.clone();
        distinct.sort_unstable();
        distinct.dedup();
        check!(distinct.len() == pages.len(), "register {msr:#x} by processor: {pages:x?}");
    }
    Ok(())
}

fn every_processor_has_sources_of_its_own() -> TestResult {
    controller()?;
    on_each_vp(|index| {
        set(sint_msr(6), 0x1_0080 + index as u64);
        0
    });
    let values = on_each_vp(|_| get(sint_msr(6)));
    on_each_vp(|_| {
        set(sint_msr(6), HvSynicSint::RESET.0);
        0
    });
    let expected: Vec<_> = (0..values.len() as u64).map(|index| 0x1_0080 + index).collect();
    check!(values == expected, "written {expected:x?}, read {values:x?}");
    Ok(())
}

fn a_message_interrupts_with_the_vector_of_its_source() -> TestResult {
    let source = Source::counting(5)?;
    source.timer(1)?.0.start_at(1);
    source.expect_interrupts(1, "one message was sent")?;
    source.message("a timer's")?;
    Ok(())
}

fn a_masked_source_gets_its_message_without_an_interrupt() -> TestResult {
    let source = Source::counting(5)?;
    controller()?.mask(source.sint);
    let timer = source.timer(1)?;
    timer.0.start_at(1);
    check!(holds_soon(|| source.is_full()), "no message came");
    check!(stays_quiet(|| source.interrupts() != 0), "an interrupt came");
    Ok(())
}

fn a_polled_source_gets_its_message_without_an_interrupt() -> TestResult {
    let source = Source::counting(5)?;
    let register = controller()?.sint(source.sint);
    set(sint_msr(5), register.0 | HvSynicSint::POLLING);
    let timer = source.timer(1)?;
    timer.0.start_at(1);
    check!(holds_soon(|| source.is_full()), "no message came");
    if !stays_quiet(|| source.interrupts() != 0) {
        deviates!("KVM raises an interrupt in spite of the polling bit", "TLFS, SINTx Registers");
    }
    Ok(())
}

fn a_message_goes_to_its_source_alone() -> TestResult {
    let sources = [Source::counting(5)?, Source::counting(6)?, Source::counting(15)?];
    let timer = sources[1].timer(1)?;
    timer.0.start_at(1);
    sources[1].message("a timer's")?;
    sources[1].expect_interrupts(1, "one message was sent")?;
    for other in [&sources[0], &sources[2]] {
        check!(!other.is_full() && other.interrupts() == 0, "{:?} got something", other.sint);
    }
    Ok(())
}

/// Two timers' messages to source 5: the first in its slot, the second waiting.
fn two_messages() -> Result<Source, Problem> {
    let source = Source::counting(5)?;
    // They run on: what waits for the slot belongs to a timer.
    let (first, second) = (source.timer(1)?, source.timer(2)?);
    first.0.start_at(1);
    if !holds_soon(|| source.is_full()) {
        return Err(Problem::Fail("no message came".into()));
    }
    second.0.start_at(1);
    if !holds_soon(|| source.is_pending()) {
        return Err(Problem::Fail("a message to a full slot did not set MessagePending".into()));
    }
    core::mem::forget((first, second));
    Ok(source)
}

/// Stops the timers of [`two_messages`].
struct StopTimers;

impl Drop for StopTimers {
    fn drop(&mut self) {
        for index in [1, 2] {
            set(hv_abi::stimer::stimer_config_msr(index), 0);
            set(hv_abi::stimer::stimer_count_msr(index), 0);
        }
    }
}

fn timer_of(source: &Source, what: &str) -> Result<u8, Problem> {
    let message = source.message(what)?;
    let expiration = TimerExpiration::from_message(&message);
    expiration
        .map(|expiration| expiration.timer)
        .ok_or_else(|| Problem::Fail(alloc::format!("{what} is no timer's message: {message:?}")))
}

fn a_full_slot_is_not_overwritten() -> TestResult {
    let source = two_messages()?;
    let _stop = StopTimers;
    let timer = timer_of(&source, "the first")?;
    check!(timer == 1, "the first message is timer {timer}'s");
    Ok(())
}

fn a_full_slot_sets_message_pending() -> TestResult {
    let source = two_messages()?;
    let _stop = StopTimers;
    check!(source.message_type() == HvMessageType::TIMER_EXPIRED, "{:?}", source.message_type());
    check!(source.interrupts() == 1, "{} interrupts for one message", source.interrupts());
    Ok(())
}

fn end_of_message_brings_the_message_that_waits() -> TestResult {
    let source = two_messages()?;
    let _stop = StopTimers;
    // This writes EOM, as MessagePending is set.
    timer_of(&source, "the first")?;
    let timer = timer_of(&source, "the one that waited")?;
    check!(timer == 2, "the second message is timer {timer}'s");
    check!(!source.is_pending() || !source.is_full(), "still another waits");
    Ok(())
}

fn a_message_that_waited_interrupts_anew() -> TestResult {
    let source = two_messages()?;
    let _stop = StopTimers;
    timer_of(&source, "the first")?;
    check!(holds_soon(|| source.is_full()), "the one that waited did not come");
    source.expect_interrupts(2, "two messages were delivered")
}

fn messages_come_to_the_page_that_is_named_now() -> TestResult {
    let source = Source::counting(5)?;
    let fresh: &'static SynicPages = Box::leak(Box::default());
    let restored = Restored::new(HV_X64_MSR_SIMP);
    set(HV_X64_MSR_SIMP, (&raw const *fresh).addr() as u64 | HV_MSR_PAGE_ENABLE);
    let timer = source.timer(1)?;
    timer.0.start_at(1);
    let came = holds_soon(|| fresh.messages.message_type(source.sint) != HvMessageType::NONE);
    // The message may move with the register: the page may be one that the hypervisor lays over memory.
    drop(restored);
    check!(came, "no message came to the new page");
    Ok(())
}

fn without_a_message_page_no_message_is_written() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    let restored = Restored::new(HV_X64_MSR_SIMP);
    set(HV_X64_MSR_SIMP, restored.before() & !HV_MSR_PAGE_ENABLE);
    timer.0.start_at(1);
    let quiet = stays_quiet(|| source.is_full() || source.interrupts() != 0);
    drop(restored);
    check!(quiet, "a message came");
    Ok(())
}

fn a_controller_that_is_off_gets_no_messages() -> TestResult {
    let source = Source::counting(5)?;
    let timer = source.timer(1)?;
    let restored = Restored::new(HV_X64_MSR_SCONTROL);
    set(HV_X64_MSR_SCONTROL, restored.before() & !1);
    timer.0.start_at(1);
    let quiet = stays_quiet(|| source.is_full());
    drop(restored);
    if !quiet {
        deviates!("KVM delivers whatever SCONTROL says", "TLFS, SCONTROL Register");
    }
    Ok(())
}

const REGISTERS: [u32; 6] = [
    HV_X64_MSR_SCONTROL,
    HV_X64_MSR_SVERSION,
    HV_X64_MSR_SIEFP,
    HV_X64_MSR_SIMP,
    HV_X64_MSR_SINT0,
    HV_X64_MSR_SINT0 + 15,
];

fn registers_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::SYNIC)?;
    REGISTERS.iter().try_for_each(|&msr| refused(msr))
}

fn writing_registers_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::SYNIC)?;
    for msr in [HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP, HV_X64_MSR_EOM] {
        // SAFETY: zeros turn off what is off.
        unsafe { refused_writing(msr, 0) }?;
    }
    // SAFETY: masked.
    unsafe { refused_writing(sint_msr(7), HvSynicSint::RESET.0) }
}
