//! What may come beside a frame: a list of [`PerPacketInfo`], each with its value.
//!
//! Source: Linux 6.1, `drivers/net/hyperv/hyperv_net.h`; the values are those of NDIS's `NDIS_*_NET_BUFFER_LIST_INFO`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Head of an element of the list (`struct rndis_per_packet_info`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PerPacketInfo {
    /// Bytes of the element, head included: where the next begins.
    pub size: u32,
    /// What it is.
    pub kind: PacketInfoKind,
    /// Where the value begins, from the head's start on.
    pub ppi_offset: u32,
}

const _: () = assert!(size_of::<PerPacketInfo>() == 12);

/// `enum ndis_per_pkt_info_type`; those with bit 31 are Hyper-V's own (`enum rndis_per_pkt_info_interal_type`).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketInfoKind(pub u32);

impl PacketInfoKind {
    /// `TCPIP_CHKSUM_PKTINFO`: a [`TxChecksum`] from the guest, an [`RxChecksum`] from the host.
    pub const CHECKSUM: Self = Self(0);
    /// `TCP_LARGESEND_PKTINFO`: a [`LargeSend`].
    pub const LARGE_SEND: Self = Self(2);
    /// `IEEE_8021Q_INFO`: a [`VlanTag`].
    pub const IEEE_8021Q: Self = Self(6);
    /// `NBL_HASH_VALUE`: 32 bits, the frame's Toeplitz hash.
    pub const HASH_VALUE: Self = Self(8);
    /// `RNDIS_PKTINFO_ID`: a [`PacketId`].
    pub const PACKET_ID: Self = Self(0x8000_0001);
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        pub struct $name(pub u32);

        impl $name {
            /// Whether any of these bits is set.
            pub const fn has(self, bits: u32) -> bool {
                self.0 & bits != 0
            }
        }
    )* };
}

words! {
    /// Checksums that the host shall fill in (`struct ndis_tcp_ip_checksum_info`, `transmit`): bits, and in 25:16 where the
    /// transport header begins in the frame. The field holds the sum of the pseudo-header.
    TxChecksum;
    /// What the host found of a frame's checksums (`receive`).
    RxChecksum;
    /// A TCP segment to be cut (`struct ndis_tcp_lso_info`, `lso_v2_transmit`): bits 19:0 payload of each part, 29:20 where
    /// the TCP header begins in the frame, 30 set in version 2, 31 set for IPv6.
    LargeSend;
    /// A tag that belongs into the frame (`struct ndis_pkt_8021q_info`): bits 2:0 priority, 3 CFI, 15:4 VLAN.
    VlanTag;
}

impl TxChecksum {
    /// The frame is IPv4.
    pub const IS_IPV4: u32 = 1 << 0;
    /// The frame is IPv6.
    pub const IS_IPV6: u32 = 1 << 1;
    /// Fill in TCP's.
    pub const TCP: u32 = 1 << 2;
    /// Fill in UDP's.
    pub const UDP: u32 = 1 << 3;
    /// Fill in IPv4's.
    pub const IP_HEADER: u32 = 1 << 4;

    /// These bits, with a transport header there (below 1,024).
    pub const fn new(bits: u32, header_offset: u32) -> Self {
        Self(bits & 0x1F | (header_offset & 0x3FF) << 16)
    }

    /// Where the transport header begins.
    pub const fn header_offset(self) -> usize {
        (self.0 >> 16 & 0x3FF) as usize
    }
}

impl RxChecksum {
    /// TCP's is wrong.
    pub const TCP_FAILED: u32 = 1 << 0;
    /// UDP's is wrong.
    pub const UDP_FAILED: u32 = 1 << 1;
    /// IPv4's is wrong.
    pub const IP_FAILED: u32 = 1 << 2;
    /// TCP's is right.
    pub const TCP_SUCCEEDED: u32 = 1 << 3;
    /// UDP's is right.
    pub const UDP_SUCCEEDED: u32 = 1 << 4;
    /// IPv4's is right.
    pub const IP_SUCCEEDED: u32 = 1 << 5;
    /// The frame never was on a wire.
    pub const LOOPBACK: u32 = 1 << 6;
    /// The frame holds no valid TCP checksum (it was coalesced).
    pub const TCP_VALUE_INVALID: u32 = 1 << 7;
    /// The frame holds no valid IPv4 checksum.
    pub const IP_VALUE_INVALID: u32 = 1 << 8;
}

