//! What is done with the chip as a whole: its mode, its filter, its link, and starting it again.
//!
//! All of this works without waiting for others, in bounded time, so that whoever uses the card can do it.

use core::sync::atomic::Ordering;

use hv_abi::tulip::csr::{BusMode, Mode, Status};
use vsc_drivers::{Hal, SECOND_100NS};

use super::filter::Filter;
use super::leaf::Leaf;
use super::media::{Link, Media};
use super::options::{Threshold, TulipOptions};
use super::{NOBODY, Shared};
use crate::pci::Registers32;

/// How long anything may take that the chip is asked for.
pub(super) const LIMIT_100NS: u64 = 10 * SECOND_100NS;
/// A chip that was not told of frames, because it was busy, is told after so long.
pub(super) const RECHECK_100NS: u64 = SECOND_100NS / 1000;
/// A chip that has not sent anything for so long hangs.
pub(super) const STUCK_100NS: u64 = 2 * SECOND_100NS;
/// Between looks at what has no interrupt.
pub(super) const LOOK_100NS: u64 = SECOND_100NS / 5000;
/// Between looks at a link that is down.
pub(super) const LINK_LOOK_100NS: u64 = SECOND_100NS / 10;
/// The same, while it is nobody's hurry.
const LINK_DOWN_100NS: u64 = SECOND_100NS;
/// Accesses to registers within which the chip stops: more than 1.3 ms.
pub(super) const STOP_LOOKS: u32 = 10_000;
/// What a reset may take: far more than 50 cycles of the bus (*Bus Mode Register*).
pub(super) const RESET_100NS: u64 = SECOND_100NS / 10_000;
/// What a transceiver's reset by pins takes (Linux, `media.c`: DP83840A §3.10.3).
const TRANSCEIVER_100NS: u64 = SECOND_100NS / 2000;
/// Looks at the clock, at most: it might stand still.
const CLOCK_LOOKS: u32 = 10_000;

/// CSR0: bursts of 8 longwords that keep to lines of the cache. Of consequence on a real bus only.
pub(super) const BUS_MODE: u32 =
    8 << BusMode::PBL_MASK.trailing_zeros() | 1 << BusMode::CAL_MASK.trailing_zeros();

/// Trouble that needs somebody to look.
const TROUBLE: Status =
    Status::TPS.union(Status::TJT).union(Status::UNF).union(Status::RPS).union(Status::FBE);
/// What interrupts.
pub(super) const USUAL: u32 = Status::TI
    .union(Status::RI)
    .union(Status::RU)
    .union(TROUBLE)
    .union(Status::AIS)
    .union(Status::NIS)
    .bits();
/// What interrupts under load.
pub(super) const UNDER_LOAD: u32 = USUAL & !Status::RI.bits() | Status::GTE.bits();

/// What is wanted of the chip.
pub(super) struct Control {
    pub(super) media: Media,
    leaf: Leaf,
    link: Link,
    link_due_100ns: u64,
    threshold: Threshold,
    filter: Filter,
    /// [`Mode::SR`] and [`Mode::ST`], as far as they are wanted.
    pub(super) running: Mode,
}

impl Control {
    pub(super) fn new(media: Media, leaf: Leaf, options: &TulipOptions) -> Self {
        let (link, filter) = (Link::default(), Filter::default());
        let threshold = options.threshold;
        Self { media, leaf, link, link_due_100ns: 0, threshold, filter, running: Mode::empty() }
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// CSR6, without the processes.
    fn mode(&self) -> Mode {
        self.media.mode(self.link) | self.threshold.mode() | self.filter.mode()
    }
}

impl<R: Registers32, H: Hal> Shared<R, H> {
    /// Whether somebody has to look.
    pub(super) fn has_trouble(&self) -> bool {
        let events = TROUBLE | Status::RU;
        self.seen.load(Ordering::SeqCst) & events.bits() != 0
    }

    /// Does what the latest interrupts ask for, but for taking frames.
    pub(super) fn serve(&self) {
        if !self.has_trouble() {
            return;
        }
        let events = TROUBLE | Status::RU;
        let seen = Status::from_bits_retain(self.seen.fetch_and(!events.bits(), Ordering::SeqCst));
        if seen.contains(Status::RU) {
            self.stalled();
        }
        if seen.contains(Status::FBE) {
            return self.reset();
        }
        if seen.contains(Status::UNF) {
            self.raise_threshold();
        } else if seen.intersects(Status::TPS | Status::TJT) {
            self.restart(Mode::ST);
        }
        if seen.contains(Status::RPS) {
            self.restart(Mode::SR);
        }
    }

    fn raise_threshold(&self) {
        let mut control = self.control.lock();
        control.threshold = control.threshold.raised();
        self.change_mode(&control);
    }

    /// Stops the processes, sets CSR6, and starts them again: most of it must not change while they run.
    fn change_mode(&self, control: &Control) {
        let mode = control.mode();
        self.csrs.write(6, mode.bits());
        self.csrs.wait_until_stopped(STOP_LOOKS);
        // That they stopped was our wish.
        self.csrs.write(5, (Status::TPS | Status::RPS).bits());
        self.seen.fetch_and(!(Status::TPS | Status::RPS).bits(), Ordering::SeqCst);
        self.csrs.write(6, (mode | control.running).bits());
        if control.running.contains(Mode::ST) {
            self.csrs.write(1, 1);
        }
        if control.running.contains(Mode::SR) {
            self.csrs.write(2, 1);
        }
    }

