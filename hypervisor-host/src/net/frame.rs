//! Frames on their way between card and back end.

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes that an 802.1Q tag adds.
pub const VLAN_TAG: usize = 4;
/// EtherType of a tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Bytes of a buffer that every frame fits in: a segment of 64 KiB with its headers.
pub const MAX_FRAME: usize = 65_536 + 64;

/// A frame to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What the back end must do first; nothing unless it [can](super::backend::Offloads).
    pub pending: Pending,
}

impl<'a> Frame<'a> {
    /// A frame that is complete.
    pub const fn complete(bytes: &'a [u8]) -> Self {
        Self { bytes, pending: Pending { checksum: None, segment: None } }
    }
}

/// What is not yet done to a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// A checksum to fill in; its field holds the pseudo-header's sum.
    pub checksum: Option<PendingChecksum>,
    /// It is to be cut.
    pub segment: Option<PendingSegment>,
}

/// Where a checksum belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingChecksum {
    /// Where what is summed begins: the transport header.
    pub start: u16,
    /// Where the field is, from there on.
    pub field: u16,
}

/// How a TCP segment is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingSegment {
    /// IPv6, not IPv4.
    pub ipv6: bool,
    /// Bytes of all headers.
    pub headers: u16,
    /// Payload of each part.
    pub mss: u16,
}

/// A frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it.
    pub length: usize,
    /// What is known of its transport checksum.
    pub checksum: ReceivedChecksum,
}

impl Received {
    /// A frame of which nothing else is known.
    pub const fn plain(length: usize) -> Self {
        Self { length, checksum: ReceivedChecksum::Unknown }
    }
}

/// What is known of a received frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedChecksum {
    /// Nothing.
    Unknown,
    /// It is right.
    Valid,
}
