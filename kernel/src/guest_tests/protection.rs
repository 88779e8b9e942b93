//! Memory protection and exceptions: what must fault does, with the right vector, code and address.

#![expect(unsafe_code, reason = "does what is forbidden, on purpose")]

use core::arch::asm;
use core::sync::atomic::AtomicU8;

use kernel::PAGE_SIZE;
use x86_64::registers::control::{Cr0, Cr0Flags, Efer, EferFlags};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::each_vp::on_each_vp;
use super::{TestResult, check, guest_test};
use crate::machine::fault::{self, Fault, GENERAL_PROTECTION, PAGE_FAULT};
use crate::machine::stacks::{Stack, Stacks};
use crate::machine::{cpu, memory, vp};

guest_test!(
    writing_to_code_faults,
    writing_to_constants_faults,
    executing_data_faults,
    page_zero_is_not_mapped,
    guard_pages_are_not_mapped,
    a_stack_that_overflows_hits_its_guard,
    no_page_is_both_writable_and_executable,
    protections_are_on_everywhere,
    exceptions_say_what_they_are,
    every_processor_recovers_from_faults,
);

/// Page fault error code: the page was present.
const PRESENT: u64 = 1 << 0;
/// Page fault error code: by a write.
const WRITE: u64 = 1 << 1;
/// Page fault error code: by an instruction fetch.
const FETCH: u64 = 1 << 4;

fn read(address: u64) -> Option<Fault> {
    fault::expect(|| {
        // SAFETY: reads one byte, or faults, which is expected.
        unsafe { asm!("mov al, [{}]", in(reg) address, out("al") _, options(nostack, readonly)) };
    })
}

/// Writes a zero, which is expected to fault.
fn write(address: u64) -> Option<Fault> {
    fault::expect(|| {
        // SAFETY: faults, which is expected; if not, the test fails and this kernel is beyond help.
        unsafe { asm!("mov byte ptr [{}], 0", in(reg) address, options(nostack)) };
    })
}

fn page_fault(error_code: u64, address: u64) -> Option<Fault> {
    Some(Fault { vector: PAGE_FAULT, error_code, address })
}

fn writing_to_code_faults() -> TestResult {
    let text = memory::text();
    for address in [text.start, text.start + text.len() / 2, text.end - 1] {
        let fault = write(address);
        check!(fault == page_fault(PRESENT | WRITE, address), "at {address:#x}: {fault:x?}");
    }
    Ok(())
}

fn writing_to_constants_faults() -> TestResult {
    let rodata = memory::rodata();
    for address in [rodata.start, rodata.end - 1] {
        let fault = write(address);
        check!(fault == page_fault(PRESENT | WRITE, address), "at {address:#x}: {fault:x?}");
    }
    Ok(())
}

fn executing_data_faults() -> TestResult {
    if !cpu::has_nx() {
        super::skip!("the processor can't forbid execution");
    }
    static CODE: AtomicU8 = AtomicU8::new(0);
    let on_heap = alloc::boxed::Box::new(0xC3_u8);
    for address in [(&raw const *on_heap).addr(), (&raw const CODE).addr()] {
        let fault = fault::expect(|| {
            // SAFETY: a lone RET or 0, which are never reached: the fetch faults, as is expected.
            unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
        });
        let expected = page_fault(PRESENT | FETCH, address as u64);
        check!(fault == expected, "at {address:#x}: {fault:x?}");
    }
    Ok(())
}

fn page_zero_is_not_mapped() -> TestResult {
    for address in [0, 8, PAGE_SIZE - 1] {
        let fault = read(address);
        check!(fault == page_fault(0, address), "reading {address:#x}: {fault:x?}");
        let fault = write(address);
        check!(fault == page_fault(WRITE, address), "writing {address:#x}: {fault:x?}");
    }
    Ok(())
}

