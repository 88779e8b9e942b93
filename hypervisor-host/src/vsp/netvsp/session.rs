//! What the channels of one opening of a card share.

use std::sync::Mutex;

use super::settings::{Settings, Shared};
use crate::stats::lock;
use crate::vmbus::Waker;

/// A frame in the receive buffer, of which the guest is yet to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Which part of the buffer.
    pub(super) part: u32,
    /// Bytes there.
    pub(super) bytes: u32,
}

/// From the primary channel's opening to its closing.
pub(super) struct Session {
    pub(super) shared: Shared,
    lanes: Box<[Lane]>,
}

/// A channel, as the others see it.
#[derive(Default)]
struct Lane {
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    /// `None`: the channel is not open.
    waker: Option<Waker>,
    /// Which buffer the deliveries lie in.
    buffer: u64,
    deliveries: Vec<Delivery>,
}

impl Session {
    pub(super) fn new(settings: Settings, queues: u16) -> Self {
        let lanes = (0..queues.max(1)).map(|_| Lane::default()).collect();
        Self { shared: Shared::new(settings), lanes }
    }

    fn lane(&self, channel: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(channel))
    }

    /// A channel is open. The primary one is told.
    pub(super) fn enter(&self, channel: u16, waker: Waker) {
        if let Some(lane) = self.lane(channel) {
            lock(&lane.inbox).waker = Some(waker);
        }
        self.wake(0);
    }

    fn wake(&self, channel: u16) {
        if let Some(lane) = self.lane(channel)
            && let Some(waker) = &lock(&lane.inbox).waker
        {
            waker.wake();
        }
    }

    /// A channel closes.
    pub(super) fn leave(&self, channel: u16) {
        if let Some(lane) = self.lane(channel) {
            lock(&lane.inbox).waker = None;
        }
    }

    /// How many of the first `channels` are open.
    pub(super) fn open(&self, channels: u16) -> u16 {
        let lanes = self.lanes.iter().take(channels.into());
        lanes.filter(|lane| lock(&lane.inbox).waker.is_some()).count() as u16
    }

    /// Wakes all channels, to look at the settings.
    pub(super) fn wake_all(&self) {
        for channel in 0..self.lanes.len() {
            self.wake(channel as u16);
        }
    }

    /// Hands deliveries in a buffer (its [serial number](super::receive_buffer::ReceiveBuffer::serial)) to a channel and wakes it. False: it is not open, and they stay where they are.
    pub(super) fn deliver(
        &self,
        channel: u16,
        buffer: u64,
        deliveries: &mut Vec<Delivery>,
    ) -> bool {
        let Some(lane) = self.lane(channel) else { return false };
        let mut inbox = lock(&lane.inbox);
        let Some(waker) = inbox.waker.clone() else { return false };
        if inbox.buffer != buffer {
            // Those that are there lay in one that is no more.
            inbox.deliveries.clear();
            inbox.buffer = buffer;
        }
        inbox.deliveries.append(deliveries);
        drop(inbox);
        waker.wake();
        true
    }

    /// Takes what was delivered to a channel in this buffer.
    pub(super) fn take(&self, channel: u16, buffer: u64, to: &mut impl Extend<Delivery>) {
        let Some(lane) = self.lane(channel) else { return };
        let mut inbox = lock(&lane.inbox);
        if inbox.buffer == buffer {
            to.extend(inbox.deliveries.drain(..));
        }
    }
}
