//! Memory that the host may use for as long as the guest likes.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

use super::{Channel, gpadl};
use crate::bus::{ChannelError, Chore, Ending, Grant};
use crate::hal::{DmaBuffer, Hal};

/// A buffer that the host knows by a number, its GPADL. Dropping it takes it back; [`unshare`](Self::unshare) waits for that.
///
/// Derefs to the buffer, to read and write what the host may write and read at any time.
pub struct SharedBuffer<H: Hal> {
    buffer: Arc<DmaBuffer<H>>,
    /// `None` only while the buffer is taken back.
    grant: Option<Grant<H>>,
    gpadl: u32,
}

impl<H: Hal> Channel<H> {
    /// Lets the host use a buffer of at most 8,190 pages, under a number that the device's own protocol tells it.
    ///
    /// # Errors
    ///
    /// [`ChannelError::BadSize`]; [`ChannelError::Refused`] and [`ChannelError::NoAnswer`] with [`Request::Gpadl`](crate::Request::Gpadl); others as the
    /// channel's. The buffer is freed, or kept while the host may use it.
    pub async fn share(&self, buffer: DmaBuffer<H>) -> Result<SharedBuffer<H>, ChannelError> {
        let buffer = Arc::new(buffer);
        let grant = gpadl::create(&self.claim()?, &buffer).await?;
        Ok(SharedBuffer { buffer, gpadl: grant.gpadl, grant: Some(grant) })
    }
}

impl<H: Hal> SharedBuffer<H> {
    /// The number by which the host knows the buffer.
    pub fn gpadl(&self) -> u32 {
        self.gpadl
    }

    /// Takes the buffer back from the host, and waits until it is the guest's alone. Needs the bus's task.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NoAnswer`], [`ChannelError::Post`]: the host may go on using the memory, which is therefore kept.
    pub async fn unshare(mut self) -> Result<DmaBuffer<H>, ChannelError> {
        let Some(grant) = self.grant.take() else { return Err(ChannelError::NoChannel) };
        let bus = grant.claim.bus().clone();
        let ending = Arc::new(Ending::default());
        bus.shared.leave(Chore::TakeBack(grant, ending.clone()));
        let buffer = self.buffer.clone();
        drop(self);
        bus.shared.ended(&ending).await?;
        // Nobody else has a part of it any longer.
        Arc::into_inner(buffer).ok_or(ChannelError::Busy)
    }
}

impl<H: Hal> Deref for SharedBuffer<H> {
    type Target = DmaBuffer<H>;

    fn deref(&self) -> &DmaBuffer<H> {
        &self.buffer
    }
}

impl<H: Hal> Drop for SharedBuffer<H> {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let claim = grant.claim.clone();
            claim.shared().leave(Chore::TakeBack(grant, Arc::new(Ending::default())));
        }
    }
}

impl<H: Hal> fmt::Debug for SharedBuffer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuffer").field("gpadl", &self.gpadl).finish_non_exhaustive()
    }
}
