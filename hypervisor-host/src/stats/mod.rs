//! What the host counts about each VP while it runs.
//!
//! Counters are relaxed atomics that one VP thread writes and anybody reads. Tables that a guest can
//! fill (call codes, instruction pointers) have a fixed size and an entry for the rest.
//! [`kvm`] reads what the kernel counts by itself, [`instructions`] what the processor counts, [`gauges`] what devices count.

pub mod gauges;
pub mod instructions;
pub mod kvm;
mod sites;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use sites::{Site, SpinSites};

/// Locks a mutex whose content stays meaningful even if a holder panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! exit_kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why KVM gave a VP back to user space.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ExitKind { $($(#[$doc])* $name,)* }

        impl ExitKind {
            /// All kinds, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

exit_kinds! {
    /// A read from an I/O port.
    PortRead = "port-read",
    /// A write to an I/O port.
    PortWrite = "port-write",
    /// A read from an address without RAM.
    MmioRead = "mmio-read",
    /// A write to an address without RAM.
    MmioWrite = "mmio-write",
    /// A read from the hypercall page's port: a call that the host wants to see.
    HypercallPage = "hypercall-page",
    /// A hypercall that KVM hands on.
    Hypercall = "hypercall",
    /// The guest set up its SynIC.
    Synic = "synic",
    /// A read of a synthetic MSR that the host keeps.
    MsrRead = "msr-read",
    /// A write to a synthetic MSR that the host keeps.
    MsrWrite = "msr-write",
    /// A signal, or a spurious return.
    Interrupted = "interrupted",
    /// Reset or crash, as KVM reports it.
    SystemEvent = "system-event",
    /// A triple fault.
    Shutdown = "shutdown",
    /// KVM gave up.
    Error = "error",
    /// Anything else.
    Other = "other",
}

const EXIT_KINDS: usize = ExitKind::ALL.len();

/// What the policy did with a long spin wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpinAnswer {
    /// The VP went straight back to spinning.
    Resumed,
    /// The VP thread gave up its time slice.
    Yielded,
    /// KVM chose another VP.
    Directed,
    /// The VP slept until another VP had run.
    ParkedWoken,
    /// The VP slept, and no other VP ran.
    ParkedTimedOut,
    /// KVM answers: the call is malformed, or the guest was told never to notify.
    Refused,
}

impl SpinAnswer {
    const COUNT: usize = Self::Refused as usize + 1;
}

/// What ended a VP's idle state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleEnd {
    /// Interrupts were not masked, so KVM halted the VP and woke it.
    Halted,
    /// A cluster IPI.
    Ipi,
    /// An interrupt that waited in the APIC.
    Request,
    /// KVM woke it: a synthetic timer, an NMI.
    Kvm,
    /// The longest time that the host lets it wait.
    Limit,
}

impl IdleEnd {
    const COUNT: usize = Self::Limit as usize + 1;
}

/// Counters of one VP.
#[derive(Debug, Default)]
pub struct VpStats {
    exits: [AtomicU64; EXIT_KINDS],
    unclaimed: AtomicU64,
    answers: [AtomicU64; SpinAnswer::COUNT],
    parked_ns: AtomicU64,
    idles: [AtomicU64; IdleEnd::COUNT],
    masked_idle_ns: AtomicU64,
    calls: Mutex<CallTable>,
    sites: Mutex<SpinSites>,
}

impl VpStats {
    /// Counts a return to user space.
    pub fn count_exit(&self, kind: ExitKind) {
        self.exits[kind as usize].fetch_add(1, Relaxed);
    }

    /// Counts an access that no device claimed.
    pub fn count_unclaimed(&self) {
        self.unclaimed.fetch_add(1, Relaxed);
    }

