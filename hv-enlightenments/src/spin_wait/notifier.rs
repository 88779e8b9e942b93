//! Telling the hypervisor, and how long a wait must be for that.

#![expect(unsafe_code, reason = "makes a hypercall")]

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, Ordering};

use core::num::NonZeroU16;

use hv_abi::cpuid::HV_SPIN_WAIT_NEVER_NOTIFY;
use hv_abi::hypercall::{HV_CALL_NOTIFY_LONG_SPIN_WAIT, HvError, HypercallInput, HypercallResult};

use crate::cpu::Cpu;
use crate::hypercall::HypercallPage;

/// Rounds of one wait after which the hypervisor wants to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpinThreshold(u32);

impl SpinThreshold {
    /// Never notify.
    pub const NEVER: Self = Self(HV_SPIN_WAIT_NEVER_NOTIFY);

    /// From EBX of leaf `0x4000_0004`: `0xFFFF_FFFF` is *never* (TLFS), and so is 0.
    ///
    /// The TLFS says nothing of 0. A hypervisor that leaves the register empty does not ask for a call on
    /// every failed attempt, and KVM refuses the call to a guest whose leaf says 0 or `0xFFFF_FFFF`
    /// (Linux, `arch/x86/kvm/hyperv.c`, `hv_check_hypercall_access`).
    pub const fn from_cpuid(ebx: u32) -> Self {
        if ebx == 0 { Self::NEVER } else { Self(ebx) }
    }

    /// The number of rounds; `None` for never.
    pub const fn rounds(self) -> Option<u32> {
        if self.0 == HV_SPIN_WAIT_NEVER_NOTIFY { None } else { Some(self.0) }
    }

    /// As CPUID has it: `0xFFFF_FFFF` for never.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Rounds until something is to be done; at least 1.
    pub(super) const fn limit(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SpinThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rounds() {
            Some(rounds) => rounds.fmt(f),
            None => f.write_str("never"),
        }
    }
}

/// Makes `HvCallNotifyLongSpinWait` for waiters on every processor. One `static` for the partition.
///
/// Disabled at first, so that locks work from the first instruction on.
#[derive(Debug)]
pub struct LongSpinNotifier<C> {
    cpu: C,
    /// The hypercall page; null until enabled. Release pairs with the Acquire in `notify`.
    entry: AtomicPtr<u8>,
    threshold: AtomicU32,
    /// The status with which the hypervisor refused; 0 if it never did.
    refusal: AtomicU16,
}

impl<C: Cpu> LongSpinNotifier<C> {
    /// Tells nobody.
    pub const fn new(cpu: C) -> Self {
        Self {
            cpu,
            entry: AtomicPtr::new(ptr::null_mut()),
            threshold: AtomicU32::new(SpinThreshold::NEVER.0),
            refusal: AtomicU16::new(0),
        }
    }

    /// Tells the hypervisor through `page` of every `threshold` rounds of a wait, from the next wait on.
    ///
    /// May be called again with another threshold at any time. `page` is this partition's, and its
    /// [`HypercallPage::enable`] promises that it stays.
    pub fn enable(&self, page: &HypercallPage<C>, threshold: SpinThreshold) {
        self.entry.store(page.entry().as_ptr(), Ordering::Release);
        self.refusal.store(0, Ordering::Relaxed);
        self.threshold.store(threshold.0, Ordering::Release);
    }

    /// Tells nobody from now on.
    pub fn disable(&self) {
        self.threshold.store(SpinThreshold::NEVER.0, Ordering::Relaxed);
    }

    /// The threshold in force: never, while disabled or after a refusal.
    #[inline]
    pub fn threshold(&self) -> SpinThreshold {
        SpinThreshold(self.threshold.load(Ordering::Relaxed))
    }

    /// The status with which the hypervisor refused to be told, after which it is not told again.
    ///
    /// By the TLFS the call always succeeds; KVM denies it to guests it does not offer it to.
    pub fn refusal(&self) -> Option<HvError> {
        NonZeroU16::new(self.refusal.load(Ordering::Relaxed)).map(HvError)
    }

    /// Tells the hypervisor that a wait has gone `rounds` rounds so far. Whether the call was made: not while
    /// disabled.
    ///
    /// A fast call: it needs no memory and may be made with interrupts on or off, in a handler too.
    #[inline]
    pub fn notify(&self, rounds: u32) -> bool {
        if self.threshold() == SpinThreshold::NEVER {
            return false;
        }
        let Some(entry) = NonNull::new(self.entry.load(Ordering::Acquire)) else {
            return false;
        };
        let input = HypercallInput::new(HV_CALL_NOTIFY_LONG_SPIN_WAIT).fast();
        // The first four bytes are the count, the next four zero (TLFS, HvCallNotifyLongSpinWait).
        let parameters = u64::from(rounds);
        // SAFETY: `entry` is an enabled hypercall page that stays (`enable`). The call names no memory; it is
        // advice to the scheduler.
        let rax = unsafe { self.cpu.hypercall(entry, input.0, parameters, 0) };
        if let Err(status) = HypercallResult(rax).status() {
            self.refusal.store(status.0.get(), Ordering::Relaxed);
            self.disable();
        }
        true
    }
}
