//! What a host can say.

use hv_abi::vmbus::message::{
    GpadlCreated, GpadlTorndown, MessageHeader, MessageType, ModifyChannelResponse, OfferChannel,
    OpenChannelResult, RescindChannelOffer, VersionResponse, VersionResponse2, VmbusMessage,
};
use hv_abi::vmbus::version::VmbusVersion;
use zerocopy::FromBytes;

/// A well-formed message of the host. What it says is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostMessage {
    Offer(OfferChannel),
    Rescind(RescindChannelOffer),
    AllOffersDelivered,
    OpenResult(OpenChannelResult),
    GpadlCreated(GpadlCreated),
    GpadlTorndown(GpadlTorndown),
    Version(VersionResponse, Features),
    UnloadResponse,
    ModifyResponse(ModifyChannelResponse),
}

/// Features of version 6.0 that the host has; 0 if it says nothing of them.
pub(super) type Features = u32;

/// Bytes of an offer before version 1.1, which ends with whether there is a monitor.
const OFFER_0_13_BYTES: usize = size_of::<OfferChannel>() - 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadMessage {
    /// Too short for its type.
    Short,
    /// A type that no host sends, or not to this guest.
    UnknownType(MessageType),
}

impl HostMessage {
    /// Reads a message on a connection of that version. A longer one than needed is fine: later versions add fields.
    pub(super) fn parse(bytes: &[u8], version: VmbusVersion) -> Result<Self, BadMessage> {
        let header: MessageHeader = prefix(bytes)?;
        Ok(match header.msgtype {
            OfferChannel::TYPE => Self::Offer(offer(bytes, version)?),
            RescindChannelOffer::TYPE => Self::Rescind(prefix(bytes)?),
            MessageType::ALLOFFERS_DELIVERED => Self::AllOffersDelivered,
            OpenChannelResult::TYPE => Self::OpenResult(prefix(bytes)?),
            GpadlCreated::TYPE => Self::GpadlCreated(prefix(bytes)?),
            GpadlTorndown::TYPE => Self::GpadlTorndown(prefix(bytes)?),
            VersionResponse::TYPE => {
                let longer: Result<VersionResponse2, _> = prefix(bytes);
                let features = longer.map_or(0, |longer| longer.supported_features);
                Self::Version(prefix(bytes)?, features)
            }
            MessageType::UNLOAD_RESPONSE => Self::UnloadResponse,
            ModifyChannelResponse::TYPE => Self::ModifyResponse(prefix(bytes)?),
            other => return Err(BadMessage::UnknownType(other)),
        })
    }
}

fn prefix<T: FromBytes>(bytes: &[u8]) -> Result<T, BadMessage> {
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| BadMessage::Short)
}

fn offer(bytes: &[u8], version: VmbusVersion) -> Result<OfferChannel, BadMessage> {
    if version >= VmbusVersion::V1_1 || bytes.len() < OFFER_0_13_BYTES {
        return prefix(bytes);
    }
    let mut whole = [0; size_of::<OfferChannel>()];
    for (target, byte) in whole.iter_mut().zip(bytes) {
        *target = *byte;
    }
    prefix(&whole)
}
