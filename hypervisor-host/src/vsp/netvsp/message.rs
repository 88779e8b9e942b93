//! A guest's NVSP messages, taken from packets, and the host's, ready to be sent.

use hv_abi::nvsp::{
    NVSP_MESSAGE_BYTES_6_1, NvspInit, NvspMessage, NvspMessageType, NvspOidQueryEx, NvspPdApi,
    NvspRevokeReceiveBuffer, NvspRevokeSendBuffer, NvspSendNdisConfig, NvspSendNdisVersion,
    NvspSendReceiveBuffer, NvspSendRndisPacket, NvspSendSendBuffer, NvspSubchannelRequest,
    NvspSwitchDataPath, NvspVersion,
};
use zerocopy::FromBytes;

use super::error::NetVspError;

/// A message from a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestMessage {
    Init(NvspInit),
    NdisVersion(NvspSendNdisVersion),
    NdisConfig(NvspSendNdisConfig),
    ReceiveBuffer(NvspSendReceiveBuffer),
    RevokeReceiveBuffer(NvspRevokeReceiveBuffer),
    SendBuffer(NvspSendSendBuffer),
    RevokeSendBuffer(NvspRevokeSendBuffer),
    Rndis(NvspSendRndisPacket),
    SwitchDataPath(NvspSwitchDataPath),
    OidQueryEx(NvspOidQueryEx),
    Subchannel(NvspSubchannelRequest),
    PdApi(NvspPdApi),
}

impl GuestMessage {
    /// The message at the start of a packet's payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, NetVspError> {
        let (number, _) = u32::read_from_prefix(payload).map_err(|_| NetVspError::Empty)?;
        let number = NvspMessageType(number);
        Ok(match number {
            NvspMessageType::INIT => Self::Init(read(payload)?),
            NvspMessageType::SEND_NDIS_VER => Self::NdisVersion(read(payload)?),
            NvspMessageType::SEND_NDIS_CONFIG => Self::NdisConfig(read(payload)?),
            NvspMessageType::SEND_RECV_BUF => Self::ReceiveBuffer(read(payload)?),
            NvspMessageType::REVOKE_RECV_BUF => Self::RevokeReceiveBuffer(read(payload)?),
            NvspMessageType::SEND_SEND_BUF => Self::SendBuffer(read(payload)?),
            NvspMessageType::REVOKE_SEND_BUF => Self::RevokeSendBuffer(read(payload)?),
            NvspMessageType::SEND_RNDIS_PKT => Self::Rndis(read(payload)?),
            NvspMessageType::SWITCH_DATA_PATH => Self::SwitchDataPath(read(payload)?),
            NvspMessageType::OID_QUERY_EX => Self::OidQueryEx(read(payload)?),
            NvspMessageType::SUBCHANNEL => Self::Subchannel(read(payload)?),
            NvspMessageType::PD_API => Self::PdApi(read(payload)?),
            _ => return Err(NetVspError::Unknown(number)),
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> NvspMessageType {
        match self {
            Self::Init(message) => message.msg_type,
            Self::NdisVersion(message) => message.msg_type,
            Self::NdisConfig(message) => message.msg_type,
            Self::ReceiveBuffer(message) => message.msg_type,
            Self::RevokeReceiveBuffer(message) => message.msg_type,
            Self::SendBuffer(message) => message.msg_type,
            Self::RevokeSendBuffer(message) => message.msg_type,
            Self::Rndis(message) => message.msg_type,
            Self::SwitchDataPath(message) => message.msg_type,
            Self::OidQueryEx(message) => message.msg_type,
            Self::Subchannel(message) => message.msg_type,
            Self::PdApi(message) => message.msg_type,
        }
    }

    /// The first version of the protocol that has it.
    pub(super) fn since(&self) -> NvspVersion {
        match self {
            Self::NdisConfig(_) => NvspVersion::V2,
            Self::SwitchDataPath(_) => NvspVersion::V4,
            Self::OidQueryEx(_) | Self::Subchannel(_) => NvspVersion::V5,
            Self::PdApi(_) => NvspVersion::V6_1,
            _ => NvspVersion::V1,
        }
    }
}

fn read<M: NvspMessage>(payload: &[u8]) -> Result<M, NetVspError> {
    let message = M::read_from_prefix(payload).map_err(|_| NetVspError::Truncated(M::TYPE))?;
    Ok(message.0)
}

/// A message for a guest, padded as its version wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostMessage {
    bytes: [u8; NVSP_MESSAGE_BYTES_6_1],
    length: usize,
}

impl HostMessage {
    pub(super) fn new<M: NvspMessage>(message: &M, version: NvspVersion) -> Self {
        let mut bytes = [0; NVSP_MESSAGE_BYTES_6_1];
        // No message is longer, as its definition asserts.
        for (place, byte) in bytes.iter_mut().zip(message.as_bytes()) {
            *place = *byte;
        }
        Self { bytes, length: version.message_bytes().max(size_of::<M>()) }
    }

    /// No message: a completion that says only that it is one.
    pub(super) fn empty() -> Self {
        Self { bytes: [0; NVSP_MESSAGE_BYTES_6_1], length: 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_abi::nvsp::{NvspSendRndisPacketComplete, NvspStatus};
    use proptest::prelude::*;

    const NUMBERS: [u32; 12] = [1, 100, 125, 101, 103, 104, 106, 107, 129, 131, 133, 135];

    #[test]
    fn each_message_is_known_by_its_number_and_wants_its_length() {
        for number in NUMBERS {
            let mut payload = [0; 40];
            payload[..4].copy_from_slice(&number.to_le_bytes());
            let message = GuestMessage::parse(&payload).unwrap();
            assert_eq!(message.number(), NvspMessageType(number));
            assert_eq!(
                GuestMessage::parse(&payload[..7]),
                Err(NetVspError::Truncated(NvspMessageType(number)))
            );
        }
    }

    #[test]
    fn other_numbers_are_refused() {
        assert_eq!(GuestMessage::parse(&[1, 0, 0]), Err(NetVspError::Empty));
        for number in [0, 2, 99, 102, 105, 108, 109, 128, 134, 136, u32::MAX] {
            let payload = [number.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
            let error = Err(NetVspError::Unknown(NvspMessageType(number)));
            assert_eq!(GuestMessage::parse(&payload), error);
        }
    }

    #[test]
    fn the_hosts_messages_are_padded_with_zeros() {
        let message = NvspSendRndisPacketComplete {
            msg_type: NvspMessageType::SEND_RNDIS_PKT_COMPLETE,
            status: NvspStatus::SUCCESS,
        };
        let old = HostMessage::new(&message, NvspVersion::V6);
        assert_eq!(old.as_bytes()[..8], [108, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(old.as_bytes()[8..], [0; 20]);
        assert_eq!(HostMessage::new(&message, NvspVersion::V6_1).as_bytes().len(), 40);
        assert!(HostMessage::empty().as_bytes().is_empty());
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(
            number in prop::sample::select(&NUMBERS[..]),
            bytes in prop::collection::vec(any::<u8>(), 0..48),
        ) {
            let _ = GuestMessage::parse(&bytes);
            let payload = [&number.to_le_bytes()[..], &bytes].concat();
            if let Ok(message) = GuestMessage::parse(&payload) {
                prop_assert!(message.since() <= NvspVersion::V6_1);
            }
        }
    }
}
