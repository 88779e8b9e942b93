//! A packet that was received: checked, and a copy that nobody else can change.

use core::fmt;

use hv_abi::vmbus::packet::{
    GpaDirectHeader, GpadlPacketHeader, PACKET_TRAILER_BYTES, PacketDescriptor, PacketType,
    TransferPageHeader, TransferPageRange, VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{DESCRIPTOR_BYTES, UNIT};
use crate::RingError;
use crate::gpa::{GpaError, GpaRanges};

/// Lengths of a packet in bytes, checked against what is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Between descriptor and payload.
    header: u32,
    /// Behind the descriptor, without the trailer.
    pub(crate) body: u32,
}

impl Shape {
    /// That of the packet with `descriptor` in a ring with `available` bytes to read.
    pub(crate) fn check(descriptor: &PacketDescriptor, available: u32) -> Result<Self, RingError> {
        let offset = u32::from(descriptor.offset8) * UNIT;
        let length = u32::from(descriptor.len8) * UNIT;
        let body = length.checked_sub(DESCRIPTOR_BYTES);
        let fits = length + PACKET_TRAILER_BYTES as u32 <= available;
        let body = body.filter(|_| fits).ok_or(RingError::PacketLength(length))?;
        let header = offset.checked_sub(DESCRIPTOR_BYTES).filter(|header| *header <= body);
        let header = header.ok_or(RingError::PacketOffset(offset))?;
        Ok(Self { header, body })
    }

    /// In the ring, with descriptor and trailer.
    pub(crate) const fn ring_bytes(self) -> u32 {
        DESCRIPTOR_BYTES + self.body + PACKET_TRAILER_BYTES as u32
    }
}

/// A packet that was received, in the caller's buffer.
///
/// Its lengths are consistent. What stands in it was not looked at: any field may say anything.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'b> {
    descriptor: PacketDescriptor,
    header: &'b [u8],
    payload: &'b [u8],
}

impl<'b> Packet<'b> {
    /// `body` is what lies behind the descriptor, as long as `shape` says.
    pub(crate) fn new(descriptor: PacketDescriptor, shape: Shape, body: &'b [u8]) -> Self {
        let (header, payload) = body.split_at(shape.header as usize);
        Self { descriptor, header, payload }
    }

    /// What it is; perhaps nothing known.
    pub const fn kind(&self) -> PacketType {
        self.descriptor.packet_type
    }

    /// The sender's number for it, or, of a completion, that of the packet that it answers.
    pub const fn transaction_id(&self) -> u64 {
        self.descriptor.trans_id
    }

    /// Whether the sender wants a completion.
    pub const fn completion_requested(&self) -> bool {
        self.flags() & VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED != 0
    }

    /// All flags.
    pub const fn flags(&self) -> u16 {
        self.descriptor.flags
    }

    /// The payload, with the zeros that make it a multiple of 8 bytes.
    pub const fn payload(&self) -> &'b [u8] {
        self.payload
    }

    /// The ranges of guest memory of a GPA-direct packet, checked.
    ///
    /// # Errors
    ///
    /// [`PacketError`] if it is no such packet, or its ranges are none.
    pub fn gpa_ranges(&self) -> Result<GpaRanges<'b>, PacketError> {
        let (header, list) = self.typed::<GpaDirectHeader>(PacketType::DATA_USING_GPA_DIRECT)?;
        GpaRanges::parse(header.range_cnt, list).map_err(PacketError::Ranges)
    }

    /// The ranges of a transfer-page packet.
    ///
    /// # Errors
    ///
    /// [`PacketError`] if it is no such packet, or is too short for so many.
    pub fn transfer_pages(&self) -> Result<TransferPages<'b>, PacketError> {
        let (header, list) = self.typed::<TransferPageHeader>(PacketType::DATA_USING_XFER_PAGES)?;
        let bytes = (header.range_cnt as usize).checked_mul(size_of::<TransferPageRange>());
        let list = bytes.and_then(|bytes| list.get(..bytes)).ok_or(PacketError::Truncated)?;
        let sender_owns_set = header.sender_owns_set != 0;
        Ok(TransferPages { set_id: header.xfer_pageset_id, sender_owns_set, list })
    }

    /// The number of the GPADL that a GPADL packet's data is in.
    ///
    /// # Errors
    ///
    /// [`PacketError`] if it is no such packet.
    pub fn gpadl(&self) -> Result<u32, PacketError> {
        let (header, _) = self.typed::<GpadlPacketHeader>(PacketType::DATA_USING_GPADL)?;
        Ok(header.gpadl)
    }

    fn typed<T>(&self, kind: PacketType) -> Result<(T, &'b [u8]), PacketError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        if self.kind() != kind {
            return Err(PacketError::OtherKind(self.kind()));
        }
        T::read_from_prefix(self.header).map_err(|_| PacketError::Truncated)
    }
}

/// The ranges of a transfer-page packet. Whether they lie in the set, is not known.
#[derive(Debug, Clone, Copy)]
pub struct TransferPages<'b> {
    /// Which set of pages.
    pub set_id: u16,
    /// Whether the set is the sender's.
    pub sender_owns_set: bool,
    list: &'b [u8],
}

impl<'b> TransferPages<'b> {
    /// The ranges, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = TransferPageRange> + use<'b> {
        self.list.chunks_exact(size_of::<TransferPageRange>()).map(|bytes| {
            let mut range = TransferPageRange { byte_count: 0, byte_offset: 0 };
            zerocopy::IntoBytes::as_mut_bytes(&mut range).copy_from_slice(bytes);
            range
        })
    }
}

/// A packet is not what somebody takes it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// It is of this kind.
    OtherKind(PacketType),
    /// It is too short for what it says it has.
    Truncated,
    /// Its ranges of guest memory are none.
    Ranges(GpaError),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind(kind) => write!(f, "a packet of type {} is not expected here", kind.0),
            Self::Truncated => f.write_str("a packet is shorter than it says"),
            Self::Ranges(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PacketError {}
