//! Flushing translations on other processors in one call, without interrupting them; switching address spaces.
//!
//! **Theory.** A processor that does not run needs no interrupt to forget a translation: the hypervisor remembers to
//! flush before it runs again. So one call serves all targets at once, also those that mask interrupts,
//! and when it returns the flushes are in effect everywhere (TLFS, page of `HvCallFlushVirtualAddressSpace`).
//!
//! **Practice.** [`TlbFlush::flush_pages`] is what a kernel's unmap needs: it takes a list of ranges, or the whole
//! address space where that is shorter. Where a call is not offered or fails, the error says so and the kernel
//! interrupts the processors itself.

#![expect(unsafe_code, reason = "hypercalls that change the address space")]

mod ranges;
#[cfg(all(test, not(loom)))]
mod tests;

pub use ranges::{PageRange, Ranges};

use core::fmt;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::cpuid::{Features, Recommendations};
use hv_abi::hypercall::{
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
    HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE, HvError, HypercallInput,
};
use hv_abi::tlb::{
    HvFlushFlags, HvGvaRange, HvInputFlushVirtualAddressSpace, HvInputFlushVirtualAddressSpaceEx,
};
use zerocopy::IntoBytes;

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::hypercall::{CallBuffer, CallError, HypercallPage, XMM_INPUT_MAX_BYTES};
use crate::vp_set::{SparseSet, Targets};

/// The bits of CR3 that name an address space: the table's address, without PCID and cache control.
const CR3_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// Most ranges that [`TlbFlush::flush_pages`] hands over before it flushes the whole address space instead.
const MOST_RANGES: usize = 32;

/// Which translations go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSpace {
    /// Those of every address space.
    All,
    /// Those of the address space with this CR3; bits that are not the table's address are dropped.
    Cr3(u64),
}

/// Whether translations with the G bit go, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Globals {
    /// They go.
    Flush,
    /// They may stay.
    MayStay,
}

/// Why translations were not flushed everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushError {
    /// The targets need the `Ex` form, which the hypervisor does not recommend.
    NeedsEx,
    /// The call failed, was not made, or stopped in the middle of a list.
    Call(CallError),
}

impl From<CallError> for FlushError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsEx => f.write_str("the hypervisor takes no such set of processors"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FlushError {}

/// The calls that flush translations of other processors. A value exists only where the hypervisor recommends them.
#[derive(Debug, Clone, Copy)]
pub struct TlbFlush<C> {
    calls: HypercallPage<C>,
    ex: bool,
    extended_ranges: bool,
    local: bool,
}

/// What is in a call's input before the list.
#[expect(
    clippy::large_enum_variant,
    reason = "nothing is allocated, and there is one for the time of a call"
)]
enum Header {
    Plain(HvInputFlushVirtualAddressSpace),
    Ex(HvInputFlushVirtualAddressSpaceEx, SparseSet),
}

impl<C: Cpu + Copy> TlbFlush<C> {
    /// The calls, if the hypervisor recommends them for other processors' translations. They use XMM registers where
    /// the hypervisor takes them, unless `calls` are [without](HypercallPage::without_xmm).
    pub fn new(hv: &HyperV, calls: &HypercallPage<C>) -> Option<Self> {
        let bits = hv.recommendations();
        bits.contains(Recommendations::REMOTE_TLB_FLUSH).then_some(Self {
            calls: *calls,
            ex: bits.contains(Recommendations::EX_PROCESSOR_MASKS),
            extended_ranges: hv.features().contains(Features::EXTENDED_GVA_RANGES),
            local: bits.contains(Recommendations::LOCAL_TLB_FLUSH),
        })
    }

    /// Whether the caller's own translations should go the same way, rather than by INVLPG or a new CR3.
    pub fn is_for_local(&self) -> bool {
        self.local
    }

    /// Flushes the translations of `pages` on each target, the caller included if it is one.
    ///
    /// One call at most: a list of ranges, in the extended format where that is shorter, or the whole address space
    /// for very many pages. Without `buffer`, and where parameters don't go in XMM registers, no flush can
    /// be made.
    ///
    /// # Errors
    ///
    /// [`FlushError`]: flush by other means.
    pub fn flush_pages(
        &self,
        space: AddressSpace,
        targets: Targets<'_>,
        pages: PageRange,
        buffer: Option<&mut CallBuffer>,
    ) -> Result<(), FlushError> {
        let ranges = self.ranges(pages);
        let count = ranges.len();
        let mut list = [HvGvaRange(0); MOST_RANGES];
        let Some(list) = list.get_mut(..count) else {
            return self.flush_space(space, targets, Globals::Flush, buffer);
        };
        let format = ranges.format();
        for (slot, range) in list.iter_mut().zip(ranges) {
            *slot = range;
        }
        self.flush_list(space, targets, format, list, buffer)
    }

    /// `pages` as elements of a list, in the best format here.
    pub fn ranges(&self, pages: PageRange) -> Ranges {
        Ranges::new(pages, self.extended_ranges)
    }

