//! Interrupts to sets of processors: `HvCallSendSyntheticClusterIpi` and its `Ex` form (TLFS, pages of these calls).
//!
//! Both are simple calls; both may be fast. Layouts agree with Linux 6.1, `include/asm-generic/hyperv-tlfs.h`
//! (`hv_send_ipi`, `hv_send_ipi_ex`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::vp_set::HvVpSetHeader;

/// The least vector that may be sent.
pub const HV_IPI_LOW_VECTOR: u32 = 0x10;
/// The largest vector that may be sent.
pub const HV_IPI_HIGH_VECTOR: u32 = 0xFF;

/// Input of `HvCallSendSyntheticClusterIpi`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputSendSyntheticClusterIpi {
    /// [`HV_IPI_LOW_VECTOR`] to [`HV_IPI_HIGH_VECTOR`].
    pub vector: u32,
    /// `HV_INPUT_VTL`; zero is the caller's own virtual trust level.
    pub target_vtl: u8,
    /// Zero.
    pub _reserved: [u8; 3],
    /// Bit *i*: the processor with index *i*.
    pub processor_mask: u64,
}

const _: () = assert!(size_of::<HvInputSendSyntheticClusterIpi>() == 16);

/// Fixed input of `HvCallSendSyntheticClusterIpiEx`; the set's banks follow (the variable header).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputSendSyntheticClusterIpiEx {
    /// [`HV_IPI_LOW_VECTOR`] to [`HV_IPI_HIGH_VECTOR`].
    pub vector: u32,
    /// `HV_INPUT_VTL`; zero is the caller's own virtual trust level.
    pub target_vtl: u8,
    /// Zero.
    pub _reserved: [u8; 3],
    /// Which processors.
    pub processor_set: HvVpSetHeader,
}

const _: () = assert!(size_of::<HvInputSendSyntheticClusterIpiEx>() == 24);
