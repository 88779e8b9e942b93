//! The transmit process: descriptors from the guest, frames to the network, setup frames to the filter.

use std::time::Instant;

use hv_abi::tulip::csr::{Mode, Status, watchdog};
use hv_abi::tulip::descriptor::{
    Descriptor, TX_AC, TX_DPD, TX_ES, TX_FS, TX_IC, TX_LS, TX_SET, TX_SETUP_DONE, TX_TO,
};
use hv_abi::tulip::setup::{FilterType, SETUP_FRAME_BYTES};
use hv_abi::tulip::{FCS_BYTES, MAX_FRAME_BYTES, MAX_TAGGED_FRAME_BYTES, MIN_FRAME_BYTES};
use vm_memory::GuestMemoryMmap;

use super::Tulip;
use super::crc::check_sequence;
use super::filter::Filter;
use super::registers::Work;
use super::ring::{self, BusError};
use crate::net::backend::SendError;
use crate::net::frame::Frame;
use crate::net::offload::tag;

/// Descriptors in one turn.
const TURN: usize = 128;
/// Bytes of a frame with the transmit watchdog off: more than that is nothing any network has heard of.
const MOST_BYTES: usize = 16 << 10;

/// The process between two descriptors.
#[derive(Default)]
pub(super) struct Transmitter {
    frame: Vec<u8>,
    /// The second longword of the frame's first descriptor. `None`: no frame has begun.
    first: Option<u32>,
    generation: u32,
}

/// What became of a descriptor.
enum Outcome {
    /// It is the driver's.
    NotOwned,
    Closed(Closed),
}

struct Closed {
    next: u32,
    events: Status,
    /// The process stops.
    stop: bool,
    filter: Option<Filter>,
    /// A frame is in the buffer and goes back to the receiver.
    looped: bool,
}

/// What is done next.
pub(super) enum Step {
    Idle,
    More,
    /// The frame came back by loopback, in the transmitter's [`frame`](Transmitter::frame).
    Looped,
}

impl Transmitter {
    /// Takes some descriptors. Gives whether there may be more; `looped` takes frames in loopback mode.
    pub(super) fn turn(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        filter: &mut Filter,
        now: Instant,
        mut looped: impl FnMut(&mut Vec<u8>, &Filter),
    ) -> bool {
        for _ in 0..TURN {
            match self.step(card, memory, filter, now) {
                Step::Idle => return false,
                Step::More => {}
                Step::Looped => looped(&mut self.frame, filter),
            }
        }
        true
    }

    fn step(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        filter: &mut Filter,
        now: Instant,
    ) -> Step {
        let begun = card.with(|registers| {
            let work = registers.begin_transmit()?;
            Some((work, registers.mode(), registers.watchdog()))
        });
        let Some((work, mode, limits)) = begun else { return Step::Idle };
        if work.generation != self.generation {
            self.generation = work.generation;
            self.first = None;
        }
        let outcome = self.descriptor(card, memory, &work, mode, limits);
        self.finish(card, &work, outcome, filter, now)
    }

    fn finish(
        &mut self,
        card: &Tulip,
        work: &Work,
        outcome: Result<Outcome, BusError>,
        filter: &mut Filter,
        now: Instant,
    ) -> Step {
        card.finish(|registers| {
            let Some(registers) = registers.end_transmit(work) else { return Step::More };
            match outcome {
                Err(BusError) => {
                    card.chip.bus_errors.add(1);
                    registers.fail();
                    Step::Idle
                }
                Ok(Outcome::NotOwned) => {
                    registers.suspend_transmit(work, now);
                    Step::More
                }
                Ok(Outcome::Closed(closed)) => {
                    registers.transmit.cursor = closed.next;
                    registers.post(closed.events);
                    if closed.stop {
                        registers.stop_transmit();
                    }
                    if let Some(new) = closed.filter {
                        registers.set_filter(new.mode());
                        *filter = new;
                    }
                    if closed.looped { Step::Looped } else { Step::More }
                }
            }
        })
    }

    fn descriptor(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        work: &Work,
        mode: Mode,
        limits: u32,
    ) -> Result<Outcome, BusError> {
        let Some(descriptor) = ring::fetch(memory, work.cursor)? else {
            return Ok(Outcome::NotOwned);
        };
        let control = descriptor.control.get();
        let mut closed = Closed {
            next: ring::next(&descriptor, work.cursor, work),
            events: Status::empty(),
            stop: false,
            filter: None,
            looped: false,
        };
        let status = if control & TX_SET != 0 {
            closed.filter = self.setup(card, memory, &descriptor)?;
            TX_SETUP_DONE
        } else {
            self.data(card, memory, &descriptor, (mode, limits), &mut closed)?
        };
        if control & TX_IC != 0 && control & (TX_SET | TX_LS) != 0 {
            closed.events |= Status::TI;
        }
        ring::close(memory, work.cursor, status)?;
        card.chip.tx_descriptors.add(1);
        Ok(Outcome::Closed(closed))
    }

