//! The right to use a channel.

use alloc::sync::Arc;

use super::{ChannelError, ChannelId, Life, Offer, Shared, Vmbus};
use crate::hal::Hal;

/// The right to use a channel: one at a time, shared by all parts of one use. When the last part is gone, the channel can be
/// opened again, or, if it was taken back, its number goes back to the host.
pub(crate) struct Claim<H: Hal> {
    bus: Vmbus<H>,
    pub(crate) offer: Offer,
    pub(crate) life: Arc<Life>,
}

impl<H: Hal> Claim<H> {
    pub(crate) fn new(bus: &Vmbus<H>, channel: ChannelId) -> Result<Arc<Self>, ChannelError> {
        let (offer, life) = bus.shared.state.lock().claim(channel)?;
        Ok(Arc::new(Self { bus: bus.clone(), offer, life }))
    }

    pub(crate) fn bus(&self) -> &Vmbus<H> {
        &self.bus
    }

    pub(crate) fn shared(&self) -> &Shared<H> {
        &self.bus.shared
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.offer.channel
    }
}

impl<H: Hal> Drop for Claim<H> {
    fn drop(&mut self) {
        self.shared().change(|state| state.unclaim(self.channel(), &self.life));
    }
}
