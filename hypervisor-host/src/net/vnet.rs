//! The header that a TAP device has before each frame: checksums and segments that are yet to be done.
//!
//! Source: virtio 1.2, 5.1.6 (`struct virtio_net_hdr`, without the number of buffers), in the host's byte order (Linux,
//! `drivers/net/tun.c`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::frame::Pending;

/// `struct virtio_net_hdr`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub(super) struct VnetHeader {
    /// Bits below.
    pub(super) flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub(super) gso_type: u8,
    /// Bytes of all headers.
    pub(super) hdr_len: u16,
    /// Payload of each part.
    pub(super) gso_size: u16,
    /// Where what is summed begins.
    pub(super) csum_start: u16,
    /// Where the checksum is, from there on.
    pub(super) csum_offset: u16,
}

const _: () = assert!(size_of::<VnetHeader>() == 10);

impl VnetHeader {
    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
    pub(super) const NEEDS_CHECKSUM: u8 = 1;
    /// `VIRTIO_NET_HDR_F_DATA_VALID`.
    pub(super) const DATA_VALID: u8 = 2;
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    const TCP4: u8 = 1;
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    const TCP6: u8 = 4;

    /// The header for a frame.
    pub(super) fn of(pending: Pending) -> Self {
        let mut header = Self::default();
        if let Some(checksum) = pending.checksum {
            header.flags = Self::NEEDS_CHECKSUM;
            header.csum_start = checksum.start;
            header.csum_offset = checksum.field;
        }
        if let Some(segment) = pending.segment {
            header.gso_type = if segment.ipv6 { Self::TCP6 } else { Self::TCP4 };
            header.hdr_len = segment.headers;
            header.gso_size = segment.mss;
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frame::{PendingChecksum, PendingSegment};

    #[test]
    fn a_large_segment_has_the_bytes_of_the_specification() {
        let pending = Pending {
            checksum: Some(PendingChecksum { start: 34, field: 16 }),
            segment: Some(PendingSegment { ipv6: true, headers: 74, mss: 1440 }),
        };
        let bytes = [1, 4, 74, 0, 0xA0, 5, 34, 0, 16, 0];
        assert_eq!(VnetHeader::of(pending).as_bytes(), bytes);
        assert_eq!(VnetHeader::of(Pending::default()).as_bytes(), [0; 10]);
    }
}
