//! Telling the hypervisor of the guest's own crash, so that somebody hears of it.
//!
//! Five parameters, and where the hypervisor takes it a message in memory (TLFS *Guest Crash Enlightenment Interface*).
//! The register that says *now* also says, when read, what the hypervisor takes.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

#[cfg(all(test, not(loom)))]
mod tests;

use hv_abi::cpuid::Features;
use hv_abi::msr::{
    HV_CRASH_CTL_CRASH_MESSAGE, HV_CRASH_CTL_CRASH_NOTIFY, HV_X64_MSR_CRASH_CTL,
    HV_X64_MSR_CRASH_P0,
};

use crate::cpu::Cpu;
use crate::detect::HyperV;
use crate::memory::Gpa;

/// Why a guest crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// P0 to P2, with the guest's own meaning.
    pub parameters: [u64; 3],
    /// A message: its guest-physical address and its length in bytes. It lies within one page.
    pub message: Option<(Gpa, u64)>,
}

/// What became of a [`report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Parameters and message were told.
    WithMessage,
    /// Only the parameters were told: there is no message, or the hypervisor takes none. P3 and P4 name the message
    /// nevertheless, for a host that looks.
    ParametersOnly,
    /// The hypervisor has no crash registers, or takes no notification.
    NotOffered,
}

/// Tells the hypervisor of a crash. It may end the virtual machine; if not, the guest goes on with its end.
///
/// # Safety
///
/// The guest is ending; the message's memory stays as it is.
pub unsafe fn report<C: Cpu>(cpu: &C, hv: &HyperV, crash: &Crash) -> Reported {
    if !hv.features().contains(Features::GUEST_CRASH_MSRS) {
        return Reported::NotOffered;
    }
    // SAFETY: the feature was checked: the register exists; reading has no effect.
    let offered = unsafe { cpu.rdmsr(HV_X64_MSR_CRASH_CTL) };
    if offered & HV_CRASH_CTL_CRASH_NOTIFY == 0 {
        return Reported::NotOffered;
    }
    let (address, length) = crash.message.map_or((0, 0), |(gpa, length)| (gpa.0, length));
    let [p0, p1, p2] = crash.parameters;
    for (msr, value) in (HV_X64_MSR_CRASH_P0..).zip([p0, p1, p2, address, length]) {
        // SAFETY: the feature was checked: the register exists, and only remembers the value.
        unsafe { cpu.wrmsr(msr, value) };
    }
    let with_message = crash.message.is_some() && offered & HV_CRASH_CTL_CRASH_MESSAGE != 0;
    let message = if with_message { HV_CRASH_CTL_CRASH_MESSAGE } else { 0 };
    // SAFETY: the register exists; the caller says that the guest is ending.
    unsafe { cpu.wrmsr(HV_X64_MSR_CRASH_CTL, HV_CRASH_CTL_CRASH_NOTIFY | message) };
    if with_message { Reported::WithMessage } else { Reported::ParametersOnly }
}
