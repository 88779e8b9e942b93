//! An open channel: packets in both directions, shared memory, sub-channels.
//!
//! Each direction of a channel has a lock of its own, and nothing else is shared between channels when packets are sent and
//! received: the host's signals find the channel by a fixed table.

mod gpadl;
mod open;
mod receive;
mod send;
mod shared;
#[cfg(test)]
mod tests;

pub use open::OpenParams;
pub use shared::SharedBuffer;

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hv_abi::vmbus::message::{MessageHeader, ModifyChannel, VmbusMessage};
use hv_abi::vmbus::version::VmbusVersion;
use spin::Mutex;
use vmbus_ring::{FlatMemory, RingReceiver, RingSender};
use zerocopy::IntoBytes;

use crate::bus::{
    Answer, ChannelError, ChannelId, Chore, Claim, Ending, Expected, Grant, Life, Offer, Request,
    Shared, Vmbus,
};
use crate::hal::{DmaBuffer, Hal};
use crate::task::within;

/// The rings' memory, kept alive by both ends.
type Memory<H> = FlatMemory<Arc<DmaBuffer<H>>>;

/// An open channel. Dropping it closes it; [`close`](Self::close) waits until it is closed.
///
/// All methods take `&self`: a driver shares the channel among its tasks as it likes. Each direction keeps the order of its
/// packets.
///
/// **The errors of a channel** that most methods may have: [`ChannelError::Rescinded`], [`ChannelError::Disconnected`],
/// [`ChannelError::Closed`], and, from those that reach a ring or signal, [`ChannelError::Corrupt`] and [`ChannelError::Signal`].
pub struct Channel<H: Hal> {
    sender: Mutex<RingSender<Memory<H>>>,
    receiver: Mutex<RingReceiver<Memory<H>>>,
    waiting_for_room: AtomicU32,
    bus: Vmbus<H>,
    offer: Offer,
    life: Arc<Life>,
    version: VmbusVersion,
    low_latency: bool,
    closed: AtomicBool,
    /// `None` once the channel is closed.
    rings: Mutex<Option<Grant<H>>>,
}

impl<H: Hal> Channel<H> {
    /// What the host offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The version of the connection.
    pub fn version(&self) -> VmbusVersion {
        self.version
    }

    /// The kernel.
    pub fn hal(&self) -> &H {
        self.bus.hal()
    }

    /// The bus.
    pub fn bus(&self) -> &Vmbus<H> {
        &self.bus
    }

    fn shared(&self) -> &Shared<H> {
        &self.bus.shared
    }

    /// The right to use the channel, while it is open.
    fn claim(&self) -> Result<Arc<Claim<H>>, ChannelError> {
        let rings = self.rings.lock();
        rings.as_ref().map(|rings| rings.claim.clone()).ok_or(ChannelError::Closed)
    }

    /// Whether the channel is still there.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`], [`ChannelError::Rescinded`], [`ChannelError::Disconnected`].
    pub fn check(&self) -> Result<(), ChannelError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ChannelError::Closed);
        }
        self.life.check()
    }

    /// Waits for the host's offer of the sub-channel `index` (from 1 on) of this device, which the device's own
    /// protocol asked for.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotInVersion`] before 2.4; [`ChannelError::NoAnswer`] with [`Request::SubChannel`]; others as the channel's.
    pub async fn sub_channel(&self, index: u16) -> Result<ChannelId, ChannelError> {
        if self.version < VmbusVersion::V2_4 {
            return Err(ChannelError::NotInVersion);
        }
        let shared = self.shared();
        let offered = shared.until(|state| match self.check() {
            Err(error) => Some(Err(error)),
            Ok(()) => state.sub_channel(&self.offer, index).map(Ok),
        });
        let no_answer = Err(ChannelError::NoAnswer(Request::SubChannel));
        within(&shared.hal, shared.options.time_limit_100ns, offered).await.unwrap_or(no_answer)
    }

    /// Has the host's signals come to another virtual processor. From version 5.3 on, none comes to the old one when this
    /// is done.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotInVersion`] before 4.1; [`ChannelError::Refused`] and [`ChannelError::NoAnswer`] with [`Request::Modify`];
    /// others as the channel's.
    pub async fn set_target_vp(&self, vp: u32) -> Result<(), ChannelError> {
        if self.version < VmbusVersion::V4_1 {
            return Err(ChannelError::NotInVersion);
        }
        self.check()?;
        let channel = self.offer.channel;
        let header = MessageHeader::new(ModifyChannel::TYPE);
        let message = ModifyChannel { header, child_relid: channel.relid(), target_vp: vp };
        let shared = self.shared();
        if self.version < VmbusVersion::V5_3 {
            return Ok(shared.tell(&self.life, message.as_bytes()).await?);
        }
        let expected = Expected::Modified { channel };
        let answer = shared.request(&self.life, expected, [message.as_bytes()]).await?;
        status(answer, Request::Modify)
    }

    /// Closes the channel, and waits until the host has given the rings' memory back. Whoever else uses or awaits something of the
    /// channel gets [`ChannelError::Closed`]. The channel can then be opened again, unless there are still [`SharedBuffer`]s. Needs the
    /// bus's task.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`] if it was closed before. [`ChannelError::NoAnswer`], [`ChannelError::Post`]: the channel is closed, but the host may
    /// go on using the memory, which is therefore kept.
    pub async fn close(&self) -> Result<(), ChannelError> {
        let ending = self.begin_close().ok_or(ChannelError::Closed)?;
        self.shared().ended(&ending).await
    }

    fn begin_close(&self) -> Option<Arc<Ending>> {
        let rings = self.rings.lock().take()?;
        self.closed.store(true, Ordering::Release);
        let ending = Arc::new(Ending::default());
        self.shared().leave(Chore::Close(rings, ending.clone()));
        self.bell().ring(self.hal());
        Some(ending)
    }
}

impl<H: Hal> Drop for Channel<H> {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl<H: Hal> fmt::Debug for Channel<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("channel", &self.offer.channel).finish_non_exhaustive()
    }
}

/// An answer that is a status.
fn status(answer: Answer, request: Request) -> Result<(), ChannelError> {
    match answer {
        Answer::Status(0) => Ok(()),
        Answer::Status(status) => Err(ChannelError::Refused(request, status)),
        Answer::Gone(fate) => Err(fate.error()),
        Answer::Version(..) => Err(ChannelError::Disconnected),
    }
}
