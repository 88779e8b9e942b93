//! The local APIC through the hypervisor: registers as MSRs, and interrupts that end without an exit.
//!
//! **Theory.** An end of interrupt costs an exit where the processor does not virtualize the APIC. So the hypervisor
//! may set a bit in a page that it shares with the virtual processor, *no EOI required*, when it injects an interrupt
//! behind which nothing else waits; the guest then ends it by clearing the bit.
//!
//! **Practice.** [`EoiAssist::end_of_interrupt`] clears the bit and does what the kernel does otherwise only if it was
//! not set. [`ApicMsrs`] are for kernels in xAPIC mode, where a register in memory costs the hypervisor more; x2APIC
//! registers are MSRs anyway. Follow [`prefers_msrs`].

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::apic::HV_APIC_ASSIST_NO_EOI_REQUIRED;
use hv_abi::cpuid::{Privileges, Recommendations};
use hv_abi::msr::{
    HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE, HV_X64_MSR_EOI, HV_X64_MSR_ICR, HV_X64_MSR_TPR,
    HV_X64_MSR_VP_ASSIST_PAGE,
};

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::memory::Gpa;

/// Whether the hypervisor would have the guest use [`ApicMsrs`] instead of registers in memory.
pub fn prefers_msrs(hv: &HyperV) -> bool {
    hv.privileges().contains(Privileges::APIC_ACCESS)
        && hv.recommendations().contains(Recommendations::APIC_ACCESS)
}

/// EOI, ICR and TPR of the local APIC of the processor that runs this.
#[derive(Debug, Clone, Copy)]
pub struct ApicMsrs<C> {
    cpu: C,
}

impl<C: Cpu> ApicMsrs<C> {
    /// The registers; `None` without the privilege `AccessIntrCtrlRegs`.
    pub fn new(cpu: C, hv: &HyperV) -> Option<Self> {
        hv.privileges().contains(Privileges::APIC_ACCESS).then_some(Self { cpu })
    }

    /// Ends the interrupt in service with the highest priority.
    pub fn end_of_interrupt(&self) {
        // SAFETY: `new` checked the privilege: the register exists. With no interrupt in service it does nothing.
        unsafe { self.cpu.wrmsr(HV_X64_MSR_EOI, 0) };
    }

    /// Sends the interrupt command `low` (as in the APIC's own register) to `destination`, whose eight bits are in the
    /// place that xAPIC mode has them in.
    ///
    /// # Safety
    ///
    /// What the command does to its targets is sound.
    pub unsafe fn send(&self, destination: u8, low: u32) {
        let command = u64::from(destination) << 56 | u64::from(low);
        // SAFETY: `new` checked the privilege: the register exists; the caller vouches for the command.
        unsafe { self.cpu.wrmsr(HV_X64_MSR_ICR, command) };
    }

    /// The interrupt command last sent: destination in the high half, command in the low.
    pub fn command(&self) -> u64 {
        // SAFETY: `new` checked the privilege: the register exists; reading it has no effect.
        unsafe { self.cpu.rdmsr(HV_X64_MSR_ICR) }
    }

    /// The task priority.
    pub fn task_priority(&self) -> u8 {
        // SAFETY: as in `command`. More than eight bits would be a lie.
        unsafe { self.cpu.rdmsr(HV_X64_MSR_TPR) as u8 }
    }

    /// Holds back interrupts up to the class of `priority`.
    pub fn set_task_priority(&self, priority: u8) {
        // SAFETY: `new` checked the privilege: the register exists and takes eight bits.
        unsafe { self.cpu.wrmsr(HV_X64_MSR_TPR, priority.into()) };
    }
}

/// The VP assist page as both sides see it (TLFS *Virtual Processor Assist Page*).
#[repr(C, align(4096))]
pub struct VpAssistPage {
    apic_assist: AtomicU32,
    _rest: [AtomicU32; HV_PAGE_SIZE / 4 - 1],
}

const _: () = assert!(size_of::<VpAssistPage>() == HV_PAGE_SIZE);

impl VpAssistPage {
    /// A page of zeros.
    pub const fn new() -> Self {
        Self {
            apic_assist: AtomicU32::new(0),
            _rest: [const { AtomicU32::new(0) }; HV_PAGE_SIZE / 4 - 1],
        }
    }

