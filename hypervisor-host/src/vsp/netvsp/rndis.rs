//! A guest's RNDIS messages, found in what it sent, with all that they refer to; and the heads of the host's.
//!
//! What is looked at here is a copy: the guest can't change it any more.

use std::ops::Range;

use hv_abi::rndis::packet_info::{
    LargeSend, PacketInfoKind, PerPacketInfo, RxChecksum, TxChecksum, VlanTag,
};
use hv_abi::rndis::{RNDIS_HEADER_BYTES, RndisHeader, RndisMessage, RndisMessageType, RndisPacket};
use thiserror::Error;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a host's packet message before the frame: head and at most three infos.
pub(super) const MAX_HEAD: usize = size_of::<RndisPacket>() + 3 * INFO;
/// Bytes of an info with a value of 32 bits.
const INFO: usize = size_of::<PerPacketInfo>() + size_of::<u32>();
/// Infos of a frame that are looked at.
const MAX_INFOS: usize = 32;

/// What the guest sent is not RNDIS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RndisError {
    /// A message's length is less than its own head or more than there is.
    #[error("a message's length is wrong")]
    Length,
    /// Something that a message refers to is not within it.
    #[error("an offset is outside its message")]
    Offset,
    /// The list of infos is malformed.
    #[error("an info beside a frame is malformed")]
    Info,
}

/// Takes the first message off `bytes`: what it is, and where it lies. `None`: there is no further one.
///
/// Up to seven bytes may be left over: the zeros to which a packet is padded.
pub(super) fn next_message(
    bytes: &[u8],
    from: usize,
) -> Option<Result<(RndisMessageType, Range<usize>), RndisError>> {
    let rest = bytes.get(from..).unwrap_or_default();
    if rest.len() < RNDIS_HEADER_BYTES {
        return None;
    }
    Some(message_at(rest, from))
}

fn message_at(rest: &[u8], from: usize) -> Result<(RndisMessageType, Range<usize>), RndisError> {
    let (header, _) = RndisHeader::read_from_prefix(rest).map_err(|_| RndisError::Length)?;
    let length = header.msg_len as usize;
    if length < RNDIS_HEADER_BYTES || length > rest.len() {
        return Err(RndisError::Length);
    }
    Ok((header.ndis_msg_type, from..from + length))
}

/// A message's fixed part.
pub(super) fn fixed<M: RndisMessage>(message: &[u8]) -> Result<M, RndisError> {
    M::read_from_prefix(message).map(|(fixed, _)| fixed).map_err(|_| RndisError::Length)
}

/// Where bytes that a message refers to lie in it; its offsets count from behind the header.
pub(super) fn referred(
    message: &[u8],
    offset: u32,
    length: u32,
) -> Result<Range<usize>, RndisError> {
    let start = RNDIS_HEADER_BYTES.checked_add(offset as usize).ok_or(RndisError::Offset)?;
    let end = start.checked_add(length as usize).ok_or(RndisError::Offset)?;
    if end > message.len() { Err(RndisError::Offset) } else { Ok(start..end) }
}

/// A frame that a guest sends, with what it wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TxFrame {
    /// Where it lies in its message.
    pub(super) frame: Range<usize>,
    pub(super) checksum: Option<TxChecksum>,
    pub(super) large: Option<LargeSend>,
    pub(super) vlan: Option<VlanTag>,
}

/// Reads a packet message.
pub(super) fn tx_frame(message: &[u8]) -> Result<TxFrame, RndisError> {
    let packet: RndisPacket = fixed(message)?;
    let frame = referred(message, packet.data_offset, packet.data_len)?;
    // Behind the fixed part, so that it can be moved up by a tag.
    if frame.start < size_of::<RndisPacket>() {
        return Err(RndisError::Offset);
    }
    let mut tx = TxFrame { frame, checksum: None, large: None, vlan: None };
    if packet.per_pkt_info_len != 0 {
        let infos = referred(message, packet.per_pkt_info_offset, packet.per_pkt_info_len)?;
        tx.read_infos(message.get(infos).unwrap_or_default())?;
    }
    Ok(tx)
}

impl TxFrame {
    fn read_infos(&mut self, mut rest: &[u8]) -> Result<(), RndisError> {
        for _ in 0..MAX_INFOS {
            if rest.is_empty() {
                return Ok(());
            }
            let (head, _) = PerPacketInfo::read_from_prefix(rest).map_err(|_| RndisError::Info)?;
            let size = head.size as usize;
            if size < size_of::<PerPacketInfo>() || size > rest.len() {
                return Err(RndisError::Info);
            }
            let (info, behind) = rest.split_at(size);
            self.read_info(head, info)?;
            rest = behind;
        }
        Err(RndisError::Info)
    }

    fn read_info(&mut self, head: PerPacketInfo, info: &[u8]) -> Result<(), RndisError> {
        let value = || {
            let value = info.get(head.ppi_offset as usize..).ok_or(RndisError::Info)?;
            u32::read_from_prefix(value).map(|(value, _)| value).map_err(|_| RndisError::Info)
        };
        match head.kind {
            PacketInfoKind::CHECKSUM => self.checksum = Some(TxChecksum(value()?)),
            PacketInfoKind::LARGE_SEND => self.large = Some(LargeSend(value()?)),
            PacketInfoKind::IEEE_8021Q => self.vlan = Some(VlanTag(value()?)),
            // The guest's hash is of no use here, and others we don't know.
            _ => {}
        }
        Ok(())
    }
}

/// What comes beside a frame for the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RxInfos {
    pub(super) checksum: Option<RxChecksum>,
    pub(super) vlan: Option<VlanTag>,
    pub(super) hash: Option<u32>,
}

/// All of a packet message for the guest but the frame, which follows.
pub(super) fn rx_head(frame_bytes: usize, infos: RxInfos) -> ([u8; MAX_HEAD], usize) {
    let values = [
        (PacketInfoKind::CHECKSUM, infos.checksum.map(|checksum| checksum.0)),
        (PacketInfoKind::IEEE_8021Q, infos.vlan.map(|vlan| vlan.0)),
        (PacketInfoKind::HASH_VALUE, infos.hash),
    ];
    let values = values.into_iter().filter_map(|(kind, value)| Some((kind, value?)));
    let infos_bytes = values.clone().count() * INFO;
    let head_bytes = size_of::<RndisPacket>() + infos_bytes;
    let packet = RndisPacket {
        header: RndisHeader::new(RndisMessageType::PACKET, (head_bytes + frame_bytes) as u32),
        data_offset: (head_bytes - RNDIS_HEADER_BYTES) as u32,
        data_len: frame_bytes as u32,
        oob_data_offset: 0,
        oob_data_len: 0,
        num_oob_data_elements: 0,
        per_pkt_info_offset: match infos_bytes {
            0 => 0,
            _ => (size_of::<RndisPacket>() - RNDIS_HEADER_BYTES) as u32,
        },
        per_pkt_info_len: infos_bytes as u32,
        vc_handle: 0,
        _reserved: 0,
    };
    let mut head = [0; MAX_HEAD];
    let mut place = head.iter_mut();
    let mut put = |bytes: &[u8]| {
        // In this order: the other one takes a place more than there are bytes.
        for (byte, place) in bytes.iter().zip(place.by_ref()) {
            *place = *byte;
        }
    };
    put(packet.as_bytes());
    for (kind, value) in values {
        let size = size_of::<PerPacketInfo>() as u32;
        put(PerPacketInfo { size: INFO as u32, kind, ppi_offset: size }.as_bytes());
        put(&value.to_le_bytes());
    }
    (head, head_bytes)
}

#[cfg(test)]
mod tests;
