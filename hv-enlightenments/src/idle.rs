//! Idling with interrupts masked: the guest idle register.
//!
//! `sti; hlt` ends when an interrupt is taken. The guest idle state ends when an interrupt *arrives*, masked or
//! not (TLFS *Virtual Processor Idle Sleep State*), so code that may not take interrupts, a lock's waiting loop for
//! one, can sleep until another processor kicks it.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::HV_X64_MSR_GUEST_IDLE;

use crate::cpu::Cpu;
use crate::detect::HyperV;

/// The guest idle register. A value exists only where the partition may use it.
#[derive(Debug, Clone, Copy)]
pub struct GuestIdle<C> {
    cpu: C,
}

impl<C: Cpu> GuestIdle<C> {
    /// The register, if the partition has the privilege and the hypervisor the state.
    pub fn new(cpu: C, hv: &HyperV) -> Option<Self> {
        let offered = hv.privileges().contains(Privileges::GUEST_IDLE)
            && hv.features().contains(Features::GUEST_IDLE_STATE);
        offered.then_some(Self { cpu })
    }

    /// Puts the processor that runs this to sleep until an interrupt arrives for it.
    ///
    /// Call it with interrupts masked, after looking at the condition to wait for: an interrupt that came after the
    /// look is pending, and ends the wait at once. It stays pending until interrupts are unmasked. The
    /// wait may also end for no reason, so look again.
    pub fn wait(&self) {
        // SAFETY: the privilege says that the register exists; reading it only takes time.
        let _meaningless = unsafe { self.cpu.rdmsr(HV_X64_MSR_GUEST_IDLE) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::fake::FakeCpu;

    fn reads(privileges: Privileges, features: Features) -> Option<usize> {
        let cpu = FakeCpu::new();
        cpu.with_hyperv(privileges, features, 0);
        cpu.set_msr(HV_X64_MSR_GUEST_IDLE, 0);
        let hv = HyperV::detect(&cpu).unwrap();
        GuestIdle::new(&cpu, &hv)?.wait();
        assert!(cpu.msr_writes().is_empty());
        Some(cpu.msr_reads().iter().filter(|&&msr| msr == 0x4000_00F0).count())
    }

    #[test]
    fn waiting_reads_the_register_once() {
        assert_eq!(reads(Privileges::GUEST_IDLE, Features::GUEST_IDLE_STATE), Some(1));
    }

    #[test]
    fn it_takes_both_the_privilege_and_the_feature() {
        assert_eq!(reads(Privileges::GUEST_IDLE, Features::empty()), None);
        assert_eq!(reads(Privileges::empty(), Features::GUEST_IDLE_STATE), None);
        assert_eq!(reads(!Privileges::GUEST_IDLE, !Features::GUEST_IDLE_STATE), None);
    }
}
