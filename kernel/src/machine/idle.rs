//! Waiting for an interrupt: in the hypervisor's guest idle state where it has one, else halted.
//!
//! Both ways a waker may come between the last look at a condition and the wait: its interrupt is pending
//! then, and ends the wait at once.

#![expect(unsafe_code, reason = "reads a model-specific register")]

use hv_abi::msr::HV_X64_MSR_GUEST_IDLE;

use super::{cpu, hyperv};

/// How processors wait, for people and events.
pub(crate) fn method() -> &'static str {
    if hyperv::guest_idle().is_some() { "guest-idle" } else { "hlt" }
}

/// Waits for an interrupt and takes it; interrupts are off before and afterwards. May also return for no reason.
pub(crate) fn wait() {
    match hyperv::guest_idle() {
        // SAFETY: the register is offered, and reading it only waits.
        Some(_) => unsafe { cpu::wait_for_interrupt_by_reading(HV_X64_MSR_GUEST_IDLE) },
        None => cpu::wait_for_interrupt(),
    }
}

/// How to wait with interrupts off and take none: only the guest idle state ends by an interrupt that is masked.
pub(crate) fn masked_wait() -> Option<fn()> {
    hyperv::guest_idle()?;
    Some(|| {
        if let Some(idle) = hyperv::guest_idle() {
            idle.wait();
        }
    })
}
