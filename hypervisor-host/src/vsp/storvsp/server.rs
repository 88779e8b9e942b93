//! One open channel: packets in, disk I/O, answers out.
//!
//! Nothing waits for anything else: all packets there are are taken and begun, then all that was completed is answered, in one
//! batch and so with one signal at most. While the guest has left no room for answers, nothing more is taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hv_abi::storvsp::{Operation, SrbStatus, StorvspVersion, VstorStatus};
use hv_abi::vmbus::packet::{PACKET_TRAILER_BYTES, PacketDescriptor, PacketType};
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::GuestMemoryMmap;
use vmbus_ring::{OutgoingPacket, Packet};

use super::StorvspDevice;
use super::error::StorvspError;
use super::packet::{Answer, MAX_PACKET_BYTES, Question};
use super::session::{Session, Step};
use super::srb::{Srb, Work};
use crate::process::tell;
use crate::storage::buffer::IoBuffer;
use crate::storage::engine::{Completed, Queue, Request};
use crate::storage::unit::Unit;
use crate::vmbus::{ChannelError, GuestRanges, HostChannel, Wake};

/// Requests in flight, at most. A guest with usual rings sends less before it waits.
const MAX_IN_FLIGHT: usize = 4096;
/// Answers that wait for room, at most, before nothing more is taken.
const MAX_ANSWERS: usize = 256;
/// After this time it is told that disks do not end what they have begun when a channel is closed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How often a channel is looked at that takes no packets because its disks are too slow.
const BUSY_LIMIT: Duration = Duration::from_millis(20);
/// Bytes of the longest answer in a ring.
const ANSWER_BYTES: u32 =
    (size_of::<PacketDescriptor>() + MAX_PACKET_BYTES + PACKET_TRAILER_BYTES) as u32;

/// A request that a disk is busy with.
struct InFlight {
    srb: Srb,
    unit: Arc<Unit>,
    bytes: u32,
}

/// A channel and all that belongs to it.
pub(super) struct Server<'d> {
    device: &'d StorvspDevice,
    memory: GuestMemoryMmap,
    /// `None`: a sub-channel whose primary channel is not ready.
    session: Option<Session>,
    queue: Queue,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<usize>,
    completed: Vec<Completed>,
    answers: VecDeque<Answer>,
    /// The disks have changed, and the guest does not know.
    changed: Arc<AtomicBool>,
    _watcher: Arc<dyn Fn() + Send + Sync>,
}

impl<'d> Server<'d> {
    /// For a channel that was just opened.
    pub(super) fn new(
        device: &'d StorvspDevice,
        channel: &HostChannel,
    ) -> Result<Self, StorvspError> {
        let queue = device.engines.queue();
        let queue =
            queue.map_err(|error| StorvspError::Queue(error.raw_os_error().unwrap_or(0)))?;
        let primary = channel.sub_channel_index() == 0;
        let multi_channel = channel.version() >= VmbusVersion::V2_4;
        let changed = Arc::new(AtomicBool::new(false));
        let watcher = watcher(&changed, channel);
        if primary {
            device.controller.watch(&watcher);
        }
        Ok(Self {
            device,
            memory: channel.memory().clone(),
            session: primary.then(|| Session::primary(device.options, multi_channel)),
            queue,
            in_flight: Vec::new(),
            free: Vec::new(),
            completed: Vec::new(),
            answers: VecDeque::new(),
            changed,
            _watcher: watcher,
        })
    }

    /// Serves until the channel is closed.
    pub(super) fn run(&mut self, channel: &mut HostChannel) -> Result<(), StorvspError> {
        let served = self.serve(channel);
        // The guest gets its memory back when we return, and until then a disk may write to it (docs/decisions.md, D32).
        let mut told = false;
        while !self.queue.drain(DRAIN_PATIENCE, &mut self.completed) {
            if !std::mem::replace(&mut told, true) {
                let left = self.queue.in_flight();
                tell(&format_args!(
                    "a guest has closed a disk's channel, and waits: {left} requests to its disks do not end"
                ));
            }
        }
        self.finish();
        served
    }

