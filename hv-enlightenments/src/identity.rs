//! Who the guest is. A guest says so before anything else; it has no hypercalls until then.

#![expect(unsafe_code, reason = "writes a model-specific register")]

use core::num::NonZeroU64;

use hv_abi::msr::{HV_OS_TYPE_UNASSIGNED, HV_X64_MSR_GUEST_OS_ID, guest_os_id};

use crate::cpu::Cpu;
use crate::detect::HyperV;

/// The value of `HV_X64_MSR_GUEST_OS_ID`. Never zero, which would mean that the guest is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestOsId(NonZeroU64);

impl GuestOsId {
    /// An open-source kernel without an OS type of its own, `version` and `build` as it likes.
    pub const fn open_source(version: u32, build: u16) -> Self {
        Self::from_raw(guest_os_id(HV_OS_TYPE_UNASSIGNED, 0, version, build)).unwrap()
    }

    /// Any identity; `None` for zero.
    pub const fn from_raw(value: u64) -> Option<Self> {
        match NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The register's value.
    pub const fn raw(self) -> u64 {
        self.0.get()
    }

    /// Tells the hypervisor. [`crate::HypercallPage::enable`] does this by itself.
    ///
    /// Once for the partition, from any processor. Every hypervisor with the interface has the register.
    pub fn announce<C: Cpu>(self, cpu: &C, _hv: &HyperV) {
        // SAFETY: a detected interface has the register; it is only a name.
        unsafe { cpu.wrmsr(HV_X64_MSR_GUEST_OS_ID, self.raw()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_identity() {
        assert_eq!(GuestOsId::from_raw(0), None);
        assert_eq!(GuestOsId::from_raw(1).map(GuestOsId::raw), Some(1));
    }

    #[test]
    fn an_open_source_identity_has_the_fields_of_the_tlfs() {
        let id = GuestOsId::open_source(0x0001_0203, 0x0405).raw();
        assert_eq!(id, 0xFF00_0001_0203_0405);
    }
}
