//! The guest idle state: a VP reads `HV_X64_MSR_GUEST_IDLE` and sleeps until an interrupt arrives, *even a
//! masked one* (TLFS *Virtual Processor Idle Sleep State*).
//!
//! *Theory.* KVM has no such state. Its halted VP sleeps until an interrupt that can be taken; if the guest has
//! masked them, as Linux does around its queue lock's wait (`arch/x86/hyperv/hv_spinlock.c`), that may be never.
//!
//! *Practice.* The VP is halted in KVM all the same, so that its timers run, and KVM itself ends the wait for
//! interrupts that can be taken, NMIs and synthetic timers. With interrupts masked the host looks in addition
//!
//! - at once when a cluster IPI is sent to the VP: while [`MaskedIdlers`] has anybody, the hypercall page asks
//!   us before it hands IPIs to KVM. We may look before KVM has the IPI; the wait then ends one time too many.
//! - at the APIC's request register, at growing intervals ([`Backoff`]), for everything else.
//!
//! A wait may end without a reason, and ends after [`WAIT_LIMIT`] whatever happens: guests look at what they
//! wait for and come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hv_abi::hypercall::{
    HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX, HypercallInput,
};
use kvm_bindings::{kvm_lapic_state, kvm_regs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// First interval at which the host looks at the APIC of a VP that waits with interrupts masked.
pub const FIRST_INTERVAL: Duration = Duration::from_micros(50);
/// Longest such interval, unless looking itself takes long.
pub const LAST_INTERVAL: Duration = Duration::from_millis(4);
/// An interval is at least so many times the time that looking takes, so that idle VPs stay cheap on a slow
/// machine.
pub const INTERVAL_OVER_COST: u32 = 64;
/// An interval is never longer, and a wait with interrupts masked ends after this.
pub const WAIT_LIMIT: Duration = Duration::from_millis(100);

/// RFLAGS: interrupts are enabled.
const RFLAGS_INTERRUPT: u64 = 1 << 9;

/// The VPs that idle with interrupts masked, by number.
#[derive(Debug, Default)]
pub struct MaskedIdlers {
    idle: AtomicU64,
    interrupted: AtomicU64,
}

impl MaskedIdlers {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.idle.load(Ordering::SeqCst) != 0
    }

    /// VP `vp` begins to idle. Tells whether it is the first.
    pub fn enter(&self, vp: u32) -> bool {
        self.interrupted.fetch_and(!bit(vp), Ordering::SeqCst);
        self.idle.fetch_or(bit(vp), Ordering::SeqCst) == 0
    }

    /// VP `vp` idles no more. Tells whether it was the last.
    pub fn leave(&self, vp: u32) -> bool {
        let before = self.idle.fetch_and(!bit(vp), Ordering::SeqCst);
        before & !bit(vp) == 0
    }

    /// An interrupt is about to be sent to these VPs; gives those of them whose wait ends.
    pub fn interrupt(&self, targets: u64) -> impl Iterator<Item = u32> + use<> {
        let hit = self.idle.load(Ordering::SeqCst) & targets;
        self.interrupted.fetch_or(hit, Ordering::SeqCst);
        (0..u64::BITS).filter(move |&vp| hit & bit(vp) != 0)
    }

    /// Whether an interrupt was sent to VP `vp` since it began to idle.
    pub fn was_interrupted(&self, vp: u32) -> bool {
        self.interrupted.load(Ordering::SeqCst) & bit(vp) != 0
    }
}

/// A VP's bit. Machines have at most 64.
fn bit(vp: u32) -> u64 {
    1_u64.checked_shl(vp).unwrap_or(0)
}

/// The VPs that a call for a cluster IPI names, by their bits; all where the host does not look closer.
pub fn ipi_targets(registers: &kvm_regs, memory: &GuestMemoryMmap) -> u64 {
    /// Offset of the processor mask in the call's input (TLFS *HvCallSendSyntheticClusterIpi*).
    const MASK_OFFSET: u64 = 8;
    let input = HypercallInput(registers.rcx);
    match input.code() {
        HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI if input.is_fast() => registers.r8,
        HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI => {
            let mask = GuestAddress(registers.rdx.wrapping_add(MASK_OFFSET));
            memory.read_obj::<u64>(mask).unwrap_or(0)
        }
        HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX => u64::MAX,
        _ => 0,
    }
}

/// Whether a VP can't take an interrupt: masked by its flag, or held back by the APIC's priority. That follows the
/// task priority, but not at once: a guest on Intel writes CR8 without an exit, and KVM computes the rest later.
pub fn is_masked(registers: &kvm_regs, lapic: &kvm_lapic_state) -> bool {
    const TASK_PRIORITY: usize = 0x80;
    const PROCESSOR_PRIORITY: usize = 0xA0;
    let holds_back = |register: usize| lapic.regs[register] & -16 != 0;
    registers.rflags & RFLAGS_INTERRUPT == 0
        || holds_back(TASK_PRIORITY)
        || holds_back(PROCESSOR_PRIORITY)
}