    /// Flushes all translations of `space` on each target.
    ///
    /// # Errors
    ///
    /// [`FlushError`]: flush by other means.
    pub fn flush_space(
        &self,
        space: AddressSpace,
        targets: Targets<'_>,
        globals: Globals,
        buffer: Option<&mut CallBuffer>,
    ) -> Result<(), FlushError> {
        let flags = match globals {
            Globals::Flush => HvFlushFlags::empty(),
            Globals::MayStay => HvFlushFlags::NON_GLOBAL_MAPPINGS_ONLY,
        };
        let Some(header) = self.header(space, targets, flags)? else { return Ok(()) };
        let plain = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE);
        let ex = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX);
        header.with_pieces(plain, ex, |input, [fixed, banks]| {
            // SAFETY: flushing translations changes nothing but speed; SSE is enabled wherever XMM is used (`rep`).
            Ok(unsafe { self.calls.simple(input, buffer, &[fixed, banks]) }?)
        })
    }

    /// Flushes a list of ranges on each target, in as many calls as it takes: no input crosses a page.
    ///
    /// `format` is how the ranges are written: of [`HvGvaRange::extended`] or not. An empty list succeeds.
    ///
    /// # Errors
    ///
    /// [`FlushError`]: an unknown number of ranges was flushed; flush all by other means.
    pub fn flush_list(
        &self,
        space: AddressSpace,
        targets: Targets<'_>,
        format: RangeFormat,
        list: &[HvGvaRange],
        mut buffer: Option<&mut CallBuffer>,
    ) -> Result<(), FlushError> {
        let flags = match format {
            RangeFormat::Simple => HvFlushFlags::empty(),
            RangeFormat::Extended => HvFlushFlags::USE_EXTENDED_RANGE_FORMAT,
        };
        let Some(header) = self.header(space, targets, flags)? else { return Ok(()) };
        let plain = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST);
        let ex = HypercallInput::new(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX);
        header.with_pieces(plain, ex, |input, [fixed, banks]| {
            let room = if buffer.is_some() { HV_PAGE_SIZE } else { XMM_INPUT_MAX_BYTES };
            let room = room.saturating_sub(fixed.len() + banks.len()) / size_of::<HvGvaRange>();
            if room == 0 {
                return Err(CallError::NoBuffer.into());
            }
            for chunk in list.chunks(room) {
                let pieces = [fixed, banks, chunk.as_bytes()];
                let count = u16::try_from(chunk.len()).map_err(|_| CallError::TooLong)?;
                // SAFETY: as in `flush_space`.
                let result =
                    unsafe { self.calls.rep(input, buffer.as_deref_mut(), &pieces, count) };
                result.map_err(|(error, _done)| error)?;
            }
            Ok(())
        })
    }

    /// The header of a call; `None` if there is no target.
    fn header(
        &self,
        space: AddressSpace,
        targets: Targets<'_>,
        mut flags: HvFlushFlags,
    ) -> Result<Option<Header>, FlushError> {
        let address_space = match space {
            AddressSpace::All => {
                flags |= HvFlushFlags::ALL_VIRTUAL_ADDRESS_SPACES;
                0
            }
            AddressSpace::Cr3(cr3) => cr3 & CR3_ADDRESS,
        };
        let mask = match targets {
            // A mask of no processors means all of them to some hypervisors (Linux 6.1, KVM `hyperv.c`).
            Targets::Set(set) if set.is_empty() => return Ok(None),
            Targets::Set(set) => set.mask(),
            Targets::All => {
                flags |= HvFlushFlags::ALL_PROCESSORS;
                Some(0)
            }
        };
        match (mask, targets) {
            (Some(processor_mask), _) => Ok(Some(Header::Plain(HvInputFlushVirtualAddressSpace {
                address_space,
                flags: flags.bits(),
                processor_mask,
            }))),
            (None, Targets::Set(set)) if self.ex => {
                let sparse = set.sparse();
                let input = HvInputFlushVirtualAddressSpaceEx {
                    address_space,
                    flags: flags.bits(),
                    processor_set: sparse.header(),
                };
                Ok(Some(Header::Ex(input, sparse)))
            }
            (None, _) => Err(FlushError::NeedsEx),
        }
    }
}

/// How the ranges of a list are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeFormat {
    /// [`HvGvaRange::new`].
    Simple,
    /// [`HvGvaRange::extended`]; only where [`Features::EXTENDED_GVA_RANGES`] is offered.
    Extended,
}

impl Header {
    /// Calls `action` with the input value and the pieces of input before the list.
    fn with_pieces<T>(
        &self,
        plain: HypercallInput,
        ex: HypercallInput,
        action: impl FnOnce(HypercallInput, [&[u8]; 2]) -> T,
    ) -> T {
        match self {
            Self::Plain(input) => action(plain, [input.as_bytes(), &[]]),
            Self::Ex(input, set) => {
                let call = ex.with_variable_header(set.variable_header_qwords());
                action(call, [input.as_bytes(), set.banks().as_bytes()])
            }
        }
    }
}

/// The call that switches the address space of the processor that makes it.
#[derive(Debug, Clone, Copy)]
pub struct AddressSpaceSwitch<C> {
    calls: HypercallPage<C>,
}

impl<C: Cpu + Copy> AddressSpaceSwitch<C> {
    /// The call, if the hypervisor recommends it over writing CR3.
    pub fn new(hv: &HyperV, calls: &HypercallPage<C>) -> Option<Self> {
        let recommended = hv.recommendations().contains(Recommendations::AS_SWITCH);
        recommended.then_some(Self { calls: *calls })
    }

    /// Loads `cr3` on the processor that runs this.
    ///
    /// Unlike a write to CR3, it need not flush translations of an address space used before: flush those that
    /// have changed.
    ///
    /// # Safety
    ///
    /// As for a write to CR3: the tables map all that is in use, at the same addresses.
    pub unsafe fn switch(&self, cr3: u64) -> Result<(), HvError> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.calls.fast(HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE, cr3, 0) }
    }
}
