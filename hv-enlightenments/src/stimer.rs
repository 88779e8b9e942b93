//! Synthetic timers: four on each virtual processor, one-shot or periodic, by message or straight to a vector.
//!
//! **Theory.** A timer has a configuration and a count, in 100 ns of reference time ([`crate::Clock`]). For a one-shot
//! timer the count is the moment (one in the past fires at once), for a periodic one the period. A timer that
//! delivers messages goes to a source of the SynIC; in direct mode it raises a vector of the local APIC.
//!
//! **Practice.** [`Stimer`] starts and stops a timer, each time disabling it first, as the specification asks.
//! [`DeadlineTimer`] is a one-shot timer that is set again and again by one register write (auto-enable). A kernel
//! looks at the time in the handler: a signal is only a hint that it may have come.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::num::NonZeroU64;

use hv_abi::cpuid::{Features, Privileges};
use hv_abi::stimer::{HV_STIMER_COUNT, HvStimerConfig, stimer_config_msr, stimer_count_msr};
use hv_abi::synic::{HvMessageType, HvTimerMessagePayload};

use crate::cpu::{Cpu, FIRST_INTERRUPT_VECTOR};
use crate::detect::HyperV;
use crate::synic::{Message, Sint};

/// Where a timer's signals go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As messages to a source of this processor's SynIC, which is enabled. Not source 0.
    Message(Sint),
    /// As interrupts with this vector (direct mode).
    Direct(u8),
}

/// What a periodic timer does about signals that come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// The hypervisor tries to catch up, with shorter periods.
    CatchUp,
    /// Signals that are too late are left out.
    Lazy,
}

/// Why there is no such timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StimerError {
    /// The partition lacks the privilege `AccessSyntheticTimerRegs`, or for messages `AccessSynicRegs`.
    NoPrivilege,
    /// The hypervisor has no direct mode.
    NoDirectMode,
    /// A processor has four timers.
    NoSuchTimer,
    /// Source 0, which is not for timers.
    BadSource,
    /// A vector below 32: an exception's, or none.
    BadVector,
}

impl fmt::Display for StimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPrivilege => "the partition may not use synthetic timers",
            Self::NoDirectMode => "the hypervisor's timers can't raise a vector directly",
            Self::NoSuchTimer => "a virtual processor has four synthetic timers",
            Self::BadSource => "timers can't use synthetic interrupt source 0",
            Self::BadVector => "interrupts get vectors from 32 on",
        })
    }
}

impl core::error::Error for StimerError {}

/// One of the timers of the virtual processor that runs this; only that processor may use the value.
#[derive(Debug, Clone, Copy)]
pub struct Stimer<C> {
    cpu: C,
    index: usize,
    delivery: HvStimerConfig,
}

impl<C: Cpu> Stimer<C> {
    /// Timer `index`, 0 to 3. Its registers are not touched yet.
    ///
    /// # Errors
    ///
    /// [`StimerError`].
    pub fn new(cpu: C, hv: &HyperV, index: usize, delivery: Delivery) -> Result<Self, StimerError> {
        if !hv.privileges().contains(Privileges::SYNTHETIC_TIMERS) {
            return Err(StimerError::NoPrivilege);
        }
        if index >= HV_STIMER_COUNT {
            return Err(StimerError::NoSuchTimer);
        }
        let delivery = match delivery {
            Delivery::Message(_) if !hv.privileges().contains(Privileges::SYNIC) => {
                return Err(StimerError::NoPrivilege);
            }
            Delivery::Message(sint) if sint.number() == 0 => return Err(StimerError::BadSource),
            Delivery::Message(sint) => HvStimerConfig::message(sint.number()),
            Delivery::Direct(_) if !hv.features().contains(Features::STIMER_DIRECT) => {
                return Err(StimerError::NoDirectMode);
            }
            Delivery::Direct(0..FIRST_INTERRUPT_VECTOR) => return Err(StimerError::BadVector),
            Delivery::Direct(vector) => HvStimerConfig::direct(vector),
        };
        Ok(Self { cpu, index, delivery })
    }

