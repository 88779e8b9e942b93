//! DEC's 21140A, the network card of a Hyper-V machine of generation 1, between a guest's rings and a
//! [back end](crate::net).
//!
//! - [`Tulip`]: the card; [`TulipFunction`]: its function on the PCI bus, with the device's thread
//! - `registers`: CSR0 to CSR15 and what of the two processes they tell; `serial`: what hangs on CSR9
//! - `transmit`, `receive`: the processes; `ring`: descriptors; `filter`: addresses; `crc`
//! - `worker`: the thread that moves frames
//!
//! A virtual processor that writes a register changes the registers and, for a poll demand, wakes the thread; it never waits for
//! the network. Only a software reset waits, for the descriptor that the thread is at, so that nothing is written to memory
//! after it.
//!
//! What the chip has and this does not: big-endian buffers and descriptors (their bits in CSR0 stay zero), a boot ROM, writing
//! the serial ROM, and networks of the serial port; transmissions never collide. Frames are of at most 1,518 bytes with their
//! check sequence, 1,522 with a VLAN tag: the chip has no larger ones. What it *sends* beyond that no network takes; what it
//! *receives* is marked as too long, and cut at 2,048 bytes. Interrupts are mitigated as far as the chip can: by
//! [`TX_IC`](hv_abi::tulip::descriptor::TX_IC) of single frames, CSR7, and the timer.

mod counters;
mod crc;
mod filter;
mod function;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod receive;
mod registers;
mod ring;
mod serial;
#[cfg(test)]
mod tests;
mod transmit;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub use self::counters::{ChipCounters, ChipCounts, TulipReport};
pub use self::function::TulipFunction;
use self::registers::Registers;
use super::pci::IrqLine;
use crate::net::backend::Backend;
use crate::net::counters::{Counters, Counts};
use crate::net::mac::MacAddress;
use crate::stats::lock;

/// Longest frame without its Ethernet header, in bytes.
pub const MTU: u16 = 1500;

/// A card that is plugged into a network.
pub struct Tulip {
    index: u16,
    address: MacAddress,
    backend: Box<dyn Backend>,
    counters: Counters,
    chip: ChipCounters,
    /// The cable is plugged in, as far as the user says.
    up: AtomicBool,
    state: Mutex<State>,
    /// The thread is at no descriptor.
    at_rest: Condvar,
    doorbell: EventFd,
    stopped: AtomicBool,
}

struct State {
    registers: Registers,
    line: IrqLine,
}

impl Tulip {
    /// The machine's card of this number. It does nothing before a [`TulipFunction`] is made of it.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn new(index: u16, address: MacAddress, backend: Box<dyn Backend>) -> io::Result<Self> {
        Ok(Self {
            index,
            address,
            backend,
            counters: Counters::default(),
            chip: ChipCounters::default(),
            up: AtomicBool::new(true),
            state: Mutex::new(State { registers: Registers::new(address), line: IrqLine::fake() }),
            at_rest: Condvar::new(),
            doorbell: EventFd::new(EFD_NONBLOCK)?,
            stopped: AtomicBool::new(false),
        })
    }

    /// Its name in its machine: `net0` and so on.
    pub fn name(&self) -> String {
        format!("net{}", self.index)
    }

    /// The card's address.
    pub fn address(&self) -> MacAddress {
        self.address
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Plugs the cable in or out. The guest sees it in the transceiver's status, for the chip has no interrupt for that.
    pub fn set_link(&self, up: bool) {
        self.up.store(up, Ordering::Release);
        if !up {
            self.with(Registers::lose_link);
        }
    }

    /// Whether the cable is plugged in and somebody at its other end.
    pub fn is_link_up(&self) -> bool {
        self.is_admin_up() && self.backend.link_up()
    }

    fn is_admin_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    fn line_raised(&self) -> u64 {
        lock(&self.state).line.raised()
    }

    fn connect(&self, line: IrqLine) {
        lock(&self.state).line = line;
    }

    /// Does something with the registers; the interrupt line follows.
    fn with<T>(&self, act: impl FnOnce(&mut Registers) -> T) -> T {
        let mut state = lock(&self.state);
        let State { registers, line } = &mut *state;
        let result = act(registers);
        line.set(registers.interrupts());
        result
    }

    /// As [`with`](Self::with), at the end of a piece of work.
    fn finish<T>(&self, act: impl FnOnce(&mut Registers) -> T) -> T {
        let result = self.with(|registers| {
            let result = act(registers);
            registers.finish_stops();
            result
        });
        self.at_rest.notify_all();
        result
    }

    /// Waits until the thread is at no descriptor. It never is for long.
    fn wait_for_rest(&self) {
        let mut state = lock(&self.state);
        while state.registers.receive.busy || state.registers.transmit.busy {
            state = self.at_rest.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// There is something to do for the thread.
    fn kick(&self) {
        let sleeps = self.with(|registers| {
            registers.kicked = true;
            std::mem::take(&mut registers.asleep)
        });
        if sleeps {
            self.chip.wakeups.add(1);
            // It can only fail if the counter is full, and then the thread wakes anyway.
            let _ = self.doorbell.write(1);
        }
    }
}
