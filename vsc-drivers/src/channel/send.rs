//! To the host.

use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;

use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::{OutgoingPacket, SendError, Signal};

use super::Channel;
use crate::bus::ChannelError;
use crate::hal::Hal;

/// How often to look for room if the host does not say when there is some, in units of 100 ns.
const LOOK_FOR_ROOM_100NS: u64 = crate::SECOND_100NS / 1000;

impl From<SendError> for ChannelError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::TooLarge | SendError::Ranges(_) => Self::TooLarge,
            SendError::Corrupt(error) => Self::Corrupt(error),
        }
    }
}

/// One of those who wait for room.
struct Waiting<'c, H: Hal>(&'c Channel<H>);

impl<'c, H: Hal> Waiting<'c, H> {
    fn new(channel: &'c Channel<H>) -> Self {
        channel.waiting_for_room.fetch_add(1, Ordering::SeqCst);
        Self(channel)
    }
}

impl<H: Hal> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        // The request for room that stands in the ring was perhaps this one's; those who go on waiting make theirs anew.
        let mut sender = self.0.sender.lock();
        if self.0.waiting_for_room.fetch_sub(1, Ordering::SeqCst) == 1 {
            sender.stop_awaiting();
        } else {
            drop(sender);
            self.0.bell().ring(self.0.hal());
        }
    }
}

impl<H: Hal> Channel<H> {
    /// Sends one packet, and signals the host where that is needed.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Full`] if there is no room now; [`ChannelError::TooLarge`] if there never is, or if the packet's ranges are none;
    /// others as the channel's.
    pub fn try_send(&self, packet: &OutgoingPacket<'_>) -> Result<(), ChannelError> {
        self.check()?;
        let signal = self.sender.lock().send(packet)?;
        self.signal(signal)
    }

    /// Sends as many of the packets, from the first on, as there is room for, with at most one signal; returns how many.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), if not even the first was sent; [`ChannelError::Full`] is none: that is 0.
    pub fn try_send_batch<'p>(
        &self,
        packets: impl IntoIterator<Item = OutgoingPacket<'p>>,
    ) -> Result<usize, ChannelError> {
        self.check()?;
        let mut sent = 0;
        let mut sender = self.sender.lock();
        let mut batch = sender.batch();
        let mut failed = None;
        for packet in packets {
            match batch.push(&packet) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let signal = batch.publish();
        drop(sender);
        self.signal(signal)?;
        match failed {
            Some(error) if sent == 0 => Err(error.into()),
            _ => Ok(sent),
        }
    }

    /// Bytes in the ring to the host that it has not read: before a channel is closed, they tell whether the last packets came through.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Corrupt`]; others as the channel's.
    pub fn unread_bytes(&self) -> Result<u32, ChannelError> {
        self.check()?;
        let mut sender = self.sender.lock();
        let free = sender.free_bytes().map_err(ChannelError::Corrupt)?;
        Ok(sender.capacity().saturating_sub(free))
    }

    /// Sends one packet, and waits for room if there is none: for as long as the host takes. See [`within`](crate::task::within) for a time
    /// limit.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), without [`ChannelError::Full`].
    pub async fn send(&self, packet: &OutgoingPacket<'_>) -> Result<(), ChannelError> {
        loop {
            match self.try_send(packet) {
                Err(ChannelError::Full) => self.wait_for_room(packet.ring_bytes()?).await?,
                other => return other,
            }
        }
    }

    /// Waits until `bytes` bytes of the ring to the host are free ([`OutgoingPacket::ring_bytes`]), for as long as the host takes.
    /// Somebody else may be faster to use them.
    ///
    /// # Errors
    ///
    /// [`ChannelError::TooLarge`] if there never are; others as the channel's.
    pub async fn wait_for_room(&self, bytes: u32) -> Result<(), ChannelError> {
        if bytes > self.sender.lock().capacity() {
            return Err(ChannelError::TooLarge);
        }
        let _waiting = Waiting::new(self);
        poll_fn(|context| {
            self.bell().listen(self.hal(), context.waker());
            match self.ask_for_room(bytes) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.version < VmbusVersion::V2_4 {
                // Such a host does not signal that there is room.
                let then = self.hal().now_100ns().saturating_add(LOOK_FOR_ROOM_100NS);
                self.hal().wake_at(then, context.waker());
            }
            Poll::Pending
        })
        .await
    }

    /// Asks the host to signal once there is room; whether there is, now.
    fn ask_for_room(&self, bytes: u32) -> Result<bool, ChannelError> {
        self.check()?;
        self.sender.lock().await_room(bytes).map_err(ChannelError::Corrupt)
    }

    /// Signals the host, if `signal` says so (Linux, `vmbus_setevent` and `vmbus_set_event`).
    pub(super) fn signal(&self, signal: Signal) -> Result<(), ChannelError> {
        if !signal.needed() {
            return Ok(());
        }
        let offer = self.offer();
        let shared = self.shared();
        let monitor = offer.monitor.filter(|_| shared.options.monitor_pages && !self.low_latency);
        if let Some(pages) = shared.signal_pages() {
            if monitor.is_some() || !offer.dedicated {
                pages.set(offer.channel);
            }
            if let Some(monitor) = monitor {
                pages.trigger(monitor);
                return Ok(());
            }
        }
        shared.hal.signal_event(offer.connection, 0).map_err(ChannelError::Signal)
    }
}
