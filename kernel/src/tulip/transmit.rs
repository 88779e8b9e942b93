//! Frames to the chip.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use hv_abi::tulip::descriptor::{OWN, TX_ES, TX_FS, TX_IC, TX_LS, TX_SET, TX_UF};
use hv_abi::tulip::setup::SETUP_FRAME_BYTES;
use vsc_drivers::Hal;

use super::control::{RECHECK_100NS, STUCK_100NS};
use super::error::TransmitError;
use super::filter::Setup;
use super::options::{Demand, TulipOptions};
use super::stats::Counters;
use super::table::Table;
use super::{HEADER_BYTES, LONGEST_FRAME, Shared};
use crate::pci::Registers32;

/// Descriptors that frames leave for a setup frame and what goes before it.
const RESERVED: u32 = 2;

/// What a descriptor is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A frame of so many bytes.
    Frame(u16),
    /// A setup frame, or nothing.
    Other,
}

/// The ring. Descriptors are counted on and on; the place in the ring is the count's remainder.
pub(super) struct Transmit<H: Hal> {
    table: Table<H>,
    /// What each is used for.
    uses: Vec<Use>,
    /// The next one to fill.
    head: u32,
    /// The first one that the chip may still have.
    tail: u32,
    /// The chip was told of those before.
    told: u32,
    /// When to tell the chip again, if it has not got on.
    again_100ns: u64,
    /// When the chip got on last.
    moved_100ns: u64,
    interrupt_every: u32,
}

/// How a wait for the chip stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// Well.
    Fine,
    /// It is to be told again.
    Again,
    /// It hangs.
    Stuck,
}

impl<H: Hal> Transmit<H> {
    pub(super) fn new(hal: &H, options: &TulipOptions) -> Option<Self> {
        let count = options.transmit_descriptors();
        let table = Table::new(hal, count, options.chained)?;
        let interrupt_every = options.interrupt_every();
        let uses = vec![Use::Other; count];
        Some(Self {
            table,
            uses,
            head: 0,
            tail: 0,
            told: 0,
            again_100ns: 0,
            moved_100ns: 0,
            interrupt_every,
        })
    }

    pub(super) fn base(&self) -> u32 {
        self.table.base()
    }

    fn outstanding(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding() == 0
    }

    /// Descriptors that frames may have.
    fn free(&self) -> u32 {
        (self.table.count() as u32 - RESERVED).saturating_sub(self.outstanding())
    }

    fn push(&mut self, frame: &[u8]) {
        let index = self.head as usize;
        self.table.write(index, frame);
        let interrupt = self.used(Use::Frame(frame.len() as u16));
        self.table.give(index, TX_FS | TX_LS | interrupt | frame.len() as u32);
    }

    /// Takes the next descriptor for that; whether it is its turn to ask for an interrupt: [`TX_IC`] or nothing.
    fn used(&mut self, what: Use) -> u32 {
        let index = self.head as usize % self.table.count();
        if let Some(place) = self.uses.get_mut(index) {
            *place = what;
        }
        self.head = self.head.wrapping_add(1);
        if self.head.is_multiple_of(self.interrupt_every) { TX_IC } else { 0 }
    }

    /// Puts a setup frame into the ring; false if there is no room. Other than in the first descriptor, one without a buffer goes before it, because of
    /// an error of the chip (Linux, `tulip_core.c`, `set_rx_mode`).
    pub(super) fn push_setup(&mut self, setup: &Setup) -> bool {
        if self.outstanding() + RESERVED > self.table.count() as u32 {
            return false;
        }
        let gap = self.head;
        let needs_gap = !(self.head as usize).is_multiple_of(self.table.count());
        let mut interrupt = 0;
        if needs_gap {
            self.table.fill(gap as usize, 0);
            // Which the gap can't ask for.
            interrupt |= self.used(Use::Other);
        }
        let index = self.head as usize;
        self.table.write(index, &setup.frame);
        interrupt |= self.used(Use::Other);
        let control = TX_SET | setup.kind.control() | SETUP_FRAME_BYTES as u32;
        self.table.give(index, control | interrupt);
        if needs_gap {
            self.table.set_status(gap as usize, OWN);
        }
        true
    }

    /// Takes back what the chip has done with.
    pub(super) fn reclaim(&mut self, now_100ns: u64, counters: &Counters) {
        while self.outstanding() != 0 {
            let index = self.tail as usize % self.table.count();
            let status = self.table.status(index);
            if status & OWN != 0 {
                break;
            }
            if let Some(Use::Frame(bytes)) = self.uses.get(index) {
                count(status, *bytes, counters);
            }
            self.tail = self.tail.wrapping_add(1);
            self.moved_100ns = now_100ns;
        }
    }

