//! The head of a frame on its way to the host: an RNDIS header, and what goes beside the frame.

use hv_abi::rndis::packet_info::{
    LargeSend, PacketInfoKind, PerPacketInfo, TxChecksum, VlanTag as WireTag,
};
use hv_abi::rndis::{RNDIS_HEADER_BYTES, RndisHeader, RndisMessageType, RndisPacket};
use zerocopy::IntoBytes;

use super::frame::VlanTag;
use super::headers::{Headers, Ip, Transport};

const HEADER_BYTES: usize = size_of::<RndisPacket>();
/// An element of the list: its head, and a value of 32 bits.
const INFO_BYTES: usize = size_of::<PerPacketInfo>() + 4;
/// Hash, tag, and either checksum or segmentation.
const MAX_INFOS: usize = 3;

/// Bytes of the longest head.
pub(super) const MAX_HEAD_BYTES: usize = HEADER_BYTES + MAX_INFOS * INFO_BYTES;
/// Where in a message its length is.
pub(super) const LENGTH_OFFSET: usize = 4;

/// What goes beside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Beside {
    /// Toeplitz hash, so that the host need not compute it.
    pub(super) hash: Option<u32>,
    pub(super) vlan: Option<VlanTag>,
    pub(super) work: Option<Work>,
}

/// What the host shall do with the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Checksum(Headers),
    Segment(Headers, u16),
}

/// A head, ready to be written in front of its frame.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; MAX_HEAD_BYTES],
    len: usize,
}

impl Head {
    /// The head of a frame of `frame_bytes`; `None` if message lengths can't say as much.
    pub(super) fn new(frame_bytes: usize, beside: &Beside) -> Option<Self> {
        let mut head = Self { bytes: [0; MAX_HEAD_BYTES], len: HEADER_BYTES };
        if let Some(hash) = beside.hash {
            head.push(PacketInfoKind::HASH_VALUE, hash);
        }
        if let Some(vlan) = beside.vlan {
            head.push(PacketInfoKind::IEEE_8021Q, WireTag::from_tci(vlan.tci()).0);
        }
        match beside.work {
            Some(Work::Checksum(headers)) => {
                head.push(PacketInfoKind::CHECKSUM, checksum(&headers));
            }
            Some(Work::Segment(headers, mss)) => {
                head.push(PacketInfoKind::LARGE_SEND, large_send(&headers, mss));
            }
            None => {}
        }
        let data_len = u32::try_from(frame_bytes).ok()?;
        let msg_len = data_len.checked_add(head.len as u32)?;
        let behind_header = (HEADER_BYTES - RNDIS_HEADER_BYTES) as u32;
        let infos = (head.len - HEADER_BYTES) as u32;
        let packet = RndisPacket {
            header: RndisHeader::new(RndisMessageType::PACKET, msg_len),
            data_offset: behind_header + infos,
            data_len,
            oob_data_offset: 0,
            oob_data_len: 0,
            num_oob_data_elements: 0,
            per_pkt_info_offset: if infos == 0 { 0 } else { behind_header },
            per_pkt_info_len: infos,
            vc_handle: 0,
            _reserved: 0,
        };
        head.bytes[..HEADER_BYTES].copy_from_slice(packet.as_bytes());
        Some(head)
    }

    fn push(&mut self, kind: PacketInfoKind, value: u32) {
        let info = PerPacketInfo {
            size: INFO_BYTES as u32,
            kind,
            ppi_offset: size_of::<PerPacketInfo>() as u32,
        };
        let at = self.len;
        self.bytes[at..at + size_of::<PerPacketInfo>()].copy_from_slice(info.as_bytes());
        self.bytes[at + size_of::<PerPacketInfo>()..at + INFO_BYTES]
            .copy_from_slice(&value.to_le_bytes());
        self.len += INFO_BYTES;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn checksum(headers: &Headers) -> u32 {
    let ip = match headers.ip {
        Ip::V4 => TxChecksum::IS_IPV4,
        Ip::V6 => TxChecksum::IS_IPV6,
    };
    let transport = match headers.transport {
        Transport::Tcp => TxChecksum::TCP,
        Transport::Udp => TxChecksum::UDP,
    };
    TxChecksum::new(ip | transport, headers.transport_offset as u32).0
}

fn large_send(headers: &Headers, mss: u16) -> u32 {
    let offset = headers.transport_offset as u32;
    LargeSend::new(u32::from(mss), offset, headers.ip == Ip::V6).0
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Little-endian words, as Linux's structs lie in memory.
    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn headers(frame_start: &[u8]) -> Headers {
        let mut frame = [0u8; 12].to_vec();
        frame.extend(frame_start);
        frame.resize(120, 0);
        Headers::find(&frame).unwrap()
    }

    fn tcp4() -> Headers {
        headers(&[0x08, 0, 0x45, 0, 0, 80, 0, 0, 0, 0, 64, 6])
    }

    #[test]
    fn a_plain_frames_head_is_linuxs_rndis_packet() {
        // struct rndis_message with a struct rndis_packet: type 1, length 44 + 60, data 36 bytes behind the header.
        let head = Head::new(60, &Beside::default()).unwrap();
        assert_eq!(head.bytes(), words(&[1, 104, 36, 60, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_tcp_checksum_is_asked_for_as_linux_does() {
        // netvsc_xmit: per_pkt_info behind struct rndis_packet (36), 16 bytes; struct rndis_per_packet_info 16, 0
        // (TCPIP_CHKSUM_PKTINFO), 12; is_ipv4 | tcp_checksum, tcp_header_offset 34 << 16.
        let work = Some(Work::Checksum(tcp4()));
        let head = Head::new(100, &Beside { work, ..Beside::default() }).unwrap();
        let expected = [1, 160, 52, 100, 0, 0, 0, 36, 16, 0, 0, 16, 0, 12, 0x0022_0005];
        assert_eq!(head.bytes(), words(&expected));
    }

    #[test]
    fn segmentation_tag_and_hash_stand_in_linuxs_order() {
        // NBL_HASH_VALUE (8), IEEE_8021Q_INFO (6): pri 1, vlanid 5; TCP_LARGESEND_PKTINFO (2): mss 1448, offset 34, type 1.
        let beside = Beside {
            hash: Some(0x51cc_c178),
            vlan: Some(VlanTag { vlan: 5, priority: 1, drop_eligible: false }),
            work: Some(Work::Segment(tcp4(), 1448)),
        };
        let head = Head::new(20_000, &beside).unwrap();
        let infos = [16, 8, 12, 0x51cc_c178, 16, 6, 12, 0x51, 16, 2, 12, 0x4220_05A8];
        let mut expected = words(&[1, 20_092, 84, 20_000, 0, 0, 0, 36, 48, 0, 0]);
        expected.extend(words(&infos));
        assert_eq!(head.bytes(), expected);
        assert_eq!(head.bytes().len(), MAX_HEAD_BYTES);
    }

    #[test]
    fn ipv6_and_udp_have_their_own_bits() {
        let udp6 = headers(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
        assert_eq!(checksum(&udp6), 54 << 16 | 1 << 1 | 1 << 3);
        let tcp6 = headers(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        assert_eq!(large_send(&tcp6, 1428), 1428 | 54 << 20 | 1 << 30 | 1 << 31);
    }

    #[test]
    fn a_frame_too_large_to_tell_has_no_head() {
        assert!(Head::new(u32::MAX as usize, &Beside::default()).is_none());
        assert!(Head::new(usize::MAX, &Beside::default()).is_none());
    }
}
