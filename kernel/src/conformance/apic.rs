//! The local APIC through the hypervisor: its registers as MSRs, and the VP assist page.

#![expect(unsafe_code, reason = "writes model-specific registers, CR8")]

use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::{Privileges, Recommendations};
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR,
    HV_X64_MSR_VP_ASSIST_PAGE,
};
use hv_enlightenments::apic::{ApicMsrs, EoiAssist, VpAssistPage};
use hv_enlightenments::{Cpu, Gpa, X86Cpu};

use super::support::registers::{refused, refused_writing};
use super::support::synic::{CASE_VECTOR, CaseVector, Restored, stays_quiet};
use super::support::{holds_soon, need, on_each_vp, recommended, without};
use super::{Problem, TestResult, cases, check, skip};
use crate::machine::cpu::CPU;
use crate::machine::{apic, eoi, hyperv, interrupts, vp};

cases!(Apic: [
    the_command_register_sends_interrupts => "TLFS, HV_X64_MSR_ICR",
    the_command_register_keeps_the_command => "TLFS, HV_X64_MSR_ICR",
    the_command_register_reaches_every_processor => "TLFS, HV_X64_MSR_ICR",
    the_priority_register_is_cr8 => "TLFS, HV_X64_MSR_TPR",
    the_priority_register_holds_interrupts_back => "TLFS, HV_X64_MSR_TPR",
    end_of_interrupt_lets_the_next_one_come => "TLFS, HV_X64_MSR_EOI",
    end_of_interrupt_with_none_in_service_does_nothing => "TLFS, HV_X64_MSR_EOI",
    the_assist_page_register_keeps_what_is_written => "TLFS, Virtual Processor Assist Page",
    interrupts_end_by_the_assist_page => "TLFS, EOI Assist",
    interrupts_end_conventionally_with_the_assist_page_on => "TLFS, EOI Assist",
    the_kernel_uses_the_assist_page_where_recommended => "TLFS §2.4 leaf 0x40000004",
    registers_are_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
    writing_registers_is_refused_without_the_privilege => "TLFS §2.4 leaf 0x40000003",
]);

/// A fixed interrupt with [`CASE_VECTOR`], as the APIC's command register has it (Intel SDM vol. 3, Interrupt Command
/// Register): bit 14 assert.
const COMMAND: u32 = 1 << 14 | CASE_VECTOR as u32;

fn msrs() -> Result<ApicMsrs<X86Cpu>, Problem> {
    let hv = need(Privileges::APIC_ACCESS)?;
    ApicMsrs::new(CPU, hv).ok_or(Problem::Fail("the library refuses the registers".into()))
}

/// The registers in the mode that they are made for.
fn xapic_msrs() -> Result<ApicMsrs<X86Cpu>, Problem> {
    let msrs = msrs()?;
    if apic::is_x2apic() {
        skip!(
            "x2APIC mode has a command register of its own as an MSR; `apic=xapic` tries this one"
        );
    }
    Ok(msrs)
}

/// Sends one interrupt to the processor with this APIC identifier.
fn send(msrs: &ApicMsrs<X86Cpu>, to: u32) -> TestResult {
    let to = u8::try_from(to).map_err(|_| Problem::Skip("an APIC identifier above 255".into()))?;
    // SAFETY: the vector is the cases' own.
    unsafe { msrs.send(to, COMMAND) };
    Ok(())
}

fn the_command_register_sends_interrupts() -> TestResult {
    let (msrs, vector) = (xapic_msrs()?, CaseVector::new());
    for count in 1..=3 {
        send(&msrs, vp::current().apic_id)?;
        check!(holds_soon(|| vector.count() == count), "{} came, not {count}", vector.count());
    }
    Ok(())
}

fn the_command_register_keeps_the_command() -> TestResult {
    let (msrs, vector) = (xapic_msrs()?, CaseVector::new());
    send(&msrs, vp::current().apic_id)?;
    let command = msrs.command();
    let expected = u64::from(vp::current().apic_id) << 56 | u64::from(COMMAND);
    check!(command == expected, "sent {expected:#x}, read {command:#x}");
    check!(holds_soon(|| vector.count() == 1), "no interrupt came");
    Ok(())
}

