//! What needs no ring 0: a hypercall is a call of whatever lies in the page.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::*;

// Stand-ins for a hypercall page. Both destroy every register that the Microsoft x64 convention calls volatile.
global_asm!(
    ".globl enl_test_registers, enl_test_page, enl_test_xmm_page, enl_test_output_page",
    ".pushsection .bss",
    ".p2align 4",
    "enl_test_registers: .zero 120",
    ".popsection",
    ".macro enl_test_destroy",
    "mov rcx, -1",
    "mov rdx, -1",
    "mov r8, -1",
    "mov r9, -1",
    "mov r10, -1",
    "mov r11, -1",
    "pcmpeqd xmm0, xmm0",
    "pcmpeqd xmm1, xmm1",
    "pcmpeqd xmm2, xmm2",
    "pcmpeqd xmm3, xmm3",
    "pcmpeqd xmm4, xmm4",
    "pcmpeqd xmm5, xmm5",
    ".endm",
    "enl_test_page:",
    "lea rax, [rcx + 2 * rdx]",
    "lea rax, [rax + 4 * r8]",
    "enl_test_destroy",
    "ret",
    "enl_test_xmm_page:",
    "lea rax, [rip + enl_test_registers]",
    "mov [rax], rdx",
    "mov [rax + 8], r8",
    "movups [rax + 16], xmm0",
    "movups [rax + 32], xmm1",
    "movups [rax + 48], xmm2",
    "movups [rax + 64], xmm3",
    "movups [rax + 80], xmm4",
    "movups [rax + 96], xmm5",
    "mov [rax + 112], rcx",
    // An aligned stack, as the convention has it: 8 modulo 16 after the call.
    "mov rax, rsp",
    "and rax, 15",
    "enl_test_destroy",
    "ret",
    // Returns its own input value and doubles each register that may hold output.
    "enl_test_output_page:",
    "mov rax, rcx",
    "add rdx, rdx",
    "add r8, r8",
    "paddq xmm0, xmm0",
    "paddq xmm1, xmm1",
    "paddq xmm2, xmm2",
    "paddq xmm3, xmm3",
    "paddq xmm4, xmm4",
    "paddq xmm5, xmm5",
    "mov r9, -1",
    "mov r10, -1",
    "mov r11, -1",
    "mov rcx, -1",
    "ret",
);

unsafe extern "C" {
    safe static enl_test_page: u8;
    safe static enl_test_xmm_page: u8;
    safe static enl_test_output_page: u8;
    safe static enl_test_registers: [AtomicU64; 15];
}

fn cpu() -> X86Cpu {
    // SAFETY: these tests use nothing that needs ring 0.
    unsafe { X86Cpu::new() }
}

#[test]
fn a_hypercall_passes_three_registers_and_survives_a_page_that_destroys_the_volatile_ones() {
    let page = NonNull::from(&enl_test_page);
    let kept = core::hint::black_box([3.5_f64, 7.25]);
    // SAFETY: the page is code that returns a sum.
    let rax = unsafe { cpu().hypercall(page, 1 << 32, 10, 1000) };
    assert_eq!(rax, (1 << 32) + 20 + 4000);
    assert_eq!(core::hint::black_box(kept)[0] + kept[1], 10.75);
}

#[test]
fn an_xmm_hypercall_loads_all_registers_in_memory_order() {
    let page = NonNull::from(&enl_test_xmm_page);
    let word = |n: u64| 0x0101_0101_0101_0101 * n;
    let input = FastRegisters {
        general: [word(1), word(2)],
        xmm: core::array::from_fn(|n| [word(3 + 2 * n as u64), word(4 + 2 * n as u64)]),
    };
    // SAFETY: the page is code that stores the registers.
    let misalignment = unsafe { cpu().hypercall_xmm(page, 0x1_0003, &input) };
    assert_eq!(misalignment, 8);
    let seen: [u64; 15] = core::array::from_fn(|n| enl_test_registers[n].load(Ordering::Relaxed));
    assert_eq!(seen[..14], core::array::from_fn::<_, 14, _>(|n| word(n as u64 + 1)));
    assert_eq!(seen[14], 0x1_0003);
}

#[test]
fn an_xmm_hypercall_with_output_stores_all_registers_in_memory_order() {
    let page = NonNull::from(&enl_test_output_page);
    let word = |n: u64| 0x0101_0101_0101_0101 * n;
    let mut registers = FastRegisters {
        general: [word(1), word(2)],
        xmm: core::array::from_fn(|n| [word(3 + 2 * n as u64), word(4 + 2 * n as u64)]),
    };
    // SAFETY: the page is code that changes the registers.
    let rax = unsafe { cpu().hypercall_xmm_output(page, 0x1_8001, &mut registers) };
    assert_eq!(rax, 0x1_8001);
    let seen = registers.general.iter().chain(registers.xmm.as_flattened());
    assert!(seen.copied().eq((1..=14).map(|n| 2 * word(n))), "{registers:x?}");
}

#[test]
fn the_time_stamp_counter_counts() {
    let first = cpu().rdtsc();
    assert!(cpu().rdtsc() > first);
}

#[test]
fn cpuid_names_the_vendor() {
    let leaf = cpu().cpuid(0);
    assert!(leaf.eax >= 1);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    assert!(name.as_flattened().is_ascii(), "{name:?}");
}
