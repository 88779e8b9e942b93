//! Hypercalls that the host answers or looks at: those that the page brings ([`super::hypercall_page`]), and
//! those that KVM hands on.

use hv_abi::cpuid::{HV_SPIN_WAIT_NEVER_NOTIFY, Privileges};
use hv_abi::hypercall::{
    HV_CALL_NOTIFY_LONG_SPIN_WAIT, HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError,
    HypercallInput,
};
use vm_memory::{Bytes, GuestAddress};

use super::hypercall_page::{self, ANSWER_PASS_ON};
use super::kvm::KvmEngine;
use super::long_spin::{self, Input};
use super::{VpAccess, extended, idle};
use crate::config::SpinThreshold;
use crate::stats::SpinAnswer;

impl KvmEngine {
    /// Answers a call that the page brought; gives what the page finds in EAX.
    pub(super) fn page_call(&self, vp: VpAccess<'_>) -> u32 {
        if !hypercall_page::is_port_read(vp.registers.rip) {
            return u32::MAX;
        }
        if !vp.memo.long_mode {
            // The page brings 64-bit calls only; who reads the port without it has no call code in RCX. Once
            // seen, the mode is believed: a guest that goes back deceives nobody but itself.
            vp.memo.long_mode = vp.vcpu.get_sregs().is_ok_and(|sregs| sregs.cs.l != 0);
            if !vp.memo.long_mode {
                return ANSWER_PASS_ON;
            }
        }
        let input = HypercallInput(vp.registers.rcx);
        vp.stats.count_call(input.code());
        match input.code() {
            HV_CALL_NOTIFY_LONG_SPIN_WAIT => match self.long_spin(&vp) {
                SpinAnswer::Directed | SpinAnswer::Refused => ANSWER_PASS_ON,
                _ => 0,
            },
            extended::FIRST_CODE.. => status(self.extended(input, vp.registers.r8)).into(),
            _ => {
                self.interrupt_idle(idle::ipi_targets(&vp.registers, &self.memory));
                ANSWER_PASS_ON
            }
        }
    }

    /// Answers a call that KVM handed on; gives the status.
    pub(super) fn kvm_call(&self, input: HypercallInput, parameter: u64, output: u64) -> u16 {
        status(match input.code() {
            HV_CALL_POST_MESSAGE | HV_CALL_SIGNAL_EVENT => self.synic.hypercall(input, parameter),
            // Since Linux 6.2 KVM knows these, for callers that go past the page.
            extended::FIRST_CODE.. => self.extended(input, output),
            _ => Err(HvError::INVALID_HYPERCALL_CODE),
        })
    }

    fn extended(&self, input: HypercallInput, output: u64) -> Result<(), HvError> {
        let granted = self.offered.privileges.contains(Privileges::EXTENDED_HYPERCALLS);
        if !granted && extended::is_known(input.code()) {
            return Err(HvError::ACCESS_DENIED);
        }
        extended::answer(input, output, &self.memory)
    }

    /// Counts a long spin wait and says what becomes of it.
    fn long_spin(&self, vp: &VpAccess<'_>) -> SpinAnswer {
        let Some(input) = long_spin::decode(vp.registers.rcx, vp.registers.rdx) else {
            return SpinAnswer::Refused;
        };
        let value = match input {
            Input::Register(value) => Some(value),
            Input::Memory(address) => self.read_u64(address),
        };
        let Some(value) = value else { return SpinAnswer::Refused };
        let answer = match self.threshold {
            // KVM answers that the guest was not to notify.
            SpinThreshold(HV_SPIN_WAIT_NEVER_NOTIFY) => SpinAnswer::Refused,
            SpinThreshold(_) => {
                long_spin::apply(self.policy, vp.index, self.vps, &*self.run_time, vp.stats)
            }
        };
        let spins = long_spin::spin_count(value);
        vp.stats.count_long_spin(self.return_address(vp), spins, answer);
        answer
    }

    /// Where the page's caller goes on: the return address on its stack, or 0.
    fn return_address(&self, vp: &VpAccess<'_>) -> u64 {
        let stack = vp.registers.rsp;
        if !stack.is_multiple_of(8) {
            return 0;
        }
        match vp.vcpu.translate_gva(stack) {
            Ok(found) if found.valid != 0 => self.read_u64(found.physical_address).unwrap_or(0),
            _ => 0,
        }
    }

    fn read_u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

fn status(result: Result<(), HvError>) -> u16 {
    result.map_or_else(|error| error.0.get(), |()| 0)
}

const _: () = assert!(HV_CALL_NOTIFY_LONG_SPIN_WAIT < 0x80, "it is an 8-bit immediate in the page");
