//! Interrupts to many processors in one call, instead of one write to the APIC for each.
//!
//! A few rules decide the form: processors with an index below 64 need two registers; others a sparse set, which
//! goes in XMM registers where the hypervisor takes them and else in memory. What a hypervisor does not
//! offer is an error here, and the kernel uses its APIC.

#![expect(unsafe_code, reason = "hypercalls that interrupt other processors")]

use core::fmt;

use hv_abi::cpuid::Recommendations;
use hv_abi::hypercall::{
    HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, HypercallInput,
};
use hv_abi::ipi::{
    HV_IPI_LOW_VECTOR, HvInputSendSyntheticClusterIpi, HvInputSendSyntheticClusterIpiEx,
};
use zerocopy::IntoBytes;

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::hypercall::{CallBuffer, CallError, HypercallPage};
use crate::vp_set::{SparseSet, Targets};

/// Why no interrupt was sent. In each case the kernel's APIC can still send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpiError {
    /// The vector is below 0x10, which no processor takes.
    BadVector(u8),
    /// The targets need the `Ex` form, which the hypervisor does not recommend.
    NeedsEx,
    /// The call failed, or was not made.
    Call(CallError),
}

impl From<CallError> for IpiError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for IpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadVector(vector) => write!(f, "vector {vector:#x} cannot be sent"),
            Self::NeedsEx => f.write_str("the hypervisor takes no such set of processors"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for IpiError {}

/// The calls that send interrupts. A value exists only where the hypervisor recommends them.
#[derive(Debug, Clone, Copy)]
pub struct ClusterIpi<C> {
    calls: HypercallPage<C>,
    ex: bool,
}

impl<C: Cpu + Copy> ClusterIpi<C> {
    /// The calls, if the hypervisor recommends them. Sets go in XMM registers where the hypervisor takes them, unless
    /// `calls` are [without](HypercallPage::without_xmm).
    pub fn new(hv: &HyperV, calls: &HypercallPage<C>) -> Option<Self> {
        let bits = hv.recommendations();
        bits.contains(Recommendations::CLUSTER_IPI).then_some(Self {
            calls: *calls,
            ex: bits.contains(Recommendations::EX_PROCESSOR_MASKS),
        })
    }

    /// Sends a fixed, edge-triggered interrupt with `vector` to each of `targets`, the caller included if it is one.
    ///
    /// Targets below index 64 need no `buffer`; nor do others where parameters go in XMM registers.
    /// An empty set succeeds without a call.
    ///
    /// # Errors
    ///
    /// [`IpiError`]: nothing was sent.
    ///
    /// # Safety
    ///
    /// Every target has a handler for the vector, or masks interrupts until it has; SSE is enabled.
    pub unsafe fn send(
        &self,
        vector: u8,
        targets: Targets<'_>,
        buffer: Option<&mut CallBuffer>,
    ) -> Result<(), IpiError> {
        if u32::from(vector) < HV_IPI_LOW_VECTOR {
            return Err(IpiError::BadVector(vector));
        }
        let sparse = match targets {
            Targets::Set(set) if set.is_empty() => return Ok(()),
            Targets::Set(set) => match set.mask() {
                // SAFETY: the caller's contract is the same.
                Some(mask) => return unsafe { self.send_mask(vector, mask) },
                None => set.sparse(),
            },
            Targets::All => SparseSet::ALL,
        };
        if !self.ex {
            return Err(IpiError::NeedsEx);
        }
        // SAFETY: the caller's contract is the same.
        unsafe { self.send_ex(vector, &sparse, buffer) }
    }

    /// As [`Self::send`] to the processors with indices below 64 that have a bit in the mask, by the plain call.
    ///
    /// # Safety
    ///
    /// As for [`Self::send`].
    pub unsafe fn send_mask(&self, vector: u8, processor_mask: u64) -> Result<(), IpiError> {
        if u32::from(vector) < HV_IPI_LOW_VECTOR {
            return Err(IpiError::BadVector(vector));
        }
        let input = HvInputSendSyntheticClusterIpi {
            vector: vector.into(),
            target_vtl: 0,
            _reserved: [0; 3],
            processor_mask,
        };
        let call = HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI);
        // SAFETY: the call interrupts processors that have a handler (contract of `send`) and does nothing else.
        Ok(unsafe { self.calls.simple(call, None, &[input.as_bytes()]) }?)
    }

    /// # Safety
    ///
    /// As for [`Self::send`].
    unsafe fn send_ex(
        &self,
        vector: u8,
        set: &SparseSet,
        buffer: Option<&mut CallBuffer>,
    ) -> Result<(), IpiError> {
        let input = HvInputSendSyntheticClusterIpiEx {
            vector: vector.into(),
            target_vtl: 0,
            _reserved: [0; 3],
            processor_set: set.header(),
        };
        let call = HypercallInput::new(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX)
            .with_variable_header(set.variable_header_qwords());
        let pieces = [input.as_bytes(), set.banks().as_bytes()];
        // SAFETY: as in `send_mask`.
        Ok(unsafe { self.calls.simple(call, buffer, &pieces) }?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
