//! RNDIS's control messages: what the guest asks, and the answers.

use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{
    PacketFilter, RNDIS_CONFIG_PARAM_TYPE_STRING, RNDIS_DF_CONNECTIONLESS, RNDIS_HEADER_BYTES,
    RNDIS_MAJOR_VERSION, RNDIS_MEDIUM_802_3, RNDIS_MINOR_VERSION, RndisConfigParameter, RndisHalt,
    RndisHeader, RndisIndicateStatus, RndisInitialize, RndisInitializeComplete, RndisKeepalive,
    RndisKeepaliveComplete, RndisMessage, RndisMessageType, RndisQuery, RndisQueryComplete,
    RndisReset, RndisResetComplete, RndisSet, RndisSetComplete, RndisStatus,
};
use zerocopy::{FromBytes, IntoBytes};

use super::rndis::{RndisError, fixed, referred};
use super::rss::Rss;
use super::settings::{MAX_MULTICAST, Settings};
use crate::net::counters::Counts;
use crate::net::mac::MacAddress;

mod query;

/// Packets that may come in one message. Linux sends 8 if it is not told.
const MAX_PACKETS: u32 = 8;
/// Longest message of a guest, in bytes.
pub(super) const MAX_TRANSFER: u32 = 128 << 10;
/// log₂ of the bytes that packets in one message are aligned to.
const ALIGNMENT_SHIFT: u32 = 3;

/// What the card is, whatever the guest sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Card {
    pub(super) address: MacAddress,
    pub(super) mtu: u16,
    /// Channels that the guest may have.
    pub(super) queues: u16,
    pub(super) link_up: bool,
    pub(super) counts: Counts,
}

/// Does what a control message says and gives the answer, if there is one.
///
/// # Errors
/// The message is malformed; there is no answer.
pub(super) fn handle(
    card: &Card,
    settings: &mut Settings,
    kind: RndisMessageType,
    message: &[u8],
) -> Result<Option<Vec<u8>>, RndisError> {
    Ok(match kind {
        RndisMessageType::INIT => {
            let request: RndisInitialize = fixed(message)?;
            Some(initialize(settings, &request))
        }
        RndisMessageType::HALT => {
            let _: RndisHalt = fixed(message)?;
            settings.halt(card.address);
            None
        }
        RndisMessageType::QUERY => {
            let request: RndisQuery = fixed(message)?;
            let input = referred(message, request.info_buf_offset, request.info_buflen)?;
            let input = message.get(input).unwrap_or_default();
            let value = match settings.initialized {
                true => query::query(card, settings, request.oid, input),
                false => Err(RndisStatus::ADAPTER_NOT_READY),
            };
            Some(query_complete(request.req_id, value))
        }
        RndisMessageType::SET => {
            let request: RndisSet = fixed(message)?;
            let value = referred(message, request.info_buf_offset, request.info_buflen)?;
            let value = message.get(value).unwrap_or_default();
            let result = match settings.initialized {
                true => set(card, settings, request.oid, value),
                false => Err(RndisStatus::ADAPTER_NOT_READY),
            };
            let status = result.err().unwrap_or(RndisStatus::SUCCESS);
            let req_id = request.req_id;
            Some(bytes_of(RndisSetComplete {
                header: header::<RndisSetComplete>(),
                req_id,
                status,
            }))
        }
        RndisMessageType::RESET => {
            let _: RndisReset = fixed(message)?;
            let status = RndisStatus::SUCCESS;
            let header = header::<RndisResetComplete>();
            Some(bytes_of(RndisResetComplete { header, status, addressing_reset: 0 }))
        }
        RndisMessageType::KEEPALIVE => {
            let request: RndisKeepalive = fixed(message)?;
            let (req_id, status) = (request.req_id, RndisStatus::SUCCESS);
            let header = header::<RndisKeepaliveComplete>();
            Some(bytes_of(RndisKeepaliveComplete { header, req_id, status }))
        }
        // An answer to a question that the host never asks.
        RndisMessageType::KEEPALIVE_C => None,
        _ => return Err(RndisError::Length),
    })
}

/// Tells the guest that the link went up or down.
pub(super) fn link_indication(up: bool) -> Vec<u8> {
    bytes_of(RndisIndicateStatus {
        header: header::<RndisIndicateStatus>(),
        status: if up { RndisStatus::MEDIA_CONNECT } else { RndisStatus::MEDIA_DISCONNECT },
        status_buflen: 0,
        status_buf_offset: 0,
    })
}

fn header<M: RndisMessage>() -> RndisHeader {
    RndisHeader::new(M::TYPE, size_of::<M>() as u32)
}

fn bytes_of<M: RndisMessage>(message: M) -> Vec<u8> {
    message.as_bytes().to_vec()
}