fn guard_pages_are_not_mapped() -> TestResult {
    for vp in vp::online() {
        for stack in Stacks::ALL {
            let guard = vp.stacks.guard(stack);
            for address in [guard.start, guard.end - 1] {
                let fault = read(address);
                let expected = page_fault(0, address);
                check!(fault == expected, "{stack:?} stack of vp{}: {fault:x?}", vp.index);
            }
        }
    }
    let below = memory::boot_stack().start - 1;
    check!(read(below) == page_fault(0, below), "the boot stack has no guard");
    Ok(())
}

/// Recursion without end.
#[expect(unconditional_recursion, reason = "the stack is to overflow")]
#[inline(never)]
fn dig(depth: u64) -> u64 {
    let hole = core::hint::black_box([depth; 32]);
    dig(depth + 1) + core::hint::black_box(hole)[0]
}

fn a_stack_that_overflows_hits_its_guard() -> TestResult {
    let fault = fault::expect(|| {
        core::hint::black_box(dig(0));
    });
    let guard = vp::current().stacks.guard(Stack::Main);
    let hit =
        fault.is_some_and(|fault| fault.vector == PAGE_FAULT && guard.contains(fault.address));
    check!(hit, "{fault:x?}, the guard is {guard:x?}");
    Ok(())
}

fn no_page_is_both_writable_and_executable() -> TestResult {
    if !cpu::has_nx() {
        super::skip!("the processor can't forbid execution");
    }
    let usable = super::boot::the_machine()?.info.memory.usable();
    let usable = usable.unwrap_or_default();
    for range in usable.iter() {
        let mut address = range.start;
        while address < range.end {
            let flags = memory::flags(address).unwrap_or(Flags::empty());
            let both = flags.contains(Flags::WRITABLE) && !flags.contains(Flags::NO_EXECUTE);
            check!(!both, "the page at {address:#x} has flags {flags:?}");
            let step = if flags.contains(Flags::HUGE_PAGE) { 2 << 20 } else { PAGE_SIZE };
            address = (address & !(step - 1)) + step;
        }
    }
    Ok(())
}

fn protections_are_on_everywhere() -> TestResult {
    let on = on_each_vp(|_| {
        let write_protect = Cr0::read().contains(Cr0Flags::WRITE_PROTECT);
        let no_execute = Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE);
        u64::from(write_protect && no_execute == cpu::has_nx())
    });
    check!(on.iter().all(|&on| on == 1), "by processor: {on:?}");
    Ok(())
}

fn exceptions_say_what_they_are() -> TestResult {
    /// Not canonical: bits 63 to 47 are not all the same.
    const NO_ADDRESS: u64 = 0x8000_0000_0000_0000;
    let vector = |fault: Option<Fault>| fault.map(|fault| fault.vector);
    let divide = fault::expect(|| {
        // SAFETY: divides by zero, which is expected to fault.
        unsafe { asm!("xor edx, edx", "div {0:e}", in(reg) 0, inout("eax") 1 => _, out("edx") _) };
    });
    check!(vector(divide) == Some(0), "dividing by zero: {divide:x?}");
    // SAFETY: does nothing but fault, which is expected.
    let breakpoint = fault::expect(|| unsafe { asm!("int3") });
    check!(vector(breakpoint) == Some(3), "INT3: {breakpoint:x?}");
    // SAFETY: does nothing but fault, which is expected.
    let undefined = fault::expect(|| unsafe { asm!("ud2") });
    check!(vector(undefined) == Some(6), "UD2: {undefined:x?}");
    let protection = read(NO_ADDRESS);
    check!(vector(protection) == Some(GENERAL_PROTECTION), "at {NO_ADDRESS:#x}: {protection:x?}");
    Ok(())
}

fn every_processor_recovers_from_faults() -> TestResult {
    let faults = on_each_vp(|_| (0..10).filter(|_| read(0) == page_fault(0, 0)).count() as u64);
    check!(faults.iter().all(|&count| count == 10), "faults by processor: {faults:?}");
    Ok(())
}
