//! One channel: sends what is in its table of requests, and takes the answers.
//!
//! **Theory.** The host needs a signal when its ring was empty. A signal is an exit, so requests that are made at the same time are put into the ring
//! together. The host's answers come with a signal, too, if the guest was not reading anyhow.
//!
//! **Practice.** Futures put their request into the table and ring the doorbell. [`Queue::run`], the channel's task, sends everything
//! that is there, reads all answers, and waits. Nothing in here is shared with other channels.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use core::task::{Context, Poll};

use hv_abi::storvsp::{Operation, StorvspVersion};
use hv_abi::vmbus::packet::PacketType;
use spin::Mutex;
use vmbus_ring::Packet;

use super::counts::Counters;
use super::error::DiskErrorKind;
use super::notices::Notices;
use super::options::{Doorbell, StorOptions};
use super::packet::{self, MAX_PACKET_BYTES};
use super::pool::Pool;
use super::slots::{Fallout, Slots};
use crate::bus::ChannelError;
use crate::channel::Channel;
use crate::hal::Hal;
use crate::task::Bell;

mod send;

/// Room for a packet from the host, with descriptor and padding. A longer one breaks the protocol.
const RECEIVE_BYTES: usize = 512;
/// Answers that are read in a row before the ring's room goes back to the host and others get their turn.
const READ_AT_ONCE: usize = 1024;
/// Turns in a row before others get theirs, though there is always more to do.
const TURNS_AT_ONCE: usize = 16;

/// One channel.
pub(super) struct Queue<H: Hal> {
    channel: Channel<H>,
    table: Mutex<Table>,
    doorbell: Bell,
    rung: AtomicBool,
    is_immediate: bool,
    /// The negotiated version; until then the oldest, whose packets all hosts take.
    version: AtomicU16,
    /// Why the channel ended.
    ending: Mutex<Option<ChannelError>>,
    notices: Arc<Notices>,
    /// How often to look for late requests.
    tick_100ns: u64,
    next_tick_100ns: AtomicU64,
    pub(super) counters: Counters,
    pub(super) pool: Pool,
}

pub(super) struct Table {
    pub(super) slots: Slots,
    /// Page numbers of requests that are being sent.
    pages: Vec<u64>,
}

enum Wake {
    Doorbell,
    Packets,
    Clock,
}

impl<H: Hal> Queue<H> {
    pub(super) fn new(channel: Channel<H>, options: &StorOptions, notices: Arc<Notices>) -> Self {
        let ms = crate::SECOND_100NS / 1000;
        Self {
            channel,
            table: Mutex::new(Table { slots: Slots::new(options.depth), pages: Vec::new() }),
            doorbell: Bell::new(),
            rung: AtomicBool::new(false),
            is_immediate: options.doorbell == Doorbell::Immediate,
            version: AtomicU16::new(StorvspVersion::V2_0.0),
            ending: Mutex::new(None),
            notices,
            tick_100ns: (options.request_limit_100ns / 8).clamp(ms, crate::SECOND_100NS),
            next_tick_100ns: AtomicU64::new(0),
            counters: Counters::default(),
            pool: Pool::new(options.depth),
        }
    }

    pub(super) fn hal(&self) -> &H {
        self.channel.hal()
    }

    pub(super) fn channel(&self) -> &Channel<H> {
        &self.channel
    }

    pub(super) fn version(&self) -> StorvspVersion {
        StorvspVersion(self.version.load(Ordering::Relaxed))
    }

    pub(super) fn set_version(&self, version: StorvspVersion) {
        self.version.store(version.0, Ordering::Relaxed);
    }

