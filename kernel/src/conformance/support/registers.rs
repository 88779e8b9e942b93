//! Model-specific registers that may not be there: an access gives a value or the fault it raised.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

use core::cell::Cell;

use hv_enlightenments::Cpu;

use crate::conformance::{Problem, TestResult};
use crate::machine::cpu::CPU;
use crate::machine::fault::{self, Fault, GENERAL_PROTECTION};

/// Reads a register.
pub(crate) fn read(msr: u32) -> Result<u64, Fault> {
    let value = Cell::new(0);
    // SAFETY: reading a synthetic register has no effect on memory, and a fault is expected.
    match fault::expect(|| value.set(unsafe { CPU.rdmsr(msr) })) {
        None => Ok(value.get()),
        Some(fault) => Err(fault),
    }
}

/// Writes a register.
///
/// # Safety
///
/// What the value makes the hypervisor do, if it takes it, is sound.
pub(crate) unsafe fn write(msr: u32, value: u64) -> Result<(), Fault> {
    // SAFETY: the caller vouches for the value; a fault is expected.
    match fault::expect(|| unsafe { CPU.wrmsr(msr, value) }) {
        None => Ok(()),
        Some(fault) => Err(fault),
    }
}

/// Fails unless reading the register raises a general protection fault.
pub(crate) fn reading_faults(msr: u32) -> TestResult {
    faults(msr, "reading", read(msr).err())
}

/// Fails unless writing the register raises a general protection fault.
///
/// # Safety
///
/// As [`write()`].
pub(crate) unsafe fn writing_faults(msr: u32, value: u64) -> TestResult {
    // SAFETY: the caller vouches for it.
    faults(msr, "writing", unsafe { write(msr, value) }.err())
}

fn faults(msr: u32, what: &str, fault: Option<Fault>) -> TestResult {
    match fault {
        Some(Fault { vector: GENERAL_PROTECTION, .. }) => Ok(()),
        Some(other) => Err(Problem::Fail(alloc::format!(
            "{what} register {msr:#x} raised exception {} and not general protection",
            other.vector
        ))),
        None => Err(Problem::Fail(alloc::format!("{what} register {msr:#x} raised no fault"))),
    }
}

/// Ends the case with what is known of a register that should have been refused: KVM grants all of them to a guest whose
/// host does not enforce its CPUID leaves. Ours does.
fn granted(result: TestResult) -> TestResult {
    let enforced = crate::machine::hyperv::detect().host.is_some();
    if result.is_err() && !enforced {
        crate::conformance::deviates!(
            "the privilege is not enforced (KVM without KVM_CAP_HYPERV_ENFORCE_CPUID)",
            "TLFS §2.4 leaf 0x40000003"
        );
    }
    result
}

/// As [`reading_faults`], for a register whose privilege is missing.
pub(crate) fn refused(msr: u32) -> TestResult {
    granted(reading_faults(msr))
}

/// As [`writing_faults`], for a register whose privilege is missing.
///
/// # Safety
///
/// As [`write()`].
pub(crate) unsafe fn refused_writing(msr: u32, value: u64) -> TestResult {
    // SAFETY: the caller vouches for it.
    granted(unsafe { writing_faults(msr, value) })
}
