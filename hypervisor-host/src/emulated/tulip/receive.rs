//! The receive process: frames from the network into the guest's buffers.
//!
//! The chip loses a frame for which there is no descriptor. A network within one computer is faster than any that the chip
//! was made for, so frames wait in it while the process is suspended, for a time in which a real network would bring some
//! eight of them; then one is lost, and so on ([`HOLD`]).

use std::time::{Duration, Instant};

use hv_abi::tulip::csr::{Mode, Status, watchdog};
use hv_abi::tulip::descriptor::{
    RX_DE, RX_DT_EXTERNAL, RX_DT_INTERNAL, RX_ES, RX_FF, RX_FL_MASK, RX_FL_SHIFT, RX_FS, RX_FT,
    RX_LS, RX_MF, RX_RW, RX_TL,
};
use hv_abi::tulip::{FCS_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES};
use vm_memory::GuestMemoryMmap;

use super::Tulip;
use super::crc::check_sequence;
use super::filter::Filter;
use super::registers::{State, Work};
use super::ring::{self, BusError};
use crate::net::frame::ETHERNET_HEADER;
use crate::net::mac::MacAddress;
use crate::net::memory::wait_readable;

/// Frames in one turn.
const TURN: usize = 64;
/// How long a frame waits for a descriptor.
const HOLD: Duration = Duration::from_millis(1);
/// Bytes that a frame of a network may have here; longer ones are lost in the network.
const MOST_BYTES: usize = 4096;
/// Descriptors that one frame may take: buffers of one byte are enough for that, empty ones are not.
const MOST_DESCRIPTORS: usize = 2 * MOST_BYTES;
/// The largest length that is a length (IEEE 802.3, clause 3.2.6).
const LAST_LENGTH: u16 = 1500;

/// The process between two frames.
pub(super) struct Receiver {
    frame: Vec<u8>,
    /// Until when the frame that is next waits for a descriptor.
    hold: Option<Instant>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { frame: vec![0; MOST_BYTES], hold: None }
    }
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing now.
    Idle,
    /// There may be more.
    More,
    /// A frame waits for a descriptor until then.
    Held(Instant),
    /// Nothing will come any more.
    Gone,
}

enum Look {
    Ready,
    /// The process is stopped; frames pass by.
    Off,
    NoDescriptor,
}

/// Where a frame's parts went.
struct Written {
    next: u32,
    descriptors: u64,
    /// There was no descriptor for the rest of it.
    cut: bool,
}

impl Receiver {
    /// Takes some frames from the network.
    pub(super) fn turn(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        filter: &Filter,
        now: Instant,
    ) -> Turn {
        for _ in 0..TURN {
            let look = look(card, memory);
            if let Look::NoDescriptor = look {
                if let Some(turn) = self.hold(card, now) {
                    return turn;
                }
            } else {
                self.hold = None;
            }
            let length = match card.backend.receive(&mut self.frame) {
                Ok(Some(received)) => received.length,
                Ok(None) => return Turn::Idle,
                Err(_) => return Turn::Gone,
            };
            let mut frame = std::mem::take(&mut self.frame);
            frame.truncate(length);
            match look {
                Look::Off => card.counters.rx_filtered.add(1),
                _ => deliver(card, memory, filter, &mut frame, Mode::empty()),
            }
            frame.resize(MOST_BYTES, 0);
            self.frame = frame;
        }
        Turn::More
    }

    /// Without a descriptor: has the next frame wait. `None`: it has waited long enough.
    fn hold(&mut self, card: &Tulip, now: Instant) -> Option<Turn> {
        if !wait_readable(card.backend.readiness(), Duration::ZERO) {
            self.hold = None;
            return Some(Turn::Idle);
        }
        let until = *self.hold.get_or_insert(now + HOLD);
        if now < until {
            return Some(Turn::Held(until));
        }
        self.hold = Some(now + HOLD);
        None
    }
}

/// Looks at the descriptor that is next, as the chip does as soon as the one before is closed.
fn look(card: &Tulip, memory: &GuestMemoryMmap) -> Look {
    let Some(work) = card.with(|registers| registers.begin_receive()) else { return Look::Off };
    let owned = ring::is_owned(memory, work.cursor);
    card.finish(|registers| {
        let Some(registers) = registers.end_receive(&work) else { return Look::Off };
        match owned {
            Ok(true) => {
                if registers.receive.state == State::Suspended {
                    registers.receive.state = State::Running;
                }
                Look::Ready
            }
            Ok(false) => {
                registers.suspend_receive(&work);
                Look::NoDescriptor
            }
            Err(BusError) => {
                card.chip.bus_errors.add(1);
                registers.fail();
                Look::Off
            }
        }
    })
}

