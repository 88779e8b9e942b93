//! Frames from the chip, and what stands in for their interrupts under load.
//!
//! Under load the interrupt of received frames is masked, and the chip's timer interrupts instead, for all that came within
//! a period. A chip that runs out of descriptors interrupts all the same.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use hv_abi::tulip::csr::{Status, timer};
use hv_abi::tulip::descriptor::{
    OWN, RX_CE, RX_CS, RX_DE, RX_FL_MASK, RX_FL_SHIFT, RX_FS, RX_LS, RX_OF, RX_RF, RX_RW,
};
use hv_abi::tulip::{FCS_BYTES, MAX_TAGGED_FRAME_BYTES};
use vsc_drivers::{Hal, SECOND_100NS};

use super::control::{UNDER_LOAD, USUAL};
use super::frame::{Frame, Pool};
use super::options::TulipOptions;
use super::table::{BUFFER_BYTES, Table};
use super::{HEADER_BYTES, Shared};
use crate::pci::Registers32;

/// The timer's period, about.
const PERIOD_100NS: u64 = SECOND_100NS / 1000;
/// Frames in a period that count as load: half of what 100 Mb/s can carry of the longest ones.
const LOAD: u64 = 4;
/// Periods of load in a row before the timer stands in; more each time that it was of no use.
const LOADED: u32 = 2;
/// Frames in a period that are so few that it is of no use: whoever sends waits for an answer to each.
const QUIET: u64 = 3;
/// Ticks after which it was of use.
const USEFUL: u32 = 8;
/// Doublings of [`LOADED`], at most.
const MOST_DOUBLINGS: u32 = 9;
/// A timer that has not run out for so long is broken.
const BROKEN_100NS: u64 = SECOND_100NS / 10;
/// Bytes of a frame and its check sequence that a buffer can have.
const LENGTHS: core::ops::RangeInclusive<usize> = HEADER_BYTES + FCS_BYTES..=BUFFER_BYTES;
/// Bits that say that a frame is damaged.
const DAMAGED: u32 = RX_CE | RX_CS | RX_DE | RX_OF | RX_RF | RX_RW;

/// The ring.
pub(super) struct Receive<H: Hal> {
    table: Table<H>,
    /// The next descriptor that the chip fills.
    next: usize,
    /// Descriptors emptied since the chip was last seen to have one left.
    emptied: usize,
    /// Within a frame that is too long for one descriptor.
    in_parts: bool,
    /// The chip said that it has none left.
    stalled: bool,
    mitigation: Mitigation,
}

/// Whether the timer stands in for the interrupt.
#[derive(Debug, Default)]
struct Mitigation {
    /// The timer's count for a period; 0: it is not to be used.
    count: u32,
    /// When the timer has run out last; `None` while it does not stand in.
    ticked_100ns: Option<u64>,
    /// Frames since `since_100ns`.
    frames: u64,
    since_100ns: u64,
    /// Periods in a row with load, or without.
    streak: u32,
    ticks: u32,
    /// How often in a row it was of no use.
    failures: u32,
}

/// What a change of mitigation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    On(u32),
    Off,
}

impl Mitigation {
    /// The ring is empty, after an interrupt of received frames.
    fn interrupted(&mut self, now_100ns: u64) -> Option<Turn> {
        let time = now_100ns.saturating_sub(self.since_100ns);
        if self.count == 0 || time < PERIOD_100NS {
            return None;
        }
        let loaded = self.take(now_100ns).saturating_mul(PERIOD_100NS) >= LOAD.saturating_mul(time);
        self.streak = if loaded { self.streak + 1 } else { 0 };
        if self.streak < LOADED << self.failures.min(MOST_DOUBLINGS) {
            return None;
        }
        (self.streak, self.ticks, self.ticked_100ns) = (0, 0, Some(now_100ns));
        Some(Turn::On(self.count))
    }

    /// The ring is empty, after the timer's interrupt.
    fn ticked(&mut self, now_100ns: u64) -> Option<Turn> {
        let quiet = self.take(now_100ns) < QUIET;
        self.streak = if quiet { self.streak + 1 } else { 0 };
        self.ticks += 1;
        self.ticked_100ns = Some(now_100ns);
        if self.streak < LOADED {
            return None;
        }
        self.failures = if self.ticks < USEFUL { self.failures + 1 } else { 0 };
        (self.streak, self.ticked_100ns) = (0, None);
        Some(Turn::Off)
    }

    fn take(&mut self, now_100ns: u64) -> u64 {
        self.since_100ns = now_100ns;
        core::mem::take(&mut self.frames)
    }

    /// When a timer that has not run out is taken for broken.
    fn deadline_100ns(&self) -> Option<u64> {
        Some(self.ticked_100ns?.saturating_add(BROKEN_100NS))
    }
}

