//! The reference TSC page (TLFS §12.7), and what a guest hears of a changed TSC.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HV_REFERENCE_TSC_PAGE`: time in 100 ns is `((tsc * tsc_scale) >> 64) + tsc_offset` while
/// `tsc_sequence` is not [`HV_REFERENCE_TSC_SEQUENCE_INVALID`] and does not change (layout TLFS §12.7.2,
/// formula §12.7.3). The rest of the page is reserved.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvReferenceTscPage {
    /// Changes whenever the other fields do; 0 means *don't use this page*.
    pub tsc_sequence: u32,
    /// Reserved.
    pub _reserved1: u32,
    /// 64.64 fixed-point factor from TSC ticks to 100 ns.
    pub tsc_scale: u64,
    /// Added after scaling, in 100 ns.
    pub tsc_offset: i64,
}

const _: () = assert!(size_of::<HvReferenceTscPage>() == 24);

/// The sequence that sends a guest to [`crate::msr::HV_X64_MSR_TIME_REF_COUNT`] (TLFS §12.7.2).
pub const HV_REFERENCE_TSC_SEQUENCE_INVALID: u32 = 0;

/// The value of [`crate::msr::HV_X64_MSR_REENLIGHTENMENT_CONTROL`] (TLFS; Linux,
/// `struct hv_reenlightenment_control`): bits 7:0 vector, 16 enabled, 63:32 virtual processor to interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HvReenlightenmentControl(pub u64);

impl HvReenlightenmentControl {
    /// The interrupt is wanted.
    pub const ENABLED: u64 = 1 << 16;

    /// Interrupt `vector` to the processor with index `vp` after a migration.
    pub const fn new(vector: u8, vp: u32) -> Self {
        Self(vector as u64 | Self::ENABLED | (vp as u64) << 32)
    }

    /// The interrupt's vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The processor that is interrupted.
    pub const fn vp(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Bit 0 of [`crate::msr::HV_X64_MSR_TSC_EMULATION_CONTROL`]: after a migration, accesses to the TSC are emulated at
/// the old frequency until the guest says that it has taken note.
pub const HV_TSC_EMULATION_ENABLED: u64 = 1 << 0;
/// Bit 0 of [`crate::msr::HV_X64_MSR_TSC_EMULATION_STATUS`]: accesses are being emulated.
pub const HV_TSC_EMULATION_IN_PROGRESS: u64 = 1 << 0;
/// Bit 0 of [`crate::msr::HV_X64_MSR_TSC_INVARIANT_CONTROL`] (Linux, `HV_EXPOSE_INVARIANT_TSC`).
pub const HV_EXPOSE_INVARIANT_TSC: u64 = 1 << 0;

#[cfg(test)]
mod tests {
    use super::HvReenlightenmentControl;

    #[test]
    fn reenlightenment_has_the_fields_of_linux() {
        let control = HvReenlightenmentControl::new(0x42, 3);
        assert_eq!(control.0, 0x0000_0003_0001_0042);
        assert_eq!((control.vector(), control.vp()), (0x42, 3));
    }
}
