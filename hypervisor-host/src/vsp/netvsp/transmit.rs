//! From the guest to the network: a packet's messages are copied out of guest memory, looked at, and sent.

use std::ops::Range;

use hv_abi::nvsp::{NVSP_NO_SECTION, NvspSendRndisPacket, NvspStatus};
use hv_abi::rndis::RndisMessageType;
use hv_abi::rndis::packet_info::{LargeSend, TxChecksum};
use hv_abi::vmbus::packet::PacketType;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmbus_ring::Packet;

use super::control::MAX_TRANSFER;
use super::rndis::{TxFrame, next_message, tx_frame};
use super::settings::Settings;
use crate::net::backend::Backend;
use crate::net::counters::Counters;
use crate::net::frame::{ETHERNET_HEADER, ETHERTYPE_VLAN, VLAN_TAG};
use crate::net::offload::{InvalidFrame, Sent, Wishes, send, tag};

/// Copies of what the guest sent.
pub(super) struct Transmit {
    memory: GuestMemoryMmap,
    bytes: Vec<u8>,
}

impl Transmit {
    pub(super) fn new(memory: GuestMemoryMmap) -> Self {
        Self { memory, bytes: Vec::new() }
    }

    /// Takes these bytes for what a packet refers to.
    #[cfg(any(test, fuzzing))]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
    }

    /// Copies all that a packet refers to: a section of the send buffer, then ranges of guest memory.
    ///
    /// # Errors
    /// It refers to what there is not.
    pub(super) fn take(
        &mut self,
        packet: &Packet<'_>,
        message: &NvspSendRndisPacket,
        settings: &Settings,
    ) -> Result<(), NvspStatus> {
        const INVALID: NvspStatus = NvspStatus::INVALID_RNDIS_PKT;
        self.bytes.clear();
        if message.send_buf_section_index != NVSP_NO_SECTION {
            let buffer = settings.send.as_ref().ok_or(INVALID)?;
            let (section, bytes) = (message.send_buf_section_index, message.send_buf_section_size);
            buffer.read(section, bytes, &mut self.bytes).ok_or(INVALID)?;
        }
        if packet.kind() == PacketType::DATA_USING_GPA_DIRECT {
            self.take_ranges(packet).ok_or(INVALID)?;
        }
        Ok(())
    }

    fn take_ranges(&mut self, packet: &Packet<'_>) -> Option<()> {
        let ranges = packet.gpa_ranges().ok()?;
        if self.bytes.len() as u64 + ranges.byte_count() > u64::from(MAX_TRANSFER) {
            return None;
        }
        for piece in ranges.iter().flat_map(|range| range.pieces()) {
            let from = self.bytes.len();
            self.bytes.resize(from + piece.length as usize, 0);
            let place = self.bytes.get_mut(from..)?;
            self.memory.read_slice(place, GuestAddress(piece.address())).ok()?;
        }
        Some(())
    }

    /// Hands each message to `each`, which gets its number and its bytes, until one is malformed.
    ///
    /// # Errors
    /// A message is malformed, or `each` says so.
    pub(super) fn messages(
        &mut self,
        mut each: impl FnMut(RndisMessageType, &mut [u8]) -> Result<(), NvspStatus>,
    ) -> Result<(), NvspStatus> {
        let mut from = 0;
        while let Some(next) = next_message(&self.bytes, from) {
            let (kind, range) = next.map_err(|_| NvspStatus::INVALID_RNDIS_PKT)?;
            from = range.end;
            each(kind, self.bytes.get_mut(range).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Sends the frame of a packet message. What the network does not take is lost, as on any.
///
/// # Errors
/// The message is malformed.
pub(super) fn send_frame(
    backend: &dyn Backend,
    counters: &Counters,
    settings: &Settings,
    message: &mut [u8],
) -> Result<(), NvspStatus> {
    let tx = tx_frame(message).map_err(|_| NvspStatus::INVALID_RNDIS_PKT)?;
    match send_message(backend, settings, message, &tx) {
        Ok(sent) => {
            counters.tx_frames.add(sent.frames);
            counters.tx_bytes.add(sent.bytes);
            counters.tx_dropped.add(sent.lost);
            counters.tx_large.add(tx.large.is_some().into());
        }
        Err(InvalidFrame) => counters.tx_invalid.add(1),
    }
    Ok(())
}

fn send_message(
    backend: &dyn Backend,
    settings: &Settings,
    message: &mut [u8],
    tx: &TxFrame,
) -> Result<Sent, InvalidFrame> {
    let mut range = tx.frame.clone();
    if let Some(vlan) = tx.vlan {
        range = tag_in_place(message, range, vlan.tci()).ok_or(InvalidFrame)?;
    }
    let frame = message.get_mut(range).ok_or(InvalidFrame)?;
    let room = if tag(frame).is_some() { VLAN_TAG } else { 0 };
    send(backend, frame, wishes(tx), settings.frame_bytes + room)
}

fn wishes(tx: &TxFrame) -> Wishes {
    let checksum = tx.checksum.unwrap_or_default();
    Wishes {
        ip_checksum: checksum.has(TxChecksum::IP_HEADER),
        transport_checksum: checksum.has(TxChecksum::TCP | TxChecksum::UDP),
        mss: tx.large.map(LargeSend::mss),
    }
}

/// Puts a tag into a frame by moving its addresses up, over the end of the message's head, which has been read.
fn tag_in_place(message: &mut [u8], frame: Range<usize>, tci: u16) -> Option<Range<usize>> {
    const ADDRESSES: usize = ETHERNET_HEADER - 2;
    if frame.len() < ETHERNET_HEADER {
        return None;
    }
    let start = frame.start.checked_sub(VLAN_TAG)?;
    message.copy_within(frame.start..frame.start + ADDRESSES, start);
    let ([a, b], [c, d]) = (ETHERTYPE_VLAN.to_be_bytes(), tci.to_be_bytes());
    let place = message.get_mut(start + ADDRESSES..start + ADDRESSES + VLAN_TAG)?;
    place.copy_from_slice(&[a, b, c, d]);
    Some(start..frame.end)
}

#[cfg(test)]
mod tests;
