//! A ring's control page, and the packets in its data.
//!
//! A ring is a page of control words and, behind it, whole pages of data. A channel has two, one for each direction. A
//! packet is a [`PacketDescriptor`] (with more behind it in some types), the payload, zeros up to a multiple of 8
//! bytes, and last 8 bytes that say where in the ring the packet began ([`PACKET_TRAILER_BYTES`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offsets in a ring's control page in bytes (`struct hv_ring_buffer`); all are 32-bit.
pub mod control {
    /// Where the producer will write next, in bytes from the start of the data.
    pub const WRITE_INDEX: usize = 0;
    /// Where the consumer will read next.
    pub const READ_INDEX: usize = 4;
    /// Not 0 while the consumer does not want to be signalled.
    pub const INTERRUPT_MASK: usize = 8;
    /// Bytes of free room that the producer waits for, or 0.
    pub const PENDING_SEND_SZ: usize = 12;
    /// [`FEAT_PENDING_SEND_SZ`](super::FEAT_PENDING_SEND_SZ).
    pub const FEATURE_BITS: usize = 64;
}

/// In [`control::FEATURE_BITS`]: who set it uses and obeys [`control::PENDING_SEND_SZ`] (from version 2.4 on).
pub const FEAT_PENDING_SEND_SZ: u32 = 1 << 0;
/// Bytes of the control page.
pub const RING_CONTROL_BYTES: usize = crate::HV_PAGE_SIZE;
/// Bytes behind each packet: 32 reserved bits, then the offset at which the packet began (Linux,
/// `hv_get_ring_bufferindices`: the write index in the upper half of 64 bits).
pub const PACKET_TRAILER_BYTES: usize = 8;

/// `enum vmbus_packet_type`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketType(pub u16);

impl PacketType {
    /// Data in the ring.
    pub const DATA_INBAND: Self = Self(6);
    /// Data in pages of the receiver: [`TransferPageHeader`], ranges behind it.
    pub const DATA_USING_XFER_PAGES: Self = Self(7);
    /// Data in a GPADL: [`GpadlPacketHeader`].
    pub const DATA_USING_GPADL: Self = Self(8);
    /// Data in pages of the guest: [`GpaDirectHeader`], ranges behind it.
    pub const DATA_USING_GPA_DIRECT: Self = Self(9);
    /// A request is no longer wanted.
    pub const CANCEL_REQUEST: Self = Self(10);
    /// Answers the packet with the same transaction.
    pub const COMP: Self = Self(11);
}

/// In [`PacketDescriptor::flags`]: the sender wants a [`PacketType::COMP`] back.
pub const VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED: u16 = 1;

/// `struct vmpacket_descriptor`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketDescriptor {
    /// What it is.
    pub packet_type: PacketType,
    /// Where the payload begins, in units of 8 bytes from the start of the descriptor.
    pub offset8: u16,
    /// Where the packet ends, in units of 8 bytes; without the trailer.
    pub len8: u16,
    /// Flags.
    pub flags: u16,
    /// The sender's number for it.
    pub trans_id: u64,
}

const _: () = assert!(size_of::<PacketDescriptor>() == 16);

/// What follows the descriptor of [`PacketType::DATA_USING_GPA_DIRECT`]; behind it `range_cnt` times a [`GpaRangeHeader`] with
/// its page numbers (`struct vmdata_gpa_direct`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GpaDirectHeader {
    /// Reserved.
    pub _reserved: u32,
    /// Number of ranges.
    pub range_cnt: u32,
}

const _: () = assert!(size_of::<GpaDirectHeader>() == 8);

/// `struct gpa_range` up to its page numbers, of which there are as many 64-bit values as the range touches pages.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GpaRangeHeader {
    /// Bytes.
    pub byte_count: u32,
    /// Where in the first page they begin.
    pub byte_offset: u32,
}

const _: () = assert!(size_of::<GpaRangeHeader>() == 8);

/// What follows the descriptor of [`PacketType::DATA_USING_XFER_PAGES`] (`struct vmtransfer_page_packet_header`); behind it
/// `range_cnt` [`TransferPageRange`]s.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TransferPageHeader {
    /// Which set of pages; the device's protocol says what its numbers mean.
    pub xfer_pageset_id: u16,
    /// Not 0 if the set is the sender's.
    pub sender_owns_set: u8,
    /// Reserved.
    pub _reserved: u8,
    /// Number of ranges.
    pub range_cnt: u32,
}

const _: () = assert!(size_of::<TransferPageHeader>() == 8);

/// `struct vmtransfer_page_range`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TransferPageRange {
    /// Bytes.
    pub byte_count: u32,
    /// Where in the set they begin.
    pub byte_offset: u32,
}

const _: () = assert!(size_of::<TransferPageRange>() == 8);

/// What follows the descriptor of [`PacketType::DATA_USING_GPADL`] (`struct vmgpadl_packet_header`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GpadlPacketHeader {
    /// Which.
    pub gpadl: u32,
    /// Reserved.
    pub _reserved: u32,
}

const _: () = assert!(size_of::<GpadlPacketHeader>() == 8);
