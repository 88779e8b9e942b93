//! Synthetic interrupt sources for cases: one that counts its interrupts and leaves its messages, and is as it was
//! before when the case is over.

#![expect(unsafe_code, reason = "restores model-specific registers")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_abi::cpuid::Privileges;
use hv_abi::msr::HV_X64_MSR_SINT0;
use hv_abi::synic::{HV_SYNIC_SINT_COUNT, HvMessageType, HvSynicSint};
use hv_enlightenments::stimer::{Delivery, Stimer};
use hv_enlightenments::synic::{Message, Sint, Synic};
use hv_enlightenments::{Cpu, X86Cpu};

use super::{Problem, holds_soon, need, reference_clock};
use crate::machine::cpu::CPU;
use crate::machine::{interrupts, synic};

/// The synthetic timers that the kernel does not use itself.
pub(crate) const FREE_TIMERS: [usize; 3] = [1, 2, 3];
/// A vector that only cases use.
pub(crate) const CASE_VECTOR: u8 = 0x70;
/// How long to look for what must not happen: waits, none of which asserts anything by itself.
const QUIET_LOOKS: u32 = 2000;

static INTERRUPTS: [AtomicU64; HV_SYNIC_SINT_COUNT] =
    [const { AtomicU64::new(0) }; HV_SYNIC_SINT_COUNT];
static CASE_INTERRUPTS: AtomicU64 = AtomicU64::new(0);

/// This processor's controller, or the reason to skip.
pub(crate) fn controller() -> Result<&'static Synic<X86Cpu>, Problem> {
    need(Privileges::SYNIC)?;
    synic::current().ok_or(Problem::Fail("the SynIC could not be enabled".into()))
}

/// A register that gets its value back when the case is over.
pub(crate) struct Restored {
    msr: u32,
    before: u64,
}

impl Restored {
    /// Keeps the value of a register that exists.
    pub(crate) fn new(msr: u32) -> Self {
        // SAFETY: the case has looked whether the register exists; reading it has no effect.
        Self { msr, before: unsafe { CPU.rdmsr(msr) } }
    }

    /// Its value before.
    pub(crate) fn before(&self) -> u64 {
        self.before
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // SAFETY: the value was there before.
        unsafe { CPU.wrmsr(self.msr, self.before) };
    }
}

/// A source that the kernel does not use, on this processor.
pub(crate) struct Source {
    pub(crate) sint: Sint,
    controller: &'static Synic<X86Cpu>,
}

impl Source {
    /// Source `number`, from 5 on, empty and masked.
    pub(crate) fn masked(number: u8) -> Result<Self, Problem> {
        let controller = controller()?;
        let sint = Sint::new(number).ok_or(Problem::Fail("no such source".into()))?;
        let this = Self { sint, controller };
        this.clear();
        INTERRUPTS[usize::from(number)].store(0, Ordering::SeqCst);
        Ok(this)
    }

    /// The same, counting its interrupts.
    pub(crate) fn counting(number: u8) -> Result<Self, Problem> {
        let this = Self::masked(number)?;
        let count = |sint: Sint| {
            INTERRUPTS[usize::from(sint.number())].fetch_add(1, Ordering::SeqCst);
        };
        match synic::connect(this.sint, count) {
            Ok(()) => Ok(this),
            Err(error) => Err(Problem::Fail(alloc::format!("{error}"))),
        }
    }

    /// Interrupts so far.
    pub(crate) fn interrupts(&self) -> u64 {
        INTERRUPTS[usize::from(self.sint.number())].load(Ordering::SeqCst)
    }

    /// Whether its slot has a message.
    pub(crate) fn is_full(&self) -> bool {
        self.message_type() != HvMessageType::NONE
    }

    /// The type of the message in its slot.
    pub(crate) fn message_type(&self) -> HvMessageType {
        self.controller.pages().messages.message_type(self.sint)
    }

    /// Whether its slot says that another message waits.
    pub(crate) fn is_pending(&self) -> bool {
        self.controller.pages().messages.is_pending(self.sint)
    }

    /// Waits for a message and takes it.
    pub(crate) fn message(&self, what: &str) -> Result<Message, Problem> {
        if !holds_soon(|| self.is_full()) {
            return Err(Problem::Fail(alloc::format!("no message came: {what}")));
        }
        match self.controller.take_message(self.sint) {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(Problem::Fail(alloc::format!("{what}: {error}"))),
            None => Err(Problem::Fail(alloc::format!("the message is gone: {what}"))),
        }
    }

    /// Waits for `count` interrupts in all.
    pub(crate) fn expect_interrupts(&self, count: u64, what: &str) -> Result<(), Problem> {
        if holds_soon(|| self.interrupts() >= count) && self.interrupts() == count {
            return Ok(());
        }
        let came = self.interrupts();
        Err(Problem::Fail(alloc::format!("{came} interrupts and not {count}: {what}")))
    }

    /// A free synthetic timer that sends its messages here.
    pub(crate) fn timer(&self, index: usize) -> Result<CaseTimer, Problem> {
        CaseTimer::new(index, Delivery::Message(self.sint))
    }

    /// Masks it and drops what lies in its slot and what waits for it.
    fn clear(&self) {
        self.controller.mask(self.sint);
        // SAFETY: masked, as after a reset.
        unsafe {
            CPU.wrmsr(HV_X64_MSR_SINT0 + u32::from(self.sint.number()), HvSynicSint::RESET.0);
        }
        for _ in 0..8 {
            if self.controller.take_message(self.sint).is_none() {
                break;
            }
        }
        self.controller.pages().flags.take(self.sint, |_| {});
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A free synthetic timer, stopped when the case is over.
pub(crate) struct CaseTimer(pub(crate) Stimer<X86Cpu>);

impl CaseTimer {
    /// Timer `index`, one of [`FREE_TIMERS`], or the reason to skip.
    pub(crate) fn new(index: usize, delivery: Delivery) -> Result<Self, Problem> {
        let hv = need(Privileges::SYNTHETIC_TIMERS)?;
        reference_clock()?;
        let timer = Stimer::new(CPU, hv, index, delivery);
        let timer = timer.map_err(|error| Problem::Skip(alloc::format!("not offered: {error}")))?;
        timer.stop();
        Ok(Self(timer))
    }
}

impl Drop for CaseTimer {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Counts interrupts with [`CASE_VECTOR`] while it lives.
pub(crate) struct CaseVector;

impl CaseVector {
    /// From zero on.
    pub(crate) fn new() -> Self {
        CASE_INTERRUPTS.store(0, Ordering::SeqCst);
        let count = |_| {
            CASE_INTERRUPTS.fetch_add(1, Ordering::SeqCst);
        };
        interrupts::set_handler(CASE_VECTOR, Some(count));
        Self
    }

    /// So far.
    pub(crate) fn count(&self) -> u64 {
        CASE_INTERRUPTS.load(Ordering::SeqCst)
    }
}

impl Drop for CaseVector {
    fn drop(&mut self) {
        interrupts::set_handler(CASE_VECTOR, None);
    }
}

/// Looks for a while whether something happens that must not. It may come later still, but most often it would not.
pub(crate) fn stays_quiet(happens: impl Fn() -> bool) -> bool {
    (0..QUIET_LOOKS).all(|_| {
        for _ in 0..100 {
            crate::machine::cpu::pause();
        }
        !happens()
    })
}
