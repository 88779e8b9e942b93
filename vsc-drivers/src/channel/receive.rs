//! From the host.

use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;

use vmbus_ring::{Packet, ReceiveError};

use super::Channel;
use crate::bus::ChannelError;
use crate::hal::Hal;
use crate::task::Bell;

impl From<ReceiveError> for ChannelError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::BufferTooSmall { needed } => Self::BufferTooSmall { needed },
            ReceiveError::Corrupt(error) => Self::Corrupt(error),
        }
    }
}

impl<H: Hal> Channel<H> {
    /// Takes the next packet out of the ring, if there is one, and calls `f` with it: a copy in `buffer`, with consistent lengths.
    /// What stands in it is not checked, of course.
    ///
    /// The packets' room goes back to the host when there are no more, and in [`wait`](Self::wait); who takes many in between
    /// calls [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`ChannelError::BufferTooSmall`], with the packet still in the ring; others as the channel's. A channel that is gone gives what
    /// is left in its ring, then its error.
    pub fn try_receive<R>(
        &self,
        buffer: &mut [u8],
        f: impl FnOnce(Packet<'_>) -> R,
    ) -> Result<Option<R>, ChannelError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ChannelError::Closed);
        }
        let mut receiver = self.receiver.lock();
        match receiver.receive(buffer)? {
            Some(packet) => {
                drop(receiver);
                Ok(Some(f(packet)))
            }
            None => {
                let signal = receiver.release();
                drop(receiver);
                self.check()?;
                self.signal(signal)?;
                Ok(None)
            }
        }
    }

    /// Gives the host back the room of all packets taken so far.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Signal`].
    pub fn release(&self) -> Result<(), ChannelError> {
        let signal = self.receiver.lock().release();
        self.signal(signal)
    }

    /// Waits until there may be packets: look with [`try_receive`](Self::try_receive) until there are no more, then wait again.
    ///
    /// One task at a time.
    ///
    /// # Errors
    ///
    /// The channel's.
    pub async fn wait(&self) -> Result<(), ChannelError> {
        poll_fn(|context| {
            self.bell().listen(self.hal(), context.waker());
            match self.look() {
                Ok(false) => Poll::Pending,
                Ok(true) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Whether there are packets. If not, the host signals when one comes.
    fn look(&self) -> Result<bool, ChannelError> {
        self.check()?;
        let mut receiver = self.receiver.lock();
        let signal = receiver.release();
        let there = receiver.unmask().map_err(ChannelError::Corrupt)?;
        if there {
            // Not for each of the packets that come while these are read.
            receiver.mask();
        }
        drop(receiver);
        self.signal(signal)?;
        Ok(there)
    }

    /// Rings when the host signals the channel, and when it is gone.
    pub(super) fn bell(&self) -> &Bell {
        self.shared().bell(self.offer.channel)
    }
}
