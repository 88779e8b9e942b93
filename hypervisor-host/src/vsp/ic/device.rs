//! A component as a device on the bus.

use std::sync::Arc;
use std::time::Instant;

use hv_abi::vmbus::offer::OfferFlags;
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;

use super::component::Component;
use super::error::IcError;
use super::session::{Engine, OfferedVersions, Session};
use crate::vmbus::{ChannelError, DeviceOffer, HostChannel, ServeError, VmbusDevice, Wake};

/// In an offer's own bytes: packets are messages (Linux, `VMBUS_PIPE_TYPE_MESSAGE`; the field `pipe_mode` of `struct
/// vmbus_channel_offer` comes first).
const VMBUS_PIPE_TYPE_MESSAGE: u32 = 4;

/// A component that can be added to a bus.
pub struct IcDevice<C> {
    component: C,
    offered: OfferedVersions,
}

impl<C: Component> IcDevice<C> {
    /// With all versions.
    pub fn new(component: C) -> Self {
        Self::with_versions(component, OfferedVersions::all(C::VERSIONS))
    }

    /// With these versions only, as an older host has them.
    pub fn with_versions(component: C, offered: OfferedVersions) -> Self {
        Self { component, offered }
    }
}

impl<C: Component> VmbusDevice for IcDevice<C> {
    fn offer(&self) -> DeviceOffer {
        let mut offer = DeviceOffer::new(C::NAME, C::INTERFACE, C::INSTANCE);
        offer.flags |= OfferFlags::NAMED_PIPE_MODE;
        let mode = VMBUS_PIPE_TYPE_MESSAGE.to_le_bytes();
        for (to, from) in offer.user_defined.iter_mut().zip(mode) {
            *to = from;
        }
        offer
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        let waker = channel.waker();
        let session = self.component.open(Arc::new(move || waker.wake()));
        let engine = Engine::new(self.offered.clone(), session);
        let served = Server { engine, unsent: None, number: 0 }.run(channel);
        match served {
            Err(ServerError::Channel(ChannelError::Closed)) => Ok(()),
            Err(ServerError::Channel(error)) => Err(error.into()),
            Err(ServerError::Protocol(error)) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }
}

enum ServerError {
    Channel(ChannelError),
    Protocol(IcError),
}

impl From<ChannelError> for ServerError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<IcError> for ServerError {
    fn from(error: IcError) -> Self {
        Self::Protocol(error)
    }
}

/// Carries between an engine and a channel.
struct Server<S> {
    engine: Engine<S>,
    /// A payload that the ring has no room for yet.
    unsent: Option<Vec<u8>>,
    number: u64,
}

impl<S: Session> Server<S> {
    fn run(mut self, channel: &mut HostChannel) -> Result<(), ServerError> {
        loop {
            while let Some(packet) = channel.receive()? {
                if packet.kind() != PacketType::DATA_INBAND {
                    return Err(IcError::PacketKind.into());
                }
                self.engine.receive(Instant::now(), packet.payload())?;
            }
            let at = self.send_all(channel)?;
            let timeout = at.map(|at| at.saturating_duration_since(Instant::now()));
            if channel.wait(&[], timeout)? == Wake::Closed {
                return Ok(());
            }
        }
    }

    /// Sends what there is to send, as far as there is room. Tells when there will be more.
    fn send_all(&mut self, channel: &mut HostChannel) -> Result<Option<Instant>, ServerError> {
        loop {
            if let Some(payload) = self.unsent.take() {
                if !send(channel, self.number, &payload)? {
                    self.unsent = Some(payload);
                    return Ok(None);
                }
                self.number = self.number.wrapping_add(1);
            }
            let (payload, at) = self.engine.poll(Instant::now());
            if payload.is_none() {
                return Ok(at);
            }
            self.unsent = payload;
        }
    }
}

/// Whether there was room; if not, the guest will signal when there is.
fn send(channel: &mut HostChannel, number: u64, payload: &[u8]) -> Result<bool, ServerError> {
    let parts = [payload];
    let packet = OutgoingPacket::in_band(number, &parts);
    loop {
        match channel.send(&packet) {
            Ok(()) => return Ok(true),
            Err(ChannelError::Full) => {}
            Err(error) => return Err(error.into()),
        }
        let needed = packet.ring_bytes().map_err(ChannelError::from)?;
        if !channel.await_room(needed)? {
            return Ok(false);
        }
    }
}
