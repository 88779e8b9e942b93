//! The network adapter: a driver for Hyper-V's synthetic NIC.
//!
//! **Theory.** Host and guest speak NVSP over a channel: versions, buffers, sub-channels. RNDIS messages travel in NVSP packets: requests
//! about the card, and frames. A frame to the host lies in a section of the *send buffer*, several behind one another, or, if it is large, in
//! pages of its own; frames from the host lie in the *receive buffer*, many in one packet, and are the guest's until it completes
//! the packet. Checksums, segmentation and VLAN tags travel beside a frame.
//!
//! **Practice.** [`NetVsc::start`], then poll [`NetVsc::run`] for ever. [`NetVsc::transmit`] and [`NetVsc::receive`] move frames; the
//! features `smoltcp` and `embassy` bring devices for these stacks, in modules of the same names. Frames are collected, and given to the host
//! many at a time with one signal: when `run` is polled next, when [`NetOptions::batch_frames`] have come together, or by
//! [`NetVsc::flush`].
//!
//! The receive buffer is shared with the host: each range is copied once, out of it and into the frame's own memory, and only the
//! copy is looked at.
//!
//! - `start`, `buffers`, `channels`, `stop`: an adapter's life; `control`, `requests`: questions to the host
//! - `queue`: one channel; `sections`: the send buffer's parts; `message`, `outgoing`: RNDIS frames
//! - `headers`, `offload`, `rss`, [`toeplitz`](toeplitz()): what the host does for us
//!
//! ```
//! use vsc_drivers::netvsc::{NetError, NetOptions, NetVsc, TransmitInfo};
//! use vsc_drivers::{ChannelId, Hal, Vmbus};
//!
//! /// Starts a card, and sends every frame back; another task polls the clone's `run`.
//! async fn echo<H: Hal>(
//!     bus: &Vmbus<H>,
//!     card: ChannelId,
//!     spawn: impl FnOnce(NetVsc<H>),
//! ) -> Result<(), NetError> {
//!     let net = NetVsc::start(bus, card, NetOptions::default()).await?;
//!     spawn(net.clone());
//!     loop {
//!         let frame = net.received().await?;
//!         // A full card drops it, as networks do.
//!         let _ = net.transmit(&frame, &TransmitInfo::default());
//!     }
//! }
//! ```
//!
//! Another MTU takes a [`stop`](NetVsc::stop) and a start with other options.
//!
//! Sources: Linux 6.1, `drivers/net/hyperv`; OpenVMM, `vm/devices/net/netvsp`; \[MS-RNDIS\].

mod adapter;
mod buffer;
mod buffers;
mod channels;
mod control;
#[cfg(feature = "embassy")]
pub mod embassy;
mod error;
mod frame;
mod headers;
mod holder;
mod link;
mod message;
mod offload;
mod options;
mod outgoing;
mod prepare;
mod queue;
mod requests;
mod rss;
mod sections;
#[cfg(feature = "smoltcp")]
pub mod smoltcp;
mod start;
mod stats;
mod stop;
#[cfg(test)]
mod tests;
mod toeplitz;

pub use buffer::TransmitBuffer;
pub use error::{NetError, TransmitError};
pub use frame::{Frame, Offload, ReceiveInfo, TransmitInfo, Verdict, VlanTag};
pub use link::Link;
pub use offload::Offloads;
pub use options::NetOptions;
pub use stats::Statistics;
pub use toeplitz::{DEFAULT_KEY, KEY_BYTES, hash_frame, toeplitz};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::sync::atomic::Ordering;
use core::task::{Context, Poll};

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::PacketFilter;

use crate::bus::{ChannelId, Vmbus};
use crate::hal::Hal;
use adapter::Adapter;
use queue::Queue;

/// A network adapter. Clones are the same adapter.
pub struct NetVsc<H: Hal> {
    adapter: Arc<Adapter<H>>,
}

