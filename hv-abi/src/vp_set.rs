//! Sets of virtual processors as the `Ex` calls take them: `HV_VP_SET` (TLFS *Virtual Processor Sets* and *Sparse
//! Virtual Processor Set*; Linux 6.1, `include/asm-generic/hyperv-tlfs.h`, `struct hv_vpset`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The format of a set (TLFS `HV_GENERIC_SET_FORMAT`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvGenericSetFormat(pub u64);

impl HvGenericSetFormat {
    /// `HvGenericSetSparse4k`: banks of 64 processors, up to 4096 processors in all.
    pub const SPARSE_4K: Self = Self(0);
    /// `HvGenericSetAll`: all processors of the partition; no banks follow.
    pub const ALL: Self = Self(1);
}

/// Beginning of `HV_VP_SET`; a 64-bit bank follows for each bit that is set in the mask, lowest first.
///
/// Bit *i* of bank *b* stands for the processor with index 64 · *b* + *i*. A call's variable header is the banks
/// alone, this struct belongs to the fixed part (Linux 6.1, `arch/x86/kvm/hyperv.c`, `kvm_hv_flush_tlb`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvVpSetHeader {
    /// What follows.
    pub format: HvGenericSetFormat,
    /// Banks that follow.
    pub valid_bank_mask: u64,
}

const _: () = assert!(size_of::<HvVpSetHeader>() == 16);

/// Processors in a bank.
pub const HV_VP_SET_BANK_SIZE: u32 = 64;
/// Most banks of a set: bits of the mask.
pub const HV_VP_SET_MAX_BANKS: usize = 64;