    fn serve(&mut self, channel: &mut HostChannel) -> Result<(), StorvspError> {
        let mut woken = false;
        loop {
            self.queue.completions(woken, &mut self.completed);
            self.finish();
            self.receive(channel)?;
            self.queue.start();
            // What the kernel had in its cache is there at once.
            self.queue.completions(false, &mut self.completed);
            self.finish();
            self.tell_of_changes();
            let all_sent = self.send(channel)?;
            match self.wait(channel, all_sent)? {
                Wake::Closed => return Ok(()),
                wake => woken = matches!(wake, Wake::Other(_)),
            }
        }
    }

    fn wait(&self, channel: &mut HostChannel, all_sent: bool) -> Result<Wake, StorvspError> {
        let completions = [self.queue.event()];
        if !all_sent {
            return Ok(channel.wait_room(ANSWER_BYTES, &completions, None)?);
        }
        if self.is_full() {
            // The guest's packets must not wake us, so nothing of the channel can.
            self.queue.wait(BUSY_LIMIT);
            let closed = channel.waker().is_closed();
            return Ok(if closed { Wake::Closed } else { Wake::Other(0) });
        }
        Ok(channel.wait(&completions, None)?)
    }

    fn is_full(&self) -> bool {
        self.queue.in_flight() >= MAX_IN_FLIGHT
    }

    /// Takes what the guest has sent, as far as there is room for answers.
    fn receive(&mut self, channel: &mut HostChannel) -> Result<(), StorvspError> {
        while !self.is_full() && self.answers.len() < MAX_ANSWERS {
            let Some(packet) = channel.receive()? else { break };
            let sub_channels = self.take(&packet)?;
            if let Some((question, count)) = sub_channels {
                let answer = self.offer_sub_channels(channel, &question, count)?;
                self.answers.push_back(answer);
            }
        }
        Ok(())
    }

    /// Takes a packet. Sub-channels can be offered only by whoever has the channel.
    fn take(&mut self, packet: &Packet<'_>) -> Result<Option<(Question, u16)>, StorvspError> {
        let question = Question::read(packet)?;
        let device = self.device;
        if self.session.is_none() {
            self.session = device.version().map(Session::secondary);
        }
        let Some(session) = &mut self.session else {
            self.answers.push_back(question.answer(VstorStatus::INVALID_DEVICE_STATE));
            return Ok(None);
        };
        match session.take(&question) {
            Step::Answer(answer) => self.answers.push_back(answer),
            Step::Ready(answer) => {
                device.set_version(session.version());
                // The guest looks at all disks now.
                self.changed.store(false, Ordering::Release);
                self.answers.push_back(answer);
            }
            Step::SubChannels(count) => return Ok(Some((question, count))),
            Step::Reset { one } => self.reset(&question, one),
            Step::Execute => self.execute(&question, packet),
        }
        Ok(None)
    }

    fn offer_sub_channels(
        &mut self,
        channel: &mut HostChannel,
        question: &Question,
        count: u16,
    ) -> Result<Answer, StorvspError> {
        let offered = channel.offer_sub_channels(count)?;
        if let Some(session) = &mut self.session {
            session.offered(offered);
        }
        let status = match offered == count {
            true => VstorStatus::SUCCESS,
            false => VstorStatus::UNSUCCESSFUL,
        };
        Ok(question.answer(status))
    }

    /// Units are always fit, so there is nothing to reset but what the guest believes. What is in flight ends as it would have:
    /// it has the guest's memory.
    fn reset(&mut self, question: &Question, one: bool) {
        let version = self.version();
        let answer = match Srb::new(question, version) {
            Ok(srb) => {
                self.device.controller.reset(one.then(|| srb.lun()));
                question.answer(VstorStatus::SUCCESS)
            }
            Err(answer) => answer,
        };
        self.answers.push_back(answer);
    }

