//! The chip's registers, and what of its two processes they tell.
//!
//! Nothing here moves a frame: the device's thread asks for [`Work`], does it without holding the registers, and says what
//! came of it. What needs the thread is left for it in [`Registers::kicked`].

mod process;
mod read;
mod timer;
mod write;

pub(super) use self::write::Effect;

use std::time::{Duration, Instant};

use hv_abi::tulip::csr::{
    BusMode, Mode, Status, TAP_PERIODS_NS, bus_error, missed, timer as csr11, watchdog,
};

use self::process::Process;
pub(super) use self::process::State;
use self::timer::Timer;
use super::serial::Serial;
use crate::net::mac::MacAddress;

/// Shortest time between two looks of the device at something by itself; the chip's can be a thousand times shorter.
const LEAST_PERIOD: Duration = Duration::from_millis(1);

/// Where a process is to work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// The descriptor.
    pub cursor: u32,
    pub base: u32,
    /// Bytes from a descriptor to the next in a ring.
    pub stride: u32,
    pub was_suspended: bool,
    demands: u32,
    pub generation: u32,
}

/// The registers.
pub(super) struct Registers {
    bus_mode: u32,
    pub receive: Process,
    pub transmit: Process,
    /// Events of CSR5, without their summaries.
    events: Status,
    /// Memory did not answer: no more of it until a reset.
    pub dead: bool,
    mask: Status,
    mode: Mode,
    missed: u32,
    serial: Serial,
    boot_rom: u32,
    timer: Timer,
    /// Which pins of CSR12 are outputs, and what these are.
    pins: (u32, u32),
    watchdog: u32,
    /// The function may read and write memory.
    pub master: bool,
    /// There is something to do for the thread.
    pub kicked: bool,
    /// The thread sleeps, and is to be woken.
    pub asleep: bool,
    /// When a transmit process that waits looks again by itself.
    poll_at: Option<Instant>,
}

impl Registers {
    /// The registers of a card with this address, after a reset.
    pub(super) fn new(address: MacAddress) -> Self {
        Self {
            bus_mode: BusMode::RESET,
            receive: Process::default(),
            transmit: Process::default(),
            events: Status::empty(),
            dead: false,
            mask: Status::empty(),
            mode: Mode::from_bits_retain(Mode::RESET),
            missed: 0,
            serial: Serial::new(address),
            boot_rom: 0,
            timer: Timer::default(),
            pins: (0, 0),
            watchdog: watchdog::RESET,
            master: false,
            kicked: false,
            asleep: false,
            poll_at: None,
        }
    }

    /// A software reset: port select and configuration space stay as they are.
    fn reset(&mut self) {
        let port = self.mode & Mode::PS;
        self.bus_mode = BusMode::RESET;
        self.receive.reset();
        self.transmit.reset();
        self.events = Status::empty();
        self.dead = false;
        self.mask = Status::empty();
        self.mode = Mode::from_bits_retain(Mode::RESET) | port;
        self.missed = 0;
        self.serial.reset();
        self.timer = Timer::default();
        self.pins = (0, 0);
        self.watchdog = watchdog::RESET;
        self.poll_at = None;
        self.kicked = true;
    }

    /// CSR6.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// The filter works like this from now on.
    pub(super) fn set_filter(&mut self, filter: Mode) {
        self.mode = self.mode & !Mode::FILTER | filter;
    }

    /// CSR15.
    pub(super) fn watchdog(&self) -> u32 {
        self.watchdog
    }

    /// Something happened.
    pub(super) fn post(&mut self, events: Status) {
        self.events |= events;
    }

    /// A frame found no descriptor.
    pub(super) fn miss(&mut self) {
        let count = (self.missed & missed::FRAMES_MASK) + 1;
        let overflow = (self.missed | count) & missed::FRAMES_OVERFLOW;
        self.missed = count & missed::FRAMES_MASK | overflow;
    }

    /// Memory did not answer: both processes stop where they are.
    pub(super) fn fail(&mut self) {
        self.dead = true;
        self.receive.abort();
        self.transmit.abort();
        self.post(Status::FBE);
    }

    /// The transmit process stops by itself, after its work.
    pub(super) fn stop_transmit(&mut self) {
        self.transmit.abort();
    }