impl<H: Hal> Clone for NetVsc<H> {
    fn clone(&self) -> Self {
        Self { adapter: self.adapter.clone() }
    }
}

impl<H: Hal> NetVsc<H> {
    /// Opens the adapter's primary channel, sets all up with the host, and lets frames pass. Needs the bus's task.
    ///
    /// # Errors
    ///
    /// [`NetError`]; what was opened and shared until then is given back in the background.
    pub async fn start(
        bus: &Vmbus<H>,
        channel: ChannelId,
        options: NetOptions,
    ) -> Result<Self, NetError> {
        Ok(Self { adapter: start::start(bus, channel, options).await? })
    }

    /// The adapter's task: poll it for ever. Returns when the adapter ended, with the reason.
    ///
    /// A kernel that has a task for each virtual processor polls [`run_channel`](Self::run_channel) for each channel instead.
    pub async fn run(&self) -> NetError {
        let adapter = &*self.adapter;
        let mut tasks: Vec<Pin<Box<dyn Future<Output = NetError> + Send + '_>>> = Vec::new();
        for index in 0..self.channels() {
            tasks.push(Box::pin(self.run_channel(index)));
        }
        let end = poll_fn(|context| {
            let polled = tasks.iter_mut().map(|task| task.as_mut().poll(context));
            polled.fold(Poll::Pending, |end, one| if end.is_ready() { end } else { one })
        })
        .await;
        drop(tasks);
        adapter.end().unwrap_or(end)
    }

    /// The task of channel `index`; 0 also follows the link.
    pub async fn run_channel(&self, index: usize) -> NetError {
        let adapter = &*self.adapter;
        let queue = adapter.queue(index);
        let end = if queue.index == 0 {
            first_of(queue.serve(adapter), adapter.follow_link()).await
        } else {
            queue.serve(adapter).await
        };
        if end != NetError::Stopped {
            adapter.abandon(end);
        }
        end
    }

    /// Does what there is to do at the moment, without waiting: gives the host what was collected, reads what came.
    ///
    /// For kernels that poll; [`run`](Self::run) does the same.
    pub fn poll(&self) {
        for queue in self.adapter.queues() {
            // What goes wrong, the adapter's task will find too.
            let _ = queue.flush();
            let _ = queue.receive(&self.adapter, usize::from(u8::MAX));
        }
    }

    /// The card's address.
    pub fn mac(&self) -> [u8; 6] {
        self.adapter.facts.get().map_or([0; 6], |facts| facts.mac)
    }

    /// Largest IP packet, in bytes. A frame may have 14 more, and 4 for a tag.
    pub fn mtu(&self) -> usize {
        self.adapter.link.mtu()
    }

    /// The link's state.
    pub fn link(&self) -> Link {
        self.adapter.link.get()
    }

    /// Follows the link's state from now on.
    pub fn link_changes(&self) -> LinkChanges<H> {
        LinkChanges { seen: self.adapter.link.count(), net: self.clone() }
    }

    /// What the host does for us.
    pub fn offloads(&self) -> Offloads {
        self.adapter.offloads()
    }

    /// Protocol version that was agreed on.
    pub fn version(&self) -> NvspVersion {
        self.adapter.version.get().copied().unwrap_or(NvspVersion::V1)
    }

    /// Channels in use, the primary included.
    pub fn channels(&self) -> usize {
        self.adapter.queue_count()
    }

    /// Counts of all channels together.
    pub fn statistics(&self) -> Statistics {
        Statistics::sum(self.adapter.queues().map(|queue| queue.counters.snapshot()))
    }

    /// Counts of channel `index`.
    pub fn channel_statistics(&self, index: usize) -> Statistics {
        self.adapter.queue(index).counters.snapshot()
    }

