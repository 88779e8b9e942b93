//! The virtual processor's own number.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use hv_abi::cpuid::Privileges;
use hv_abi::msr::HV_X64_MSR_VP_INDEX;

use crate::cpu::Cpu;
use crate::detect::HyperV;

/// The index by which the hypervisor knows the processor that runs this; `None` without the privilege.
///
/// It need not equal the APIC ID. It does not change, so a kernel reads it once on each processor.
pub fn vp_index<C: Cpu>(cpu: &C, hv: &HyperV) -> Option<u32> {
    if !hv.privileges().contains(Privileges::VP_INDEX) {
        return None;
    }
    // SAFETY: the privilege says that the register exists; reading it has no effect.
    let value = unsafe { cpu.rdmsr(HV_X64_MSR_VP_INDEX) };
    u32::try_from(value).ok()
}
