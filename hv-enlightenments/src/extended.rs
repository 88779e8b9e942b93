//! Extended hypercalls: memory that is known to be zero, and telling that memory is free.
//!
//! They have a list of capabilities of their own, which [`ExtendedCalls::query`] asks for once.

#![expect(unsafe_code, reason = "makes hypercalls")]

#[cfg(all(test, not(loom)))]
mod tests;

use core::ops::Range;

use hv_abi::HV_PAGE_SHIFT;
use hv_abi::cpuid::Privileges;
use hv_abi::extended::{
    ExtendedCapabilities, HV_BOOT_ZEROED_RANGES_MAX, HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY,
    HV_EXT_CALL_MEMORY_HEAT_HINT, HV_EXT_CALL_QUERY_CAPABILITIES, HvGpaPageRange, HvMemoryHint,
};
use hv_abi::hypercall::HypercallInput;

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::hypercall::{CallBuffer, CallError, HypercallPage};
use crate::memory::Gpa;

/// Output of `HvExtCallGetBootZeroedMemory`: a count, then ranges.
const ZEROED_BYTES: usize = 8 + HV_BOOT_ZEROED_RANGES_MAX * 16;
/// Most ranges that one hint takes here.
pub const HINT_RANGES_MAX: usize = 32;

/// Why an extended call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedError {
    /// The partition lacks the privilege, or the hypervisor the capability.
    NotOffered,
    /// The call failed.
    Call(CallError),
    /// The hypervisor claims more ranges than fit in its answer.
    BadAnswer,
    /// No ranges, or too many, or one that can't be told.
    BadRanges,
}

impl From<CallError> for ExtendedError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl core::fmt::Display for ExtendedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOffered => f.write_str("the hypervisor does not offer this extended call"),
            Self::Call(error) => error.fmt(f),
            Self::BadAnswer => f.write_str("the hypervisor's list of ranges is too long"),
            Self::BadRanges => f.write_str("these ranges can't be told in one extended call"),
        }
    }
}

impl core::error::Error for ExtendedError {}

/// The extended calls that this hypervisor offers.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedCalls<C> {
    calls: HypercallPage<C>,
    capabilities: ExtendedCapabilities,
}

impl<C: Cpu + Copy> ExtendedCalls<C> {
    /// Asks what there is.
    ///
    /// # Errors
    ///
    /// [`ExtendedError::NotOffered`] without the privilege `EnableExtendedHypercalls`, or as the call fails.
    pub fn query(
        calls: &HypercallPage<C>,
        hv: &HyperV,
        buffer: &mut CallBuffer,
    ) -> Result<Self, ExtendedError> {
        if !hv.privileges().contains(Privileges::EXTENDED_HYPERCALLS) {
            return Err(ExtendedError::NotOffered);
        }
        let mut output = [0; 8];
        let input = HypercallInput::new(HV_EXT_CALL_QUERY_CAPABILITIES);
        // SAFETY: the call only writes its eight bytes of output.
        unsafe { calls.in_memory(input, buffer, &[], &mut output) }?;
        let capabilities = ExtendedCapabilities::from_bits_retain(u64::from_le_bytes(output));
        Ok(Self { calls: *calls, capabilities })
    }

    /// What the hypervisor says it has. Bits without a name are kept.
    pub fn capabilities(&self) -> ExtendedCapabilities {
        self.capabilities
    }

    /// Memory that holds zeros at the moment of the call, by the hypervisor's word.
    ///
    /// Ranges may overlap, and need not be memory at all; those without an end in the address space are left out.
    ///
    /// # Errors
    ///
    /// [`ExtendedError`].
    pub fn boot_zeroed(&self, buffer: &mut CallBuffer) -> Result<ZeroedRanges, ExtendedError> {
        if !self.capabilities.contains(ExtendedCapabilities::BOOT_ZEROED_MEMORY) {
            return Err(ExtendedError::NotOffered);
        }
        let mut bytes = [0; ZEROED_BYTES];
        let input = HypercallInput::new(HV_EXT_CALL_GET_BOOT_ZEROED_MEMORY);
        // SAFETY: the call only writes its output, which is this long.
        unsafe { self.calls.in_memory(input, buffer, &[], &mut bytes) }?;
        let claimed = word(&bytes, 0).and_then(|count| usize::try_from(count).ok());
        let count = claimed.filter(|&count| count <= HV_BOOT_ZEROED_RANGES_MAX);
        Ok(ZeroedRanges { bytes, next: 0, count: count.ok_or(ExtendedError::BadAnswer)? })
    }

    /// Tells the hypervisor that these ranges of 2 MiB pages are free, so that it may take the memory away until they
    /// are written again. Pages are counted from guest-physical address 0.
    ///
    /// # Errors
    ///
    /// [`ExtendedError`]; ranges may have been told already.
    ///
    /// # Safety
    ///
    /// Nobody needs the content of the ranges: it is lost.
    pub unsafe fn discard(
        &self,
        buffer: &mut CallBuffer,
        large_pages: &[Range<u64>],
    ) -> Result<(), ExtendedError> {
        if !self.capabilities.contains(ExtendedCapabilities::MEMORY_COLD_DISCARD_HINT) {
            return Err(ExtendedError::NotOffered);
        }
        let mut bytes = [0; 8 + 8 * HINT_RANGES_MAX];
        let (header, list) = bytes.split_at_mut(8);
        header.copy_from_slice(&HvMemoryHint::COLD_DISCARD.0.to_le_bytes());
        let mut count = 0_u16;
        let mut elements = list.chunks_exact_mut(8);
        for range in large_pages {
            let pages = range.end.checked_sub(range.start).ok_or(ExtendedError::BadRanges)?;
            let element = HvGpaPageRange::large_pages(range.start, pages);
            let element = element.ok_or(ExtendedError::BadRanges)?;
            let place = elements.next().ok_or(ExtendedError::BadRanges)?;
            place.copy_from_slice(&element.0.to_le_bytes());
            count += 1;
        }
        let used = bytes.get(..8 + 8 * usize::from(count)).filter(|_| count > 0);
        let input = HypercallInput::new(HV_EXT_CALL_MEMORY_HEAT_HINT);
        let used = used.ok_or(ExtendedError::BadRanges)?;
        // SAFETY: the caller says that the content may go; the call has no output.
        unsafe { self.calls.rep_in_memory(input, buffer, used, count) }
            .map_err(|(error, _)| error.into())
    }
}

/// Ranges of guest-physical addresses in bytes, each page-aligned.
#[derive(Debug, Clone)]
pub struct ZeroedRanges {
    bytes: [u8; ZEROED_BYTES],
    next: usize,
    count: usize,
}

impl Iterator for ZeroedRanges {
    type Item = Range<Gpa>;

    fn next(&mut self) -> Option<Range<Gpa>> {
        while self.next < self.count {
            let at = 8 + 16 * self.next;
            self.next += 1;
            let (start, pages) = (word(&self.bytes, at)?, word(&self.bytes, at + 8)?);
            if let Some(range) = byte_range(start, pages) {
                return Some(range);
            }
        }
        None
    }
}

/// The little-endian word at byte `at`.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// `None` for no pages, and for pages beyond the end of all addresses.
fn byte_range(start_page: u64, pages: u64) -> Option<Range<Gpa>> {
    let end_page = start_page.checked_add(pages).filter(|_| pages > 0)?;
    let bytes = |page: u64| page.checked_mul(1 << HV_PAGE_SHIFT);
    Some(Gpa(bytes(start_page)?)..Gpa(bytes(end_page)?))
}
