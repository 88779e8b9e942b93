//! A packet to send.

use hv_abi::vmbus::packet::{
    GpaDirectHeader, GpadlPacketHeader, PACKET_TRAILER_BYTES, PacketDescriptor, PacketType,
    TransferPageHeader, TransferPageRange, VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED,
};
use zerocopy::IntoBytes;

use super::{DESCRIPTOR_BYTES, UNIT};
use crate::gpa::{GpaRange, encoded_bytes};
use crate::{MAX_DATA_BYTES, SendError};

/// What a packet to send is, with what stands between its descriptor and its payload.
#[derive(Debug, Clone, Copy)]
pub enum OutgoingKind<'a> {
    /// Data in the ring.
    InBand,
    /// Answers the packet with the same transaction.
    Completion,
    /// Data in guest memory; at least one range.
    GpaDirect(&'a [GpaRange<'a>]),
    /// Data in pages of the receiver.
    TransferPages {
        /// Which set of pages; the device's protocol says what its numbers mean.
        set_id: u16,
        /// Whether the set is the sender's.
        sender_owns_set: bool,
        /// Where in the set.
        ranges: &'a [TransferPageRange],
    },
    /// Data in the GPADL with this number.
    Gpadl(u32),
    /// The packet with the same transaction is no longer wanted.
    Cancel,
}

/// A packet to send. The payload is gathered from slices, and zeros make it a multiple of 8 bytes.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingPacket<'a> {
    /// What it is.
    pub kind: OutgoingKind<'a>,
    /// The sender's number for it, or, of a completion, that of the packet that it answers.
    pub transaction_id: u64,
    /// Whether the receiver is to answer with a completion.
    pub completion_requested: bool,
    /// The payload, one slice after the other.
    pub payload: &'a [&'a [u8]],
}

impl<'a> OutgoingPacket<'a> {
    /// A packet of `kind` that wants no completion.
    pub const fn new(kind: OutgoingKind<'a>, transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        Self { kind, transaction_id, completion_requested: false, payload }
    }

    /// Data in the ring.
    pub const fn in_band(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        Self::new(OutgoingKind::InBand, transaction_id, payload)
    }

    /// The answer to the packet with `transaction_id`.
    pub const fn completion(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        Self::new(OutgoingKind::Completion, transaction_id, payload)
    }

    /// Data in guest memory.
    pub const fn gpa_direct(
        transaction_id: u64,
        ranges: &'a [GpaRange<'a>],
        payload: &'a [&'a [u8]],
    ) -> Self {
        Self::new(OutgoingKind::GpaDirect(ranges), transaction_id, payload)
    }

    /// The same, and the receiver is to answer with a completion.
    #[must_use]
    pub const fn with_completion(self) -> Self {
        Self { completion_requested: true, ..self }
    }

    /// Bytes that it takes in a ring, with descriptor and trailer; for
    /// [`RingSender::await_room`](crate::RingSender::await_room).
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] and [`SendError::Ranges`] if it can't be sent.
    pub fn ring_bytes(&self) -> Result<u32, SendError> {
        self.layout().map(|layout| layout.ring_bytes())
    }

    pub(crate) fn layout(&self) -> Result<Layout, SendError> {
        let offset = self.header_bytes()?;
        let payload = self.payload.iter().try_fold(0, |sum, slice| add(sum, slice.len()))?;
        let end = add(offset, payload as usize)?;
        // The sum is less than 2³⁰, see `add`.
        let length = end.next_multiple_of(UNIT);
        let too_large = |_| SendError::TooLarge;
        let offset8 = u16::try_from(offset / UNIT).map_err(too_large)?;
        let len8 = u16::try_from(length / UNIT).map_err(too_large)?;
        Ok(Layout { offset8, len8, padding: length - end })
    }

    fn header_bytes(&self) -> Result<u32, SendError> {
        let extra = match self.kind {
            OutgoingKind::InBand | OutgoingKind::Completion | OutgoingKind::Cancel => 0,
            OutgoingKind::GpaDirect(ranges) => encoded_bytes(ranges)?
                .checked_add(size_of::<GpaDirectHeader>())
                .ok_or(SendError::TooLarge)?,
            OutgoingKind::TransferPages { ranges, .. } => size_of_val(ranges)
                .checked_add(size_of::<TransferPageHeader>())
                .ok_or(SendError::TooLarge)?,
            OutgoingKind::Gpadl(_) => size_of::<GpadlPacketHeader>(),
        };
        add(DESCRIPTOR_BYTES, extra)
    }

    pub(crate) fn descriptor(&self, layout: Layout) -> PacketDescriptor {
        let flags =
            if self.completion_requested { VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED } else { 0 };
        PacketDescriptor {
            packet_type: self.kind.packet_type(),
            offset8: layout.offset8,
            len8: layout.len8,
            flags,
            trans_id: self.transaction_id,
        }
    }
}

/// Adds lengths; more than any ring has is too large.
fn add(bytes: u32, more: usize) -> Result<u32, SendError> {
    let sum = u32::try_from(more).ok().and_then(|more| bytes.checked_add(more));
    sum.filter(|sum| *sum < MAX_DATA_BYTES).ok_or(SendError::TooLarge)
}

impl OutgoingKind<'_> {
    const fn packet_type(&self) -> PacketType {
        match self {
            Self::InBand => PacketType::DATA_INBAND,
            Self::Completion => PacketType::COMP,
            Self::GpaDirect(_) => PacketType::DATA_USING_GPA_DIRECT,
            Self::TransferPages { .. } => PacketType::DATA_USING_XFER_PAGES,
            Self::Gpadl(_) => PacketType::DATA_USING_GPADL,
            Self::Cancel => PacketType::CANCEL_REQUEST,
        }
    }

    /// Hands what stands between descriptor and payload to `put`, in pieces. Its length was checked with the layout.
    pub(crate) fn header(&self, mut put: impl FnMut(&[u8])) {
        match *self {
            Self::InBand | Self::Completion | Self::Cancel => {}
            Self::GpaDirect(ranges) => {
                put(GpaDirectHeader { _reserved: 0, range_cnt: ranges.len() as u32 }.as_bytes());
                for range in ranges {
                    put(range.header().as_bytes());
                    put(range.pages.as_bytes());
                }
            }
            Self::TransferPages { set_id, sender_owns_set, ranges } => {
                let header = TransferPageHeader {
                    xfer_pageset_id: set_id,
                    sender_owns_set: sender_owns_set.into(),
                    _reserved: 0,
                    range_cnt: ranges.len() as u32,
                };
                put(header.as_bytes());
                put(ranges.as_bytes());
            }
            Self::Gpadl(gpadl) => put(GpadlPacketHeader { gpadl, _reserved: 0 }.as_bytes()),
        }
    }
}

/// Where in a packet what begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    offset8: u16,
    len8: u16,
    /// Zeros behind the payload, less than a unit.
    pub(crate) padding: u32,
}

impl Layout {
    /// With the trailer.
    pub(crate) fn ring_bytes(self) -> u32 {
        u32::from(self.len8) * UNIT + PACKET_TRAILER_BYTES as u32
    }
}