    /// A setup frame. One of another length than it has is passed over.
    fn setup(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        descriptor: &Descriptor,
    ) -> Result<Option<Filter>, BusError> {
        let [buffer, _] = ring::buffers(descriptor);
        let mut bytes = Vec::new();
        ring::read(memory, buffer, &mut bytes)?;
        let kind = FilterType::of_control(descriptor.control.get());
        let Ok(frame) = <&[u8; SETUP_FRAME_BYTES]>::try_from(bytes.as_slice()) else {
            card.counters.tx_invalid.add(1);
            return Ok(None);
        };
        card.chip.setup_frames.add(1);
        card.chip.copied_bytes.add(bytes.len() as u64);
        Ok(Some(Filter::new(kind, frame)))
    }

    /// A part of a frame. Gives the descriptor's status.
    fn data(
        &mut self,
        card: &Tulip,
        memory: &GuestMemoryMmap,
        descriptor: &Descriptor,
        (mode, limits): (Mode, u32),
        closed: &mut Closed,
    ) -> Result<u32, BusError> {
        let control = descriptor.control.get();
        if control & TX_FS != 0 {
            self.first = Some(control);
            self.frame.clear();
        }
        // Without a beginning there is no frame: drivers fill gaps with such descriptors.
        let Some(first) = self.first else { return Ok(0) };
        let before = self.frame.len();
        for buffer in ring::buffers(descriptor) {
            ring::read(memory, buffer, &mut self.frame)?;
        }
        let bytes = (self.frame.len() - before) as u64;
        card.chip.dma_bytes.add(bytes);
        card.chip.copied_bytes.add(bytes);
        let most = if limits & watchdog::JBD == 0 { watchdog::TRANSMIT_BYTES } else { MOST_BYTES };
        if self.frame.len() > most {
            self.first = None;
            card.counters.tx_invalid.add(1);
            closed.events |= Status::TJT;
            closed.stop = true;
            return Ok(TX_TO | TX_ES);
        }
        if control & TX_LS != 0 {
            self.first = None;
            closed.looped = self.end_of_frame(card, first, mode);
        }
        Ok(0)
    }

    /// Sends the frame. Whether it is to be received instead.
    fn end_of_frame(&mut self, card: &Tulip, first: u32, mode: Mode) -> bool {
        if !complete(&mut self.frame, first) {
            card.counters.tx_invalid.add(1);
            return false;
        }
        let looped = mode.intersects(Mode::OM_INTERNAL | Mode::OM_EXTERNAL);
        if !looped {
            send(card, &self.frame);
        }
        looped
    }
}

/// Pads a frame, or takes off the check sequence that the guest has put behind it, as its first descriptor says. Whether it is a
/// frame that a network takes.
fn complete(frame: &mut Vec<u8>, first: u32) -> bool {
    const SHORTEST: usize = MIN_FRAME_BYTES - FCS_BYTES;
    if frame.len() < SHORTEST && first & TX_DPD == 0 {
        // What is padded gets a check sequence of the chip's in any case.
        frame.resize(SHORTEST, 0);
        return true;
    }
    if first & TX_AC != 0 {
        let Some(length) = frame.len().checked_sub(FCS_BYTES) else { return false };
        let (data, sequence) = frame.split_at(length);
        if sequence != check_sequence(data) {
            return false;
        }
        frame.truncate(length);
    }
    let most = match tag(frame) {
        Some(_) => MAX_TAGGED_FRAME_BYTES,
        None => MAX_FRAME_BYTES,
    };
    (SHORTEST..=most - FCS_BYTES).contains(&frame.len())
}

fn send(card: &Tulip, frame: &[u8]) {
    let result = match card.is_admin_up() {
        true => card.backend.send(&Frame::complete(frame)),
        false => Err(SendError::Down),
    };
    match result {
        Ok(()) => {
            card.counters.tx_frames.add(1);
            card.counters.tx_bytes.add(frame.len() as u64);
        }
        Err(_) => card.counters.tx_dropped.add(1),
    }
}
