//! How fast the time stamp counter and the local APIC's timer run, and whether the former is invariant.

use core::num::NonZeroU64;

use hv_abi::clock::HV_EXPOSE_INVARIANT_TSC;
use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::{
    HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_TSC_FREQUENCY, HV_X64_MSR_TSC_INVARIANT_CONTROL,
};

use crate::cpu::Cpu;
use crate::detect::HyperV;

/// Frequencies by the hypervisor's word, in Hz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequencies {
    /// The time stamp counter's.
    pub tsc_hz: NonZeroU64,
    /// The local APIC timer's, before its divider.
    pub apic_hz: NonZeroU64,
}

impl Frequencies {
    /// Asks; `None` if privilege and feature are not both there, or a frequency is zero. A hypervisor can be wrong:
    /// a kernel that has another source compares.
    pub fn read<C: Cpu>(cpu: &C, hv: &HyperV) -> Option<Self> {
        let offered = hv.privileges().contains(Privileges::FREQUENCIES)
            && hv.features().contains(Features::FREQUENCY_MSRS);
        if !offered {
            return None;
        }
        // SAFETY: privilege and feature say that the register exists; reading it has no effect.
        let read = |msr| NonZeroU64::new(unsafe { cpu.rdmsr(msr) });
        Some(Self {
            tsc_hz: read(HV_X64_MSR_TSC_FREQUENCY)?,
            apic_hz: read(HV_X64_MSR_APIC_FREQUENCY)?,
        })
    }
}

/// Has the processor show that its time stamp counter is invariant (CPUID `0x8000_0007`), which a hypervisor with
/// this privilege hides from guests that don't ask. Once for the partition. Whether it does now.
pub fn expose_invariant_tsc<C: Cpu>(cpu: &C, hv: &HyperV) -> bool {
    if !hv.privileges().contains(Privileges::TSC_INVARIANT) {
        return false;
    }
    // SAFETY: the privilege says that the register exists; reading it has no effect.
    let read = || unsafe { cpu.rdmsr(HV_X64_MSR_TSC_INVARIANT_CONTROL) };
    let wanted = read() | HV_EXPOSE_INVARIANT_TSC;
    // SAFETY: as above; it changes what CPUID says.
    unsafe { cpu.wrmsr(HV_X64_MSR_TSC_INVARIANT_CONTROL, wanted) };
    read() & HV_EXPOSE_INVARIANT_TSC != 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::fake::FakeCpu;

    const OFFERED: (Privileges, Features) = (Privileges::FREQUENCIES, Features::FREQUENCY_MSRS);

    fn frequencies(
        (privileges, features): (Privileges, Features),
        tsc_hz: u64,
        apic_hz: u64,
    ) -> (Option<Frequencies>, usize) {
        let cpu = FakeCpu::new();
        cpu.with_hyperv(privileges, features, 0);
        cpu.set_msr(HV_X64_MSR_TSC_FREQUENCY, tsc_hz);
        cpu.set_msr(HV_X64_MSR_APIC_FREQUENCY, apic_hz);
        let hv = HyperV::detect(&cpu).unwrap();
        (Frequencies::read(&&cpu, &hv), cpu.msr_reads().len())
    }

    #[test]
    fn the_frequencies_are_the_registers_values() {
        let (found, _) = frequencies(OFFERED, 2_500_000_000, 200_000_000);
        let found = found.unwrap();
        assert_eq!((found.tsc_hz.get(), found.apic_hz.get()), (2_500_000_000, 200_000_000));
    }

    #[test]
    fn a_frequency_of_zero_is_none() {
        assert_eq!(frequencies(OFFERED, 0, 1).0, None);
        assert_eq!(frequencies(OFFERED, 1, 0).0, None);
    }

    #[test]
    fn without_privilege_or_feature_nothing_is_read() {
        let (privilege, feature) = OFFERED;
        assert_eq!(frequencies((privilege, Features::empty()), 1, 1), (None, 0));
        assert_eq!(frequencies((Privileges::empty(), feature), 1, 1), (None, 0));
    }

    fn invariant(privileges: Privileges) -> (&'static FakeCpu, HyperV) {
        let cpu: &'static FakeCpu = alloc::boxed::Box::leak(alloc::boxed::Box::default());
        cpu.with_hyperv(privileges, Features::empty(), 0);
        cpu.set_msr(HV_X64_MSR_TSC_INVARIANT_CONTROL, 0x100);
        (cpu, HyperV::detect(cpu).unwrap())
    }

    #[test]
    fn the_invariant_counter_is_asked_for_once_with_other_bits_kept() {
        let (cpu, hv) = invariant(Privileges::TSC_INVARIANT);
        assert!(expose_invariant_tsc(&cpu, &hv));
        assert_eq!(cpu.msr_writes(), [(HV_X64_MSR_TSC_INVARIANT_CONTROL, 0x101)]);
        cpu.on_wrmsr(|_, _| 0);
        assert!(!expose_invariant_tsc(&cpu, &hv), "the hypervisor did not take it");
    }

    #[test]
    fn without_the_privilege_the_invariant_counter_is_not_asked_for() {
        let (cpu, hv) = invariant(Privileges::all() - Privileges::TSC_INVARIANT);
        assert!(!expose_invariant_tsc(&cpu, &hv));
        assert!(cpu.msr_writes().is_empty());
    }
}
