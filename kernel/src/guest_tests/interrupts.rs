//! Interrupts between processors, and that they leave no trace in what they interrupt.

#![expect(unsafe_code, reason = "watches registers and the red zone in assembly")]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts::without_interrupts;

use super::each_vp::{argument, holds_soon, on_each_vp, on_each_vp_with};
use super::{TestResult, check, guest_test};
use crate::machine::interrupts::TEST_VECTOR;
use crate::machine::{apic, cpu, vp};

guest_test!(
    apic_mode_is_as_reported,
    every_processor_interrupts_every_other,
    an_interrupt_ends_a_halt,
    interrupts_leave_xmm_registers_alone,
    interrupts_leave_general_registers_alone,
    interrupts_leave_the_red_zone_alone,
    computing_under_a_storm_of_interrupts_gives_the_same,
);

fn counts() -> Vec<u64> {
    vp::online().map(|vp| vp.test_interrupts.load(Ordering::Acquire)).collect()
}

fn apic_mode_is_as_reported() -> TestResult {
    /// `IA32_APIC_BASE`: enabled, x2APIC.
    const ENABLE: u64 = 1 << 11;
    const X2APIC: u64 = 1 << 10;
    let expected = if apic::is_x2apic() { ENABLE | X2APIC } else { ENABLE };
    let modes = on_each_vp(|_| {
        // SAFETY: every 64-bit processor has the register.
        let base = unsafe { x86_64::registers::model_specific::Msr::new(0x1B).read() };
        base & (ENABLE | X2APIC)
    });
    check!(modes.iter().all(|&mode| mode == expected), "expected {expected:#x}, got {modes:x?}");
    Ok(())
}

/// In round `k` processor `i` interrupts processor `i + k`: each gets exactly one interrupt in a round.
fn every_processor_interrupts_every_other() -> TestResult {
    /// With many processors not every pair is tried.
    const MAX_ROUNDS: usize = 8;
    let count = vp::online().count();
    let last = (count > MAX_ROUNDS).then_some(count - 1);
    for round in (0..count.min(MAX_ROUNDS)).chain(last) {
        let before = counts();
        on_each_vp_with(round, |index| {
            let target = (index + argument()) % vp::online().count();
            let apic_id = vp::get(target).map_or(0, |vp| vp.apic_id);
            apic::send(apic_id, TEST_VECTOR);
            0
        });
        let expected: Vec<_> = before.iter().map(|count| count + 1).collect();
        check!(
            holds_soon(|| counts() == expected),
            "round {round}: counts {before:?} became {:?}",
            counts()
        );
    }
    Ok(())
}

fn an_interrupt_ends_a_halt() -> TestResult {
    let before = counts();
    on_each_vp(|_| {
        without_interrupts(|| {
            // Pending before the halt begins: it must end nevertheless.
            apic::send(vp::current().apic_id, TEST_VECTOR);
            cpu::wait_for_interrupt();
        });
        0
    });
    let expected: Vec<_> = before.iter().map(|count| count + 1).collect();
    check!(holds_soon(|| counts() == expected), "counts {before:?} became {:?}", counts());
    Ok(())
}