impl LargeSend {
    /// Version 2.
    pub const V2: u32 = 1 << 30;
    /// The frame is IPv6.
    pub const IS_IPV6: u32 = 1 << 31;

    /// Cut into parts of `mss` bytes (below 2²⁰); the TCP header begins there (below 1,024).
    pub const fn new(mss: u32, header_offset: u32, ipv6: bool) -> Self {
        let version = if ipv6 { Self::V2 | Self::IS_IPV6 } else { Self::V2 };
        Self(mss & 0xF_FFFF | (header_offset & 0x3FF) << 20 | version)
    }

    /// Bytes of payload in each part.
    pub const fn mss(self) -> usize {
        (self.0 & 0xF_FFFF) as usize
    }

    /// Where the TCP header begins.
    pub const fn header_offset(self) -> usize {
        (self.0 >> 20 & 0x3FF) as usize
    }
}

impl VlanTag {
    /// From the tag as it is in a frame (802.1Q: priority 15:13, CFI 12, VLAN 11:0).
    pub const fn from_tci(tci: u16) -> Self {
        let tci = tci as u32;
        Self(tci >> 13 | (tci >> 12 & 1) << 3 | (tci & 0xFFF) << 4)
    }

    /// The tag as it is in a frame.
    pub const fn tci(self) -> u16 {
        ((self.0 & 7) << 13 | (self.0 >> 3 & 1) << 12 | self.0 >> 4 & 0xFFF) as u16
    }
}

/// Says that a frame comes in several parts (`struct rndis_pktinfo_id`), from NVSP 6.1 on with receive coalescing.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketId {
    /// 1.
    pub ver: u8,
    /// Bits below.
    pub flag: u8,
    /// Number of the frame.
    pub pkt_id: u16,
}

const _: () = assert!(size_of::<PacketId>() == 4);

impl PacketId {
    /// `RNDIS_PKTINFO_SUBALLOC`: it is a part.
    pub const SUBALLOC: u8 = 1 << 0;
    /// `RNDIS_PKTINFO_1ST_FRAG`.
    pub const FIRST_FRAGMENT: u8 = 1 << 1;
    /// `RNDIS_PKTINFO_LAST_FRAG`.
    pub const LAST_FRAGMENT: u8 = 1 << 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_linux_has_them() {
        // hyperv_net.h: bit fields from the least significant bit on; netvsc_xmit fills them for TCP over IPv4.
        let checksum = TxChecksum::new(TxChecksum::IS_IPV4 | TxChecksum::TCP, 34);
        assert_eq!(checksum.0, 0x0022_0005);
        assert_eq!(checksum.header_offset(), 34);
        let lso = LargeSend::new(1448, 34, false);
        assert_eq!(lso.0, 0x4220_05A8);
        assert_eq!((lso.mss(), lso.header_offset()), (1448, 34));
        assert!(!lso.has(LargeSend::IS_IPV6));
        assert!(LargeSend::new(1428, 54, true).has(LargeSend::IS_IPV6));
    }

    #[test]
    fn tags_keep_priority_and_vlan() {
        // Priority 5, CFI, VLAN 0x123: pri:3, cfi:1, vlanid:12.
        let tag = VlanTag::from_tci(0xB123);
        assert_eq!(tag.0, 0x123D);
        assert_eq!(tag.tci(), 0xB123);
        for tci in 0..=u16::MAX {
            assert_eq!(VlanTag::from_tci(tci).tci(), tci);
        }
    }
}