/// Whether an APIC holds an interrupt that waits (Intel SDM 3A, table 11-1: the request register, eight words at
/// steps of 16 bytes).
pub fn interrupt_waits(lapic: &kvm_lapic_state) -> bool {
    const REQUEST: usize = 0x200;
    const STEP: usize = 0x10;
    (0..8).any(|word| lapic.regs[REQUEST + word * STEP..][..4].iter().any(|&byte| byte != 0))
}

/// When to look at the APIC again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    waited: Duration,
}

impl Backoff {
    /// Nothing waited yet.
    pub const fn new() -> Self {
        Self { next: FIRST_INTERVAL, waited: Duration::ZERO }
    }

    /// The next interval, given how long the last look took; `None` when the wait has lasted long enough.
    pub fn interval(&mut self, cost: Duration) -> Option<Duration> {
        if self.waited >= WAIT_LIMIT {
            return None;
        }
        let least = cost.saturating_mul(INTERVAL_OVER_COST);
        let interval = self.next.max(least).min(WAIT_LIMIT);
        self.next = (self.next * 2).min(LAST_INTERVAL);
        self.waited += interval;
        Some(interval)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lapic(at: usize, value: i8) -> kvm_lapic_state {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[at] = value;
        lapic
    }

    fn call(rcx: u64, rdx: u64, r8: u64) -> kvm_regs {
        kvm_regs { rcx, rdx, r8, ..Default::default() }
    }

    #[test]
    fn an_interrupt_ends_the_wait_of_its_targets_only() {
        let idlers = MaskedIdlers::default();
        assert!(idlers.enter(0) && !idlers.enter(2) && !idlers.enter(63));
        let hit: Vec<_> = idlers.interrupt(1 << 2 | 1 << 5 | 1 << 63).collect();
        assert_eq!(hit, [2, 63]);
        let interrupted = [0, 2, 5, 63].map(|vp| idlers.was_interrupted(vp));
        assert_eq!(interrupted, [false, true, false, true]);
        assert!(!idlers.leave(2) && !idlers.leave(63) && idlers.leave(0));
        assert!(!idlers.any());
    }

    #[test]
    fn an_old_interrupt_does_not_end_the_next_wait() {
        let idlers = MaskedIdlers::default();
        idlers.enter(1);
        assert_eq!(idlers.interrupt(2).count(), 1);
        idlers.leave(1);
        assert_eq!(idlers.interrupt(2).count(), 0, "nobody waits");
        idlers.enter(1);
        assert!(!idlers.was_interrupted(1));
    }

    #[test]
    fn targets_are_read_from_registers_or_memory() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        memory.write_obj(0xA5_u64, GuestAddress(0x1008)).unwrap();
        assert_eq!(ipi_targets(&call(0x1_000B, 0xF3, 6), &memory), 6);
        assert_eq!(ipi_targets(&call(0xB, 0x1000, 6), &memory), 0xA5);
        assert_eq!(ipi_targets(&call(0x15, 0x1000, 6), &memory), u64::MAX);
        assert_eq!(ipi_targets(&call(0x8, 0x1000, 6), &memory), 0);
        for outside in [0x2000, u64::MAX, u64::MAX - 7] {
            assert_eq!(ipi_targets(&call(0xB, outside, 6), &memory), 0);
        }
    }

    #[test]
    fn interrupts_are_masked_by_flag_or_priority() {
        let on = kvm_regs { rflags: 0x202, ..Default::default() };
        assert!(!is_masked(&on, &kvm_lapic_state::default()));
        assert!(!is_masked(&on, &lapic(0xA0, 0x0F)), "the class is in bits 7:4");
        assert!(is_masked(&on, &lapic(0xA0, 0x20)) && is_masked(&on, &lapic(0xA0, -16)));
        assert!(is_masked(&on, &lapic(0x80, 0x20)), "the processor's priority may be stale");
        assert!(is_masked(&kvm_regs { rflags: 2, ..on }, &kvm_lapic_state::default()));
    }

    #[test]
    fn any_request_counts_and_nothing_else_does() {
        assert!(!interrupt_waits(&kvm_lapic_state::default()));
        for at in [0x200, 0x203, 0x240, 0x273] {
            assert!(interrupt_waits(&lapic(at, -128)), "{at:#x}");
        }
        for at in [0x1F3, 0x204, 0x20F, 0x274, 0x100] {
            assert!(!interrupt_waits(&lapic(at, 1)), "{at:#x}");
        }
    }

    #[test]
    fn intervals_grow_to_their_limit_and_the_wait_ends() {
        let mut backoff = Backoff::new();
        let all: Vec<_> = std::iter::from_fn(|| backoff.interval(Duration::ZERO))
            .map(|it| it.as_micros())
            .collect();
        assert_eq!(all[..7], [50, 100, 200, 400, 800, 1600, 3200]);
        assert!(all.iter().sum::<u128>() >= WAIT_LIMIT.as_micros());
        assert!(all.len() < 40);
    }

    #[test]
    fn a_slow_look_stretches_the_interval_within_bounds() {
        let mut backoff = Backoff::new();
        let slow = Duration::from_micros(500);
        assert_eq!(backoff.interval(slow), Some(Duration::from_micros(32_000)));
        assert_eq!(Backoff::new().interval(Duration::from_secs(9)), Some(WAIT_LIMIT));
    }
}