fn the_command_register_reaches_every_processor() -> TestResult {
    static BY: AtomicU64 = AtomicU64::new(0);
    let msrs = xapic_msrs()?;
    interrupts::set_handler(
        CASE_VECTOR,
        Some(|_| {
            BY.fetch_or(1 << vp::current_index(), Ordering::SeqCst);
        }),
    );
    let mut result = Ok(());
    for vp in vp::online() {
        BY.store(0, Ordering::SeqCst);
        result = result.and_then(|()| send(&msrs, vp.apic_id));
        let came = holds_soon(|| BY.load(Ordering::SeqCst) == 1 << vp.index);
        if !came && result.is_ok() {
            let by = BY.load(Ordering::SeqCst);
            result = Err(Problem::Fail(alloc::format!("sent to vp{}, came to {by:#b}", vp.index)));
        }
    }
    interrupts::set_handler(CASE_VECTOR, None);
    result
}

fn cr8() -> u64 {
    let value;
    // SAFETY: reading the task priority has no effect.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn set_cr8(value: u64) {
    // SAFETY: it holds interrupts back until it is zero again, which every case sees to.
    unsafe { asm!("mov cr8, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Lets all interrupts through when it goes.
struct NoPriority;

impl Drop for NoPriority {
    fn drop(&mut self) {
        set_cr8(0);
    }
}

fn the_priority_register_is_cr8() -> TestResult {
    let msrs = msrs()?;
    let _restored = NoPriority;
    for class in [0, 1, 3] {
        set_cr8(class);
        let read = msrs.task_priority();
        check!(u64::from(read >> 4) == class, "CR8 is {class}, the register {read:#x}");
    }
    for class in [2_u8, 1, 0] {
        msrs.set_task_priority(class << 4);
        check!(cr8() == u64::from(class), "the register is {:#x}, CR8 {}", class << 4, cr8());
    }
    Ok(())
}

fn the_priority_register_holds_interrupts_back() -> TestResult {
    let (msrs, vector) = (msrs()?, CaseVector::new());
    let restored = NoPriority;
    msrs.set_task_priority(CASE_VECTOR & 0xF0);
    apic::send(vp::current().apic_id, CASE_VECTOR);
    let quiet = stays_quiet(|| vector.count() != 0);
    msrs.set_task_priority(0);
    drop(restored);
    check!(quiet, "an interrupt of the same class came");
    check!(holds_soon(|| vector.count() == 1), "it did not come when the priority was 0 again");
    Ok(())
}

fn end_of_interrupt_lets_the_next_one_come() -> TestResult {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    need(Privileges::APIC_ACCESS)?;
    if eoi::assist().is_some() {
        skip!("the kernel ends interrupts by the assist page here");
    }
    COUNT.store(0, Ordering::SeqCst);
    // The kernel writes its own EOI behind the handler, for nothing: it has no interrupt in service then.
    let end = |_| {
        if let Some(msrs) = hyperv::interface().and_then(|hv| ApicMsrs::new(CPU, hv)) {
            msrs.end_of_interrupt();
        }
        COUNT.fetch_add(1, Ordering::SeqCst);
    };
    interrupts::set_handler(CASE_VECTOR, Some(end));
    let came = (1..=3).all(|count| {
        apic::send(vp::current().apic_id, CASE_VECTOR);
        holds_soon(|| COUNT.load(Ordering::SeqCst) == count)
    });
    interrupts::set_handler(CASE_VECTOR, None);
    check!(came, "{} of 3 interrupts came", COUNT.load(Ordering::SeqCst));
    Ok(())
}

fn end_of_interrupt_with_none_in_service_does_nothing() -> TestResult {
    let (msrs, vector) = (msrs()?, CaseVector::new());
    msrs.end_of_interrupt();
    apic::send(vp::current().apic_id, CASE_VECTOR);
    check!(holds_soon(|| vector.count() == 1), "{} interrupts came", vector.count());
    Ok(())
}

/// A page of this processor, on instead of the kernel's until it goes.
struct Assist {
    assist: EoiAssist<X86Cpu>,
    _register: Restored,
}

impl Assist {
    fn new() -> Result<Self, Problem> {
        let hv = need(Privileges::APIC_ACCESS)?;
        if eoi::assist().is_some() {
            skip!("the kernel uses the assist page itself here, in every case");
        }
        let page: &'static VpAssistPage = Box::leak(Box::default());
        let gpa = Gpa((&raw const *page).addr() as u64);
        let register = Restored::new(HV_X64_MSR_VP_ASSIST_PAGE);
        // SAFETY: a page of our own, given away for good; virtual is physical.
        match unsafe { EoiAssist::enable(CPU, hv, page, gpa) } {
            Ok(assist) => Ok(Self { assist, _register: register }),
            Err(error) => Err(Problem::Fail(alloc::format!("{error}"))),
        }
    }
}

fn the_assist_page_register_keeps_what_is_written() -> TestResult {
    need(Privileges::APIC_ACCESS)?;
    // SAFETY: the privilege is there; reading has no effect.
    let read = || unsafe { CPU.rdmsr(HV_X64_MSR_VP_ASSIST_PAGE) };
    if let Some(assist) = eoi::assist() {
        let page = (&raw const *assist.page()).addr() as u64;
        let register = read();
        let right =
            register & HV_MSR_PAGE_ADDRESS_MASK == page && register & HV_MSR_PAGE_ENABLE != 0;
        check!(right, "the register is {register:#x}, the page is at {page:#x}");
        return Ok(());
    }
    let ours = Assist::new()?;
    let page = (&raw const *ours.assist.page()).addr() as u64;
    check!(read() & !0xFFE == page | HV_MSR_PAGE_ENABLE, "{:#x}, not {page:#x}", read());
    ours.assist.disable();
    check!(read() & HV_MSR_PAGE_ENABLE == 0, "it stays enabled: {:#x}", read());
    Ok(())
}

fn interrupts_end_by_the_assist_page() -> TestResult {
    const TIMES: u64 = 20;
    let Some(assist) = eoi::assist() else {
        recommended(Recommendations::APIC_ACCESS)?;
        check!(false, "the page is recommended, and the kernel has none");
        return Ok(());
    };
    let vector = CaseVector::new();
    let before = eoi::counts();
    for count in 1..=TIMES {
        apic::send(vp::current().apic_id, CASE_VECTOR);
        check!(holds_soon(|| vector.count() == count), "{} came, not {count}", vector.count());
    }
    let (by_page, by_register) = eoi::counts();
    check!(by_page + by_register >= before.0 + before.1 + TIMES, "some were not ended");
    check!(assist.page().apic_assist() & !1 == 0, "{:#x}", assist.page().apic_assist());
    log::debug!("{} ended by the page, {} not", by_page - before.0, by_register - before.1);
    Ok(())
}

fn interrupts_end_conventionally_with_the_assist_page_on() -> TestResult {
    let (_ours, vector) = (Assist::new()?, CaseVector::new());
    for count in 1..=20 {
        apic::send(vp::current().apic_id, CASE_VECTOR);
        check!(holds_soon(|| vector.count() == count), "{} came, not {count}", vector.count());
    }
    Ok(())
}

fn the_kernel_uses_the_assist_page_where_recommended() -> TestResult {
    need(Privileges::APIC_ACCESS)?;
    let wanted = recommended(Recommendations::APIC_ACCESS).is_ok();
    let used = on_each_vp(|_| u64::from(eoi::assist().is_some()));
    check!(
        used.iter().all(|&used| (used == 1) == wanted),
        "recommended: {wanted}; used, by processor: {used:?}"
    );
    Ok(())
}

fn registers_are_refused_without_the_privilege() -> TestResult {
    without(Privileges::APIC_ACCESS)?;
    [HV_X64_MSR_ICR, HV_X64_MSR_TPR, HV_X64_MSR_VP_ASSIST_PAGE].into_iter().try_for_each(refused)
}

fn writing_registers_is_refused_without_the_privilege() -> TestResult {
    without(Privileges::APIC_ACCESS)?;
    for msr in [HV_X64_MSR_EOI, HV_X64_MSR_TPR, HV_X64_MSR_VP_ASSIST_PAGE] {
        // SAFETY: no interrupt is in service, the priority is 0, and there is no page.
        unsafe { refused_writing(msr, 0) }?;
    }
    Ok(())
}
