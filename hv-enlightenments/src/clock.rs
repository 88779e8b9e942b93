//! Time since the partition was made, in units of 100 ns, the same on every virtual processor.
//!
//! **Theory.** The reference counter register always works and costs an exit. The reference TSC page holds a
//! scale and an offset to compute the same time from the time stamp counter, without an exit; its sequence
//! number says when the two change, and 0 says *not now*: the TSC is of no use, for example after a migration
//! or under nesting.
//!
//! **Practice.** [`Clock`] uses the page while it is good and the register otherwise, for each reading anew.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

mod frequency;
mod reenlightenment;

pub use frequency::{Frequencies, expose_invariant_tsc};
pub use reenlightenment::Reenlightenment;

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use hv_abi::clock::HV_REFERENCE_TSC_SEQUENCE_INVALID;
use hv_abi::cpuid::Privileges;
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_REFERENCE_TSC,
    HV_X64_MSR_TIME_REF_COUNT,
};

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::memory::Gpa;

/// How often to read a page that changes under our eyes before asking the register instead.
const PAGE_ATTEMPTS: u32 = 64;

/// The reference TSC page as both sides see it (`hv_abi::clock::HvReferenceTscPage`, shared).
///
/// Lay one in a `static`: the hypervisor writes it while the guest reads, hence the atomics.
#[repr(C, align(4096))]
pub struct ReferenceTscPage {
    sequence: AtomicU32,
    _reserved: AtomicU32,
    scale: AtomicU64,
    offset: AtomicU64,
    _rest: [AtomicU64; 509],
}

const _: () = assert!(size_of::<ReferenceTscPage>() == hv_abi::HV_PAGE_SIZE);

impl ReferenceTscPage {
    /// A page that says *not now*, until the hypervisor fills it.
    pub const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(HV_REFERENCE_TSC_SEQUENCE_INVALID),
            _reserved: AtomicU32::new(0),
            scale: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            _rest: [const { AtomicU64::new(0) }; 509],
        }
    }

    /// The sequence number, which changes with scale and offset; 0 while the page says *not now*.
    pub fn sequence(&self) -> u32 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Has the page say *not now*, as the hypervisor does, until that fills it again.
    pub fn invalidate(&self) {
        self.sequence.store(HV_REFERENCE_TSC_SEQUENCE_INVALID, Ordering::Release);
    }

    /// Time by the page in 100 ns; `None` if the page says *not now* or does not hold still.
    #[inline]
    pub fn read<C: Cpu>(&self, cpu: &C) -> Option<u64> {
        for _ in 0..PAGE_ATTEMPTS {
            // Acquire keeps the reads below behind this one.
            let sequence = self.sequence.load(Ordering::Acquire);
            if sequence == HV_REFERENCE_TSC_SEQUENCE_INVALID {
                return None;
            }
            let scale = self.scale.load(Ordering::Relaxed);
            let offset = self.offset.load(Ordering::Relaxed);
            let tsc = cpu.rdtsc();
            // Keeps the reads above before the second look at the sequence; RDTSC orders itself.
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) == sequence {
                return Some(scaled(tsc, scale, offset));
            }
        }
        None
    }
}

impl Default for ReferenceTscPage {
    fn default() -> Self {
        Self::new()
    }
}

/// `((tsc * scale) >> 64) + offset`; the sum wraps, as the offset is signed.
#[inline]
fn scaled(tsc: u64, scale: u64, offset: u64) -> u64 {
    let product = u128::from(tsc) * u128::from(scale);
    ((product >> 64) as u64).wrapping_add(offset)
}

/// The hypervisor offers no reference counter to this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoClock;

impl fmt::Display for NoClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the partition may not read the reference counter")
    }
}

impl core::error::Error for NoClock {}

/// Why a clock does without the reference TSC page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTscPage {
    /// The partition lacks the privilege `AccessPartitionReferenceTsc`.
    NoPrivilege,
    /// The page's guest-physical address is not page-aligned.
    Misaligned,
    /// The register did not take the value.
    Refused {
        /// What it reads instead.
        register: u64,
    },
}

