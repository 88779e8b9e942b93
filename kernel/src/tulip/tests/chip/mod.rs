//! A 21140A, after EC-QN7NG-TE: registers here, the serial lines in [`serial`], the rings in [`rings`].
//!
//! It works when the test lets it ([`FakeChip::run`]), as the real one does beside the processor; what it sends to the network and what it
//! gets from there are the test's.

mod rings;
mod serial;

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use hv_abi::tulip::csr::{BusMode, Mode, Status, missed, receive_state, timer, transmit_state};
use vsc_drivers::Hal;

use crate::pci::Registers32;
use crate::testing::TestHal;
use rings::Filter;
use serial::Srom;
pub(super) use serial::{Phy, rom, srom};

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mischief {
    #[default]
    None,
    /// All registers read as ones.
    Gone,
    /// The processes do not stop.
    NeverStops,
    /// Nothing is sent.
    NeverSends,
    /// Everything is sent, whether it was told or not, and descriptors come back at once.
    GivesBackAtOnce,
    /// It looks at the next descriptor before it closes one, and does not look again.
    LooksEarly,
    /// First longwords of received frames are xored with this.
    Lies(u32),
    /// Descriptors that it gives back are overwritten otherwise, too.
    Scribbles,
}

/// The chip. Clones are the same.
#[derive(Clone)]
pub(super) struct FakeChip {
    hal: TestHal,
    state: Arc<Mutex<State>>,
    handler: Arc<Mutex<Option<Handler>>>,
}

type Handler = Box<dyn Fn() -> bool + Send>;

pub(super) struct State {
    hal: TestHal,
    csr: [u32; 16],
    pub(super) srom: Option<Srom>,
    pub(super) phy: Phy,
    filter: Filter,
    transmit_at: u32,
    receive_at: u32,
    /// Data of a frame in several descriptors.
    partial: Vec<u8>,
    timer_due_100ns: Option<u64>,
    pub(super) has_timer: bool,
    pub(super) mischief: Mischief,
    /// The next frame comes too late for the threshold.
    pub(super) underflows: u32,
    pub(super) sent: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    /// Accesses of the processor's.
    pub(super) reads: [u32; 16],
    pub(super) writes: [u32; 16],
    /// Interrupts that the handler took.
    pub(super) interrupts: u32,
    /// Accesses of the chip's to memory that is not there.
    pub(super) bad_addresses: u32,
    /// Values that CSR12 was given.
    pub(super) pins: Vec<u32>,
    /// Setup frames that were taken.
    pub(super) setups: u32,
}

impl Default for FakeChip {
    fn default() -> Self {
        let hal = TestHal::default();
        let mut state = State {
            hal: hal.clone(),
            csr: [0; 16],
            srom: Some(Srom::new(&rom())),
            phy: Phy::default(),
            filter: Filter::default(),
            transmit_at: 0,
            receive_at: 0,
            partial: Vec::new(),
            timer_due_100ns: None,
            has_timer: true,
            mischief: Mischief::None,
            underflows: 0,
            sent: Vec::new(),
            waiting: VecDeque::new(),
            reads: [0; 16],
            writes: [0; 16],
            interrupts: 0,
            bad_addresses: 0,
            pins: Vec::new(),
            setups: 0,
        };
        state.reset();
        Self { hal, state: Arc::new(Mutex::new(state)), handler: Arc::default() }
    }
}

impl FakeChip {
    pub(super) fn hal(&self) -> &TestHal {
        &self.hal
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attach(&self, handler: impl Fn() -> bool + Send + 'static) {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
    }

    /// Forgets the handler, which holds the card.
    pub(super) fn detach(&self) {
        self.handler.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A frame comes, without its check sequence.
    pub(super) fn comes(&self, frame: Vec<u8>) {
        self.state().waiting.push_back(frame);
    }

    /// The timer breaks.
    pub(super) fn stop_timer(&self) {
        self.state().timer_due_100ns = None;
    }

    /// Both processes stop by themselves.
    pub(super) fn stop_processes(&self) {
        let mut state = self.state();
        state.transmit_state(transmit_state::STOPPED);
        state.receive_state(receive_state::STOPPED);
    }

    /// Whether the process runs that such an event is about.
    pub(super) fn runs(&self, events: Status) -> bool {
        let mask = if events == Status::RPS { Status::RS_MASK } else { Status::TS_MASK };
        self.csr(5) & mask != 0
    }

    /// What was sent since the last time.
    pub(super) fn sent(&self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.state().sent)
    }

    /// Raises events by hand.
    pub(super) fn raise(&self, events: Status) {
        self.state().csr[5] |= events.bits();
    }

    pub(super) fn csr(&self, number: usize) -> u32 {
        self.state().csr[number]
    }

    /// Polls `future` until it is ready, and lets the chip work whenever it waits.
    pub(super) fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        self.hal.block_on(poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    return Poll::Ready(output);
                }
                if !self.step() {
                    break;
                }
            }
            if let Some(due) = self.state().timer_due_100ns {
                self.hal.wake_at(due, context.waker());
            }
            Poll::Pending
        }))
    }

    /// A bit of work; false if there was none.
    pub(super) fn step(&self) -> bool {
        let mut state = self.state();
        state.tick();
        let worked = state.transmit_one() | state.receive_one();
        let interrupts = state.interrupts_now();
        drop(state);
        (interrupts && self.interrupt()) || worked
    }

    fn interrupt(&self) -> bool {
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = handler.as_ref().is_some_and(|handler| self.hal.interrupt(handler));
        self.state().interrupts += u32::from(taken);
        // A level that nobody takes would interrupt for ever.
        assert!(handler.is_none() || taken, "nobody took the interrupt");
        drop(handler);
        taken
    }
}

