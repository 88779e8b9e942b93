//! The processor: what it can do, read once, and the instructions that Rust has no words for.

#![expect(unsafe_code, reason = "inline assembly and control registers")]

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_enlightenments::X86Cpu;
use x86_64::registers::control::{Cr0, Cr0Flags, Efer, EferFlags};

/// The token that stands for ring 0 on a real processor.
// SAFETY: this program is a kernel and runs nowhere else.
pub(crate) const CPU: X86Cpu = unsafe { X86Cpu::new() };

const HAS_X2APIC: u32 = 1 << 0;
const HAS_NX: u32 = 1 << 1;

/// CPUID costs an exit under a hypervisor, so what is needed of it is kept here.
static FEATURES: AtomicU32 = AtomicU32::new(0);

/// Reads the features. Once, before anything asks for them.
pub(crate) fn detect() {
    let mut features = 0;
    if __cpuid_count(1, 0).ecx & 1 << 21 != 0 {
        features |= HAS_X2APIC;
    }
    let has_extended = __cpuid_count(0x8000_0000, 0).eax > 0x8000_0000;
    if has_extended && __cpuid_count(0x8000_0001, 0).edx & 1 << 20 != 0 {
        features |= HAS_NX;
    }
    FEATURES.store(features, Ordering::Relaxed);
}

/// Whether the local APIC can be driven through model-specific registers.
pub(crate) fn has_x2apic() -> bool {
    FEATURES.load(Ordering::Relaxed) & HAS_X2APIC != 0
}

/// Whether pages can be made not executable.
pub(crate) fn has_nx() -> bool {
    FEATURES.load(Ordering::Relaxed) & HAS_NX != 0
}

/// The identifier with which this processor's local APIC has come up, in whatever mode it is.
pub(crate) fn initial_apic_id() -> u32 {
    if __cpuid_count(0, 0).eax >= 0xB {
        let leaf = __cpuid_count(0xB, 0);
        if leaf.ebx != 0 {
            return leaf.edx;
        }
    }
    __cpuid_count(1, 0).ebx >> 24
}

/// Makes the processor obey the protections of the page tables. On each processor, before CR3 is loaded.
pub(crate) fn enable_protections() {
    if has_nx() {
        // SAFETY: the processor has the bit; no page table in use has it set by accident.
        unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    }
    // SAFETY: nothing writes to read-only pages by design.
    unsafe { Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT)) };
}

/// Waits for an interrupt, then returns with interrupts off.
///
/// An interrupt that comes before the wait begins ends it too: STI takes effect after the next instruction.
pub(crate) fn wait_for_interrupt() {
    // SAFETY: handlers are installed before the first call; they preserve all registers.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// As [`wait_for_interrupt`], by reading a register that makes the processor sleep until one comes.
///
/// With interrupts on: a hypervisor can then wait as it does for HLT, and need not look for masked ones.
///
/// # Safety
///
/// Reading `msr` does that and nothing else.
pub(crate) unsafe fn wait_for_interrupt_by_reading(msr: u32) {
    // SAFETY: as in `wait_for_interrupt`; the caller vouches for the register.
    unsafe {
        asm!("sti", "rdmsr", "cli", in("ecx") msr, out("eax") _, out("edx") _, options(nostack));
    }
}

/// Stops this processor for good.
pub(crate) fn stop() -> ! {
    loop {
        // SAFETY: nothing is left to do here; an NMI may end the wait, hence the loop.
        unsafe { asm!("cli", "hlt", options(nostack, nomem)) };
    }
}

/// The time stamp counter, not ordered with anything.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every 64-bit processor has the instruction, and ring 0 may use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A wait of unknown, short length.
pub(crate) fn pause() {
    core::hint::spin_loop();
}
