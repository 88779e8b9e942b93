//! The locks that compete, each plain and enlightened, around the same counter.

use hv_enlightenments::lock::{McsLock, Relax, TasLock, TicketLock};
use hv_enlightenments::spin_wait::{Enlightened, Idling, Plain};
use spin::mutex::SpinMutex;

use super::workload::{self, Protected};
use crate::machine::hyperv::Kernel;

/// A counter behind a lock.
pub(crate) trait Guarded: Sync {
    /// Runs `action` on the counter while holding the lock.
    fn with<T>(&self, action: impl FnOnce(&mut Protected) -> T) -> T;
}

impl<R: spin::RelaxStrategy> Guarded for SpinMutex<Protected, R> {
    fn with<T>(&self, action: impl FnOnce(&mut Protected) -> T) -> T {
        action(&mut self.lock())
    }
}

impl<R: lock_api::RawMutex + Sync> Guarded for lock_api::Mutex<R, Protected> {
    fn with<T>(&self, action: impl FnOnce(&mut Protected) -> T) -> T {
        action(&mut self.lock())
    }
}

/// A lock of the study.
pub(crate) struct Contender {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What each participating processor does.
    pub(super) work: fn(usize),
    /// Takes the counter's value and leaves zero.
    pub(super) take_total: fn() -> u64,
}

macro_rules! contenders {
    ($($name:literal: $lock:ident = $type:ty;)*) => {
        $(pub(crate) static $lock: $type = <$type>::new(Protected::new());)*

        /// All locks of the study.
        pub(crate) static CONTENDERS: [Contender; [$($name),*].len()] = [$(Contender {
            name: $name,
            work: |index| workload::work(&$lock, index),
            take_total: || $lock.with(Protected::take_total),
        }),*];
    };
}

contenders! {
    "spin": SPIN = SpinMutex<Protected, Relax<Plain<Kernel>>>;
    "tas": TAS = TasLock<Protected, Plain<Kernel>>;
    "ticket": TICKET = TicketLock<Protected, Plain<Kernel>>;
    "mcs": MCS = McsLock<Protected, Plain<Kernel>>;
    "spin-enlightened": SPIN_ENLIGHTENED = SpinMutex<Protected, Relax<Enlightened<Kernel>>>;
    "tas-enlightened": TAS_ENLIGHTENED = TasLock<Protected, Enlightened<Kernel>>;
    "ticket-enlightened": TICKET_ENLIGHTENED = TicketLock<Protected, Enlightened<Kernel>>;
    "mcs-enlightened": MCS_ENLIGHTENED = McsLock<Protected, Idling<Kernel>>;
    "mcs-notifying": MCS_NOTIFYING = McsLock<Protected, Enlightened<Kernel>>;
}