    fn version(&self) -> StorvspVersion {
        let version = self.session.as_ref().and_then(Session::version);
        version.unwrap_or(StorvspVersion::V2_0)
    }

    fn execute(&mut self, question: &Question, packet: &Packet<'_>) {
        let srb = match Srb::new(question, self.version()) {
            Ok(srb) => srb,
            Err(answer) => return self.answers.push_back(answer),
        };
        let ranges = match packet.kind() {
            PacketType::DATA_USING_GPA_DIRECT => GuestRanges::of_packet(&self.memory, packet),
            _ => Ok(GuestRanges::empty(&self.memory)),
        };
        let refused = srb.refused(SrbStatus::INVALID_REQUEST);
        let Ok(ranges) = ranges else { return self.answers.push_back(refused) };
        match srb.begin(&self.device.controller, &ranges) {
            Work::Answer(answer) => self.answers.push_back(answer),
            Work::Disk { unit, op, bytes } => {
                let Some(buffer) = buffer(ranges, bytes) else {
                    return self.answers.push_back(refused);
                };
                let disk = unit.disk().clone();
                let tag = self.keep(InFlight { srb, unit, bytes });
                self.queue.submit(Request { tag, disk, op, buffer });
            }
        }
    }

    fn keep(&mut self, request: InFlight) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.in_flight.push(None);
            self.in_flight.len() - 1
        });
        if let Some(place) = self.in_flight.get_mut(index) {
            *place = Some(request);
        }
        index as u64
    }

    /// Makes answers of what was completed.
    fn finish(&mut self) {
        for Completed { tag, op, result } in self.completed.drain(..) {
            let place = self.in_flight.get_mut(tag as usize);
            let Some(InFlight { srb, unit, bytes }) = place.and_then(Option::take) else {
                continue;
            };
            self.free.push(tag as usize);
            self.answers.push_back(match unit.finish(&op, bytes, result) {
                Ok(()) => srb.done(bytes),
                Err(sense) => srb.failed(sense),
            });
        }
    }

    fn tell_of_changes(&mut self) {
        let Some(version) = self.session.as_ref().and_then(Session::version) else { return };
        let changed =
            self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::AcqRel);
        if changed && version >= StorvspVersion::V4_2 {
            self.answers.push_back(Answer::news(Operation::ENUMERATE_BUS, version.packet_bytes()));
        }
    }

    /// Sends answers as far as there is room; whether that was all of them.
    fn send(&mut self, channel: &mut HostChannel) -> Result<bool, StorvspError> {
        if self.answers.is_empty() {
            return Ok(true);
        }
        let mut batch = channel.batch();
        let mut pushed = Ok(());
        while let Some(answer) = self.answers.front() {
            let payload = [answer.bytes()];
            let packet = match answer.transaction {
                Some(transaction) => OutgoingPacket::completion(transaction, &payload),
                None => OutgoingPacket::in_band(0, &payload),
            };
            pushed = batch.push(&packet);
            if pushed.is_err() {
                break;
            }
            self.answers.pop_front();
        }
        batch.publish();
        match pushed {
            Ok(()) => Ok(true),
            Err(ChannelError::Full) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Called when disks come, go or change.
fn watcher(changed: &Arc<AtomicBool>, channel: &HostChannel) -> Arc<dyn Fn() + Send + Sync> {
    let (changed, waker) = (changed.clone(), channel.waker());
    Arc::new(move || {
        changed.store(true, Ordering::Release);
        waker.wake();
    })
}

/// The first `bytes` bytes of the guest's ranges.
#[expect(unsafe_code, reason = "guest memory is lent by its addresses")]
pub(super) fn buffer(ranges: GuestRanges, bytes: u32) -> Option<IoBuffer> {
    if bytes == 0 {
        return Some(IoBuffer::none());
    }
    let pieces = ranges.iovecs(0, bytes.into()).ok()?;
    // SAFETY: the ranges keep guest RAM mapped, of which there are no references.
    Some(unsafe { IoBuffer::new(pieces, Arc::new(ranges)) })
}