impl fmt::Display for NoTscPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrivilege => f.write_str("the partition may not use the reference TSC page"),
            Self::Misaligned => f.write_str("the reference TSC page is not page-aligned"),
            Self::Refused { register } => {
                write!(f, "the hypervisor did not enable the TSC page (register {register:#x})")
            }
        }
    }
}

impl core::error::Error for NoTscPage {}

/// Where a reading came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The reference TSC page: no exit.
    TscPage,
    /// The reference counter register: one exit.
    Counter,
}

/// The partition's reference time. Copy it to wherever time is told.
#[derive(Clone, Copy)]
pub struct Clock<C> {
    cpu: C,
    page: Option<&'static ReferenceTscPage>,
}

impl<C: Cpu> Clock<C> {
    /// A clock on the reference counter register alone.
    ///
    /// # Errors
    ///
    /// [`NoClock`] without the privilege `AccessPartitionReferenceCounter`, with which every clock begins,
    /// because the page may send us to the register at any time.
    pub fn new(cpu: C, hv: &HyperV) -> Result<Self, NoClock> {
        let available = hv.privileges().contains(Privileges::TIME_REF_COUNT);
        if available { Ok(Self { cpu, page: None }) } else { Err(NoClock) }
    }

    /// Enables the reference TSC page and uses it from now on. Once for the partition.
    ///
    /// # Errors
    ///
    /// [`NoTscPage`]; the clock then works on as before.
    ///
    /// # Safety
    ///
    /// `gpa` is the guest-physical address of `page`.
    pub unsafe fn enable_tsc_page(
        &mut self,
        hv: &HyperV,
        page: &'static ReferenceTscPage,
        gpa: Gpa,
    ) -> Result<(), NoTscPage> {
        if !hv.privileges().contains(Privileges::REFERENCE_TSC) {
            return Err(NoTscPage::NoPrivilege);
        }
        if !gpa.is_page_aligned() {
            return Err(NoTscPage::Misaligned);
        }
        core::ptr::from_ref(page).expose_provenance();
        let register = self.write_page_register(gpa);
        let taken =
            register & HV_MSR_PAGE_ENABLE != 0 && register & HV_MSR_PAGE_ADDRESS_MASK == gpa.0;
        if !taken {
            return Err(NoTscPage::Refused { register });
        }
        self.page = Some(page);
        Ok(())
    }

    fn write_page_register(&self, gpa: Gpa) -> u64 {
        // SAFETY: the privilege was checked: the register exists; reading it has no effect.
        let before = unsafe { self.cpu.rdmsr(HV_X64_MSR_REFERENCE_TSC) };
        // Bits 11:1 are reserved and kept as they were.
        let wanted = gpa.0 | before & !HV_MSR_PAGE_ADDRESS_MASK | HV_MSR_PAGE_ENABLE;
        // SAFETY: the register exists; `enable_tsc_page`'s caller says that the page behind `gpa` is one of
        // atomics made for the hypervisor to write.
        unsafe { self.cpu.wrmsr(HV_X64_MSR_REFERENCE_TSC, wanted) };
        // SAFETY: as the first read.
        unsafe { self.cpu.rdmsr(HV_X64_MSR_REFERENCE_TSC) }
    }

    /// Time since the partition was made, in 100 ns.
    #[inline]
    pub fn now_100ns(&self) -> u64 {
        self.now_with_source().0
    }

    /// As [`Clock::now_100ns`], and where the reading came from.
    #[inline]
    pub fn now_with_source(&self) -> (u64, Source) {
        match self.page.and_then(|page| page.read(&self.cpu)) {
            Some(time) => (time, Source::TscPage),
            None => (self.counter_100ns(), Source::Counter),
        }
    }

    /// The reference counter register, in 100 ns. Costs an exit.
    pub fn counter_100ns(&self) -> u64 {
        // SAFETY: `new` checked the privilege: the register exists; reading it has no effect.
        unsafe { self.cpu.rdmsr(HV_X64_MSR_TIME_REF_COUNT) }
    }

    /// Whether the reference TSC page is enabled. It may still say *not now* at times.
    pub fn has_tsc_page(&self) -> bool {
        self.page.is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