impl<H: Hal> Receive<H> {
    pub(super) fn new(hal: &H, options: &TulipOptions) -> Option<Self> {
        let table = Table::new(hal, options.receive_descriptors(), options.chained)?;
        let mitigation = Mitigation::default();
        Some(Self { table, next: 0, emptied: 0, in_parts: false, stalled: false, mitigation })
    }

    pub(super) fn base(&self) -> u32 {
        self.table.base()
    }

    pub(super) fn capacity(&self) -> usize {
        self.table.count()
    }

    pub(super) fn has_timer(&self) -> bool {
        self.mitigation.count != 0
    }

    /// The timer runs, with ticks of so many nanoseconds.
    pub(super) fn use_timer(&mut self, tick_ns: u64) {
        let count = (PERIOD_100NS * 100).div_ceil(tick_ns.max(1)).max(1);
        self.mitigation.count = count as u32;
    }

    pub(super) fn deadline_100ns(&self) -> Option<u64> {
        self.mitigation.deadline_100ns()
    }

    /// Gives the chip all descriptors, the first one first.
    pub(super) fn restart(&mut self) {
        (self.next, self.emptied, self.in_parts, self.stalled) = (0, 0, false, false);
        self.mitigation.ticked_100ns = None;
        (0..self.table.count()).for_each(|index| self.give(index));
    }

    fn give(&self, index: usize) {
        self.table.give(index, BUFFER_BYTES as u32);
    }

    /// Gives the next descriptor back.
    fn advance(&mut self) {
        self.give(self.next);
        self.next = (self.next + 1) % self.table.count();
        self.emptied += 1;
    }

    pub(super) fn leak(&mut self) {
        self.table.leak();
    }
}

/// What a descriptor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame of so many bytes, without its check sequence.
    Frame(usize),
    /// The beginning, or another part, of a frame that is longer than a buffer.
    Part,
    /// Its end.
    LastPart,
    /// A frame longer than one may be.
    TooLong,
    /// A damaged frame.
    Damaged,
    /// No sense.
    Nonsense,
}

/// Reads a first longword that the chip has given back.
pub(super) fn judge(status: u32, in_parts: bool) -> Found {
    let bytes = ((status & RX_FL_MASK) >> RX_FL_SHIFT) as usize;
    match (status & RX_FS != 0, status & RX_LS != 0) {
        (true, false) => Found::Part,
        (false, true) if in_parts => Found::LastPart,
        (false, false) if in_parts => Found::Part,
        (false, _) => Found::Nonsense,
        (true, true) if status & DAMAGED != 0 => Found::Damaged,
        (true, true) if !LENGTHS.contains(&bytes) => Found::Nonsense,
        (true, true) if bytes > MAX_TAGGED_FRAME_BYTES => Found::TooLong,
        (true, true) => Found::Frame(bytes - FCS_BYTES),
    }
}

impl<R: Registers32, H: Hal> Shared<R, H> {
    /// The next frame that is good and wanted.
    pub(super) fn next_frame(&self) -> Option<Frame> {
        // A chip that gives back without end what makes no sense gets on with each call.
        for _ in 0..self.options.receive_descriptors() {
            let frame = self.take(&mut self.receive.lock())?;
            if self.is_wanted(&frame) {
                self.counters.received_frames.increment();
                self.counters.received_bytes.add(frame.len() as u64);
                return Some(frame);
            }
            self.counters.filtered.increment();
        }
        None
    }

    fn is_wanted(&self, frame: &[u8]) -> bool {
        if !self.sorts.load(Ordering::Relaxed) {
            return true;
        }
        let control = self.control.lock();
        frame
            .first_chunk()
            .is_some_and(|destination| control.filter().wants(&self.mac, destination))
    }