    /// Fires once, at reference time `at_100ns`, or at once if that has passed.
    pub fn start_at(&self, at_100ns: u64) {
        self.start(moment(at_100ns), 0);
    }

    /// Fires every `period_100ns`, the first time after one period.
    pub fn start_every(&self, period_100ns: NonZeroU64, lateness: Lateness) {
        let lazy = if lateness == Lateness::Lazy { HvStimerConfig::LAZY } else { 0 };
        self.start(period_100ns.get(), HvStimerConfig::PERIODIC | lazy);
    }

    fn start(&self, count: u64, kind: u64) {
        self.write_config(self.delivery);
        self.write_count(count);
        self.write_config(self.delivery.with(kind | HvStimerConfig::ENABLED));
    }

    /// Stops the timer. A signal that is under way may still come.
    pub fn stop(&self) {
        self.write_config(self.delivery);
        self.write_count(0);
    }

    /// Whether the timer runs. A one-shot timer that has fired does not.
    pub fn is_running(&self) -> bool {
        self.config().has(HvStimerConfig::ENABLED)
    }

    /// The configuration register.
    pub fn config(&self) -> HvStimerConfig {
        // SAFETY: `new` checked the privilege: the register exists; reading it has no effect.
        HvStimerConfig(unsafe { self.cpu.rdmsr(stimer_config_msr(self.index)) })
    }

    /// The count register.
    pub fn count(&self) -> u64 {
        // SAFETY: as in `config`.
        unsafe { self.cpu.rdmsr(stimer_count_msr(self.index)) }
    }

    /// The timer as one that fires once at a time, set by one write each.
    pub fn into_deadlines(self) -> DeadlineTimer<C> {
        self.stop();
        self.write_config(self.delivery.with(HvStimerConfig::AUTO_ENABLE));
        DeadlineTimer { timer: self }
    }

    fn write_config(&self, config: HvStimerConfig) {
        // SAFETY: `new` checked privilege and direct mode: the register takes the value. The worst it does is an
        // interrupt with a vector that the caller has chosen, no exception's, or a message to a slot made for it.
        unsafe { self.cpu.wrmsr(stimer_config_msr(self.index), config.0) };
    }

    fn write_count(&self, count: u64) {
        // SAFETY: as in `write_config`.
        unsafe { self.cpu.wrmsr(stimer_count_msr(self.index), count) };
    }
}

/// A count of 0 stops a timer; the reference time is past 1 in any guest that asks.
fn moment(at_100ns: u64) -> u64 {
    at_100ns.max(1)
}

/// A one-shot timer with auto-enable: [`Stimer::into_deadlines`].
#[derive(Debug, Clone, Copy)]
pub struct DeadlineTimer<C> {
    timer: Stimer<C>,
}

impl<C: Cpu> DeadlineTimer<C> {
    /// Fires once at reference time `at_100ns`, or at once if that has passed; not at the time set before.
    pub fn set(&self, at_100ns: u64) {
        self.timer.write_count(moment(at_100ns));
    }

    /// Does not fire until set again.
    pub fn cancel(&self) {
        self.timer.write_count(0);
    }
}

/// What a timer's message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerExpiration {
    /// Which timer, 0 to 3.
    pub timer: u8,
    /// When it expired, in 100 ns of reference time.
    pub expired_at_100ns: u64,
    /// When the message was sent, in 100 ns of reference time.
    pub delivered_at_100ns: u64,
}

impl TimerExpiration {
    /// Reads a message; `None` if it is another's, too short, or names a timer that does not exist.
    pub fn from_message(message: &Message) -> Option<Self> {
        if message.message_type() != HvMessageType::TIMER_EXPIRED {
            return None;
        }
        let payload = message.payload();
        if payload.len() < size_of::<HvTimerMessagePayload>() {
            return None;
        }
        let timer = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?);
        let time = |at: usize| Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            timer: u8::try_from(timer)
                .ok()
                .filter(|&timer| usize::from(timer) < HV_STIMER_COUNT)?,
            expired_at_100ns: time(8)?,
            delivered_at_100ns: time(16)?,
        })
    }
}
