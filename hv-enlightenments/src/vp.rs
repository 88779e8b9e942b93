//! The virtual processor's own number.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use hv_abi::cpuid::Privileges;
use hv_abi::msr::HV_X64_MSR_VP_INDEX;

use crate::cpu::Cpu;
use crate::detect::HyperV;

/// The index by which the hypervisor knows the processor that runs this; `None` without the privilege, or if
/// the register holds no index (more than 32 bits).
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

#[cfg(all(test, not(loom)))]
mod tests {
    use hv_abi::cpuid::Features;

    use super::*;
    use crate::cpu::fake::FakeCpu;

    fn index(privileges: Privileges, register: u64) -> (Option<u32>, usize) {
        let cpu = FakeCpu::new();
        cpu.with_hyperv(privileges, Features::empty(), 0);
        cpu.set_msr(HV_X64_MSR_VP_INDEX, register);
        let hv = HyperV::detect(&cpu).unwrap();
        (vp_index(&cpu, &hv), cpu.msr_reads().len())
    }

    #[test]
    fn the_index_is_the_registers_value() {
        assert_eq!(index(Privileges::VP_INDEX, 63), (Some(63), 1));
    }

    #[test]
    fn without_the_privilege_the_register_is_not_read() {
        assert_eq!(index(Privileges::all() - Privileges::VP_INDEX, 63), (None, 0));
    }

    #[test]
    fn a_value_that_is_no_index_is_none() {
        assert_eq!(index(Privileges::VP_INDEX, 1 << 32), (None, 1));
    }
}