/// Receives a frame, without its check sequence, if it passes the filter. `loopback`: how it came, if not from the network.
pub(super) fn deliver(
    card: &Tulip,
    memory: &GuestMemoryMmap,
    filter: &Filter,
    frame: &mut Vec<u8>,
    loopback: Mode,
) {
    if frame.len() < ETHERNET_HEADER {
        card.counters.rx_invalid.add(1);
        return;
    }
    let begun = card.with(|registers| {
        let work = registers.begin_receive()?;
        Some((work, registers.mode(), registers.watchdog()))
    });
    let Some((work, mode, limits)) = begun else {
        card.counters.rx_filtered.add(1);
        return;
    };
    let up = loopback.is_empty() && card.is_admin_up() || !loopback.is_empty();
    let Some(mut status) = verdict(filter, mode, frame).filter(|_| up) else {
        card.counters.rx_filtered.add(1);
        card.finish(|registers| registers.end_receive(&work).map(|_| ()));
        return;
    };
    if loopback.contains(Mode::OM_INTERNAL) {
        status |= RX_DT_INTERNAL;
    } else if loopback.contains(Mode::OM_EXTERNAL) {
        status |= RX_DT_EXTERNAL;
    }
    let (bytes, more) = complete(frame, limits);
    status |= more;
    let written = write(memory, &work, frame, status);
    let cut = status & RX_RW != 0;
    account(card, &work, written, cut, bytes);
}

/// What the filter says: the descriptor's status as far as it is the address's matter. `None`: the frame is not received.
fn verdict(filter: &Filter, mode: Mode, frame: &[u8]) -> Option<u32> {
    let address = MacAddress::destination(frame)?;
    let mut status = if address.is_multicast() { RX_MF } else { 0 };
    if !filter.passes(mode, address) {
        if !mode.contains(Mode::RA) {
            return None;
        }
        status |= RX_FF;
    }
    Some(status)
}

/// Pads a frame as its sender would have, adds the check sequence, and cuts off what the watchdog does. Bytes of the frame, and
/// the descriptor's status as far as it is the length's matter.
fn complete(frame: &mut Vec<u8>, limits: u32) -> (usize, u32) {
    frame.resize(frame.len().max(MIN_FRAME_BYTES - FCS_BYTES), 0);
    let bytes = frame.len();
    let mut status = 0;
    if let Some([high, low]) = frame.get(12..).and_then(<[u8]>::first_chunk)
        && u16::from_be_bytes([*high, *low]) > LAST_LENGTH
    {
        status |= RX_FT;
    }
    frame.extend(check_sequence(frame));
    if frame.len() > MAX_FRAME_BYTES {
        status |= RX_TL | RX_ES;
    }
    if frame.len() > watchdog::RECEIVE_BYTES && limits & watchdog::RWD == 0 {
        frame.truncate(watchdog::RECEIVE_BYTES);
        status |= RX_RW | RX_ES;
    }
    (bytes, status)
}

/// Puts a frame into descriptors. `None`: there is not one.
fn write(
    memory: &GuestMemoryMmap,
    work: &Work,
    frame: &[u8],
    status: u32,
) -> Result<Option<Written>, BusError> {
    let length = (frame.len() as u32) << RX_FL_SHIFT & RX_FL_MASK;
    let (mut at, mut rest, mut first) = (work.cursor, frame, RX_FS);
    let Some(mut descriptor) = ring::fetch(memory, at)? else { return Ok(None) };
    for descriptors in 1.. {
        for buffer in ring::buffers(&descriptor) {
            rest = ring::write(memory, buffer, rest)?;
        }
        let next = ring::next(&descriptor, at, work);
        if rest.is_empty() {
            ring::close(memory, at, status | length | first | RX_LS)?;
            return Ok(Some(Written { next, descriptors, cut: false }));
        }
        // A descriptor that leads to itself is the chip's until it is closed.
        let following = match next != at && descriptors < MOST_DESCRIPTORS as u64 {
            true => ring::fetch(memory, next)?,
            false => None,
        };
        let Some(following) = following else {
            ring::close(memory, at, status | length | first | RX_LS | RX_DE | RX_ES)?;
            return Ok(Some(Written { next, descriptors, cut: true }));
        };
        ring::close(memory, at, first)?;
        (at, first, descriptor) = (next, 0, following);
    }
    Ok(None)
}

fn account(
    card: &Tulip,
    work: &Work,
    written: Result<Option<Written>, BusError>,
    too_long: bool,
    bytes: usize,
) {
    card.finish(|registers| {
        let Some(registers) = registers.end_receive(work) else { return };
        match written {
            Err(BusError) => {
                card.chip.bus_errors.add(1);
                registers.fail();
            }
            Ok(None) => {
                card.counters.rx_no_buffer.add(1);
                registers.miss();
                registers.suspend_receive(work);
            }
            Ok(Some(Written { next, descriptors, cut })) => {
                registers.receive.cursor = next;
                let watchdog = if too_long { Status::RWT } else { Status::empty() };
                registers.post(Status::RI | watchdog);
                if cut || too_long {
                    card.chip.cut_frames.add(1);
                }
                card.counters.rx_frames.add(1);
                card.counters.rx_bytes.add(bytes as u64);
                card.chip.rx_descriptors.add(descriptors);
                card.chip.dma_bytes.add(bytes as u64);
                card.chip.copied_bytes.add((bytes + FCS_BYTES) as u64);
            }
        }
    });
}