    fn take(&self, receive: &mut Receive<H>) -> Option<Frame> {
        for _ in 0..receive.table.count() {
            let status = receive.table.status(receive.next);
            if status & OWN != 0 {
                self.rest(receive);
                return None;
            }
            let found = judge(status, receive.in_parts);
            let frame = self.copy(receive, found, &self.pool);
            receive.in_parts = found == Found::Part;
            receive.advance();
            receive.mitigation.frames += 1;
            if receive.emptied >= receive.table.count() {
                // As many as there are: it may have found none left.
                self.go_on(receive);
            }
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    fn copy(&self, receive: &Receive<H>, found: Found, pool: &Arc<Pool>) -> Option<Frame> {
        let counters = &self.counters;
        match found {
            Found::Frame(bytes) => {
                let mut frame = pool.take(bytes);
                receive.table.read(receive.next, frame.bytes_mut());
                return Some(frame);
            }
            Found::Part => {}
            Found::LastPart | Found::TooLong => counters.oversized.increment(),
            Found::Damaged => counters.receive_errors.increment(),
            Found::Nonsense => counters.malformed.increment(),
        }
        None
    }

    /// The ring is empty.
    fn rest(&self, receive: &mut Receive<H>) {
        receive.emptied = 0;
        let events = Status::RI | Status::GTE;
        let seen = Status::from_bits_retain(self.seen.fetch_and(!events.bits(), Ordering::SeqCst));
        if receive.stalled {
            self.go_on(receive);
        }
        let now = self.hal.now_100ns();
        let is_on = receive.mitigation.ticked_100ns.is_some();
        let turn = match is_on {
            true if seen.contains(Status::GTE) => receive.mitigation.ticked(now),
            true => return self.check_timer(receive, now),
            false => receive.mitigation.interrupted(now),
        };
        match turn {
            Some(Turn::On(count)) => {
                self.counters.mitigations.increment();
                self.csrs.write(11, timer::CON | count);
                self.enable(|_| UNDER_LOAD);
            }
            Some(Turn::Off) => self.stop_timer(),
            None if !is_on => self.enable(|enabled| enabled | Status::RI.bits()),
            None => {}
        }
    }

    fn stop_timer(&self) {
        self.csrs.write(11, 0);
        self.enable(|_| USUAL);
    }

    /// A timer that does not run would lose frames: it is not used again.
    fn check_timer(&self, receive: &mut Receive<H>, now_100ns: u64) {
        if receive.deadline_100ns().is_some_and(|deadline| now_100ns >= deadline) {
            receive.mitigation = Mitigation::default();
            self.stop_timer();
        }
    }

    /// Has a chip go on that ran out of descriptors.
    fn go_on(&self, receive: &mut Receive<H>) {
        receive.emptied = 0;
        if core::mem::take(&mut receive.stalled) {
            self.enable(|enabled| enabled | Status::RU.bits());
        }
        self.csrs.write(2, 1);
    }

    /// The chip has said that it ran out of descriptors.
    pub(super) fn stalled(&self) {
        self.counters.stalls.increment();
        self.receive.lock().stalled = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u32 = RX_FS | RX_LS;

    fn of_length(bytes: u32) -> u32 {
        WHOLE | bytes << RX_FL_SHIFT
    }

    #[test]
    fn only_whole_frames_that_fit_are_frames() {
        assert_eq!(judge(of_length(64), false), Found::Frame(60));
        assert_eq!(judge(of_length(1522), true), Found::Frame(1518));
        assert_eq!(judge(of_length(1523), false), Found::TooLong);
        for lie in [0, 4, 17, 2045, 0x3FFF] {
            assert_eq!(judge(of_length(lie), false), Found::Nonsense, "{lie}");
        }
        for bit in [RX_CE, RX_CS, RX_DE, RX_OF, RX_RF, RX_RW] {
            assert_eq!(judge(of_length(64) | bit, false), Found::Damaged);
        }
    }

    #[test]
    fn parts_belong_to_a_beginning() {
        assert_eq!(judge(RX_FS, false), Found::Part);
        assert_eq!(judge(0, true), Found::Part);
        assert_eq!(judge(RX_LS | 3000 << 16, true), Found::LastPart);
        assert_eq!(judge(RX_LS | 3000 << 16, false), Found::Nonsense);
        assert_eq!(judge(0, false), Found::Nonsense);
    }

    #[test]
    fn the_timer_comes_with_load_and_goes_without() {
        const MS: u64 = PERIOD_100NS;
        let mut mitigation = Mitigation { count: 6, ..Mitigation::default() };
        let interrupted = |mitigation: &mut Mitigation, frames, now| {
            mitigation.frames += frames;
            mitigation.interrupted(now)
        };
        assert_eq!(interrupted(&mut mitigation, 100, MS), None);
        assert_eq!(interrupted(&mut mitigation, 100, MS + MS / 2), None, "the period is not over");
        assert_eq!(interrupted(&mut mitigation, 3, 100 * MS), None, "too few for so long");
        assert_eq!(interrupted(&mut mitigation, 4, 101 * MS), None);
        assert_eq!(interrupted(&mut mitigation, 8, 103 * MS), Some(Turn::On(6)));
        let mut ticked = |frames, now| {
            mitigation.frames = frames;
            mitigation.ticked(now)
        };
        assert_eq!([ticked(2, 104 * MS), ticked(3, 105 * MS), ticked(0, 106 * MS)], [None; 3]);
        assert_eq!(ticked(2, 107 * MS), Some(Turn::Off));
        assert_eq!((mitigation.failures, mitigation.deadline_100ns()), (1, None));
        for now in 108..111 {
            assert_eq!(interrupted(&mut mitigation, 4, now * MS), None, "it was of no use");
        }
        assert_eq!(interrupted(&mut mitigation, 4, 111 * MS), Some(Turn::On(6)));
    }

    #[test]
    fn without_a_timer_nothing_stands_in() {
        let mut mitigation = Mitigation { frames: 1_000_000, ..Mitigation::default() };
        assert_eq!(mitigation.interrupted(PERIOD_100NS), None);
    }
}