    /// Takes a frame to send, Ethernet header first; a copy.
    ///
    /// # Errors
    ///
    /// [`TransmitError`]; the frame was not taken.
    pub fn transmit(&self, frame: &[u8], info: &TransmitInfo) -> Result<(), TransmitError> {
        if info.offload != Offload::None {
            let mut own = self.buffer(frame.len())?;
            own.copy_from_slice(frame);
            return self.transmit_buffer(own, info);
        }
        let (queue, beside) = self.prepare_plain(frame, info)?;
        count_drop(queue, queue.transmit(&self.adapter, frame, &beside))
    }

    /// A frame to fill in, for [`transmit_buffer`](Self::transmit_buffer): a large one is not copied again.
    ///
    /// # Errors
    ///
    /// [`TransmitError::BadLength`].
    pub fn buffer(&self, bytes: usize) -> Result<TransmitBuffer, TransmitError> {
        if bytes > prepare::MAX_FRAME_BYTES {
            return Err(TransmitError::BadLength);
        }
        Ok(self.unchecked_buffer(bytes))
    }

    /// The same of any length, for a stack of our own guest.
    fn unchecked_buffer(&self, bytes: usize) -> TransmitBuffer {
        TransmitBuffer::new(&self.adapter.primary.buffers, bytes)
    }

    /// Frames that may come before any is taken.
    #[cfg(any(feature = "smoltcp", feature = "embassy"))]
    fn receive_capacity(&self) -> usize {
        self.adapter.options.receive_queue_frames
    }

    /// A frame was received, and is of no use.
    #[cfg(feature = "smoltcp")]
    fn count_receive_drop(&self, frame: &Frame) {
        let queue = self.adapter.queue(frame.info().channel.into());
        queue.counters.receive_drops.increment();
    }

    /// Takes a frame to send.
    ///
    /// # Errors
    ///
    /// [`TransmitError`]; the frame was not taken.
    pub fn transmit_buffer(
        &self,
        mut frame: TransmitBuffer,
        info: &TransmitInfo,
    ) -> Result<(), TransmitError> {
        let (queue, beside) = self.prepare(&mut frame, info)?;
        count_drop(queue, queue.transmit_buffer(&self.adapter, frame, &beside))
    }

    /// Gives the host all frames that were taken, now: several packets, one signal.
    pub fn flush(&self) {
        for queue in self.adapter.queues() {
            // What goes wrong, the adapter's task will find too.
            let _ = queue.flush();
        }
    }