impl State {
    fn mode(&self) -> Mode {
        Mode::from_bits_retain(self.csr[6])
    }

    fn raise(&mut self, events: Status) {
        self.csr[5] |= events.bits();
    }

    fn reset(&mut self) {
        let port = self.csr[6] & Mode::PS.bits();
        self.csr = [0; 16];
        self.csr[0] = BusMode::RESET;
        self.csr[5] = Status::RESET;
        self.csr[6] = Mode::RESET & !Mode::PS.bits() | port;
        self.csr[7] = Status::MASK_RESET;
        self.csr[8] = missed::RESET;
        self.csr[11] = timer::RESET;
        self.timer_due_100ns = None;
        self.filter = Filter::default();
        self.partial.clear();
    }

    fn set_field(&mut self, mask: u32, value: u32) {
        self.csr[5] = self.csr[5] & !mask | value << mask.trailing_zeros();
    }

    fn transmit_state(&mut self, state: u32) {
        self.set_field(Status::TS_MASK, state);
    }

    fn receive_state(&mut self, state: u32) {
        self.set_field(Status::RS_MASK, state);
    }

    /// CSR5 with its sums.
    fn status(&self) -> u32 {
        let open = Status::from_bits_retain(self.csr[5] & self.csr[7]);
        let sum =
            |events: Status, sum: Status| if open.intersects(events) { sum.bits() } else { 0 };
        self.csr[5] & !(Status::NIS | Status::AIS).bits()
            | sum(Status::NORMAL, Status::NIS)
            | sum(Status::ABNORMAL, Status::AIS)
    }

    fn interrupts_now(&self) -> bool {
        self.status() & self.csr[7] & (Status::NIS | Status::AIS).bits() != 0
            && self.mischief != Mischief::Gone
    }

    fn tick_100ns(&self) -> u64 {
        timer::TICK_MII_100_NS / 100
    }

    fn tick(&mut self) {
        let Some(due) = self.timer_due_100ns.filter(|due| *due <= self.hal.now_100ns()) else {
            return;
        };
        self.raise(Status::GTE);
        let again = self.csr[11] & timer::CON != 0;
        let period = u64::from(self.csr[11] & timer::VALUE_MASK) * self.tick_100ns();
        self.timer_due_100ns = again.then_some(due + period);
    }

    fn write(&mut self, number: usize, value: u32) {
        match number {
            0 if value & BusMode::SWR.bits() != 0 => self.reset(),
            1 => self.demand_transmit(),
            2 => self.demand_receive(),
            3 => (self.csr[3], self.receive_at) = (value & !3, value & !3),
            4 => (self.csr[4], self.transmit_at) = (value & !3, value & !3),
            5 => self.csr[5] &= !(value & (Status::NORMAL | Status::ABNORMAL).bits()),
            6 => self.set_mode(value),
            8 => {}
            9 => self.serial_lines(value),
            11 => {
                self.csr[11] = value;
                let ticks = u64::from(value & timer::VALUE_MASK);
                let due = self.hal.now_100ns() + ticks * self.tick_100ns();
                self.timer_due_100ns = (ticks != 0 && self.has_timer).then_some(due);
            }
            12 => self.pins.push(value),
            _ => self.csr[number] = value,
        }
    }

    fn read(&mut self, number: usize) -> u32 {
        match number {
            5 => self.status(),
            8 => core::mem::replace(&mut self.csr[8], missed::RESET),
            9 => self.serial_data(),
            _ => self.csr[number],
        }
    }

    fn set_mode(&mut self, value: u32) {
        let filter = Mode::FILTER.bits();
        let old = self.mode();
        self.csr[6] = value & !filter | self.csr[6] & filter;
        let new = self.mode();
        if self.mischief == Mischief::NeverStops {
            return;
        }
        if new.contains(Mode::ST) != old.contains(Mode::ST) {
            let runs = new.contains(Mode::ST);
            self.transmit_state(if runs {
                transmit_state::FETCHING
            } else {
                transmit_state::STOPPED
            });
            if !runs {
                self.raise(Status::TPS);
            }
        }
        if new.contains(Mode::SR) != old.contains(Mode::SR) {
            let runs = new.contains(Mode::SR);
            self.receive_state(if runs { receive_state::WAITING } else { receive_state::STOPPED });
            if !runs {
                self.raise(Status::RPS);
            }
        }
    }
}

impl Registers32 for FakeChip {
    fn read(&self, offset: u16) -> u32 {
        let mut state = self.state();
        let number = usize::from(offset / 8);
        state.reads[number] += 1;
        if state.mischief == Mischief::Gone {
            return u32::MAX;
        }
        state.read(number)
    }

    fn write(&self, offset: u16, value: u32) {
        let mut state = self.state();
        let number = usize::from(offset / 8);
        state.writes[number] += 1;
        if state.mischief != Mischief::Gone {
            state.write(number, value);
        }
    }
}