    /// The cable was plugged out.
    pub(super) fn lose_link(&mut self) {
        self.serial.lose_link();
    }

    /// Whether the interrupt line is to be high.
    pub(super) fn interrupts(&self) -> bool {
        self.summaries().intersects(self.mask)
    }

    /// NIS and AIS: events that CSR7 lets through.
    fn summaries(&self) -> Status {
        let open = self.events & self.mask;
        let mut summaries = Status::empty();
        summaries.set(Status::NIS, open.intersects(Status::NORMAL));
        summaries.set(Status::AIS, open.intersects(Status::ABNORMAL));
        summaries
    }

    fn stride(&self) -> u32 {
        let skip = (self.bus_mode & BusMode::DSL_MASK) >> BusMode::DSL_SHIFT;
        16 + 4 * skip
    }

    /// Work for the receive process, unless it is stopped or may not reach memory.
    pub(super) fn begin_receive(&mut self) -> Option<Work> {
        let able = self.master && !self.dead && self.receive.state != State::Stopped;
        let stride = self.stride();
        able.then(|| self.receive.begin(stride))
    }

    /// Work for the transmit process, if it is running.
    pub(super) fn begin_transmit(&mut self) -> Option<Work> {
        let able = self.master && !self.dead && self.transmit.state == State::Running;
        let stride = self.stride();
        able.then(|| self.transmit.begin(stride))
    }

    /// The receive process is through with `work`. `None`: a reset came in between, and nothing of it counts.
    pub(super) fn end_receive(&mut self, work: &Work) -> Option<&mut Self> {
        self.receive.end(work).then_some(self)
    }

    /// The same for the transmit process.
    pub(super) fn end_transmit(&mut self, work: &Work) -> Option<&mut Self> {
        self.transmit.end(work).then_some(self)
    }

    /// Stops the processes that were to stop after their work.
    pub(super) fn finish_stops(&mut self) {
        if self.receive.finish_stop() {
            self.post(Status::RPS);
        }
        if self.transmit.finish_stop() {
            self.post(Status::TPS);
        }
    }

    /// The receive process found no descriptor. RU is for the first time only.
    pub(super) fn suspend_receive(&mut self, work: &Work) {
        if self.receive.suspend(work) && !work.was_suspended {
            self.post(Status::RU);
        }
    }

    /// The transmit process found no descriptor.
    pub(super) fn suspend_transmit(&mut self, work: &Work, now: Instant) {
        if self.transmit.suspend(work) {
            self.post(Status::TU);
            self.poll_at = self.poll_period().map(|period| now + period);
        }
    }

    fn poll_period(&self) -> Option<Duration> {
        let index = (self.bus_mode & BusMode::TAP_MASK) >> BusMode::TAP_SHIFT;
        let period = TAP_PERIODS_NS.get(index as usize).filter(|period| **period != 0)?;
        Some(Duration::from_nanos((*period).into()).max(LEAST_PERIOD))
    }

    /// Time has passed: the timer, and automatic polling.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.timer.expire(now) {
            self.post(Status::GTE);
        }
        if self.poll_at.is_some_and(|at| at <= now) {
            self.poll_at = None;
            self.transmit.demand();
        }
    }

    /// When [`tick`](Self::tick) should be called next.
    pub(super) fn next_tick(&self, now: Instant) -> Option<Instant> {
        // A timer whose last end nobody has seen yet is in no hurry.
        let rest = if self.events.contains(Status::GTE) { LEAST_PERIOD } else { Duration::ZERO };
        let timer = self.timer.end().map(|end| end.max(now + rest));
        timer.into_iter().chain(self.poll_at).min()
    }

    fn timer_tick(&self) -> Duration {
        Duration::from_nanos(match (self.mode.contains(Mode::PS), self.mode.contains(Mode::TTM)) {
            (false, _) => csr11::TICK_SERIAL_NS,
            (true, false) => csr11::TICK_MII_100_NS,
            (true, true) => csr11::TICK_MII_10_NS,
        })
    }

    /// The bits of CSR5 that say what went wrong with memory.
    fn error_bits(&self) -> u32 {
        if self.dead { bus_error::MASTER_ABORT << Status::EB_SHIFT } else { 0 }
    }
}
