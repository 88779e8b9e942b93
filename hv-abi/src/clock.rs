//! The reference TSC page (TLFS §12.7).

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
