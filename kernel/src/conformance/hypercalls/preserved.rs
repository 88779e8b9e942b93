//! What a call leaves alone.

#![expect(unsafe_code, reason = "calls the page with every register known")]

use core::arch::asm;

use hv_abi::hypercall::HypercallInput;
use hv_enlightenments::cpu::FastRegisters;
use x86_64::instructions::interrupts::{self, without_interrupts};

use super::existing_call;
use crate::conformance::support::calls::{UNKNOWN_CODE, calls, raw};
use crate::conformance::{TestResult, cases, check};

cases!(Hypercalls: [
    a_call_changes_no_general_register_but_rax => "TLFS Volatile Registers",
    a_refused_call_changes_no_general_register_but_rax => "TLFS Volatile Registers",
    a_call_changes_no_xmm_register => "TLFS Volatile Registers",
    a_call_with_interrupts_off_leaves_them_off => "TLFS Legal Hypercall Environments",
]);

/// RDX, RBX, RSI, RDI, R8 to R15 after a call that found them as 1, 2, ….
fn registers_after(input: HypercallInput) -> Result<[u64; 13], crate::conformance::Problem> {
    let page = calls()?.entry().as_ptr();
    let mut registers = [0_u64; 13];
    // SAFETY: a fast call that names no memory; every register it might change is saved or declared. The array's
    // and the page's addresses are kept on the stack meanwhile.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push rdi",
            "push rax",
            "mov edx, 1", "mov ebx, 2", "mov esi, 3", "mov edi, 4", "mov r8d, 5", "mov r9d, 6",
            "mov r10d, 7", "mov r11d, 8", "mov r12d, 9", "mov r13d, 10", "mov r14d, 11",
            "mov r15d, 12", "mov ebp, 13",
            "call [rsp]",
            "add rsp, 8",
            "mov rax, rdi",
            "pop rdi",
            "mov [rdi], rdx", "mov [rdi + 8], rbx", "mov [rdi + 16], rsi", "mov [rdi + 24], rax",
            "mov [rdi + 32], r8", "mov [rdi + 40], r9", "mov [rdi + 48], r10",
            "mov [rdi + 56], r11", "mov [rdi + 64], r12", "mov [rdi + 72], r13",
            "mov [rdi + 80], r14", "mov [rdi + 88], r15", "mov [rdi + 96], rbp",
            "pop rbp",
            "pop rbx",
            in("rdi") registers.as_mut_ptr(),
            inout("rax") page => _,
            inout("rcx") input.0 => _,
            out("rdx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    Ok(registers)
}

fn unchanged(input: HypercallInput) -> TestResult {
    let found = registers_after(input)?;
    let expected = core::array::from_fn(|index| index as u64 + 1);
    check!(
        found == expected,
        "RDX, RBX, RSI, RDI, R8 to R15, RBP were {expected:?}, are {found:x?}"
    );
    Ok(())
}

fn a_call_changes_no_general_register_but_rax() -> TestResult {
    unchanged(HypercallInput::new(existing_call()?).fast())
}

fn a_refused_call_changes_no_general_register_but_rax() -> TestResult {
    calls()?;
    unchanged(HypercallInput::new(UNKNOWN_CODE).fast())
}

fn a_call_changes_no_xmm_register() -> TestResult {
    let page = calls()?.entry().as_ptr();
    let input = HypercallInput::new(existing_call()?).fast();
    let pattern: FastRegisters = FastRegisters {
        general: [0; 2],
        xmm: core::array::from_fn(|n| [n as u64 + 1, !(n as u64)]),
    };
    let mut after = FastRegisters::default();
    // SAFETY: a fast call that names no memory; loads and stores 96 bytes of aligned blocks.
    unsafe {
        asm!(
            "movaps xmm0, [{from}]", "movaps xmm1, [{from} + 16]", "movaps xmm2, [{from} + 32]",
            "movaps xmm3, [{from} + 48]", "movaps xmm4, [{from} + 64]", "movaps xmm5, [{from} + 80]",
            "call {page}",
            "movaps [{to}], xmm0", "movaps [{to} + 16], xmm1", "movaps [{to} + 32], xmm2",
            "movaps [{to} + 48], xmm3", "movaps [{to} + 64], xmm4", "movaps [{to} + 80], xmm5",
            from = in(reg) pattern.xmm.as_ptr(),
            to = in(reg) after.xmm.as_mut_ptr(),
            page = in(reg) page,
            inout("rcx") input.0 => _,
            inout("rdx") 0_u64 => _,
            inout("r8") 0_u64 => _,
            out("rax") _, out("r9") _, out("r10") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _,
        );
    }
    check!(after.xmm == pattern.xmm, "they are now {:x?}", after.xmm);
    Ok(())
}

fn a_call_with_interrupts_off_leaves_them_off() -> TestResult {
    let input = HypercallInput::new(existing_call()?).fast();
    let (status, enabled) = without_interrupts(|| (raw(input, 0, 0), interrupts::are_enabled()));
    status?.ok();
    check!(!enabled, "they are on");
    Ok(())
}
