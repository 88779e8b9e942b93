//! A service on its channel.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::ic::IC_MAX_MESSAGE_BYTES;
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;

use super::error::IcError;
use super::responder::{Responder, Service};
use crate::bus::{ChannelId, Offer, Vmbus};
use crate::channel::{Channel, OpenParams};
use crate::hal::Hal;
use crate::registry::{Driver, DriverTask};

/// Bytes of each ring (FreeBSD, `VMBUS_IC_BRSIZE`).
const RING_BYTES: usize = 4 * HV_PAGE_SIZE;
/// Room for the longest packet, its descriptor included.
const BUFFER_BYTES: usize = IC_MAX_MESSAGE_BYTES + 64;

/// Opens the channel and answers the host, until the channel is gone or the host breaks the protocol; then tells why.
///
/// Dropping the future closes the channel.
pub async fn serve<H: Hal, S: Service>(
    bus: &Vmbus<H>,
    channel: ChannelId,
    responder: &mut Responder<S>,
) -> IcError {
    let params =
        OpenParams { send_bytes: RING_BYTES, receive_bytes: RING_BYTES, ..OpenParams::default() };
    let channel = match bus.open(channel, &params).await {
        Ok(channel) => channel,
        Err(error) => return error.into(),
    };
    let error = match answer_all(&channel, responder).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // A channel that the host took back is closed already; and the first error says more than a second one would.
    let _ = channel.close().await;
    error
}

async fn answer_all<H: Hal, S: Service>(
    channel: &Channel<H>,
    responder: &mut Responder<S>,
) -> Result<core::convert::Infallible, IcError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut message = Vec::new();
    loop {
        let received = channel.try_receive(&mut buffer, |packet| {
            message.clear();
            message.extend_from_slice(packet.payload());
            (packet.kind(), packet.transaction_id())
        })?;
        let Some((kind, transaction)) = received else {
            channel.wait().await?;
            continue;
        };
        if kind != PacketType::DATA_INBAND {
            return Err(IcError::PacketKind);
        }
        if responder.respond(&mut message)? {
            channel.send(&OutgoingPacket::in_band(transaction, &[&message])).await?;
        }
        responder.service().answered();
    }
}

/// A driver that serves each such device with what `make` gives, and tells `ended` why it no longer does.
pub fn driver<H: Hal, S: Service + 'static>(
    make: impl Fn(&Offer) -> S + Send + Sync + 'static,
    ended: impl Fn(IcError) + Send + Sync + 'static,
) -> impl Driver<H> {
    let ended = Arc::new(ended);
    move |bus: &Vmbus<H>, offer: Offer| -> DriverTask {
        let (bus, ended) = (bus.clone(), ended.clone());
        let mut responder = Responder::new(make(&offer));
        Box::pin(async move { ended(serve(&bus, offer.channel, &mut responder).await) })
    }
}
