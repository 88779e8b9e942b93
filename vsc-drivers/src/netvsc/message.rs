//! RNDIS messages from the host, taken apart.
//!
//! All of this looks at a private copy: the receive buffer is shared, and the host may write there at any time. Every offset and
//! length in a message is checked against the copy, and every step through a list goes forward.

use hv_abi::rndis::packet_info::VlanTag as WireTag;
use hv_abi::rndis::packet_info::{PacketId, PacketInfoKind, PerPacketInfo, RxChecksum};
use hv_abi::rndis::{
    RNDIS_HEADER_BYTES, RndisHeader, RndisIndicateStatus, RndisMessageType, RndisPacket,
    RndisStatus,
};
use zerocopy::FromBytes;

use super::frame::{ReceiveInfo, Verdict, VlanTag};

/// Bytes of an Ethernet header: no frame is shorter.
const LEAST_FRAME_BYTES: usize = 14;
const INFO_HEADER_BYTES: usize = size_of::<PerPacketInfo>();
const PACKET_HEADER_BYTES: usize = size_of::<RndisPacket>();

/// The message makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A frame.
    Data(Data),
    /// The answer to the request with that number; the whole message.
    Answer { request: u32, message: &'a [u8] },
    /// Something happened; with what is told of it.
    Indication { status: RndisStatus, detail: &'a [u8] },
    /// Of a kind not known here, or not expected from a host.
    Other,
}

/// Where in the message a frame is, and what came beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) info: ReceiveInfo,
}

/// Takes `range` apart: a range of the receive buffer, copied.
pub(super) fn parse(range: &[u8]) -> Result<Message<'_>, Malformed> {
    let (header, _) = RndisHeader::read_from_prefix(range).map_err(|_| Malformed)?;
    let message = range.get(..header.msg_len as usize).ok_or(Malformed)?;
    match header.ndis_msg_type {
        RndisMessageType::PACKET => parse_data(message).map(Message::Data),
        RndisMessageType::INIT_C | RndisMessageType::QUERY_C | RndisMessageType::SET_C => {
            let request = message.get(RNDIS_HEADER_BYTES..).ok_or(Malformed)?;
            let request = u32::from_le_bytes(*request.first_chunk().ok_or(Malformed)?);
            Ok(Message::Answer { request, message })
        }
        RndisMessageType::INDICATE => parse_indication(message, range),
        _ if message.len() < RNDIS_HEADER_BYTES => Err(Malformed),
        _ => Ok(Message::Other),
    }
}

fn parse_indication<'a>(message: &[u8], range: &'a [u8]) -> Result<Message<'a>, Malformed> {
    let (indication, _) = RndisIndicateStatus::read_from_prefix(message).map_err(|_| Malformed)?;
    let (offset, length) = (indication.status_buf_offset, indication.status_buflen);
    // Old hosts left the detail out of the message's length (Linux, netvsc_linkstatus_callback).
    let detail = if length == 0 { &[] } else { part(range, offset, length)? };
    Ok(Message::Indication { status: indication.status, detail })
}

fn parse_data(message: &[u8]) -> Result<Data, Malformed> {
    let (packet, _) = RndisPacket::read_from_prefix(message).map_err(|_| Malformed)?;
    let frame = extent(message, packet.data_offset, packet.data_len)?;
    if frame.len() < LEAST_FRAME_BYTES || frame.start < PACKET_HEADER_BYTES {
        return Err(Malformed);
    }
    let mut info = ReceiveInfo::default();
    if packet.per_pkt_info_offset != 0 && packet.per_pkt_info_len != 0 {
        let list = extent(message, packet.per_pkt_info_offset, packet.per_pkt_info_len)?;
        if list.start < PACKET_HEADER_BYTES {
            return Err(Malformed);
        }
        parse_infos(message.get(list).ok_or(Malformed)?, &mut info)?;
    }
    Ok(Data { start: frame.start, end: frame.end, info })
}

fn parse_infos(mut list: &[u8], info: &mut ReceiveInfo) -> Result<(), Malformed> {
    while !list.is_empty() {
        let (head, _) = PerPacketInfo::read_from_prefix(list).map_err(|_| Malformed)?;
        let size = head.size as usize;
        // At least its head long: the list gets shorter with every step.
        let (element, rest) = list.split_at_checked(size).ok_or(Malformed)?;
        let offset = head.ppi_offset as usize;
        if size < INFO_HEADER_BYTES || offset < INFO_HEADER_BYTES {
            return Err(Malformed);
        }
        parse_info(head.kind, element.get(offset..).ok_or(Malformed)?, info)?;
        list = rest;
    }
    Ok(())
}

fn parse_info(kind: PacketInfoKind, value: &[u8], info: &mut ReceiveInfo) -> Result<(), Malformed> {
    let word = || value.first_chunk().map(|word| u32::from_le_bytes(*word)).ok_or(Malformed);
    match kind {
        PacketInfoKind::CHECKSUM => set_verdicts(RxChecksum(word()?), info),
        PacketInfoKind::IEEE_8021Q => {
            info.vlan = Some(VlanTag::from_tci(WireTag(word()?).tci()));
        }
        PacketInfoKind::HASH_VALUE => info.hash = Some(word()?),
        PacketInfoKind::PACKET_ID => {
            let (id, _) = PacketId::read_from_prefix(value).map_err(|_| Malformed)?;
            // A part of a frame: never asked for (`RSC` is not among our capabilities).
            if id.flag & PacketId::SUBALLOC != 0 {
                return Err(Malformed);
            }
        }
        _ => {}
    }
    Ok(())
}

fn set_verdicts(checksum: RxChecksum, info: &mut ReceiveInfo) {
    let verdict = |wrong: u32, right: u32| {
        if checksum.has(wrong) {
            Verdict::Wrong
        } else if checksum.has(right) {
            Verdict::Right
        } else {
            Verdict::Unchecked
        }
    };
    info.ip_checksum = verdict(RxChecksum::IP_FAILED, RxChecksum::IP_SUCCEEDED);
    info.transport_checksum = verdict(
        RxChecksum::TCP_FAILED | RxChecksum::UDP_FAILED,
        RxChecksum::TCP_SUCCEEDED | RxChecksum::UDP_SUCCEEDED,
    );
}

/// The part of `message` that begins `offset` bytes behind the header.
pub(super) fn part(message: &[u8], offset: u32, length: u32) -> Result<&[u8], Malformed> {
    message.get(extent(message, offset, length)?).ok_or(Malformed)
}

fn extent(message: &[u8], offset: u32, length: u32) -> Result<core::ops::Range<usize>, Malformed> {
    let start = RNDIS_HEADER_BYTES.checked_add(offset as usize).ok_or(Malformed)?;
    let end = start.checked_add(length as usize).ok_or(Malformed)?;
    if end <= message.len() { Ok(start..end) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests;