/// Looks for an interrupt that comes while `body` has interrupts on; gives it a few chances.
fn interrupted(mut body: impl FnMut() -> Result<(), String>) -> Result<bool, String> {
    for _ in 0..10 {
        let vp = vp::current();
        let before = vp.test_interrupts.load(Ordering::Acquire);
        let result = without_interrupts(|| {
            apic::send(vp.apic_id, TEST_VECTOR);
            body()
        });
        result?;
        if vp.test_interrupts.load(Ordering::Acquire) != before {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_interrupted(body: impl FnMut() -> Result<(), String>) -> TestResult {
    match interrupted(body) {
        Ok(came) => check!(came, "no interrupt came while interrupts were on"),
        Err(text) => check!(false, "{text}"),
    }
    Ok(())
}

fn interrupts_leave_xmm_registers_alone() -> TestResult {
    #[repr(align(16))]
    struct Registers([[u64; 2]; 16]);
    check_interrupted(|| {
        let pattern = Registers(core::array::from_fn(|n| [n as u64 + 1, !(n as u64)]));
        let mut after = Registers([[0; 2]; 16]);
        macro_rules! each_register {
            ($instruction:literal) => {
                concat!(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n", $instruction, "\n.endr")
            };
        }
        // SAFETY: loads and stores 256 bytes each; all XMM registers are declared as changed.
        unsafe {
            asm!(
                each_register!("movaps xmm\\n, [{from} + 16 * \\n]"),
                "sti",
                "mov ecx, 1000",
                "2:",
                "pause",
                "dec ecx",
                "jnz 2b",
                "cli",
                each_register!("movaps [{to} + 16 * \\n], xmm\\n"),
                from = in(reg) &pattern,
                to = in(reg) &mut after,
                out("ecx") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            );
        }
        if after.0 == pattern.0 {
            Ok(())
        } else {
            Err(format!("XMM0 to 15 are now {:x?}", after.0))
        }
    })
}

fn interrupts_leave_general_registers_alone() -> TestResult {
    check_interrupted(|| {
        let mut values = [1_u64, 2, 3, 4, 5, 6, 7, 8, 9];
        let [rax, rdx, rsi, rdi, r8, r9, r10, r11, rcx] = &mut values;
        *rcx = 1000;
        // SAFETY: changes only what is declared.
        unsafe {
            asm!(
                "sti",
                "2:",
                "pause",
                "dec rcx",
                "jnz 2b",
                "cli",
                inout("rax") * rax,
                inout("rdx") * rdx,
                inout("rsi") * rsi,
                inout("rdi") * rdi,
                inout("r8") * r8,
                inout("r9") * r9,
                inout("r10") * r10,
                inout("r11") * r11,
                inout("rcx") * rcx
            );
        }
        if values == [1, 2, 3, 4, 5, 6, 7, 8, 0] {
            Ok(())
        } else {
            Err(format!("they are now {values:?}"))
        }
    })
}

fn interrupts_leave_the_red_zone_alone() -> TestResult {
    check_interrupted(|| {
        let wrong: u64;
        // SAFETY: writes only below the stack pointer, to the 128 bytes that the ABI gives to leaf code.
        // `nostack` is left out, so that the compiler keeps nothing there.
        unsafe {
            asm!(
                "mov rcx, -128",
                "2:",
                "mov [rsp + rcx], rcx",
                "add rcx, 8",
                "jnz 2b",
                "sti",
                "mov ecx, 1000",
                "3:",
                "pause",
                "dec ecx",
                "jnz 3b",
                "cli",
                "xor eax, eax",
                "mov rcx, -128",
                "4:",
                "cmp [rsp + rcx], rcx",
                "setne dl",
                "movzx edx, dl",
                "add rax, rdx",
                "add rcx, 8",
                "jnz 4b",
                out("rax") wrong, out("rcx") _, out("rdx") _,
            );
        }
        if wrong == 0 { Ok(()) } else { Err(format!("{wrong} of 16 words have changed")) }
    })
}

/// A computation that keeps the precompiled `core` and SSE busy.
fn compute() -> (u64, String) {
    let mut sum = 0.0_f64;
    let mut text = String::new();
    for number in 1..200_u32 {
        sum += 1.0 / f64::from(number);
        if number % 20 == 0 {
            text = format!("{text}{sum:.6} {number:>5};");
        }
    }
    (sum.to_bits(), text)
}

fn computing_under_a_storm_of_interrupts_gives_the_same() -> TestResult {
    static CALM: AtomicBool = AtomicBool::new(false);
    let expected = compute();
    let before = counts();
    CALM.store(false, Ordering::Relaxed);
    let wrong = on_each_vp(|index| {
        if index == 0 {
            let first = compute();
            let wrong = (0..20).filter(|_| {
                apic::send(vp::current().apic_id, TEST_VECTOR);
                compute() != first
            });
            let wrong = wrong.count() as u64;
            CALM.store(true, Ordering::Relaxed);
            return wrong;
        }
        let target = vp::get(0).map_or(0, |vp| vp.apic_id);
        for _ in 0..100 {
            if CALM.load(Ordering::Relaxed) {
                break;
            }
            apic::send(target, TEST_VECTOR);
        }
        0
    });
    check!(wrong.iter().all(|&wrong| wrong == 0), "{} results of 20 differ", wrong[0]);
    check!(counts()[0] > before[0], "no interrupt came");
    let after = compute();
    check!(after == expected, "the result was {expected:?}, is now {after:?}");
    Ok(())
}