    /// The EOI assist field.
    pub fn apic_assist(&self) -> u32 {
        self.apic_assist.load(Ordering::Relaxed)
    }
}

impl Default for VpAssistPage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VpAssistPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VpAssistPage").field("apic_assist", &self.apic_assist()).finish()
    }
}

/// Why a processor has no VP assist page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAssistPage {
    /// The partition lacks the privilege `AccessIntrCtrlRegs`.
    NoPrivilege,
    /// The page's guest-physical address is not page-aligned.
    Misaligned,
    /// The register did not take the value.
    Refused {
        /// What it reads instead.
        register: u64,
    },
}

impl fmt::Display for NoAssistPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrivilege => f.write_str("the partition may not use the VP assist page"),
            Self::Misaligned => f.write_str("the VP assist page is not page-aligned"),
            Self::Refused { register } => {
                write!(f, "the hypervisor did not take the VP assist page (register {register:#x})")
            }
        }
    }
}

impl core::error::Error for NoAssistPage {}

/// The enabled VP assist page of the virtual processor that enabled it; only that processor may use the value.
#[derive(Debug, Clone, Copy)]
pub struct EoiAssist<C> {
    cpu: C,
    page: &'static VpAssistPage,
}

impl<C: Cpu> EoiAssist<C> {
    /// Lends the hypervisor `page` for the processor that runs this.
    ///
    /// # Errors
    ///
    /// [`NoAssistPage`]; interrupts end as before.
    ///
    /// # Safety
    ///
    /// `page` is this processor's alone, lies at guest-physical address `gpa`, and stays there.
    pub unsafe fn enable(
        cpu: C,
        hv: &HyperV,
        page: &'static VpAssistPage,
        gpa: Gpa,
    ) -> Result<Self, NoAssistPage> {
        if !hv.privileges().contains(Privileges::APIC_ACCESS) {
            return Err(NoAssistPage::NoPrivilege);
        }
        if !gpa.is_page_aligned() {
            return Err(NoAssistPage::Misaligned);
        }
        core::ptr::from_ref(page).expose_provenance();
        page.apic_assist.store(0, Ordering::Relaxed);
        let assist = Self { cpu, page };
        let reserved = assist.read() & !HV_MSR_PAGE_ADDRESS_MASK;
        assist.write(gpa.0 | reserved | HV_MSR_PAGE_ENABLE);
        let register = assist.read();
        let taken =
            register & HV_MSR_PAGE_ENABLE != 0 && register & HV_MSR_PAGE_ADDRESS_MASK == gpa.0;
        if taken { Ok(assist) } else { Err(NoAssistPage::Refused { register }) }
    }

    /// Ends the interrupt in service: by the page alone if the hypervisor allows it, else by `otherwise`, which
    /// writes an EOI register. Whether the page was enough.
    ///
    /// In the interrupt's handler, with interrupts off.
    pub fn end_of_interrupt(&self, otherwise: impl FnOnce()) -> bool {
        let before =
            self.page.apic_assist.fetch_and(!HV_APIC_ASSIST_NO_EOI_REQUIRED, Ordering::AcqRel);
        let enough = before & HV_APIC_ASSIST_NO_EOI_REQUIRED != 0;
        if !enough {
            otherwise();
        }
        enough
    }

    /// The page.
    pub fn page(&self) -> &'static VpAssistPage {
        self.page
    }

    /// Takes the page back.
    pub fn disable(&self) {
        let reserved = self.read() & !HV_MSR_PAGE_ADDRESS_MASK;
        self.write(reserved & !HV_MSR_PAGE_ENABLE);
    }

    fn read(&self) -> u64 {
        // SAFETY: `enable` checked the privilege: the register exists; reading it has no effect.
        unsafe { self.cpu.rdmsr(HV_X64_MSR_VP_ASSIST_PAGE) }
    }

    fn write(&self, value: u64) {
        // SAFETY: the register exists; a page named is one of atomics, given for this (`enable`'s contract).
        unsafe { self.cpu.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, value) };
    }
}
