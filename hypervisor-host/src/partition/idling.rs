//! A VP thread's part of the guest idle state ([`crate::hyperv::idle`] has the why).

use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_mp_state, kvm_regs};
use kvm_ioctls::VcpuFd;

use super::alarm::Alarm;
use crate::hyperv::HypervInterface;
use crate::hyperv::idle::{Backoff, interrupt_waits, is_masked};
use crate::stats::{IdleEnd, VpStats};

/// The idle state of the VP that this thread runs.
#[derive(Default)]
pub struct Idling {
    alarm: Option<Alarm>,
    masked: Option<MaskedWait>,
}

struct MaskedWait {
    began: Instant,
    /// Where the register was read.
    instruction_pointer: u64,
    backoff: Backoff,
}

/// The VP in question.
pub struct IdleVp<'a> {
    /// Its number.
    pub index: u32,
    /// The VP.
    pub vcpu: &'a VcpuFd,
    /// The machine's interface.
    pub hyperv: &'a dyn HypervInterface,
    /// Its counters.
    pub stats: &'a VpStats,
}

impl Idling {
    /// Halts the VP, which has just read the register that asks for it. Where the host can't, the VP goes on:
    /// a wait may end without a reason.
    pub fn begin(&mut self, vp: &IdleVp<'_>, registers: &kvm_regs) {
        let Ok(lapic) = vp.vcpu.get_lapic() else { return };
        if !is_masked(registers, &lapic) {
            if set_state(vp.vcpu, KVM_MP_STATE_HALTED) {
                vp.stats.count_idle(IdleEnd::Halted, Duration::ZERO);
            }
            return;
        }
        if self.alarm.is_none() {
            self.alarm = Alarm::new().ok();
        }
        if self.alarm.is_some() && set_state(vp.vcpu, KVM_MP_STATE_HALTED) {
            // From here on IPIs come to us, so it is only after this that the request register is looked at.
            vp.hyperv.idle_begins(vp.index);
            self.masked = Some(MaskedWait {
                began: Instant::now(),
                instruction_pointer: registers.rip,
                backoff: Backoff::new(),
            });
        }
    }

    /// Before each entry: looks whether the wait is over, and when to look again.
    pub fn look(&mut self, vp: &IdleVp<'_>) {
        let Some(wait) = &mut self.masked else { return };
        let look = Instant::now();
        let now_at = vp.vcpu.sync_regs().regs.rip;
        let end = if has_left(wait.instruction_pointer, now_at) || !is_halted(vp.vcpu) {
            Some(IdleEnd::Kvm)
        } else if vp.hyperv.idle_interrupted(vp.index) {
            Some(IdleEnd::Ipi)
        } else if vp.vcpu.get_lapic().map_or(true, |lapic| interrupt_waits(&lapic)) {
            Some(IdleEnd::Request)
        } else {
            match (wait.backoff.interval(look.elapsed()), &self.alarm) {
                (Some(interval), Some(alarm)) => {
                    alarm.every(interval);
                    None
                }
                _ => Some(IdleEnd::Limit),
            }
        };
        if let Some(end) = end {
            if end != IdleEnd::Kvm {
                set_state(vp.vcpu, KVM_MP_STATE_RUNNABLE);
            }
            self.end(vp, end);
        }
    }

    /// After an exit that guest code caused: KVM ended the wait.
    pub fn guest_ran(&mut self, vp: &IdleVp<'_>) {
        self.end(vp, IdleEnd::Kvm);
    }

    fn end(&mut self, vp: &IdleVp<'_>, end: IdleEnd) {
        if let Some(wait) = self.masked.take() {
            if let Some(alarm) = &self.alarm {
                alarm.every(Duration::ZERO);
            }
            vp.hyperv.idle_ends(vp.index);
            vp.stats.count_idle(end, wait.began.elapsed());
        }
    }
}

/// Whether the guest has run since it read the register at `read_at`: it may be halted again, by `hlt`, which only
/// KVM may end.
fn has_left(read_at: u64, now_at: u64) -> bool {
    /// `rdmsr`.
    const INSTRUCTION_BYTES: u64 = 2;
    // The read is completed by the entry that begins the wait.
    ![0, INSTRUCTION_BYTES].contains(&now_at.wrapping_sub(read_at))
}

fn set_state(vcpu: &VcpuFd, state: u32) -> bool {
    vcpu.set_mp_state(kvm_mp_state { mp_state: state }).is_ok()
}

/// A VP that got an INIT meanwhile is not halted any more, and must not be made to run.
fn is_halted(vcpu: &VcpuFd) -> bool {
    vcpu.get_mp_state().is_ok_and(|state| state.mp_state == KVM_MP_STATE_HALTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_went_on_is_known_by_its_instruction_pointer() {
        assert!(!has_left(0x1000, 0x1000), "the read is not completed yet");
        assert!(!has_left(0x1000, 0x1002), "it waits behind the read");
        // sti; hlt
        assert!(has_left(0x1000, 0x1004) && has_left(0x1000, 0x0FFF));
        assert!(!has_left(u64::MAX, 1), "addresses wrap");
    }
}