    /// Starts the processes again, one of which has stopped by itself.
    fn restart(&self, process: Mode) {
        let control = self.control.lock();
        if control.running.contains(process) {
            self.counters.restarts.increment();
            self.change_mode(&control);
        }
    }

    /// Wants this filter from now on.
    pub(super) fn choose(&self, filter: Filter) {
        let mut control = self.control.lock();
        self.sorts.store(filter.is_coarse(), Ordering::Relaxed);
        control.filter = filter;
    }

    /// Puts the wanted filter into the ring, if there is room, and CSR6.
    pub(super) fn queue_filter(&self) -> Option<()> {
        let control = self.control.lock();
        let setup = control.filter.setup(self.mac);
        let mut transmit = self.transmit.lock();
        transmit.reclaim(self.hal.now_100ns(), &self.counters);
        if !transmit.push_setup(&setup) {
            return None;
        }
        drop(transmit);
        self.csrs.write(6, (control.mode() | control.running).bits());
        Some(())
    }

    /// Starts these processes beside those that run.
    pub(super) fn start(&self, processes: Mode) {
        let mut control = self.control.lock();
        control.running |= processes;
        self.csrs.write(6, (control.mode() | control.running).bits());
        if processes.contains(Mode::SR) {
            self.csrs.write(2, 1);
        }
    }

    /// Looks at the link, and follows it.
    pub(super) fn look_at_link(&self) -> Link {
        let mut control = self.control.lock();
        let link = control.media.link(&self.csrs);
        let now = self.hal.now_100ns();
        let period = if link.up { self.options.link_period_100ns } else { LINK_DOWN_100NS };
        control.link_due_100ns = now.saturating_add(period);
        if link != control.link {
            self.counters.link_changes.increment();
            let old = control.mode();
            control.link = link;
            // A link that is down says nothing of what comes.
            if link.up && control.mode() != old {
                self.change_mode(&control);
            }
        }
        link
    }

    /// What is to be done from time to time; when again.
    pub(super) fn look_after(&self) -> u64 {
        self.watch_transmit();
        let now = self.hal.now_100ns();
        if now >= self.control.lock().link_due_100ns {
            self.look_at_link();
            if self.csrs.read(5) == NOBODY {
                self.ended.store(true, Ordering::SeqCst);
                self.bell.ring(&self.hal);
            }
        }
        let transmit = self.transmit.lock().deadline_100ns();
        let link = self.control.lock().link_due_100ns;
        transmit.map_or(link, |transmit| transmit.min(link))
    }

    /// Begins with the chip anew, after it has failed. What was under way is lost.
    pub(super) fn reset(&self) {
        if self.end().is_some() {
            return;
        }
        self.counters.resets.increment();
        let control = self.control.lock();
        self.quiesce();
        if self.csrs.read(5) == NOBODY {
            self.ended.store(true, Ordering::SeqCst);
            return;
        }
        control.media.prepare(&self.csrs, self.options.chip, &control.leaf, || wait(&self.hal));
        self.counters.transmit_drops.add(self.fill_rings());
        let setup = control.filter.setup(self.mac);
        self.transmit.lock().push_setup(&setup);
        self.csrs.write(6, (control.mode() | control.running & Mode::ST).bits());
        self.csrs.write(1, 1);
        // Before anything is received; an access lets the chip get on.
        (0..STOP_LOOKS).any(|_| self.is_idle() || self.csrs.read(5) == NOBODY);
        self.csrs.write(6, (control.mode() | control.running).bits());
        self.csrs.write(2, 1);
        self.seen.store(0, Ordering::SeqCst);
        self.enable(|_| USUAL);
    }

    /// Stops and resets the chip; false if it does not stop, and may still use memory.
    pub(super) fn quiesce(&self) -> bool {
        self.hal.without_interrupts(|| *self.enabled.lock() = 0);
        self.csrs.write(7, 0);
        self.csrs.write(6, 0);
        let stopped = self.csrs.wait_until_stopped(STOP_LOOKS);
        self.csrs.write(0, BusMode::SWR.bits());
        pass(&self.hal, RESET_100NS);
        self.csrs.write(0, BUS_MODE);
        pass(&self.hal, RESET_100NS);
        stopped
    }

    /// Gives the chip both rings, anew; how many frames are lost.
    pub(super) fn fill_rings(&self) -> u64 {
        let lost = {
            let mut transmit = self.transmit.lock();
            let lost = transmit.restart();
            self.csrs.write(4, transmit.base());
            lost
        };
        let mut receive = self.receive.lock();
        receive.restart();
        self.csrs.write(3, receive.base());
        lost
    }

    /// Stops for good; false if the chip may still use memory. Only once: another driver may have the chip afterwards.
    pub(super) fn shut_down(&self) -> bool {
        if !self.ended.swap(true, Ordering::SeqCst) {
            self.quiet.store(self.quiesce(), Ordering::SeqCst);
        }
        self.quiet.load(Ordering::SeqCst)
    }
}

/// Lets time pass while a transceiver resets.
pub(super) fn wait<H: Hal>(hal: &H) {
    pass(hal, TRANSCEIVER_100NS);
}

/// Lets time pass.
fn pass<H: Hal>(hal: &H, time_100ns: u64) {
    let end = hal.now_100ns().saturating_add(time_100ns);
    let mut looks = 0;
    while hal.now_100ns() < end && looks < CLOCK_LOOKS {
        core::hint::spin_loop();
        looks += 1;
    }
}