    /// Works on the table. What falls out of it is settled by the caller, when this has returned.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Slots) -> R) -> R {
        f(&mut self.table.lock().slots)
    }

    /// Whether the channel takes requests.
    pub(super) fn is_alive(&self) -> bool {
        self.with(|slots| slots.ended().is_none())
    }

    /// There is something to send.
    pub(super) fn ring(&self, was_idle: bool, now_100ns: u64) {
        if was_idle {
            let tick = now_100ns.saturating_add(self.tick_100ns);
            self.next_tick_100ns.store(tick, Ordering::Relaxed);
        }
        // If sending fails, the channel's task finds out, too, and ends the channel.
        let to_do = !self.is_immediate || self.flush() != Ok(Flushed::All) || was_idle;
        if to_do && !self.rung.swap(true, Ordering::AcqRel) {
            self.doorbell.ring(self.hal());
        }
    }

    /// The channel's task. Ends when the channel does; all requests have then ended.
    pub(super) async fn run(&self) -> ChannelError {
        let error = self.serve().await;
        // Whoever asks later is told the same.
        let first = *self.ending.lock().get_or_insert(error);
        self.shut().await;
        first
    }

    /// Closes the channel and ends all requests. Those that the host has end when it has closed the channel, too: only then does it
    /// no longer use their memory, even if it took the channel back by itself.
    pub(super) async fn shut(&self) {
        let fallout = self.with(|slots| slots.refuse(DiskErrorKind::Gone));
        fallout.into_iter().for_each(Fallout::settle);
        let closed = self.channel.close().await;
        self.end(closed.is_ok());
    }

    /// Ends all requests, and takes no more. With `host_is_done`, their memory comes back.
    pub(super) fn end(&self, host_is_done: bool) {
        let fallout = self.with(|slots| slots.end(DiskErrorKind::Gone, host_is_done));
        fallout.into_iter().for_each(Fallout::settle);
        self.notices.disks.raise(self.hal());
    }

    async fn serve(&self) -> ChannelError {
        let mut buffer = [0; RECEIVE_BYTES];
        let mut turns = 0;
        loop {
            if let Err(error) = self.turn(&mut buffer) {
                return error;
            }
            turns += 1;
            if turns >= TURNS_AT_ONCE {
                turns = 0;
                yield_now().await;
            }
            match self.wait(&mut turns).await {
                Ok(Wake::Doorbell) => {}
                Ok(Wake::Packets) => self.counters.wakeups.increment(),
                Ok(Wake::Clock) => self.tick(),
                Err(error) => {
                    // What came before the end counts.
                    let _ = self.drain(&mut buffer);
                    return error;
                }
            }
        }
    }

    fn turn(&self, buffer: &mut [u8]) -> Result<(), ChannelError> {
        // Answers first: they make room in the table, and who gets it may have something to send.
        self.drain(buffer)?;
        self.flush()?;
        Ok(())
    }

    async fn wait(&self, turns: &mut usize) -> Result<Wake, ChannelError> {
        let mut packets = pin!(self.channel.wait());
        poll_fn(|context| {
            let poll = self.poll_wait(packets.as_mut(), context);
            if poll.is_pending() {
                *turns = 0;
            }
            poll
        })
        .await
    }

    fn poll_wait(
        &self,
        packets: Pin<&mut impl Future<Output = Result<(), ChannelError>>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Wake, ChannelError>> {
        self.doorbell.listen(self.hal(), context.waker());
        if self.rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(Ok(Wake::Doorbell));
        }
        if let Poll::Ready(result) = packets.poll(context) {
            return Poll::Ready(result.map(|()| Wake::Packets));
        }
        if !self.with(|slots| slots.is_busy()) {
            return Poll::Pending;
        }
        let tick = self.next_tick_100ns.load(Ordering::Relaxed);
        if self.hal().now_100ns() >= tick {
            return Poll::Ready(Ok(Wake::Clock));
        }
        self.hal().wake_at(tick, context.waker());
        Poll::Pending
    }

    /// Looks for late requests.
    fn tick(&self) {
        let now = self.hal().now_100ns();
        self.next_tick_100ns.store(now.saturating_add(self.tick_100ns), Ordering::Relaxed);
        let (late, waiting, overdue) = self.with(|slots| {
            (slots.expire_queued(now), slots.waiting(), slots.overdue(now).is_some())
        });
        self.counters.timeouts.add(late.len() as u64);
        late.into_iter().for_each(Fallout::settle);
        // They look at the clock by themselves.
        waiting.into_iter().for_each(|waker| waker.wake());
        if overdue {
            self.notices.overdue.raise(self.hal());
        }
    }

    /// Takes all answers that are there.
    fn drain(&self, buffer: &mut [u8]) -> Result<(), ChannelError> {
        for _ in 0..READ_AT_ONCE {
            let taken = self.channel.try_receive(buffer, |packet| self.on_packet(&packet))?;
            if taken.is_none() {
                return Ok(());
            }
        }
        // More may be there: the wait for packets ends at once then.
        self.channel.release()
    }

    /// A packet that makes no sense is counted and dropped: it names no request that the host has, so it can do no harm.
    fn on_packet(&self, packet: &Packet<'_>) {
        let understood = match packet.kind() {
            PacketType::COMP => self.on_completion(packet),
            PacketType::DATA_INBAND => self.on_notice(packet),
            _ => false,
        };
        if !understood {
            self.counters.rejected.increment();
        }
    }

    fn on_completion(&self, packet: &Packet<'_>) -> bool {
        let Some(answer) = packet::answer(packet.payload()) else { return false };
        match self.with(|slots| slots.complete(packet.transaction_id(), answer)) {
            Ok(fallout) => {
                self.counters.completions.increment();
                fallout.settle();
                true
            }
            Err(_) => false,
        }
    }

    /// Linux looks at the operation only (`storvsc_on_receive`); so may it be as short as that.
    fn on_notice(&self, packet: &Packet<'_>) -> bool {
        let operation = packet.payload().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        match operation.map(Operation) {
            Some(Operation::ENUMERATE_BUS | Operation::REMOVE_DEVICE) => {
                self.counters.notices.increment();
                self.notices.disks.raise(self.hal());
                true
            }
            _ => false,
        }
    }
}

/// Lets others run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What came of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything was sent.
    All,
    /// The ring is full. It has requests of ours, with whose answers there will be room.
    Full,
}

impl<H: Hal> Drop for Queue<H> {
    fn drop(&mut self) {
        // The host may still use this. Dropping the channel closes it, but that takes its time, and the answer may never come.
        for lent in self.table.get_mut().slots.take_lent() {
            core::mem::forget(lent);
        }
    }
}
