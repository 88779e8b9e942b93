//! Driver for DEC's 21140A network card ("tulip"), and for the 21143 behind the same registers, which QEMU has.
//!
//! *Theory.* The driver and the chip share two rings of descriptors in memory, each of which is the one's or the other's by its highest
//! bit. Whoever has filled or emptied a buffer gives its descriptor away. Registers are only needed where one of them sleeps: a
//! poll demand makes the chip look at its ring again, an interrupt the driver. In a virtual machine each access to a register is an exit, so:
//!
//! - many frames go out with one poll demand, and with none while the chip is still busy with earlier ones;
//! - an interrupt tells of many sent frames, because only every so many descriptors ask for one;
//! - under load, interrupts for received frames are masked and the chip's timer interrupts instead, for all that came meanwhile.
//!
//! *Practice.* [`Tulip::on_interrupt`] goes into the interrupt's handler, where it acknowledges and wakes; all work is done by whoever
//! sends and receives. [`Tulip::run`] is a task for what takes time: the link, and a chip that hangs.
//!
//! Nothing is trusted that the device writes: a descriptor is copied, checked, and written anew before it is given away. What makes no sense is
//! counted ([`Statistics`]) and dropped.
//!
//! - `csrs`: registers; `rom`, `leaf`: the serial ROM and what it says of media; `mdio`, `media`: the transceiver
//! - `filter`: which addresses to receive; `table`: descriptors and buffers; `transmit`, `receive`: the rings
//! - `start`, `control`: bringing the chip up, and back up; `device`: for `smoltcp`
//!
//! Sources: as in [`hv_abi::tulip`]. What QEMU's chip does otherwise is said where it matters; all in all: it sends all that there is within a write
//! of CSR1, up to 128 descriptors; its timer does not run; it takes any setup frame for one of addresses; without a receive
//! descriptor it loses frames, which CSR8 does not count.

mod control;
mod csrs;
mod device;
mod error;
mod filter;
mod frame;
mod leaf;
mod mdio;
mod media;
mod options;
mod receive;
mod rom;
mod start;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod transmit;

pub use device::{RxToken, TulipDevice, TxToken};
pub use error::{TransmitError, TulipError};
pub use filter::Filter;
pub use frame::Frame;
pub use media::{Link, Speed};
pub use options::{Chip, Demand, Threshold, TulipOptions};
pub use stats::Statistics;

use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};

use hv_abi::tulip::csr::{Status, missed};
use spin::Mutex;
use vsc_drivers::Hal;
use vsc_drivers::task::{Bell, within};

use crate::pci::Registers32;
use control::Control;
use csrs::Csrs;
use frame::Pool;
use receive::Receive;
use stats::Counters;
use transmit::Transmit;

/// Bytes of an Ethernet header: two addresses and a type.
pub const HEADER_BYTES: usize = 14;
/// Bytes of the longest packet in a frame.
pub const MTU: usize = 1500;
/// Bytes of an 802.1Q tag, which may be in a frame beside a packet of that length.
const TAG_BYTES: usize = 4;
/// Bytes of the longest frame that is sent or received, without its check sequence.
pub const LONGEST_FRAME: usize = HEADER_BYTES + MTU + TAG_BYTES;
/// What all bits of a register read as when there is nobody to answer.
const NOBODY: u32 = u32::MAX;

/// A network card. Clones are the same one.
pub struct Tulip<R: Registers32, H: Hal>(Arc<Shared<R, H>>);

/// The card's parts. Locks are taken in the order `control`, `transmit`, `receive`, `enabled`; the interrupt's handler takes the last one only.
struct Shared<R: Registers32, H: Hal> {
    hal: H,
    csrs: Csrs<R>,
    options: TulipOptions,
    mac: [u8; 6],
    control: Mutex<Control>,
    transmit: Mutex<Transmit<H>>,
    receive: Mutex<Receive<H>>,
    /// Events that the handler has acknowledged and nobody has looked at yet.
    seen: AtomicU32,
    /// What CSR7 holds. The handler takes this lock; others with interrupts masked.
    enabled: Mutex<u32>,
    /// Frames that the filter lets pass by chance are sorted out.
    sorts: AtomicBool,
    /// The chip does nothing any more: it was stopped, or is gone.
    ended: AtomicBool,
    /// It uses no memory any more, once it has ended.
    quiet: AtomicBool,
    bell: Bell,
    counters: Counters,
    pool: Arc<Pool>,
}

impl<R: Registers32, H: Hal> Clone for Tulip<R, H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Registers32, H: Hal> Tulip<R, H> {
    /// The kernel that this is for.
    pub fn hal(&self) -> &H {
        &self.0.hal
    }

