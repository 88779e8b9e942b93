//! Hearing of a time stamp counter whose frequency has changed, after a migration.
//!
//! **Theory.** A guest that hands the counter on to others (guests of its own, programs) must tell them before they see
//! the new frequency. So the hypervisor emulates the counter at its old frequency after a migration and interrupts
//! the guest; when the guest has told everybody, it ends the emulation.
//!
//! **Practice.** [`Reenlightenment::enable`]; in the handler, stop handing out time; [`Reenlightenment::finish`]; read
//! [`crate::clock::Frequencies`] anew.

use hv_abi::clock::{
    HV_TSC_EMULATION_ENABLED, HV_TSC_EMULATION_IN_PROGRESS, HvReenlightenmentControl,
};
use hv_abi::cpuid::Privileges;
use hv_abi::msr::{
    HV_X64_MSR_REENLIGHTENMENT_CONTROL, HV_X64_MSR_TSC_EMULATION_CONTROL,
    HV_X64_MSR_TSC_EMULATION_STATUS,
};

use crate::cpu::{Cpu, FIRST_INTERRUPT_VECTOR};
use crate::detect::HyperV;

/// Notifications of a changed counter are on, for the partition.
#[derive(Debug, Clone, Copy)]
pub struct Reenlightenment<C> {
    cpu: C,
}

impl<C: Cpu> Reenlightenment<C> {
    /// Asks for interrupts with `vector` on the processor with index `vp`, and for emulation until [`Self::finish`].
    ///
    /// `None` without the privilege `AccessReenlightenmentControls`, with a vector below 32, or if the hypervisor does
    /// not take it.
    pub fn enable(cpu: C, hv: &HyperV, vector: u8, vp: u32) -> Option<Self> {
        let allowed = hv.privileges().contains(Privileges::REENLIGHTENMENT);
        if !allowed || vector < FIRST_INTERRUPT_VECTOR {
            return None;
        }
        let this = Self { cpu };
        let control = HvReenlightenmentControl::new(vector, vp);
        this.write(HV_X64_MSR_REENLIGHTENMENT_CONTROL, control.0);
        this.write(HV_X64_MSR_TSC_EMULATION_CONTROL, HV_TSC_EMULATION_ENABLED);
        let taken = this.read(HV_X64_MSR_REENLIGHTENMENT_CONTROL) == control.0;
        if !taken {
            this.disable();
            return None;
        }
        Some(this)
    }

    /// Whether accesses to the counter are being emulated.
    pub fn is_emulated(&self) -> bool {
        self.read(HV_X64_MSR_TSC_EMULATION_STATUS) & HV_TSC_EMULATION_IN_PROGRESS != 0
    }

    /// Ends the emulation: from here on the counter runs at its new frequency.
    pub fn finish(&self) {
        let status = self.read(HV_X64_MSR_TSC_EMULATION_STATUS);
        self.write(HV_X64_MSR_TSC_EMULATION_STATUS, status & !HV_TSC_EMULATION_IN_PROGRESS);
    }

    /// Asks for no more interrupts and no emulation.
    pub fn disable(&self) {
        let control = self.read(HV_X64_MSR_REENLIGHTENMENT_CONTROL);
        let off = control & !HvReenlightenmentControl::ENABLED;
        self.write(HV_X64_MSR_REENLIGHTENMENT_CONTROL, off);
        self.write(HV_X64_MSR_TSC_EMULATION_CONTROL, 0);
    }

    fn read(&self, msr: u32) -> u64 {
        // SAFETY: `enable` checked the privilege: the register exists; reading it has no effect.
        unsafe { self.cpu.rdmsr(msr) }
    }

    fn write(&self, msr: u32, value: u64) {
        // SAFETY: the register exists; it changes how the counter is presented, and interrupts with a vector that the
        // caller has chosen.
        unsafe { self.cpu.wrmsr(msr, value) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::boxed::Box;

    use hv_abi::cpuid::Features;

    use super::*;
    use crate::cpu::fake::FakeCpu;

    const CONTROL: u32 = 0x4000_0106;
    const EMULATION: u32 = 0x4000_0107;
    const STATUS: u32 = 0x4000_0108;

    fn cpu_with(privileges: Privileges) -> (&'static FakeCpu, HyperV) {
        let cpu: &'static FakeCpu = Box::leak(Box::default());
        cpu.with_hyperv(privileges, Features::empty(), 0);
        for msr in [CONTROL, EMULATION, STATUS] {
            cpu.set_msr(msr, 0);
        }
        (cpu, HyperV::detect(cpu).unwrap())
    }

    #[test]
    fn a_migration_from_beginning_to_end() {
        let (cpu, hv) = cpu_with(Privileges::REENLIGHTENMENT);
        let on = Reenlightenment::enable(cpu, &hv, 0x60, 2).unwrap();
        assert_eq!(cpu.msr_writes(), [(CONTROL, 0x2_0001_0060), (EMULATION, 1)]);
        assert!(!on.is_emulated());
        cpu.set_msr(STATUS, 1);
        assert!(on.is_emulated());
        on.finish();
        assert_eq!(cpu.msr_writes().last(), Some(&(STATUS, 0)));
        on.disable();
        assert_eq!(cpu.msr_writes()[3..], [(CONTROL, 0x2_0000_0060), (EMULATION, 0)]);
    }

    #[test]
    fn what_is_not_offered_is_not_touched() {
        let (cpu, hv) = cpu_with(Privileges::all() - Privileges::REENLIGHTENMENT);
        assert!(Reenlightenment::enable(cpu, &hv, 0x60, 0).is_none());
        let (other, hv) = cpu_with(Privileges::REENLIGHTENMENT);
        assert!(Reenlightenment::enable(other, &hv, 31, 0).is_none(), "an exception's vector");
        assert!(cpu.msr_writes().is_empty() && other.msr_writes().is_empty());
    }

    #[test]
    fn emulation_is_turned_off_again_if_the_notification_is_refused() {
        let (cpu, hv) = cpu_with(Privileges::REENLIGHTENMENT);
        cpu.on_wrmsr(|msr, value| if msr == CONTROL { 0 } else { value });
        assert!(Reenlightenment::enable(cpu, &hv, 0x60, 0).is_none());
        assert_eq!(cpu.msr_writes().last(), Some(&(EMULATION, 0)));
    }
}