    /// Whether every channel would take a frame of so many bytes now.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.adapter.queues().all(|queue| queue.has_room(bytes))
    }

    /// Waits until there is [room](Self::has_room) for a frame of so many bytes.
    ///
    /// # Errors
    ///
    /// [`TransmitError::Ended`].
    pub async fn room(&self, bytes: usize) -> Result<(), TransmitError> {
        poll_fn(|context| self.poll_room(bytes, context)).await
    }

    /// The same for those who poll.
    pub fn poll_room(
        &self,
        bytes: usize,
        context: &Context<'_>,
    ) -> Poll<Result<(), TransmitError>> {
        let (adapter, waker) = (&self.adapter, context.waker());
        adapter.queues().for_each(|queue| queue.room.listen(&adapter.hal, waker));
        if self.adapter.end().is_some() {
            return Poll::Ready(Err(TransmitError::Ended));
        }
        if self.has_room(bytes) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Gives the host all frames that were taken, and waits until it has done with them.
    ///
    /// # Errors
    ///
    /// [`TransmitError::Ended`].
    pub async fn sent(&self) -> Result<(), TransmitError> {
        self.flush();
        poll_fn(|context| {
            let (adapter, waker) = (&self.adapter, context.waker());
            adapter.queues().for_each(|queue| queue.room.listen(&adapter.hal, waker));
            match (adapter.end(), adapter.queues().all(|queue| queue.is_idle())) {
                (Some(_), _) => Poll::Ready(Err(TransmitError::Ended)),
                (None, true) => Poll::Ready(Ok(())),
                (None, false) => Poll::Pending,
            }
        })
        .await
    }

    /// The next received frame, if there is one. Channels take turns.
    pub fn receive(&self) -> Option<Frame> {
        let count = self.channels();
        if count == 1 {
            return self.receive_from(0);
        }
        let first = self.adapter.turn.fetch_add(1, Ordering::Relaxed);
        (0..count).find_map(|step| self.receive_from(first.wrapping_add(step) % count))
    }

    /// The next frame that came by channel `index`, for kernels with a task for each.
    pub fn receive_from(&self, index: usize) -> Option<Frame> {
        self.adapter.queue(index).take_frame()
    }

    /// Waits for the next received frame.
    ///
    /// # Errors
    ///
    /// [`NetError`]: the adapter ended, and there are no more.
    pub async fn received(&self) -> Result<Frame, NetError> {
        poll_fn(|context| self.poll_received(context)).await
    }

    /// The same for those who poll.
    pub fn poll_received(&self, context: &Context<'_>) -> Poll<Result<Frame, NetError>> {
        let (adapter, waker) = (&self.adapter, context.waker());
        adapter.queues().for_each(|queue| queue.received.listen(&adapter.hal, waker));
        match (self.receive(), self.adapter.end()) {
            (Some(frame), _) => Poll::Ready(Ok(frame)),
            (None, Some(end)) => Poll::Ready(Err(end)),
            (None, None) => Poll::Pending,
        }
    }

    /// Which frames the host passes on.
    ///
    /// # Errors
    ///
    /// [`NetError`] if the host does not.
    pub async fn set_filter(&self, filter: PacketFilter) -> Result<(), NetError> {
        match self.adapter.end() {
            Some(end) => Err(end),
            None => self.adapter.meanwhile(self.adapter.set_filter(filter)).await,
        }
    }

    /// Sends what was taken, stops the host, and waits until it has given all memory back. [`run`](Self::run) ends. The channel can then be
    /// started again.
    ///
    /// # Errors
    ///
    /// [`NetError`] if the host does not play along; the adapter is stopped all the same.
    pub async fn stop(&self) -> Result<(), NetError> {
        self.adapter.stop().await
    }
}

impl<H: Hal> fmt::Debug for NetVsc<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetVsc").field("mac", &self.mac()).field("link", &self.link()).finish()
    }
}

/// The link's states, one after the other.
#[derive(Debug)]
pub struct LinkChanges<H: Hal> {
    net: NetVsc<H>,
    seen: u64,
}

impl<H: Hal> LinkChanges<H> {
    /// Waits for the next state. Of several changes since the last call, the last counts.
    pub async fn next(&mut self) -> Link {
        let adapter = &self.net.adapter;
        adapter.link.newer(&adapter.hal, &mut self.seen).await
    }

    /// The same for those who poll.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Link> {
        let adapter = &self.net.adapter;
        adapter.link.poll_newer(&adapter.hal, &mut self.seen, context)
    }
}

impl<H: Hal> Adapter<H> {
    /// Asks the host again whenever it said that something about the link is new.
    async fn follow_link(&self) -> NetError {
        loop {
            let end = poll_fn(|context| {
                self.news.listen(&self.hal, context.waker());
                self.ended.listen(&self.hal, context.waker());
                match self.end() {
                    Some(end) => Poll::Ready(Some(end)),
                    None if self.look_again.swap(false, Ordering::AcqRel) => Poll::Ready(None),
                    None => Poll::Pending,
                }
            })
            .await;
            if let Some(end) = end {
                return end;
            }
            // Should the host not answer, the old state stays.
            let _ = self.ask_about_the_link().await;
        }
    }
}

fn count_drop<H: Hal>(
    queue: &Queue<H>,
    result: Result<(), TransmitError>,
) -> Result<(), TransmitError> {
    if result.is_err() {
        queue.counters.transmit_drops.increment();
    }
    result
}

/// The output of whichever is ready first.
async fn first_of<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (core::pin::pin!(one), core::pin::pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await
}