    /// The station address.
    pub fn mac(&self) -> [u8; 6] {
        self.0.mac
    }

    /// What was found out about the link last.
    pub fn link(&self) -> Link {
        self.0.control.lock().link()
    }

    /// Whether the chip's timer runs, so that it can stand in for interrupts under load.
    pub fn has_timer(&self) -> bool {
        self.0.receive.lock().has_timer()
    }

    /// Frames that may come before any is taken.
    pub fn receive_capacity(&self) -> usize {
        self.0.receive.lock().capacity()
    }

    /// For the interrupt's handler: acknowledges what the card has to tell, and wakes whoever waits for it. Whether it had anything to
    /// tell; interrupts may be shared.
    pub fn on_interrupt(&self) -> bool {
        self.0.on_interrupt()
    }

    /// Has `waker` woken by the card's next interrupt. Who listens looks *then* whether what it waits for is there already.
    pub fn listen(&self, waker: &Waker) {
        self.0.bell.listen(&self.0.hal, waker);
    }

    /// Puts a frame into the ring, without its check sequence; a short one is padded by the chip. The chip need not know of it before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`TransmitError`]; the frame was not taken.
    pub fn transmit(&self, frame: &[u8]) -> Result<(), TransmitError> {
        self.0.send(frame)
    }

    /// Gives the chip what was sent: by one poll demand, or by none if it is still at work.
    pub fn flush(&self) {
        self.0.serve();
        self.0.demand();
        self.0.watch_transmit();
    }

    /// A buffer for a frame of so many bytes.
    fn buffer(&self, bytes: usize) -> Frame {
        self.0.pool.take(bytes)
    }

    fn transmit_or_drop(&self, frame: &[u8]) {
        if matches!(self.transmit(frame), Err(TransmitError::Full | TransmitError::BadLength)) {
            self.0.counters.transmit_drops.increment();
        }
    }

    /// The next received frame, if there is one.
    pub fn receive(&self) -> Option<Frame> {
        self.0.serve();
        self.0.next_frame()
    }

    /// Waits for a frame.
    ///
    /// # Errors
    ///
    /// [`TulipError::Stopped`] once the card has ended.
    pub async fn received(&self) -> Result<Frame, TulipError> {
        poll_fn(|context| self.poll_received(context)).await
    }

    fn poll_received(&self, context: &Context<'_>) -> Poll<Result<Frame, TulipError>> {
        let next = || self.receive().map(Ok).or_else(|| self.0.end().map(Err));
        if let Some(next) = next() {
            return Poll::Ready(next);
        }
        self.0.bell.listen(&self.0.hal, context.waker());
        if let Some(next) = next() {
            return Poll::Ready(next);
        }
        if let Some(deadline) = self.0.receive.lock().deadline_100ns() {
            self.0.hal.wake_at(deadline, context.waker());
        }
        Poll::Pending
    }

    /// Frames that there is room for.
    pub fn free(&self) -> usize {
        self.0.free()
    }

    /// Waits until there is room for a good part of a ring's frames.
    ///
    /// # Errors
    ///
    /// [`TulipError::Stopped`] once the card has ended.
    pub async fn room(&self) -> Result<(), TulipError> {
        let enough = self.0.options.transmit_descriptors() / 4;
        self.0.until(u64::MAX, || self.0.free() >= enough).await
    }

    /// Waits until the chip has taken all that was sent.
    ///
    /// # Errors
    ///
    /// [`TulipError::Stopped`] once the card has ended, [`TulipError::TimedOut`] if it does not get on.
    pub async fn sent(&self) -> Result<(), TulipError> {
        self.flush();
        let all = self.0.until(control::LOOK_100NS, || self.0.is_idle());
        within(&self.0.hal, control::LIMIT_100NS, all).await.map_err(|_| TulipError::TimedOut)?
    }

    /// Chooses what to receive.
    ///
    /// # Errors
    ///
    /// As [`sent`](Self::sent): the chip learns of it from its transmit ring.
    pub async fn set_filter(&self, filter: Filter) -> Result<(), TulipError> {
        self.0.choose(filter);
        let queued = self.0.until(control::LOOK_100NS, || self.0.queue_filter().is_some());
        within(&self.0.hal, control::LIMIT_100NS, queued)
            .await
            .map_err(|_| TulipError::TimedOut)??;
        self.sent().await
    }