    /// Accesses that no device claimed.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Relaxed)
    }

    /// Counts a hypercall that came to user space.
    pub fn count_call(&self, code: u16) {
        lock(&self.calls).count(code);
    }

    /// Counts a long spin wait of `spins` tries from `instruction_pointer`.
    pub fn count_long_spin(&self, instruction_pointer: u64, spins: u32, answer: SpinAnswer) {
        self.answers[answer as usize].fetch_add(1, Relaxed);
        lock(&self.sites).count(instruction_pointer, spins);
    }

    /// Adds to the time for which the VP was parked.
    pub fn count_parked(&self, time: Duration) {
        self.parked_ns.fetch_add(nanoseconds(time), Relaxed);
    }

    /// Nanoseconds for which the VP was parked.
    pub fn parked_ns(&self) -> u64 {
        self.parked_ns.load(Relaxed)
    }

    /// Counts an idle state that ended, after so long if interrupts were masked.
    pub fn count_idle(&self, end: IdleEnd, masked: Duration) {
        self.idles[end as usize].fetch_add(1, Relaxed);
        self.masked_idle_ns.fetch_add(nanoseconds(masked), Relaxed);
    }

    /// Idle states with one end.
    pub fn idles(&self, end: IdleEnd) -> u64 {
        self.idles[end as usize].load(Relaxed)
    }

    /// Nanoseconds for which the VP idled with interrupts masked.
    pub fn masked_idle_ns(&self) -> u64 {
        self.masked_idle_ns.load(Relaxed)
    }

    /// Returns to user space of one kind.
    pub fn exits(&self, kind: ExitKind) -> u64 {
        self.exits[kind as usize].load(Relaxed)
    }

    /// Long spin waits with one answer.
    pub fn answers(&self, answer: SpinAnswer) -> u64 {
        self.answers[answer as usize].load(Relaxed)
    }

    /// All long spin waits.
    pub fn long_spins(&self) -> u64 {
        self.answers.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Hypercalls that came to user space: the code in hexadecimal, or `other`.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        lock(&self.calls).to_map()
    }

    /// Where this VP spun.
    pub fn sites(&self) -> SpinSites {
        lock(&self.sites).clone()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Most call codes that are told apart.
const MAX_CODES: usize = 32;

/// Hypercalls by code.
#[derive(Debug, Default)]
struct CallTable {
    known: Vec<(u16, u64)>,
    other: u64,
}

impl CallTable {
    fn count(&mut self, code: u16) {
        if let Some((_, count)) = self.known.iter_mut().find(|(known, _)| *known == code) {
            *count += 1;
        } else if self.known.len() < MAX_CODES {
            self.known.push((code, 1));
        } else {
            self.other += 1;
        }
    }

    fn to_map(&self) -> BTreeMap<String, u64> {
        let mut map: BTreeMap<_, _> =
            self.known.iter().map(|&(code, count)| (format!("{code:#06x}"), count)).collect();
        if self.other != 0 {
            map.insert("other".into(), self.other);
        }
        map
    }
}

/// Returns to user space of several VPs, by name; kinds that never happened are left out.
pub fn exits_by_reason<'a>(vps: impl Iterator<Item = &'a VpStats>) -> BTreeMap<String, u64> {
    let mut map = BTreeMap::new();
    for stats in vps {
        for &kind in ExitKind::ALL {
            let count = stats.exits(kind);
            if count != 0 {
                *map.entry(kind.name().to_owned()).or_default() += count;
            }
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_in_the_order_of_their_discriminants() {
        for (index, &kind) in ExitKind::ALL.iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn exits_add_up_over_vps_and_name_only_what_happened() {
        let vps = [VpStats::default(), VpStats::default()];
        vps[0].count_exit(ExitKind::PortWrite);
        vps[1].count_exit(ExitKind::PortWrite);
        vps[1].count_exit(ExitKind::MmioRead);
        let map = exits_by_reason(vps.iter());
        assert_eq!(map, BTreeMap::from([("port-write".into(), 2), ("mmio-read".into(), 1)]));
    }

    #[test]
    fn a_guest_that_makes_up_call_codes_fills_one_bounded_table() {
        let stats = VpStats::default();
        for code in 0..=u16::MAX {
            stats.count_call(code);
        }
        let calls = stats.calls();
        assert_eq!(calls.len(), MAX_CODES + 1);
        assert_eq!(calls.values().sum::<u64>(), 0x1_0000);
        assert_eq!(calls["0x0008"], 1);
    }

    #[test]
    fn every_answer_counts_as_a_long_spin() {
        let stats = VpStats::default();
        stats.count_long_spin(0x1000, 7, SpinAnswer::Resumed);
        stats.count_long_spin(0x1000, 8, SpinAnswer::Refused);
        assert_eq!(stats.long_spins(), 2);
        assert_eq!(stats.answers(SpinAnswer::Refused), 1);
        assert_eq!(
            stats.sites().top(1),
            [Site { instruction_pointer: 0x1000, waits: 2, spins: 15 }]
        );
    }
}
