//! The registers that the host keeps instead of KVM: identity and hypercall page, guest idle, crash, and where
//! KVM lacks it the control of an invariant TSC. KVM refuses what is not offered of the others; here we do.

use std::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::msr::{
    HV_X64_MSR_CRASH_CTL, HV_X64_MSR_CRASH_P0, HV_X64_MSR_GUEST_IDLE, HV_X64_MSR_GUEST_OS_ID,
    HV_X64_MSR_HYPERCALL, HV_X64_MSR_TSC_INVARIANT_CONTROL,
};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::GeneralProtection;
use super::kvm::KvmEngine;
use crate::process::tell;
use crate::stats::lock;

/// Registers that come to us, by first number and count; each group fits into eight bits.
pub(super) const TRAPPED_MSRS: [(u32, u32); 3] = [
    (HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL - HV_X64_MSR_GUEST_OS_ID + 1),
    (HV_X64_MSR_GUEST_IDLE, 1),
    (HV_X64_MSR_CRASH_P0, HV_X64_MSR_CRASH_CTL - HV_X64_MSR_CRASH_P0 + 1),
];

impl KvmEngine {
    /// Refuses what the guest was not offered, as KVM does with the registers that it keeps.
    fn need(&self, privilege: Privileges) -> Result<(), GeneralProtection> {
        if self.offered.privileges.contains(privilege) { Ok(()) } else { Err(GeneralProtection) }
    }

    /// The same for a feature.
    fn need_feature(&self, feature: Features) -> Result<(), GeneralProtection> {
        if self.offered.features.contains(feature) { Ok(()) } else { Err(GeneralProtection) }
    }

    /// A read.
    ///
    /// # Errors
    /// The guest may not read it.
    pub(super) fn read_register(&self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            HV_X64_MSR_GUEST_OS_ID | HV_X64_MSR_HYPERCALL => {
                self.need(Privileges::HYPERCALL)?;
                let msrs = lock(&self.msrs);
                let identity = msr == HV_X64_MSR_GUEST_OS_ID;
                Ok(if identity { msrs.guest_os_id() } else { msrs.hypercall() })
            }
            HV_X64_MSR_GUEST_IDLE => self.need(Privileges::GUEST_IDLE).map(|()| 0),
            HV_X64_MSR_TSC_INVARIANT_CONTROL => {
                self.need(Privileges::TSC_INVARIANT)?;
                Ok(self.invariant_tsc.control.load(Ordering::Acquire))
            }
            _ => {
                self.need_feature(Features::GUEST_CRASH_MSRS)?;
                lock(&self.crash_registers).read(msr)
            }
        }
    }

    /// A write by VP `vp`.
    ///
    /// # Errors
    /// The guest may not write that.
    pub(super) fn write_register(
        &self,
        vp: u32,
        vcpu: &VcpuFd,
        msr: u32,
        value: u64,
    ) -> Result<(), GeneralProtection> {
        match msr {
            HV_X64_MSR_GUEST_OS_ID => {
                self.need(Privileges::HYPERCALL)?;
                // Held until KVM knows it too, or two VPs could leave the two in disagreement.
                let mut msrs = lock(&self.msrs);
                tell_identity(vcpu, value)?;
                msrs.set_guest_os_id(value);
                Ok(())
            }
            HV_X64_MSR_HYPERCALL => {
                self.need(Privileges::HYPERCALL)?;
                lock(&self.msrs).set_hypercall(value)
            }
            HV_X64_MSR_GUEST_IDLE => Err(GeneralProtection),
            HV_X64_MSR_TSC_INVARIANT_CONTROL => {
                self.need(Privileges::TSC_INVARIANT)?;
                self.invariant_tsc.set(value)
            }
            _ => {
                self.need_feature(Features::GUEST_CRASH_MSRS)?;
                let crash = lock(&self.crash_registers).write(vp, msr, value, &self.memory)?;
                if let Some(crash) = crash {
                    let text = crash.for_person();
                    if self.crashes.tell(crash) {
                        tell(&text);
                    }
                }
                Ok(())
            }
        }
    }
}

/// `HV_X64_MSR_TSC_INVARIANT_CONTROL`, where KVM lacks it. The bit in CPUID is there from the start then: no
/// machine of this host ever moves to another computer.
#[derive(Debug)]
pub(super) struct InvariantTsc {
    pub(super) served: bool,
    control: AtomicU64,
}

impl InvariantTsc {
    /// A register that says nothing yet, which is the guest's if `served`.
    pub(super) fn new(served: bool) -> Self {
        Self { served, control: AtomicU64::new(0) }
    }

    /// A write. What is exposed can't be taken back, and other bits are reserved, as KVM has it since Linux 6.2
    /// (`arch/x86/kvm/hyperv.c`).
    fn set(&self, value: u64) -> Result<(), GeneralProtection> {
        const EXPOSE: u64 = 1;
        if value & !EXPOSE != 0 || value < self.control.load(Ordering::Acquire) {
            return Err(GeneralProtection);
        }
        self.control.fetch_or(value, Ordering::AcqRel);
        Ok(())
    }
}

/// Lets KVM know who the guest is, so that it takes hypercalls.
fn tell_identity(vcpu: &VcpuFd, value: u64) -> Result<(), GeneralProtection> {
    let entry = kvm_msr_entry { index: HV_X64_MSR_GUEST_OS_ID, data: value, ..Default::default() };
    let msrs = Msrs::from_entries(&[entry]).map_err(|_| GeneralProtection)?;
    match vcpu.set_msrs(&msrs) {
        Ok(1) => Ok(()),
        _ => Err(GeneralProtection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_invariant_tsc_cannot_be_taken_back() {
        let register = InvariantTsc::new(true);
        assert_eq!(register.set(0), Ok(()));
        assert_eq!(register.set(2), Err(GeneralProtection));
        assert_eq!(register.set(1), Ok(()));
        assert_eq!(register.set(0), Err(GeneralProtection));
        assert_eq!(register.set(1), Ok(()));
        assert_eq!(register.control.load(Ordering::Acquire), 1);
    }
}