    /// Whether the chip needs to be told of what was sent since it was told last.
    fn needs_telling(&mut self, demand: Demand, now_100ns: u64) -> Option<bool> {
        if self.told == self.head {
            return None;
        }
        let told = core::mem::replace(&mut self.told, self.head);
        if is_behind(told, self.tail) {
            // It has done all that it was told of.
            self.again_100ns = now_100ns.saturating_add(STUCK_100NS);
            self.moved_100ns = now_100ns;
            return Some(true);
        }
        // Either the chip has not come to the last one that it was told of, and then comes to these; or this sees that it has. Between giving and
        // looking, as between its closing a descriptor and its looking at the next one, nothing may be put off. Should the chip not keep to
        // that, it is told in a moment.
        fence(Ordering::SeqCst);
        let is_busy = self.table.status(told.wrapping_sub(1) as usize) & OWN != 0;
        let saves = is_busy && demand == Demand::WhenIdle;
        let wait = if saves { RECHECK_100NS } else { STUCK_100NS };
        self.again_100ns = now_100ns.saturating_add(wait);
        Some(!saves)
    }

    /// How the chip gets on.
    pub(super) fn watch(&mut self, now_100ns: u64) -> Watched {
        if is_behind(self.told, self.tail) || now_100ns < self.again_100ns {
            return Watched::Fine;
        }
        if now_100ns.saturating_sub(self.moved_100ns) >= STUCK_100NS {
            return Watched::Stuck;
        }
        let patience = now_100ns.saturating_sub(self.moved_100ns).max(RECHECK_100NS);
        self.again_100ns = now_100ns.saturating_add(patience);
        Watched::Again
    }

    /// When to watch next.
    pub(super) fn deadline_100ns(&self) -> Option<u64> {
        (!is_behind(self.told, self.tail)).then_some(self.again_100ns)
    }

    /// Begins anew, with a chip that has forgotten all; how many frames are lost.
    pub(super) fn restart(&mut self) -> u64 {
        let mut lost = 0;
        while self.outstanding() != 0 {
            let index = self.tail as usize % self.table.count();
            lost += u64::from(matches!(self.uses.get(index), Some(Use::Frame(_))));
            self.tail = self.tail.wrapping_add(1);
        }
        for index in 0..self.table.count() {
            self.table.set_status(index, 0);
        }
        (self.head, self.tail, self.told) = (0, 0, 0);
        lost
    }

    pub(super) fn leak(&mut self) {
        self.table.leak();
    }
}

/// Whether one count is not past another, as long as they are not far apart.
fn is_behind(count: u32, other: u32) -> bool {
    other.wrapping_sub(count) < 1 << 31
}

fn count(status: u32, bytes: u16, counters: &Counters) {
    if status & TX_UF != 0 {
        counters.underflows.increment();
    }
    if status & TX_ES != 0 {
        counters.transmit_errors.increment();
    } else {
        counters.transmitted_frames.increment();
        counters.transmitted_bytes.add(bytes.into());
    }
}

impl<R: Registers32, H: Hal> Shared<R, H> {
    pub(super) fn send(&self, frame: &[u8]) -> Result<(), TransmitError> {
        if !(HEADER_BYTES..=LONGEST_FRAME).contains(&frame.len()) {
            return Err(TransmitError::BadLength);
        }
        if self.end().is_some() {
            self.counters.transmit_drops.increment();
            return Err(TransmitError::Ended);
        }
        let mut transmit = self.transmit.lock();
        if transmit.free() == 0 {
            transmit.reclaim(self.hal.now_100ns(), &self.counters);
        }
        if transmit.free() == 0 {
            return Err(TransmitError::Full);
        }
        transmit.push(frame);
        Ok(())
    }

    /// Frames that there is room for.
    pub(super) fn free(&self) -> usize {
        let mut transmit = self.transmit.lock();
        transmit.reclaim(self.hal.now_100ns(), &self.counters);
        transmit.free() as usize
    }

    /// Whether the chip has taken everything.
    pub(super) fn is_idle(&self) -> bool {
        let mut transmit = self.transmit.lock();
        transmit.reclaim(self.hal.now_100ns(), &self.counters);
        transmit.is_idle()
    }

    /// Tells the chip of what was sent, if it has to be told.
    pub(super) fn demand(&self) {
        if self.end().is_some() {
            return;
        }
        let mut transmit = self.transmit.lock();
        match transmit.needs_telling(self.options.demand, self.hal.now_100ns()) {
            None => {}
            Some(true) => {
                self.counters.demands.increment();
                self.csrs.write(1, 1);
            }
            Some(false) => self.counters.demands_saved.increment(),
        }
    }

    /// Tells the chip again if it does not get on, and begins anew if it hangs.
    pub(super) fn watch_transmit(&self) {
        let now = self.hal.now_100ns();
        let mut transmit = self.transmit.lock();
        transmit.reclaim(now, &self.counters);
        match transmit.watch(now) {
            Watched::Fine => {}
            Watched::Again => {
                self.counters.demands_repeated.increment();
                self.csrs.write(1, 1);
            }
            Watched::Stuck => {
                drop(transmit);
                self.reset();
            }
        }
    }
}
