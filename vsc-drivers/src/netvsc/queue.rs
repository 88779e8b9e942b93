//! One channel of an adapter, with its own locks: nothing on the way of a frame is shared with other channels but the send
//! buffer's map of free sections.

mod outstanding;
mod packet;
mod receive;
mod transmit;

pub(super) use packet::{padded, rndis_packet};
pub(super) use receive::Round;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use spin::Mutex;

use super::adapter::Adapter;
use super::error::NetError;
use super::frame::{BufferPool, Frame};
use super::holder::Holder;
use super::stats::Counters;
use crate::bus::ChannelError;
use crate::channel::Channel;
use crate::hal::Hal;
use crate::task::Bell;
use receive::Receiver;
use transmit::Transmitter;

/// Bytes of the buffers that are kept for frames: an ordinary one with all its headers.
const BUFFER_BYTES: usize = 2048;
/// Packets that are read before others get their turn.
const BUDGET: usize = 64;
/// How long to wait for room in a full ring if nothing else happens, in units of 100 ns.
const LOOK_FOR_ROOM_100NS: u64 = crate::SECOND_100NS / 1000;

/// A channel.
pub(super) struct Queue<H: Hal> {
    /// 0: the primary.
    pub(super) index: u16,
    pub(super) channel: Holder<Channel<H>>,
    pub(super) counters: Counters,
    pub(super) buffers: Arc<BufferPool>,
    receiver: Mutex<Receiver<H>>,
    frames: Mutex<VecDeque<Frame>>,
    transmitter: Mutex<Transmitter<H>>,
    /// Rings when frames were received.
    pub(super) received: Bell,
    /// Rings when there is room for frames again.
    pub(super) room: Bell,
    /// Frames wait for the channel's task.
    kicked: AtomicBool,
    kick: Bell,
}

impl<H: Hal> Queue<H> {
    pub(super) fn new(index: u16, channel: Channel<H>) -> Self {
        Self {
            index,
            channel: Holder::new(channel),
            counters: Counters::default(),
            buffers: BufferPool::new(BUFFER_BYTES),
            receiver: Mutex::new(Receiver::new()),
            frames: Mutex::new(VecDeque::new()),
            transmitter: Mutex::new(Transmitter::new()),
            received: Bell::new(),
            room: Bell::new(),
            kicked: AtomicBool::new(false),
            kick: Bell::new(),
        }
    }

    /// Lets the channel use the adapter's buffers, as far as there are any.
    pub(super) fn attach(&self, adapter: &Adapter<H>) {
        self.receiver.lock().attach(adapter.receive_buffer.get());
        self.transmitter.lock().attach(adapter.send_buffer.get());
    }

    /// Forgets the buffers, and all frames to send: the host is gone, or has done with them.
    pub(super) fn forget(&self) {
        self.receiver.lock().attach(None);
        let old = core::mem::replace(&mut *self.transmitter.lock(), Transmitter::new());
        drop(old);
    }

    /// A frame that came by this channel.
    pub(super) fn take_frame(&self) -> Option<Frame> {
        self.frames.lock().pop_front()
    }

    /// Has the channel's task give the host what was collected.
    fn kick(&self, hal: &H) {
        if !self.kicked.swap(true, Ordering::AcqRel) {
            self.kick.ring(hal);
        }
    }

    /// Serves the channel until it ends.
    pub(super) async fn serve(&self, adapter: &Adapter<H>) -> NetError {
        let Some(channel) = self.channel.get() else { return NetError::Stopped };
        loop {
            if let Some(end) = adapter.end() {
                return end;
            }
            if let Err(error) = self.work(adapter, &channel).await {
                return error;
            }
        }
    }

    /// One round of all there is to do, then a wait for more.
    async fn work(&self, adapter: &Adapter<H>, channel: &Channel<H>) -> Result<(), NetError> {
        let round = self.receive(adapter, BUDGET)?;
        self.answer_the_rest(channel).await?;
        self.kicked.store(false, Ordering::Release);
        let all_sent = self.flush()?;
        if round == Round::More {
            yield_now().await;
        } else {
            self.wait(adapter, channel, all_sent).await?;
        }
        Ok(())
    }

    /// Waits for the host, for frames to send, or for the end.
    async fn wait(
        &self,
        adapter: &Adapter<H>,
        channel: &Channel<H>,
        all_sent: bool,
    ) -> Result<(), ChannelError> {
        let mut host = pin!(channel.wait());
        let look_again = adapter.hal.now_100ns().saturating_add(LOOK_FOR_ROOM_100NS);
        poll_fn(|context| {
            self.kick.listen(&adapter.hal, context.waker());
            adapter.ended.listen(&adapter.hal, context.waker());
            if self.kicked.load(Ordering::Acquire) || adapter.end().is_some() {
                return Poll::Ready(Ok(()));
            }
            if !all_sent {
                // The host's answers say that there is room again. Should there be none to come, look from time to time.
                if adapter.hal.now_100ns() >= look_again {
                    return Poll::Ready(Ok(()));
                }
                adapter.hal.wake_at(look_again, context.waker());
            }
            let ready = host.as_mut().poll(context);
            if matches!(ready, Poll::Ready(Ok(()))) {
                self.counters.interrupts.increment();
            }
            ready
        })
        .await
    }
}

/// Lets other tasks run.
pub(super) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context: &mut Context<'_>| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