    /// Looks after the link and the chip for as long as it is polled; ends when the card does.
    pub async fn run(&self) -> TulipError {
        poll_fn(|context| {
            self.0.serve();
            if let Some(end) = self.0.end() {
                return Poll::Ready(end);
            }
            let deadline = self.0.look_after();
            self.0.hal.wake_at(deadline, context.waker());
            self.0.bell.listen(&self.0.hal, context.waker());
            // What came between the two was not told to this task.
            if self.0.has_trouble() {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until there is a link.
    ///
    /// # Errors
    ///
    /// [`TulipError::TimedOut`], [`TulipError::Stopped`].
    pub async fn link_up(&self, limit_100ns: u64) -> Result<Link, TulipError> {
        let up = self.0.until(control::LINK_LOOK_100NS, || self.0.look_at_link().up);
        within(&self.0.hal, limit_100ns, up).await.map_err(|_| TulipError::TimedOut)??;
        Ok(self.link())
    }

    /// Counts since the start. Reads a register.
    pub fn statistics(&self) -> Statistics {
        self.0.count_missed();
        self.0.counters.snapshot()
    }

    /// Stops the chip for good. What was sent and is still under way is lost.
    pub fn stop(&self) {
        self.0.shut_down();
        self.0.bell.ring(&self.0.hal);
    }
}

impl<R: Registers32, H: Hal> Shared<R, H> {
    fn on_interrupt(&self) -> bool {
        let mut enabled = self.enabled.lock();
        let status = self.csrs.read(5);
        let events = Status::from_bits_retain(status) & (Status::NORMAL | Status::ABNORMAL);
        if events.bits() & *enabled == 0 || status == NOBODY {
            // Who is gone does not interrupt any longer; `serve` finds out.
            return false;
        }
        self.csrs.write(5, (events | Status::NIS | Status::AIS).bits());
        let unseen = self.seen.fetch_or(events.bits(), Ordering::SeqCst);
        // Nobody empties the ring: each frame, even each that is lost, would interrupt.
        let unheeded = events.bits() & unseen & (Status::RI | Status::RU).bits() & *enabled;
        if unheeded != 0 {
            *enabled &= !unheeded;
            self.csrs.write(7, *enabled);
        }
        drop(enabled);
        self.counters.interrupts.increment();
        self.bell.ring(&self.hal);
        true
    }

    /// Sets CSR7.
    fn enable(&self, change: impl FnOnce(u32) -> u32) {
        self.hal.without_interrupts(|| {
            let mut enabled = self.enabled.lock();
            let events = change(*enabled);
            if core::mem::replace(&mut *enabled, events) != events {
                self.csrs.write(7, events);
            }
        });
    }

    fn end(&self) -> Option<TulipError> {
        self.ended.load(Ordering::SeqCst).then_some(TulipError::Stopped)
    }

    /// Waits for `condition`, looking when the card has something to tell, and every `step_100ns`; [`u64::MAX`] for never.
    async fn until(&self, step_100ns: u64, condition: impl Fn() -> bool) -> Result<(), TulipError> {
        poll_fn(|context| {
            self.serve();
            self.bell.listen(&self.hal, context.waker());
            if let Some(end) = self.end() {
                return Poll::Ready(Err(end));
            }
            if condition() {
                return Poll::Ready(Ok(()));
            }
            self.watch_transmit();
            let step = self.hal.now_100ns().saturating_add(step_100ns);
            let deadline = self.transmit.lock().deadline_100ns().map_or(step, |it| it.min(step));
            if deadline != u64::MAX {
                self.hal.wake_at(deadline, context.waker());
            }
            Poll::Pending
        })
        .await
    }

    /// Adds up frames that the chip had no descriptor or no room for. Reading the register clears it.
    fn count_missed(&self) {
        let counts = self.csrs.read(8);
        if counts == NOBODY {
            return;
        }
        let most =
            |mask: u32, overflow: u32| if counts & overflow != 0 { mask } else { counts & mask };
        let frames = most(missed::FRAMES_MASK, missed::FRAMES_OVERFLOW);
        let overflows = most(missed::FIFO_MASK, missed::FIFO_OVERFLOW);
        self.counters.missed.add(frames.into());
        self.counters.overflows.add((overflows >> missed::FIFO_MASK.trailing_zeros()).into());
    }
}

impl<R: Registers32, H: Hal> Drop for Shared<R, H> {
    fn drop(&mut self) {
        if !self.shut_down() {
            // It may still write: what it knows of is never used again.
            self.transmit.get_mut().leak();
            self.receive.get_mut().leak();
        }
    }
}

impl<R: Registers32, H: Hal> fmt::Debug for Tulip<R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tulip").field("mac", &self.0.mac).finish_non_exhaustive()
    }
}
