//! Packets with frames: where those lie, and how they get into the ring.

use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::nvsp::{
    NVSP_MESSAGE_BYTES_6_1, NVSP_NO_SECTION, NvspChannelType, NvspMessageType, NvspSendRndisPacket,
};
use vmbus_ring::{GpaRange, OutgoingPacket};
use zerocopy::IntoBytes;

use super::super::buffer::TransmitBuffer;
use super::super::sections::Section;
use super::outstanding::Ticket;
use crate::hal::{DmaBuffer, Hal};

/// An NVSP message, as long as Linux sends it whatever the version.
pub(in super::super) type NvspBytes = [u8; NVSP_MESSAGE_BYTES_6_1];

/// Frames on their way to the host, in one packet.
pub(super) struct Packet<H: Hal> {
    pub(super) place: Place<H>,
    pub(super) frames: u32,
    /// Bytes of the frames.
    pub(super) bytes: u64,
}

/// Where they lie. It is the host's until the completion.
pub(super) enum Place<H: Hal> {
    /// One behind the other, in so many bytes of a section.
    Section { section: Section, bytes: u32 },
    /// In memory of its own: one frame.
    Pages {
        pages: Pages,
        #[expect(dead_code, reason = "kept until the host has read it")]
        memory: Memory<H>,
    },
}

/// What keeps a frame's memory alive.
#[expect(dead_code, reason = "kept until the host has read it")]
pub(super) enum Memory<H: Hal> {
    Lent(TransmitBuffer),
    Copied(DmaBuffer<H>),
}

/// Where the host finds memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pages {
    byte_count: u32,
    byte_offset: u32,
    numbers: Vec<u64>,
}

impl Pages {
    /// Those of `bytes`; `None` if the kernel can't say where the host sees them.
    pub(super) fn of(hal: &impl Hal, bytes: &[u8]) -> Option<Self> {
        let start = bytes.as_ptr();
        let byte_offset = start.addr() % HV_PAGE_SIZE;
        let count = (byte_offset + bytes.len()).div_ceil(HV_PAGE_SIZE);
        // The first byte of each page that is among `bytes`.
        let first = |page: usize| bytes.get((page * HV_PAGE_SIZE).saturating_sub(byte_offset));
        let number = |page: usize| {
            let gpa = hal.gpa(first(page)?)?;
            Some(gpa.0 / HV_PAGE_SIZE as u64)
        };
        let numbers = (0..count).map(number).collect::<Option<Vec<_>>>()?;
        let byte_count = u32::try_from(bytes.len()).ok()?;
        Some(Self { byte_count, byte_offset: byte_offset as u32, numbers })
    }

    /// Those of the first `byte_count` bytes of a buffer.
    pub(super) fn of_buffer<H: Hal>(buffer: &DmaBuffer<H>, byte_count: usize) -> Option<Self> {
        let count = byte_count.div_ceil(HV_PAGE_SIZE);
        let numbers = buffer.page_numbers().take(count).collect();
        Some(Self { byte_count: u32::try_from(byte_count).ok()?, byte_offset: 0, numbers })
    }

    fn range(&self) -> GpaRange<'_> {
        GpaRange {
            byte_count: self.byte_count,
            byte_offset: self.byte_offset,
            pages: &self.numbers,
        }
    }
}

/// What is told of a packet with frames, or with a request if it is `control`.
pub(in super::super) fn rndis_packet(control: bool, section: Option<(u32, u32)>) -> NvspBytes {
    let (send_buf_section_index, send_buf_section_size) = section.unwrap_or((NVSP_NO_SECTION, 0));
    let message = NvspSendRndisPacket {
        msg_type: NvspMessageType::SEND_RNDIS_PKT,
        channel_type: if control { NvspChannelType::CONTROL } else { NvspChannelType::DATA },
        send_buf_section_index,
        send_buf_section_size,
    };
    padded(message.as_bytes())
}

/// `message` with zeros behind it.
pub(in super::super) fn padded(message: &[u8]) -> NvspBytes {
    let mut bytes = [0; NVSP_MESSAGE_BYTES_6_1];
    bytes.iter_mut().zip(message).for_each(|(to, from)| *to = *from);
    bytes
}

impl<H: Hal> Packet<H> {
    /// Its message.
    pub(super) fn message(&self) -> NvspBytes {
        match &self.place {
            Place::Section { section, bytes } => {
                rndis_packet(false, Some((section.index(), *bytes)))
            }
            Place::Pages { .. } => rndis_packet(false, None),
        }
    }

    /// Its ranges of memory, if it has any.
    pub(super) fn range(&self) -> Option<GpaRange<'_>> {
        match &self.place {
            Place::Section { .. } => None,
            Place::Pages { pages, .. } => Some(pages.range()),
        }
    }

    /// Whether the host takes the frame from the guest's memory.
    pub(super) fn is_direct(&self) -> bool {
        matches!(self.place, Place::Pages { .. })
    }
}

/// A packet for the ring.
pub(super) fn outgoing<'a>(
    ticket: Ticket,
    payload: &'a [&'a [u8]],
    ranges: Option<&'a [GpaRange<'a>]>,
) -> OutgoingPacket<'a> {
    let transaction = ticket.transaction_id();
    let packet = match ranges {
        Some(ranges) => OutgoingPacket::gpa_direct(transaction, ranges, payload),
        None => OutgoingPacket::in_band(transaction, payload),
    };
    packet.with_completion()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packets_message_has_the_bytes_of_linux() {
        // netvsc_send_pkt: struct nvsp_message (40 bytes), type 107, RMC_DATA, section 5 with 1558 bytes.
        let mut expected = [0; 40];
        expected[..16].copy_from_slice(&[107, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0x16, 6, 0, 0]);
        assert_eq!(rndis_packet(false, Some((5, 1558))), expected);
        let mut control = [0; 40];
        control[..12].copy_from_slice(&[107, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(rndis_packet(true, None), control);
    }
}
