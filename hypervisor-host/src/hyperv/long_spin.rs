//! Long spin waits: what a guest tells with `HvCallNotifyLongSpinWait` (TLFS §7.10), and what the host
//! does about it.

use std::time::Instant;

use hv_abi::hypercall::{HV_CALL_NOTIFY_LONG_SPIN_WAIT, HypercallInput};

use super::park::{self, Parked, RunTime};
use crate::config::Policy;
use crate::stats::{SpinAnswer, VpStats};

/// Where the input of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// In RDX: the spin count in the low half, zero in the high half.
    Register(u64),
    /// In guest memory: the same eight bytes.
    Memory(u64),
}

/// Tells what RCX and RDX of a call mean. `None` if it is malformed, which KVM then says to the guest.
pub fn decode(rcx: u64, rdx: u64) -> Option<Input> {
    let input = HypercallInput(rcx);
    let simple = input.rep_count() == 0 && input.rep_start() == 0;
    let well_formed = input.code() == HV_CALL_NOTIFY_LONG_SPIN_WAIT
        && input.0 & HypercallInput::RESERVED == 0
        && input.variable_header_qwords() == 0
        && simple;
    if !well_formed {
        return None;
    }
    if input.is_fast() {
        return Some(Input::Register(rdx));
    }
    // Aligned to 8 bytes, it can't cross a page (TLFS §3.4).
    rdx.is_multiple_of(8).then_some(Input::Memory(rdx))
}

/// The spin count of an input value; the reserved half is not looked at, as KVM doesn't either.
pub fn spin_count(value: u64) -> u32 {
    value as u32
}

/// Does what a policy asks for, in the thread of the VP that spins, which is number `vp` of `vps`.
pub fn apply(policy: Policy, vp: u32, vps: u32, run_time: &RunTime, stats: &VpStats) -> SpinAnswer {
    match policy {
        Policy::None => SpinAnswer::Resumed,
        Policy::Yield => {
            std::thread::yield_now();
            SpinAnswer::Yielded
        }
        // KVM finds a VP to run when the page passes the call on (kvm_vcpu_on_spin).
        Policy::Directed => SpinAnswer::Directed,
        // Nobody else could run.
        Policy::Park if vps == 1 => SpinAnswer::Resumed,
        Policy::Park => {
            let start = Instant::now();
            let parked = park::park(vp, vps, run_time, || {
                std::thread::sleep(park::STEP);
                start.elapsed()
            });
            stats.count_parked(start.elapsed());
            match parked {
                Parked::Woken => SpinAnswer::ParkedWoken,
                Parked::TimedOut => SpinAnswer::ParkedTimedOut,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: u64 = 8;
    const FAST: u64 = 1 << 16;

    #[test]
    fn fast_calls_carry_the_count_in_rdx() {
        assert_eq!(decode(CODE | FAST, 4095), Some(Input::Register(4095)));
        assert_eq!(spin_count(0xFFFF_FFFF_0000_1000), 0x1000);
    }

    #[test]
    fn slow_calls_point_to_it_with_eight_byte_alignment() {
        assert_eq!(decode(CODE, 0x5FF8), Some(Input::Memory(0x5FF8)));
        assert_eq!(decode(CODE, 0x5FFC), None);
    }

    #[test]
    fn malformed_calls_are_left_to_kvm() {
        for wrong in [9, CODE | 1 << 17, CODE | 1 << 27, CODE | 1 << 32, CODE | 1 << 48, 1 << 63] {
            assert_eq!(decode(wrong | FAST, 0), None, "{wrong:#x}");
        }
    }

    #[test]
    fn each_policy_has_its_answer() {
        let stats = VpStats::default();
        let apply = |policy, vps| apply(policy, 0, vps, &|_| None, &stats);
        assert_eq!(apply(Policy::None, 2), SpinAnswer::Resumed);
        assert_eq!(apply(Policy::Yield, 2), SpinAnswer::Yielded);
        assert_eq!(apply(Policy::Directed, 2), SpinAnswer::Directed);
        assert_eq!(apply(Policy::Park, 1), SpinAnswer::Resumed);
        assert_eq!(stats.parked_ns(), 0);
        assert_eq!(apply(Policy::Park, 2), SpinAnswer::ParkedTimedOut);
        assert!(stats.parked_ns() >= 1_000_000);
    }
}