fn initialize(settings: &mut Settings, request: &RndisInitialize) -> Vec<u8> {
    settings.initialized = true;
    bytes_of(RndisInitializeComplete {
        header: header::<RndisInitializeComplete>(),
        req_id: request.req_id,
        status: RndisStatus::SUCCESS,
        major_ver: RNDIS_MAJOR_VERSION,
        minor_ver: RNDIS_MINOR_VERSION,
        dev_flags: RNDIS_DF_CONNECTIONLESS,
        medium: RNDIS_MEDIUM_802_3,
        max_pkt_per_msg: MAX_PACKETS,
        max_xfer_size: MAX_TRANSFER,
        pkt_alignment_factor: ALIGNMENT_SHIFT,
        af_list_offset: 0,
        af_list_size: 0,
    })
}

fn query_complete(req_id: u32, value: Result<Vec<u8>, RndisStatus>) -> Vec<u8> {
    let (status, value) = match value {
        Ok(value) => (RndisStatus::SUCCESS, value),
        Err(status) => (status, Vec::new()),
    };
    let fixed_bytes = size_of::<RndisQueryComplete>();
    let offset = if value.is_empty() { 0 } else { fixed_bytes - RNDIS_HEADER_BYTES };
    let answer = RndisQueryComplete {
        header: RndisHeader::new(RndisMessageType::QUERY_C, (fixed_bytes + value.len()) as u32),
        req_id,
        status,
        info_buflen: value.len() as u32,
        info_buf_offset: offset as u32,
    };
    [answer.as_bytes(), &value].concat()
}

fn set(card: &Card, settings: &mut Settings, oid: Oid, value: &[u8]) -> Result<(), RndisStatus> {
    match oid {
        Oid::GEN_CURRENT_PACKET_FILTER => {
            settings.filter = PacketFilter::from_bits_truncate(word(value)?);
            Ok(())
        }
        Oid::IEEE_802_3_MULTICAST_LIST => {
            settings.multicast = multicast_list(value)?;
            Ok(())
        }
        Oid::TCP_OFFLOAD_PARAMETERS => settings.offloads.set(value),
        Oid::GEN_RECEIVE_SCALE_PARAMETERS => {
            settings.rss = Rss::set(settings.rss.as_ref(), value, settings.channels)?;
            Ok(())
        }
        Oid::GEN_RNDIS_CONFIG_PARAMETER => {
            if let Some(address) = config_parameter(value)? {
                settings.address = address.unwrap_or(card.address);
            }
            Ok(())
        }
        // Nothing here depends on them.
        Oid::GEN_CURRENT_LOOKAHEAD => word(value).map(drop),
        Oid::GEN_NETWORK_LAYER_ADDRESSES
        | Oid::GEN_TRANSPORT_HEADER_OFFSET
        | Oid::OFFLOAD_ENCAPSULATION => Ok(()),
        _ => Err(RndisStatus::NOT_SUPPORTED),
    }
}

fn word(value: &[u8]) -> Result<u32, RndisStatus> {
    u32::read_from_prefix(value).map(|(word, _)| word).map_err(|_| RndisStatus::INVALID_LENGTH)
}

fn multicast_list(value: &[u8]) -> Result<Vec<MacAddress>, RndisStatus> {
    let (addresses, rest) = value.as_chunks::<6>();
    if !rest.is_empty() || addresses.len() > MAX_MULTICAST {
        return Err(RndisStatus::INVALID_LENGTH);
    }
    Ok(addresses.iter().copied().map(MacAddress).collect())
}

/// The address that the guest gives its card; `Some(None)`: the one it came with; `None`: it is another parameter.
fn config_parameter(value: &[u8]) -> Result<Option<Option<MacAddress>>, RndisStatus> {
    let (head, _) =
        RndisConfigParameter::read_from_prefix(value).map_err(|_| RndisStatus::INVALID_LENGTH)?;
    let part = |offset: u32, length: u32| {
        let end = offset.checked_add(length).ok_or(RndisStatus::INVALID_LENGTH)?;
        let range = offset as usize..end as usize;
        value.get(range).ok_or(RndisStatus::INVALID_LENGTH)
    };
    let name = part(head.parameter_name_offset, head.parameter_name_length)?;
    let text = part(head.parameter_value_offset, head.parameter_value_length)?;
    if !utf16(name).eq("NetworkAddress".chars()) {
        return Ok(None);
    }
    if head.parameter_type != RNDIS_CONFIG_PARAM_TYPE_STRING {
        return Err(RndisStatus::INVALID_DATA);
    }
    let digits: Vec<u32> = utf16(text)
        .filter(|&character| character != '-' && character != '\0')
        .map(|character| character.to_digit(16).ok_or(RndisStatus::INVALID_DATA))
        .collect::<Result<_, _>>()?;
    if digits.is_empty() {
        return Ok(Some(None));
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    let address = <[u8; 6]>::try_from(bytes).ok().filter(|_| rest.is_empty()).map(MacAddress);
    let address = address.filter(|address| address.is_a_cards());
    address.map(|address| Some(Some(address))).ok_or(RndisStatus::INVALID_DATA)
}

/// The characters of a text in UTF-16; what is none becomes a replacement.
fn utf16(bytes: &[u8]) -> impl Iterator<Item = char> {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests;
